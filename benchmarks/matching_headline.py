"""Learning curves of DREAM, DREAM+ and AccDD on one accelerator: CIFAR-10, 10 images per class, f = 2.

    python -m benchmarks.matching_headline --data_path DIR --method dream --minutes 8 --output_dir OUT

distils by the published settings, keeps the set after 40, 80 and 200 outer iterations (AccDD: 100, 200, 400), stops
after `--minutes`, and evaluates what it has with IDC's recipe, beside the published accuracies on lossless CIFAR-10.
The same command goes on where it stopped. Time per inner iteration and what the published budgets would take are told
in hours. `--quick` checks on any machine that the script runs.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import pathlib
import signal
import time
from typing import Any

import jax

from benchmarks import record
from benchmarks.headline import Pace
from jaxdd import data
from jaxdd.core import backend
from jaxdd.core.config import build, layer
from jaxdd.core.distilled import DistilledSet
from jaxdd.evaluation.recipe import Recipe
from jaxdd.methods import Condensation
from jaxdd.run import evaluating, loop
from jaxdd.run.control import Stopped
from jaxdd.run.distillation import Distillation
from jaxdd.run.storage.networks import Networks
from jaxdd.training.ensemble import Ensemble
from jaxdd.training.sgd import ClassifierTraining

PUBLISHED = {
    "dream": {40: 64.0, 80: 65.4, 200: 66.9},
    "dream_plus": {40: 65.7, 80: 67.4, 200: 68.5},
    "accdd": {100: 65.1, 200: 66.4, 400: 67.1},
    "idc": {40: 58.6, 80: 62.1, 200: 65.2},
}
PUBLISHED_HOURS = {"idc, 2000": 22.4, "accdd, 400": 4.3, "accdd, 200": 2.2, "accdd, 100": 1.14}
FULL_DATA = 84.8
COUNT, EPOCHS, BATCH = 5, 2, 64  # of AccDD's networks


def method_of(name: str, quick: bool, precision: str) -> tuple[Condensation, int]:
    """The published settings, and inner iterations per outer one."""
    given: dict[str, Any] = {"method": name, "dataset_name": "cifar10", "n_images": 10, "factor": 2}
    given |= {"precision": precision}
    given |= {"width": 4, "inner_loop": 1, "n_data": 64, "batch_real": 16, "candidates": 40} if quick else {}
    values = {**given, **Condensation.implied(given).values}
    own = {k: v for k, v in values.items() if k not in ("method", "dataset_name", "max_steps", "recipe")}
    method = build([layer(own, "headline")], {"method": Condensation})["method"]
    return method, method.inner_loop


def early_networks(method: Condensation, dataset: data.Dataset, quick: bool) -> Networks:
    """AccDD's: trained for two epochs, all in one program where the device likes that."""
    network = method.network(dataset.image_shape, dataset.classes)
    examples = data.examples(dataset, data.fit(dataset, family="idc", kind="raw"))
    training = ClassifierTraining(
        network, batch_size=BATCH, kind="diffaug", strategy="color_crop", resolution=dataset.resolution, mix_p=0.5
    )
    steps = 2 if quick else EPOCHS * len(examples) // BATCH
    seeds = tuple(2023 + i for i in range(2 if quick else COUNT))
    return Networks(loop.run(Ensemble(training, seeds), examples, steps=steps, seed=0, log_every=steps))


def distil(run: Distillation, flags: argparse.Namespace, inner: int) -> tuple[float, float]:
    """Until the end or the time is up; seconds per inner iteration, and in all."""
    pace, began = Pace(), time.monotonic()
    with run.storage(flags.output_dir, checkpoint_every=120.0) as storage, contextlib.suppress(Stopped):
        ends = began + 60 * flags.minutes
        stop = {"should_stop": lambda: signal.SIGTERM if time.monotonic() > ends else None}
        run.drive(storage, log_every=inner, reporter=pace, **stop)
    return pace.seconds_per_step, time.monotonic() - began


def accuracies(marks: dict[int, int], dataset: data.Dataset, flags: argparse.Namespace) -> dict[Any, dict[str, float]]:
    """Of the sets that were kept: outer iterations -> accuracy; and of all images if they are asked for.

    Arguments:
        marks: outer iterations -> steps.
    """
    stored: dict[str, Any] = {"protocol": "idc", "models_to_test": 1 if flags.quick else flags.models}
    recipe = Recipe.of({**stored, **({"width": 4, "epochs": 4} if flags.quick else {})})
    found: dict[Any, dict[str, float]] = {}
    for mark, step in marks.items():
        folder = pathlib.Path(flags.output_dir) / "distilled" / f"step_{step}"
        if not folder.is_dir():
            continue
        full = flags.full_data and mark == max(marks)
        for row in evaluating.evaluate(DistilledSet.load(folder), dataset, recipe, baselines=(), full_data=full).rows:
            figures = {"last": 100 * row.mean, "std": 100 * row.std, "best": 100 * sum(row.best) / len(row.best)}
            found[mark if row.name == "distilled" else row.name] = {k: round(v, 2) for k, v in figures.items()}
        print(found, flush=True)
    return found


def main() -> None:
    """Distils for the time given, evaluates, records."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_path", required=True, help="folder that holds cifar10/")
    parser.add_argument("--method", default="dream", choices=PUBLISHED)
    parser.add_argument("--minutes", type=float, default=8.0, help="time for distilling; evaluation comes on top")
    parser.add_argument("--output_dir", required=True)
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--models", type=int, default=3)
    parser.add_argument("--full_data", action="store_true", help="also train on all images")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: checks that the script runs")
    flags = parser.parse_args()
    backend.use_compilation_cache()
    dataset = data.load("cifar10", flags.data_path)
    method, inner = method_of(flags.method, flags.quick, flags.precision)
    marks = {mark: mark * inner for mark in ([1, 2] if flags.quick else sorted(PUBLISHED[flags.method]))}
    run = Distillation(
        name=flags.method,
        method=method,
        dataset=dataset,
        preprocessing=data.fit(dataset, family=method.family, kind=method.kind),
        steps=max(marks.values()),
        checkpoint_iters=tuple(marks.values()),
        networks=early_networks(method, dataset, flags.quick) if method.source == "pretrained" else None,
    )
    seconds, whole = distil(run, flags, inner)
    measured = math.isfinite(seconds)  # not where all steps were made before
    budgets = {f"{flags.method}, {count}": round(count * inner * seconds / 3600, 3) for count in (100, 200, 400, 2000)}
    figures = {
        "ms_per_inner_iteration": round(1e3 * seconds, 2) if measured else None,
        "distil_s": round(whole, 1),
        "hours_for_published_budgets": budgets if measured else None,
        "published_hours": PUBLISHED_HOURS,
        "accuracy": accuracies(marks, dataset, flags),
        "published_lossless": {**PUBLISHED[flags.method], "full data": FULL_DATA},
        "peak_bytes": (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use"),
    }
    name = f"matching_headline_{flags.method}" + "_quick" * flags.quick
    record.save(name, figures, {**vars(flags), "settings": str(method)})


if __name__ == "__main__":
    main()
