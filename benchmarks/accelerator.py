"""Everything that only an accelerator can show, in the order of what it is worth, within the minutes there are.

    python -m benchmarks.accelerator --data_path DATA --output_dir OUT --minutes 9 [--torch_python PYTHON]

`DATA` holds cifar10/ and what else the rows need. Every row is one of the benchmarks beside this one, in a process of
its own. Its JSON file lies in `OUT/results/<row>`, what it printed in `OUT/<row>.log`; a row whose file is there is not
run again, so the same command goes on where the minutes ended. Rows that do not fit into what is left are told and left
for the next call. Where only the files came along, without their history, `JAXDD_COMMIT` names the commit. `--quick`
shows on any machine that the rows run and are recorded; it leaves out those that have no tiny form.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import pathlib
import subprocess
import sys
import time
from typing import Any


@dataclasses.dataclass(frozen=True)
class Row:
    """One benchmark: its module and flags, and the minutes that it needs."""

    command: str
    minutes: float
    data: bool = True
    torch: bool = False
    small: bool = True  # it has a tiny form

    def words(self, flags: argparse.Namespace) -> list[str]:
        """Its command line."""
        words = [sys.executable, "-m", *f"benchmarks.{self.command}".split()]
        words = [word.replace("OUT", flags.output_dir) for word in words]
        words += ["--data_path", flags.data_path] if self.data else []
        words += ["--torch_python", flags.torch_python] if self.torch and flags.torch_python else []
        return words + ["--quick"] * flags.quick


BESIDE_TORCH: dict[str, Any] = {"torch": True, "small": False}
ROWS = {
    "recover": Row("recover --device cuda --side 224", 3, data=False, **BESIDE_TORCH),
    "recover_bfloat16": Row("recover --device cuda --side 224 --precision bfloat16", 3, data=False, **BESIDE_TORCH),
    "recover_64": Row("recover --device cuda", 2, data=False, **BESIDE_TORCH),
    "rcig_step": Row("rcig_step --ipc 1 10 50 --width 128 --engine_only", 3),
    "rcig_ratio": Row("rcig_step --ipc 1 --width 128", 4),
    "matching": Row("matching --device cuda", 4, **BESIDE_TORCH),
    "evaluation": Row("evaluation", 3, data=False),
    "headline_1": Row("headline --ipc 1 --minutes 5", 8.5),
    **{
        method: Row(f"matching_headline --method {method} --minutes 6 --output_dir OUT/{method}", 8.5)
        for method in ("dream", "accdd", "dream_plus")
    },
    "headline_10": Row("headline --ipc 10 --minutes 5", 8.5),
}


def run(name: str, row: Row, flags: argparse.Namespace, ends: float) -> str:
    """Runs one row unless it is done or does not fit; says what became of it."""
    results = pathlib.Path(flags.output_dir) / "results" / name
    if any(results.glob("*.json")):
        return "done before"
    left = (ends - time.monotonic()) / 60
    if left < row.minutes * (not flags.quick):
        return f"left for the next call: needs {row.minutes:g} minutes, {max(0.0, left):.1f} are left"
    began, environment = time.monotonic(), {**os.environ, "JAXDD_RESULTS": str(results)}
    with open(f"{flags.output_dir}/{name}.log", "w") as log:
        out: dict[str, Any] = {"stdout": log, "stderr": subprocess.STDOUT, "env": environment}
        try:
            code = subprocess.run(row.words(flags), timeout=max(1.0, 60 * left), check=False, **out).returncode
        except subprocess.TimeoutExpired:
            return f"out of time: see {name}.log"
    if code or not any(results.glob("*.json")):
        return f"failed ({code}): see {name}.log"
    return f"done in {(time.monotonic() - began) / 60:.1f} minutes"


def main() -> None:
    """Runs the rows in order."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_path", required=True)
    parser.add_argument("--output_dir", required=True, help="kept between calls")
    parser.add_argument("--minutes", type=float, default=9.0, help="for this call")
    parser.add_argument("--only", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--torch_python", default=None, help="a Python that can import torch, for ratios against it")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: checks that the rows run")
    flags = parser.parse_args()
    flags.output_dir = str(pathlib.Path(flags.output_dir).expanduser().absolute() / ("quick" * flags.quick))
    pathlib.Path(flags.output_dir).mkdir(parents=True, exist_ok=True)
    ends = time.monotonic() + 60 * flags.minutes
    for name in flags.only:
        if not flags.quick or ROWS[name].small:
            print(f"{name:12} {run(name, ROWS[name], flags, ends)}", flush=True)


if __name__ == "__main__":
    main()
