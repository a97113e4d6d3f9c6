"""A chain that is killed with SIGKILL in one link after another, and started again until it is done.

    python decoupled_driver.py FOLDER

One process imports everything and forks a child per attempt, which runs the command line. Prints the kills that were
made and, of the chain that was killed and of one that was not, what came out, as JSON.
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import signal
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3]))

from jaxdd.cli.main import main
from jaxdd.core import backend, io
from jaxdd.run import evaluating
from jaxdd.run.chain import relabel
from jaxdd.run.storage.checkpoint import Storage

TINY = ["distill", "--method", "cda", "--width", "8", "--max_steps", "4", "--checkpoint_every", "0"]
TINY += ["--set", "squeeze.epochs=2", "squeeze.batch_size=128", "labels=stored"]
TINY += ["recipe.epochs=2", "recipe.models_to_test=1", "recipe.tests=1", "recipe.mix=none", "recipe.crop=none"]
TINY += ["recipe.batch_statistics=false"]
MOMENTS = {  # link -> the call after which the child dies: owner, function, a word of its folder, which of them
    "recover": (Storage, "save", "active", 2),
    "relabel": (relabel, "_write", "labels", 1),
    "validate": (Storage, "save", "validation", 4),
    "clear away": (evaluating, "discard", "validation", 1),
}


def arm(owner: object, name: str, word: str, countdown: int) -> None:
    """Makes a call of a function, among those for folders with a word in their names, the last of this process."""
    original, left = getattr(owner, name), [countdown]

    def deadly(first, *arguments, **options):
        found = original(first, *arguments, **options)
        left[0] -= word in str(getattr(first, "folder", first))
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    setattr(owner, name, deadly)


def attempt(folder: pathlib.Path, link: str) -> int:
    """Runs in a child to its end, or until it is killed; returns its exit status."""
    child = os.fork()
    if not child:
        status = 1
        try:
            backend.use_compilation_cache(os.environ.get("JAXDD_TEST_CACHE"))
            if link in MOMENTS:
                arm(*MOMENTS[link])
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            status = main([*TINY, "--output_dir", str(folder)])
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def outcome(folder: pathlib.Path) -> dict[str, object]:
    """Everything that came out, as far as it does not tell the time."""
    teacher, distilled, stored = (
        io.read_json(folder / name / "manifest.json") for name in ("teacher", "distilled", "labels")
    )
    return {
        "teacher": teacher["networks"],
        "set": distilled["shards"],
        "labels": stored["epochs"],
        "rows": io.read_json(folder / "eval.json")["rows"],
        "images": {path.name: io.sha256(path) for path in sorted((folder / "images").rglob("*.*"))},
    }


if __name__ == "__main__":
    place, killed = pathlib.Path(sys.argv[1]), []
    for link in (*MOMENTS, "none"):
        status = attempt(place / "killed", link)
        if status == -signal.SIGKILL:
            killed.append(link)
        elif status:
            sys.exit(f"attempt ended with {status} in '{link}' after {killed}")
    shutil.copytree(place / "killed" / "teacher", place / "whole" / "teacher")
    if status := attempt(place / "whole", "none"):
        sys.exit(f"the chain ended with {status}")
    print(json.dumps({"kills": killed, "killed": outcome(place / "killed"), "whole": outcome(place / "whole")}))
