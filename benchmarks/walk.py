"""Counts the files of the package that a command enters: those of which at least one function runs.

    python -m benchmarks.walk                                  # one step, saved, of the three commands that distil
    python -m benchmarks.walk distill_dataset.py --max_steps 1 --dataset_name mnist --data_path DATA    # any command

A reader who follows a command must open these files. What is only imported does not count. Each command runs in a new
process and an empty folder; the count, and the files in the order in which they are entered, are printed.
"""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parents[1]
TEACHER = ["squeeze.py", "--epochs", "1", "--width", "8", "--output_dir", "teacher"]
COMMANDS = {  # script -> its words; the teacher of the last is made before, and not counted
    "distill_dataset.py": ["--max_steps", "1", "--width", "4", "--set", "pool_model_count=2", "depth=1"],
    "condense.py": ["--dataset", "digits", "--max_steps", "1", "--set", "width=8", "--batch_real", "16"],
    "recover.py": ["--arch-path", "teacher", "--iteration", "1", "--exp-name", "walk", "--batch-size", "10"],
}
WALK = """
import inspect, json, os, runpy, sys, threading
package, script, answer, *words = sys.argv[1:]
entered = {}
def note(frame, event, argument):
    code = frame.f_code
    function = code.co_flags & inspect.CO_OPTIMIZED  # neither a module nor the body of a class
    if event == "call" and function and code.co_filename.startswith(package):
        entered.setdefault(os.path.relpath(code.co_filename, package), code.co_name)
sys.argv = [script, *words]
sys.path.insert(0, os.path.dirname(package))
threading.setprofile(note)
sys.setprofile(note)
try:
    runpy.run_path(script, run_name="__main__")
except SystemExit as leaving:
    status = leaving.code or 0
else:
    status = 0
finally:
    sys.setprofile(None)
with open(answer, "w") as file:
    json.dump([status, list(entered)], file)
"""


def entered(script: str, words: list[str], folder: pathlib.Path) -> list[str]:
    """Returns the files that a command enters, relative to the package, in their order.

    Arguments:
        script: a root script.
        words: its flags.
        folder: the working directory.

    Raises:
        RuntimeError: the command failed.
    """
    answer = folder / "entered.json"
    line = [sys.executable, "-c", WALK, str(HERE / "jaxdd"), str(HERE / script), str(answer), *words]
    done = subprocess.run(line, cwd=folder, capture_output=True, text=True, check=False)
    status, files = json.loads(answer.read_text()) if answer.is_file() else (done.returncode or 1, [])
    if status:
        raise RuntimeError(f"{script} ended with {status}: {done.stderr[-2000:]}")
    return files


def main() -> None:
    """Walks one command, or the three."""
    given = sys.argv[1:]
    for script, words in {given[0]: given[1:]}.items() if given else COMMANDS.items():
        with tempfile.TemporaryDirectory() as folder:
            if "teacher" in words:
                subprocess.run([sys.executable, str(HERE / TEACHER[0]), *TEACHER[1:]], cwd=folder, check=True)
            files = entered(script, words, pathlib.Path(folder))
        print(f"{script}: {len(files)} files", *files, sep="\n  ")


if __name__ == "__main__":
    main()
