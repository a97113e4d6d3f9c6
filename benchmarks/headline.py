"""The headline settings on one accelerator: distil CIFAR-10 by `depth_3.txt` for a given time, then evaluate it.

    python -m benchmarks.headline --data_path DIR --ipc 1 --minutes 8

prints seconds per step, the steps reached, and the accuracy of five networks, beside the published 53.9 (1 image per
class), 69.1 (10) and 73.5 (50), which were reached after 15000, 10000 and an unstated number of steps on lossless
CIFAR-10. `--quick` checks on any machine that the script runs.
"""

from __future__ import annotations

import argparse
import time

import jax

from benchmarks import record
from jaxdd import data
from jaxdd.core import backend
from jaxdd.core.config import build, find_config, read_config
from jaxdd.core.types import Examples
from jaxdd.evaluation.protocol import evaluate
from jaxdd.evaluation.recipe import Recipe
from jaxdd.methods import RCIG
from jaxdd.run import loop
from jaxdd.run.control import Reporter
from jaxdd.run.settings import RunSettings

PUBLISHED = {1: 53.9, 10: 69.1, 50: 73.5}


class Pace(Reporter):
    """Keeps the latest pace and prints a line now and then."""

    seconds_per_step = float("nan")

    def compiled(self, name: str, seconds: float) -> None:
        """Compile time, apart from step time."""
        print(f"compiled {name} in {seconds:.1f} s", flush=True)

    def progress(self, step, steps, metrics, seconds_per_step, remaining_seconds) -> None:
        """One line per logged step."""
        self.seconds_per_step = seconds_per_step
        if metrics:
            shown = " ".join(f"{name} {metrics[name]:.4f}" for name in ("loss", "accuracy") if name in metrics)
            print(f"step {step}/{steps} {shown} {1e3 * seconds_per_step:.1f} ms/step", flush=True)


def main() -> None:
    """Parses flags, distils, evaluates, records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_path", required=True, help="folder that holds cifar10/")
    parser.add_argument("--config", default="depth_3.txt")
    parser.add_argument("--ipc", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=8.0, help="time for distilling; evaluation comes on top")
    parser.add_argument("--steps", type=int, default=None, help="most steps; the config's when absent")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--models", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: checks that the script runs")
    arguments = parser.parse_args()
    backend.use_compilation_cache()
    config = read_config(find_config(arguments.config), historical=RCIG.historical_names)
    config = config.replace({"n_images": arguments.ipc})
    if arguments.quick:
        config = config.replace({"width": 4, "batch_size": 64, "max_steps": 4, "pool_model_count": 2})
    settings = build([config.layer], {"method": RCIG, "run": RunSettings})
    method, run = settings["method"], settings["run"]
    dataset = data.load("cifar10", arguments.data_path)
    preprocessing = data.fit(dataset)
    train = data.examples(dataset, preprocessing, "train")
    pace = Pace()
    steps = affordable_steps(method, train, arguments.minutes, arguments.steps or run.max_steps, arguments.quick)
    began = time.monotonic()
    distilled = loop.run(method, train, steps=steps, seed=arguments.seed, log_every=100, reporter=pace)
    distil_seconds = time.monotonic() - began
    recipe = Recipe.of({"test_aug": None, "width": method.width, "models_to_test": arguments.models})
    if arguments.quick:
        recipe = Recipe.of({"test_aug": None, "width": 4, "models_to_test": 1, "plain_steps": 2})
    found = evaluate(distilled, dataset, preprocessing, recipe, run=loop.run, seed=arguments.seed, baselines=())
    row = found.rows[0]
    figures = {
        "ms_per_step": round(1e3 * pace.seconds_per_step, 2),
        "steps": steps,
        "distil_s": round(distil_seconds, 1),
        "accuracy": round(100 * row.mean, 2),
        "std": round(100 * row.std, 2),
        "published_lossless": PUBLISHED.get(arguments.ipc),
        "peak_bytes": (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use"),
    }
    name = f"headline_ipc{arguments.ipc}" + "_quick" * arguments.quick
    record.save(name, figures, {**vars(arguments), "method": str(method), "recipe": str(recipe)})


def affordable_steps(method: RCIG, train: Examples, minutes: float, most: int, quick: bool) -> int:
    """How many steps fit into `minutes`, measured on a short run whose compiled programs the real one reuses."""
    pace = Pace()
    loop.run(method, train, steps=2 if quick else 60, seed=0, log_every=10, reporter=pace)
    return most if quick else min(most, int(60 * minutes / pace.seconds_per_step))


if __name__ == "__main__":
    main()
