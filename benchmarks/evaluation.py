"""The networks of an evaluation: trained one after another, and all in one program; in ms per step of all of them.

    python -m benchmarks.evaluation

`ratio` is one after another / together. On an accelerator, of which one small network uses little, it should come near
the number of networks; on CPU, where several networks become grouped convolutions, it lies below 1.
`core.backend.maps_networks` chooses by device. Trainings are those of an evaluation, on noise: `loop.run` as `evaluate`
calls it, its start and end included, compilation left out. `test_ms` is one pass of all networks over the test images.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import record
from jaxdd.core import backend
from jaxdd.core.procedure import Procedure
from jaxdd.core.types import Examples
from jaxdd.evaluation.base import Subject
from jaxdd.evaluation.recipe import Recipe
from jaxdd.run import loop
from jaxdd.run.control import Reporter
from jaxdd.training.ensemble import Ensemble
from jaxdd.training.trainer import accuracies


class Compiling(Reporter):
    """Adds up the seconds spent compiling."""

    seconds = 0.0

    def compiled(self, name: str, seconds: float) -> None:
        """One program is ready."""
        self.seconds += seconds


def noise(count: int, resolution: int, *, soft: bool) -> Examples:
    """Images of ten classes, with soft labels or class indices."""
    images = np.random.default_rng(0).standard_normal((count, resolution, resolution, 3), np.float32)
    labels = jnp.arange(count, dtype=jnp.int32) % 10
    return Examples(jnp.asarray(images), jax.nn.one_hot(labels, 10) - 0.1 if soft else labels, 10)


def seconds(work: Callable[[], Any], repeats: int) -> float:
    """The least wall time of `work`, which has run before."""
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        jax.block_until_ready(work())
        times.append(time.perf_counter() - begun)
    return min(times)


def measure(arguments: argparse.Namespace) -> dict[str, float]:
    """The figures."""
    shape = (arguments.resolution, arguments.resolution, 3)
    recipe = Recipe(width=arguments.width, precision=arguments.precision)
    network = recipe.network(shape, 10)
    training = recipe.training(network, Subject(10 * arguments.ipc), augmented=arguments.augment).procedure
    train = noise(10 * arguments.ipc, arguments.resolution, soft=True)
    seeds = tuple(range(arguments.models))

    def run(procedure: Procedure, seed: int, reporter: Reporter) -> Any:
        many = backend.steps_per_dispatch(backend.TRAINING_STEPS_PER_DISPATCH)
        options = {"steps": arguments.steps, "log_every": arguments.steps, "steps_per_dispatch": many}
        return loop.run(procedure, train, seed=seed, reporter=reporter, **options)

    compiling = {"in_turn": Compiling(), "together": Compiling()}
    ways = {
        "in_turn": lambda: [run(training, seed, compiling["in_turn"]) for seed in seeds],
        "together": lambda: run(Ensemble(training, seeds), 0, compiling["together"]),
    }
    trained = {name: train_all() for name, train_all in ways.items()}  # compiles
    rounds = [{name: seconds(train_all, arguments.repeats) for name, train_all in ways.items()} for _ in range(2)]
    per_step = {name: 1e3 * min(taken[name] for taken in rounds) / arguments.steps for name in ways}
    test = noise(arguments.test_images, arguments.resolution, soft=False)
    tested = functools.partial(accuracies, network, trained["together"], test)
    tested()
    return {
        "ratio": round(per_step["in_turn"] / per_step["together"], 3),
        "in_turn_ms_per_step": round(per_step["in_turn"], 3),
        "together_ms_per_step": round(per_step["together"], 3),
        "test_ms": round(1e3 * seconds(tested, arguments.repeats), 2),
        **{f"{name}_compile_s": round(reporter.seconds, 1) for name, reporter in compiling.items()},
    }


def main() -> None:
    """Parses flags, measures, records."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=5)
    parser.add_argument("--ipc", type=int, default=10)
    parser.add_argument("--width", type=int, default=None, help="default: 128, on CPU 16")
    parser.add_argument("--resolution", type=int, default=32)
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--steps", type=int, default=None, help="per training; default: 1000, on CPU 8")
    parser.add_argument("--test_images", type=int, default=None, help="default: 10000, on CPU 1000")
    parser.add_argument("--augment", action="store_true", help="with the published augmentation")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: checks that the benchmark runs")
    arguments = parser.parse_args()
    defaults = {"width": 128, "steps": 1000, "test_images": 10_000}
    if backend.on_cpu():
        defaults = {"width": 16, "steps": 8, "test_images": 1000}
    for name, default in defaults.items():
        setattr(arguments, name, default if getattr(arguments, name) is None else getattr(arguments, name))
    if arguments.quick:
        vars(arguments).update(models=2, ipc=1, width=4, steps=2, test_images=20, repeats=1)
    name = f"evaluation_width{arguments.width}_{arguments.precision}" + "_quick" * arguments.quick
    record.save(name, measure(arguments), vars(arguments))


if __name__ == "__main__":
    main()
