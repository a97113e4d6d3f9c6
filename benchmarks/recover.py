"""An iteration of recovering images (CDA in ResNet-18), engine against a literal PyTorch form.

    python -m benchmarks.recover [--torch_python PYTHON]                     ResNet-18 at 64 pixels, 100 images
    python -m benchmarks.recover --device cuda --side 224 --precision float32 bfloat16 [--torch_python PYTHON]

    ms_*            per image and iteration: the median of rounds in which both sides take turns, in two processes
    cpu_ms_*        the processor's time for that, of all threads (CPU only): a busy machine changes it less
    ratio           PyTorch / engine, of ms; `cpu_ratio` of cpu_ms
    bytes_*         the most memory held: of the process (Linux), or of the GPU's allocator
    planned_bytes   of these, what XLA's buffer assignment tells
    hours_*         projected from ms_engine: ImageNet-1K, 50 images per class, 4000 iterations; ImageNet-21K, 20, 2000

The first round warms up and does not count. On an accelerator a round of the engine is one dispatch of many iterations.
PyTorch is needed for the ratio alone: name a Python that has it, or leave it out for the engine's figures only.
"""

from __future__ import annotations

import argparse
import pathlib
import statistics
import subprocess
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import record
from benchmarks.memory import CLEAR, RESET_PEAK, resident
from jaxdd import models
from jaxdd.core import backend
from jaxdd.core.precision import Precision
from jaxdd.methods.recovery.plan import plan
from jaxdd.methods.recovery.settings import Recovery
from jaxdd.methods.recovery.stage import ChunkExamples, RecoverStage
from jaxdd.run.control import Reporter
from jaxdd.run.devices import Layout, choose
from jaxdd.run.programs import Programs

CLASSES, JITTER, RATE, R_BN = 200, 4, 0.4, 0.05  # as CDA on Tiny-ImageNet
MEAN, STD = (0.4802, 0.4481, 0.3975), (0.2302, 0.2265, 0.2262)
IMAGE_ITERATIONS = {"imagenet1k_ipc50": 50_000 * 4000, "imagenet21k_ipc20": 209_000 * 2000}
WARM_UP = 1


class Torch:
    """The other side: a process that makes an iteration when it is asked to."""

    def __init__(self, flags: argparse.Namespace):
        words = [flags.torch_python, str(pathlib.Path(__file__).with_name("recover_torch.py"))]
        words += [f"--{name}={getattr(flags, name)}" for name in ("device", "side", "batch", "width")]
        words += [f"--classes={CLASSES}", f"--jitter={JITTER}", f"--rate={RATE}", f"--r_bn={R_BN}"]
        pipe: Any = subprocess.PIPE
        self._process = subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True)
        self.version = self._answer()[1]
        self.bytes = 0

    def seconds(self) -> tuple[float, float]:
        """One iteration: of the clock, of the processor."""
        assert self._process.stdin is not None
        self._process.stdin.write("step\n")
        self._process.stdin.flush()
        seconds, processor, held = self._answer()
        self.bytes = int(held)
        return float(seconds), float(processor)

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()

    def _answer(self) -> list[str]:
        assert self._process.stdout is not None
        return self._process.stdout.readline().split()


class Engine:
    """This side: the programs of a run."""

    def __init__(self, flags: argparse.Namespace, precision: Precision):
        stage, examples = procedure(flags, precision)
        self.at_once = backend.steps_per_dispatch(backend.TRAINING_STEPS_PER_DISPATCH)
        self.examples = jax.device_put(examples)
        self.numbers = Layout(tuple(choose())).put((np.uint32(0), np.int32(0), np.int32(self.at_once)))
        self.programs = Programs(stage, self.examples, self.at_once)
        seed, start, stop = self.numbers
        self.programs.init.ready(Reporter(), self.examples, seed)
        self.state = self.programs.init(self.examples, seed)
        begun = time.perf_counter()
        self.programs.advance.ready(Reporter(), self.state, self.examples, seed, start, stop)
        self.compiling = time.perf_counter() - begun
        if backend.on_cpu():
            CLEAR.write_text(RESET_PEAK)

    def seconds(self) -> tuple[float, float]:
        """An iteration's share of one dispatch: of the clock, of the processor."""
        seed, start, stop = self.numbers
        begun, used = time.perf_counter(), time.process_time()
        self.state, metrics, _ = self.programs.advance(self.state, self.examples, seed, start, stop)
        jax.block_until_ready((self.state, metrics))
        return (time.perf_counter() - begun) / self.at_once, (time.process_time() - used) / self.at_once

    @property
    def bytes(self) -> dict[str, int]:
        """The most that was held, and what was planned."""
        told = self.programs.advance.memory()
        held = resident("VmHWM") if backend.on_cpu() else jax.devices()[0].memory_stats()["peak_bytes_in_use"]
        return {"bytes_engine": held} | ({"planned_bytes": told.peak} if told else {})


def procedure(flags: argparse.Namespace, precision: Precision) -> tuple[RecoverStage, ChunkExamples]:
    """The recovery, and a chunk for it: a fresh teacher, noise."""
    shape = (flags.side, flags.side, 3)
    network = models.build(
        "torchvision_resnet", depth=18, width=flags.width, image_shape=shape, classes=CLASSES, precision=precision
    )
    given = {"lr_img": RATE, "r_bn": R_BN, "jitter": JITTER, "easy2hard_mode": "cosine", "milestone": 1.0}
    sizes = {"batch_size": flags.batch, "statistics_group": min(flags.group, flags.batch)}
    settings = Recovery(method="cda", precision=precision, **given, **sizes)
    labels = jnp.arange(flags.batch, dtype=jnp.int32) % CLASSES
    teacher = network.init(jax.random.key(0))
    examples = ChunkExamples(jnp.zeros((flags.batch, *shape)), labels, CLASSES, teachers=(teacher,))
    return RecoverStage(settings, plan(settings, flags.side)[0], (network,), (MEAN, STD)), examples


def measure(flags: argparse.Namespace, precision: Precision) -> dict[str, Any]:
    """Both sides in turn, `repeats` times each."""
    engine = Engine(flags, precision)
    torch = Torch(flags) if flags.torch_python and precision == "float32" else None
    rounds: dict[str, list[tuple[float, float]]] = {"engine": []} | ({"torch": []} if torch else {})
    for _ in range(WARM_UP + flags.repeats):
        rounds["engine"].append(engine.seconds())
        if torch:
            rounds["torch"].append(torch.seconds())
    found: dict[str, Any] = {"compile_seconds": round(engine.compiling, 1), **engine.bytes}
    per_image = {side: _milliseconds(times[WARM_UP:], flags.batch) for side, times in rounds.items()}
    if torch:
        torch.close()
        found |= {"bytes_torch": torch.bytes, "torch": torch.version}
        clock, processor = (per_image["torch"][i] / per_image["engine"][i] for i in range(2))
        found |= {"ratio": round(clock, 3)} | ({"cpu_ratio": round(processor, 3)} if backend.on_cpu() else {})
    found |= {f"ms_{side}": round(clock, 4) for side, (clock, _) in per_image.items()}
    if backend.on_cpu():
        found |= {f"cpu_ms_{side}": round(processor, 4) for side, (_, processor) in per_image.items()}
    if flags.side == 224:
        for name, count in IMAGE_ITERATIONS.items():
            found[f"hours_{name}"] = round(count * per_image["engine"][0] / 3.6e6, 2)
    return found


def _milliseconds(rounds: list[tuple[float, float]], batch: int) -> list[float]:
    """Medians per image, of the clock and of the processor."""
    return [statistics.median(times) * 1000 / batch for times in zip(*rounds, strict=True)]


def main() -> None:
    """Runs and records."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch_python", default=None, help="a Python that can import torch")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="which both sides run on")
    parser.add_argument("--precision", nargs="+", default=["float32"], choices=("float32", "bfloat16"))
    for name, default in (("side", 64), ("batch", 100), ("group", 100), ("width", 128), ("repeats", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    flags = parser.parse_args()
    if flags.device == "cpu":
        jax.config.update("jax_platforms", "cpu")
    elif backend.on_cpu():
        raise SystemExit("--device cuda: JAX has no accelerator here")
    figures = {precision: measure(flags, precision) for precision in flags.precision}
    settings = {key: value for key, value in vars(flags).items() if key != "torch_python"}
    small = "" if (flags.side, flags.batch, flags.width) in ((64, 100, 128), (224, 100, 128)) else "_other"
    record.save(f"recover_{flags.device}_{flags.side}{small}", figures, settings)


if __name__ == "__main__":
    main()
