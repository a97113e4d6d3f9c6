"""Records what nine short commands and `jaxdd.distill` give on the digits, and compares two checkouts to the bit.

    python -m benchmarks.same_numbers --output_dir OUT                          # this checkout
    python -m benchmarks.same_numbers --output_dir OLD --checkout OTHER         # another one, by the same commands
    python -m benchmarks.same_numbers --output_dir OUT --against OLD            # and what differs

Of every set the sha256 of its shards is kept, and of every evaluation its rows. One machine gives the same bits for the
same program; another one need not, so both sides are recorded on one machine. Where bits differ, the largest difference
of the images (or of the accuracies) is shown. The sets themselves stay in OUT, one folder per command; a second call
finds what is recorded there and goes on.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from safetensors.numpy import load_file

HERE = pathlib.Path(__file__).resolve().parents[1]
SHORT = ["--set", "pool_model_count=2", "--width", "8"]
STUDENTS = ["--set", "squeeze.epochs=2", "--set", "recipe.epochs=4", "--set", "recipe.models_to_test=1", "--width", "8"]
MATCHING = ["--dataset", "digits", "--set", "width=8", "--inner_loop", "2", "--batch_real", "16", "--n_data", "32"]

# Name -> the words after `python`, each run in an empty folder of its own; every one writes into `set`.
COMMANDS: dict[str, list[str]] = {
    "rcig_pcg": ["distill_dataset.py", "--max_steps", "4", *SHORT, "--set", "inner_solver=pcg"],
    "rcig_adam": ["distill_dataset.py", "--max_steps", "4", *SHORT, "--set", "inner_solver=adam"],
    "frepo": ["distill_dataset.py", "--method", "frepo", "--max_steps", "4", *SHORT],
    "kip": ["distill_dataset.py", "--method", "kip", "--max_steps", "4"],
    "dream": ["condense.py", "--method", "dream", "-f", "2", "--niter", "4", *MATCHING],
    "ga": ["condense.py", "--method", "ga", "--niter", "4", "--pretrain", "--pt_from", "1", *MATCHING],
    "cda": ["distill_dataset.py", "--method", "cda", "--max_steps", "20", *STUDENTS],
    "fadrm": ["distill_dataset.py", "--method", "fadrm", "--max_steps", "20", *STUDENTS],
}
EVALUATION = ["eval.py", "--checkpoint_path", "set", "--models_to_test", "1"]  # of the first set
PYTHON = """
import sys
sys.path.insert(0, sys.argv[1])
import jaxdd
small = jaxdd.distill(jaxdd.load("digits"), ipc=1, steps=3, width=8, pool_model_count=2)
small.save("set/distilled")
"""
FACTS = "same_numbers.json"


def main() -> None:
    """Records a checkout, and says in what it differs from another record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=pathlib.Path, required=True, help="where records and sets are kept")
    parser.add_argument("--checkout", type=pathlib.Path, default=HERE, help="root of the checkout that is run")
    parser.add_argument("--against", type=pathlib.Path, help="output_dir of another record, to compare with")
    flags = parser.parse_args()
    record(flags.checkout.resolve(), flags.output_dir.resolve())
    if flags.against is not None:
        lines = list(differences(flags.against.resolve(), flags.output_dir.resolve()))
        print("\n".join(lines) if lines else "all equal to the bit")
        sys.exit(bool(lines))


def record(checkout: pathlib.Path, output: pathlib.Path) -> None:
    """Runs what is not recorded yet, and writes `same_numbers.json` after each command."""
    path = output / FACTS
    facts = json.loads(path.read_text()) if path.is_file() else {}
    for name, run in _runs(checkout).items():
        if name in facts:
            continue
        place = output / ("rcig_pcg" if name == "eval" else name)
        if name != "eval":
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True)
        print(f"{name} ...", flush=True)
        run(place)
        facts[name] = _rows(place) if name == "eval" else _shards(place)
        if (place / "set" / "eval.json").is_file() and name != "eval":
            facts[f"{name} students"] = _rows(place)
        path.write_text(json.dumps(facts, indent=2) + "\n")


def differences(old: pathlib.Path, new: pathlib.Path) -> list[str]:
    """Returns one line for every record in which two outputs differ, with the largest difference."""
    before, after = (json.loads((folder / FACTS).read_text()) for folder in (old, new))
    lines = []
    for name in dict.fromkeys((*before, *after)):
        if before.get(name) == after.get(name):
            continue
        if name not in before or name not in after:
            lines.append(f"{name}: recorded on one side only")
        elif name == "eval" or name.endswith(" students"):
            lines.append(f"{name}: accuracies differ by up to {_of_rows(before[name], after[name]):.4f}")
        else:
            lines.append(f"{name}: images differ by up to {_of_sets(old / name, new / name):.3g}")
    return lines


def _runs(checkout: pathlib.Path) -> dict[str, Callable[[pathlib.Path], Any]]:
    def command(words: list[str]) -> Callable[[pathlib.Path], Any]:
        script, *flags = words
        named = [] if script == "eval.py" else ["--output_dir", "set"]
        return lambda place: _run([str(checkout / script), *flags, *named], place)

    commands = {name: command(words) for name, words in {**COMMANDS, "eval": EVALUATION}.items()}
    return {**commands, "python": lambda place: _run(["-c", PYTHON, str(checkout)], place)}


def _run(words: list[str], place: pathlib.Path) -> None:
    done = subprocess.run([sys.executable, *words], cwd=place, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}\nended with {done.returncode}:\n{done.stderr or done.stdout}")


def _shards(place: pathlib.Path) -> list[str]:
    manifest = json.loads((place / "set" / "distilled" / "manifest.json").read_text())
    return [shard["sha256"] for shard in manifest["shards"]]


def _rows(place: pathlib.Path) -> Any:
    return json.loads((place / "set" / "eval.json").read_text())["rows"]


def _of_sets(old: pathlib.Path, new: pathlib.Path) -> float:
    """Returns the largest difference of two sets' images; infinite where their shapes differ."""
    sides = []
    for place in (old, new):
        files = sorted((place / "set" / "distilled").glob("data-*.safetensors"))
        sides.append(np.concatenate([np.asarray(load_file(file)["images"], np.float64) for file in files]))
    first, second = sides
    return float(np.abs(first - second).max()) if first.shape == second.shape else float("inf")


def _of_rows(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> float:
    """Returns the largest difference of two evaluations' accuracies; infinite where their rows differ in number."""
    if len(old) != len(new):
        return float("inf")
    return max(abs(before["mean"] - after["mean"]) for before, after in zip(old, new, strict=True))


if __name__ == "__main__":
    main()
