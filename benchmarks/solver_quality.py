"""How good the sets are that each solver of RCIG's inner problem leads to, at equal numbers of outer steps.

    python -m benchmarks.solver_quality --data_path DIR [--minutes 4]

A cell is one data set, one way to solve the inner problem and one seed: RCIG makes one image per class, then fresh
networks are trained on the set by one recipe and tested on all real test images. The seed fixes first images, pool,
real batches and evaluated networks, whatever the solver; `minus_exact` is therefore taken seed by seed. Accuracies are
in percent. `products` are products with the operator of the two solves of a step: those of the implicit gradient
included. A run that was stopped, by a signal or by `--minutes`, continues with the next cell when started again.
"""

from __future__ import annotations

import argparse
import functools
import json
import pathlib
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from benchmarks import record
from jaxdd import data
from jaxdd.core import backend
from jaxdd.core.types import Examples
from jaxdd.evaluation.protocol import evaluate
from jaxdd.evaluation.recipe import Recipe
from jaxdd.methods import RCIG
from jaxdd.run import loop
from jaxdd.run.control import Reporter

SOLVERS: dict[str, dict[str, Any]] = {  # in the order in which they are measured
    "exact": {"inner_solver": "pcg", "solver_steps": 100, "solver_tolerance": 1e-4, "hinv_last_kernel": False},
    "adam": {"inner_solver": "adam"},
    "tol_0.1": {"inner_solver": "pcg", "solver_steps": 100, "solver_tolerance": 0.1, "hinv_last_kernel": False},
    "default": {"inner_solver": "pcg", "solver_steps": 100, "solver_tolerance": 0.1, "hinv_last_kernel": True},
    "tol_0.01": {"inner_solver": "pcg", "solver_steps": 100, "solver_tolerance": 0.01, "hinv_last_kernel": False},
    "steps_4": {"inner_solver": "pcg", "solver_steps": 4, "solver_tolerance": 0.0, "hinv_last_kernel": False},
    "steps_12": {"inner_solver": "pcg", "solver_steps": 12, "solver_tolerance": 1e-5, "hinv_last_kernel": False},
    "steps_1": {"inner_solver": "pcg", "solver_steps": 1, "solver_tolerance": 0.0, "hinv_last_kernel": False},
    "adam_masked": {"inner_solver": "adam", "hinv_last_kernel": False},
    "adam_plain": {"inner_solver": "adam", "base_drift": False, "warm_inner_adam": False, "hinv_last_kernel": False},
}
DATASETS = {"mnist": {"use_flip": False}, "cifar10": {"use_flip": True}}
ROUNDS = ((0, 1), (2, 3, 4))  # seeds: all solvers with the first ones, then with the others
LAST = 50  # outer steps at the end over which the accuracy on real batches is averaged


class Size(NamedTuple):
    """Arguments: settings of the method, its outer steps, the recipe of the networks that judge the set."""

    method: dict[str, Any]
    steps: int
    recipe: dict[str, Any]


FULL = Size(
    {"n_images": 1, "width": 16, "batch_size": 256, "pool_model_count": 30},
    200,
    {"width": 16, "eval_lr": 1e-3, "warmup_steps": 50, "steps": 400, "plain_steps": 400, "models_to_test": 4},
)
QUICK = Size(
    {"n_images": 1, "width": 4, "batch_size": 16, "pool_model_count": 2},
    2,
    {"width": 4, "eval_lr": 1e-3, "warmup_steps": 1, "steps": 2, "plain_steps": 2, "models_to_test": 1},
)


class Cell(NamedTuple):
    """Arguments: a key of `DATASETS`, a key of `SOLVERS`, the seed."""

    dataset: str
    solver: str
    seed: int

    def settings(self, size: Size) -> dict[str, Any]:
        """All that the figures depend on."""
        method = {**size.method, **DATASETS[self.dataset], **SOLVERS[self.solver]}
        return {"method": method, "steps": size.steps, "recipe": size.recipe}


class Trace(Reporter):
    """Keeps the metrics of every step and the time that a step takes."""

    def __init__(self):
        self.metrics: list[Mapping[str, float]] = []
        self.seconds_per_step = float("nan")

    def progress(
        self, step: int, steps: int, metrics: Mapping[str, float], seconds_per_step: float, remaining_seconds: float
    ) -> None:
        """One more step."""
        self.metrics.append(metrics)
        self.seconds_per_step = seconds_per_step

    def mean(self, *names: str) -> float | None:
        """The sum of these metrics, averaged over the last steps; None if the solver does not report them."""
        rows = self.metrics[-LAST:]
        if any(name not in row for row in rows for name in names):
            return None
        return statistics.fmean(sum(row[name] for name in names) for row in rows)


@functools.cache
def real(name: str, path: str | None) -> tuple[data.Dataset, data.Preprocessing, Examples]:
    """A data set, its preprocessing and its training images on the device."""
    dataset = data.load(name, path)
    preprocessing = data.fit(dataset)
    return dataset, preprocessing, data.examples(dataset, preprocessing)


def measure(cell: Cell, size: Size, path: str | None) -> dict[str, Any]:
    """The figures of one cell. Procedures are equal for all seeds, and so are their programs."""
    dataset, preprocessing, train = real(cell.dataset, path)
    settings, trace = cell.settings(size), Trace()
    begun = time.perf_counter()
    method = RCIG(**settings["method"])
    distilled = loop.run(method, train, steps=size.steps, seed=cell.seed, log_every=1, reporter=trace)
    recipe = Recipe(test_aug=None, **size.recipe)
    row = evaluate(distilled, dataset, preprocessing, recipe, run=loop.run, seed=cell.seed, baselines=()).rows[0]
    accuracy = trace.mean("accuracy")
    return {
        "test_accuracy": [100 * run for run in row.runs],
        "batch_accuracy": None if accuracy is None else 100 * accuracy,
        "products": trace.mean("inner_steps", "hinv_steps"),
        "inner_residual": trace.mean("inner_residual"),
        "ms_per_step": 1e3 * trace.seconds_per_step,
        "seconds": time.perf_counter() - begun,
    }


def cells(datasets: list[str], solvers: list[str], seeds: int) -> Iterator[Cell]:
    """All cells, those that say most first."""
    for some in ROUNDS:
        for dataset in datasets:
            for solver in solvers:
                yield from (Cell(dataset, solver, seed) for seed in some if seed < seeds)


def table(found: dict[Cell, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """`<data set>/<solver>` -> spread over seeds of each figure, and of the difference to `exact`."""
    groups: dict[str, dict[int, dict[str, Any]]] = {}
    for cell, figures in found.items():
        groups.setdefault(f"{cell.dataset}/{cell.solver}", {})[cell.seed] = figures
    return {name: _summary(group, groups.get(f"{name.split('/')[0]}/exact", {})) for name, group in groups.items()}


def _summary(group: dict[int, dict[str, Any]], exact: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """Each accuracy is that of a seed's networks together: they share one set and are not independent."""
    accuracy = {seed: statistics.fmean(figures["test_accuracy"]) for seed, figures in group.items()}
    differences = [
        accuracy[seed] - statistics.fmean(exact[seed]["test_accuracy"]) for seed in sorted(exact.keys() & group.keys())
    ]
    summary: dict[str, Any] = {"test_accuracy": record.spread(list(accuracy.values()))}
    if differences:
        summary["minus_exact"] = record.spread(differences)
    for name in ("batch_accuracy", "products", "inner_residual", "ms_per_step"):
        values = [figures[name] for figures in group.values()]
        if None not in values:
            summary[name] = (
                record.spread(values) if name == "batch_accuracy" else float(f"{statistics.median(values):.3g}")
            )
    return summary


def main() -> None:
    """Parses flags, measures the cells that are not there yet, records."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_path", default=None, help="folder that holds mnist/ and cifar10/")
    parser.add_argument("--datasets", nargs="+", default=list(DATASETS), choices=list(DATASETS))
    parser.add_argument("--solvers", nargs="+", default=list(SOLVERS), choices=list(SOLVERS))
    parser.add_argument("--seeds", type=int, default=5, choices=range(1, 6))
    parser.add_argument("--minutes", type=float, default=None, help="begin no cell after this time")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one seed: checks that the benchmark runs")
    arguments = parser.parse_args()
    backend.use_compilation_cache()
    seeds, size = (1, QUICK) if arguments.quick else (arguments.seeds, FULL)
    name, begun = "solver_quality" + "_quick" * arguments.quick, time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:  # tiny cells are measured anew each time and not kept
        folder = pathlib.Path(scratch) if arguments.quick else record.RESULTS / name
        found: dict[Cell, dict[str, Any]] = {}
        for cell in cells(arguments.datasets, arguments.solvers, seeds):
            path, settings = folder / f"{'_'.join(map(str, cell))}.json", cell.settings(size)
            figures = record.finished(path, settings)
            if figures is None and (arguments.minutes is None or time.perf_counter() - begun < 60 * arguments.minutes):
                figures = measure(cell, size, arguments.data_path)
                record.keep(path, settings, figures)
                print("/".join(map(str, cell)), json.dumps(figures), flush=True)
            if figures is not None:
                found[cell] = figures
    solvers = {solver: SOLVERS[solver] for solver in arguments.solvers}
    record.save(name, table(found), {**vars(arguments), "size": size._asdict(), "solver_settings": solvers})


if __name__ == "__main__":
    main()
