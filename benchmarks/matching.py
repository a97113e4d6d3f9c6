"""An inner iteration of IDC, engine against a literal PyTorch form: the sweep over the classes, the network's steps.

    python -m benchmarks.matching --data_path DATA [--torch_python PYTHON] [--device cuda]

CIFAR-10, ConvNet-3, width 128, f = 2, 64 real images per class and per network step, 32 network steps. Both sides take
turns in one run, each in a process of its own (PyTorch's threads wait busily); the other sleeps meanwhile. Medians in
seconds; `ratio` is PyTorch / engine. PyTorch is needed for this alone: name a Python that has it, or leave it out for
the engine's figures only.
"""

from __future__ import annotations

import argparse
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import jax
import numpy as np

from benchmarks import record
from jaxdd import data
from jaxdd.core import backend
from jaxdd.core.config import build, layer
from jaxdd.core.types import Examples
from jaxdd.methods import Condensation
from jaxdd.run.control import Reporter
from jaxdd.run.devices import Layout, choose
from jaxdd.run.programs import Programs, Repeated, Turns

PARTS = {"sweep": ("draw", "match"), "train": ("train",)}


class Torch:
    """The other side: a process that works when it is asked to."""

    def __init__(self, python: str, dataset: data.Dataset, ipc: int, flags: argparse.Namespace):
        with tempfile.TemporaryDirectory() as folder:
            held = pathlib.Path(folder) / "data.npz"
            np.savez(held, images=dataset.train_images, labels=dataset.train_labels)
            words = [python, pathlib.Path(__file__).with_name("matching_torch.py"), held, "--device", flags.device]
            words += [f"--ipc={ipc}", f"--width={flags.width}", f"--factor={flags.factor}"]
            pipe: Any = subprocess.PIPE
            self._process = subprocess.Popen(list(map(str, words)), stdin=pipe, stdout=pipe, text=True)
            self.version = self._answer().split()[1]

    def seconds(self, what: str) -> float:
        """One sweep, or the network's steps."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()
        return float(self._answer())

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


class Engine:
    """This side: the programs of a run, part by part, and the whole step."""

    def __init__(self, method: Condensation, examples: Examples):
        self.examples = examples
        layout = Layout(tuple(choose()))
        self.numbers = layout.put((np.uint32(0), np.int32(0), np.int32(1)))
        self.programs = Programs(method, examples, 1)
        seed, start, stop = self.numbers
        self.programs.init.ready(Reporter(), examples, seed)
        self.state = self.programs.init(examples, seed)
        for event in self.programs.events:
            event.ready(Reporter(), self.state, examples, seed, start)
            self.state = event(self.state, examples, seed, start)
        begun = time.perf_counter()
        self.programs.advance.ready(Reporter(), self.state, examples, seed, start, stop)
        self.compiling = time.perf_counter() - begun

    def seconds(self, what: str) -> float:
        """One sweep, or the network's steps; `step` for both."""
        seed, start, stop = self.numbers
        jax.block_until_ready(self.state)
        begun = time.perf_counter()
        if what == "step":
            self.state, _, _ = self.programs.advance(self.state, self.examples, seed, start, stop)
        else:
            for part in self._parts(what):
                self.state = part(self.state, self.examples, seed, start)
        jax.block_until_ready(self.state)
        return time.perf_counter() - begun

    def _parts(self, what: str) -> list[Repeated]:
        advance = self.programs.advance
        assert isinstance(advance, Turns)
        return [part for part in advance.parts if part.program.name in PARTS[what]]


def idc(ipc: int, flags: argparse.Namespace) -> Condensation:
    """The published settings."""
    given = {"method": "idc", "dataset_name": "cifar10", "n_images": ipc, "factor": flags.factor, "width": flags.width}
    implied = {k: v for k, v in Condensation.implied(given).values.items() if k not in ("max_steps", "recipe")}
    own = {key: value for key, value in given.items() if key not in ("method", "dataset_name")}
    own["precision"] = flags.precision
    return build([layer({**own, **implied}, "benchmark")], {"method": Condensation})["method"]


def measure(ipc: int, dataset: data.Dataset, flags: argparse.Namespace) -> dict[str, Any]:
    """Both sides in turn, `repeats` times each."""
    method = idc(ipc, flags)
    engine = Engine(method, data.examples(dataset, data.fit(dataset, family=method.family, kind=method.kind)))
    torch = Torch(flags.torch_python, dataset, ipc, flags) if flags.torch_python else None
    found: dict[str, Any] = {"compile_seconds": round(engine.compiling, 1)}
    with backend.quiet_blas():
        for what in ("sweep", "train") if backend.dispatches_parts() else ("step",):
            ours, theirs = [], []
            for turn in range(flags.repeats + 1):
                ours.append(engine.seconds(what))
                if torch:
                    theirs.append(torch.seconds(what) if what != "step" else sum(map(torch.seconds, PARTS)))
                if not turn:  # to warm up
                    ours, theirs = [], []
            found[f"{what}_engine"] = round(statistics.median(ours), 4)
            if torch:
                found[f"{what}_torch"] = round(statistics.median(theirs), 4)
                found[f"{what}_ratio"] = round(statistics.median(theirs) / statistics.median(ours), 3)
    if torch:
        found["torch"] = torch.version
        torch.close()
    return found


def main() -> None:
    """Runs and records."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_path", required=True)
    parser.add_argument("--torch_python", default=None, help="a Python that can import torch")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="which both sides run on")
    parser.add_argument("--ipc", type=int, nargs="+", default=[1, 10])
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"))
    for name, default in (("width", 128), ("factor", 2), ("repeats", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    flags = parser.parse_args()
    if flags.device == "cpu":
        jax.config.update("jax_platforms", "cpu")
    elif backend.on_cpu():
        raise SystemExit("--device cuda: JAX has no accelerator here")
    if flags.torch_python and flags.precision != "float32":
        raise SystemExit("PyTorch's side is float32: leave --torch_python out, or --precision")
    dataset = data.load("cifar10", flags.data_path)
    figures = {f"ipc{ipc}": measure(ipc, dataset, flags) for ipc in flags.ipc}
    settings = {key: value for key, value in vars(flags).items() if key != "torch_python"}
    record.save("matching" if flags.device == "cpu" else "matching_gpu", figures, settings)


if __name__ == "__main__":
    sys.exit(main())
