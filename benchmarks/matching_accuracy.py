"""All eight matching methods at equal budget on a CPU's scale, and each method's mechanism on and off.

    python -m benchmarks.matching_accuracy --data_path DATA [--ipc 1 10] [--seeds 0 1] [--only idc dream ...]

MNIST, ConvNet-3 with 32 channels, f = 2 for the IDC family. Every row makes the same number of inner iterations (sweeps
over the classes) and is evaluated by the same recipe: IDC's with fewer epochs. Every cell (row, ipc, seed) is kept as
soon as it is finished, so a run that was cut short goes on where it was; several processes may share out the rows.
Rates of the images are the published ones times `--rate`: the published budget is 1000 times larger. `random real`,
`k-means real` are trained by the same recipe, `full data` for 5 epochs. Standard deviations are over seeds of
distilling, each of which has its own networks.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import pathlib
import time
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import record
from jaxdd import data
from jaxdd.core.config import build, layer
from jaxdd.core.types import Examples, PyTree
from jaxdd.evaluation.recipe import Recipe
from jaxdd.methods import Condensation
from jaxdd.run import evaluating, loop
from jaxdd.training.sgd import ClassifierTraining

CELLS = record.RESULTS / "cells" / "matching_accuracy"
PRETRAINED, EPOCHS_BEFORE, BATCH = 5, 2, 64
FULL_EPOCHS = 5  # of one network on all images, which are 6000 times as many
ROWS: dict[str, dict[str, Any]] = {
    **{name: {"method": name} for name in ("dc", "dsa", "dm", "idc", "accdd", "dream", "dream_plus", "ga")},
    "accdd, networks not perturbed": {"method": "accdd", "perturb": False},
    "accdd, random networks (= idc at its rate)": {"method": "accdd", "source": "random"},
    "dream, random real images": {"method": "dream", "selection": "random"},
    "dream, random real images and start": {"method": "dream", "selection": "random", "f2_init": "random"},
    "dream_plus, gradients alone": {"method": "dream_plus", "match": "grad"},
    "ga, labels not shifted": {"method": "ga", "lcs_weight": 0.0},
    "ga, no average": {"method": "ga", "ema_decay": 0.0},
    "ga, no features": {"method": "ga", "dm_weight": 0.0},
    "ga, none of the three": {"method": "ga", "lcs_weight": 0.0, "ema_decay": 0.0, "dm_weight": 0.0},
}


def method_of(row: dict[str, Any], ipc: int, flags: argparse.Namespace) -> Condensation:
    """The method of one row, with the budget's settings."""
    given: dict[str, Any] = {"dataset_name": "mnist", "n_images": ipc, "width": flags.width, **row}
    classic = row["method"] in ("dc", "dsa", "dm")
    given |= {} if classic else {"factor": 2, "inner_loop": flags.inner, "candidates": flags.candidates}
    if row["method"] == "ga":
        given |= {"exit_at": flags.outer // 2}
        given.setdefault("ema_decay", flags.ema)
    values = {**given, **Condensation.implied(given).values}
    values["lr_img"] *= 1.0 if classic else flags.rate
    own = {k: v for k, v in values.items() if k not in ("method", "dataset_name", "max_steps", "recipe")}
    return build([layer(own, "benchmark")], {"method": Condensation})["method"]


@functools.cache
def networks_for(method: Condensation, dataset: data.Dataset) -> PyTree:
    """Networks trained for two epochs, stacked; every seed uses the same."""
    network = method.network(dataset.image_shape, dataset.classes)
    examples = data.examples(dataset, data.fit(dataset, family="idc", kind="raw"))
    training = ClassifierTraining(
        network, batch_size=BATCH, kind="diffaug", strategy="color_crop", resolution=dataset.resolution, mix_p=0.5
    )
    steps = EPOCHS_BEFORE * len(examples) // BATCH
    trained = [loop.run(training, examples, steps=steps, seed=2023 + i, log_every=steps) for i in range(PRETRAINED)]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trained)


def distilled(name: str, ipc: int, seed: int, dataset: data.Dataset, flags: argparse.Namespace) -> tuple[Any, float]:
    """The set of one row, and the seconds that distilling took."""
    method = method_of(ROWS[name], ipc, flags)
    preprocessing = data.fit(dataset, family=method.family, kind=method.kind)
    examples: Examples = data.examples(dataset, preprocessing)
    if method.source == "pretrained":
        networks = networks_for(method_of(ROWS["accdd"], ipc, flags), dataset)
        examples = dataclasses.replace(examples, early_networks=networks)
    began = time.perf_counter()
    steps = flags.outer * flags.inner
    found = loop.run(method, examples, steps=steps, seed=seed, log_every=steps)
    seconds = time.perf_counter() - began
    described = preprocessing.describe()
    return found.replace(space=method.kind, dataset=dataset.name, preprocessing=described), seconds


def evaluate(found: Any, dataset: data.Dataset, seed: int, flags: argparse.Namespace, **options: Any) -> list[Any]:
    """Rows of an evaluation of `models` networks by IDC's recipe."""
    recipe = Recipe.of(
        {"protocol": "idc", "width": flags.width, "epochs": flags.epochs, "models_to_test": flags.models, "tests": 1}
    )
    return list(evaluating.evaluate(found, dataset, recipe, seed=seed, **options).rows)


def cell(name: str, ipc: int, seed: int, dataset: data.Dataset, flags: argparse.Namespace) -> dict[str, Any] | None:
    """One row's accuracies for one seed, in percent; from its file if it is finished."""
    settings = {k: v for k, v in vars(flags).items() if k not in ("data_path", "only", "seeds", "ipc", "finished")}
    settings |= {"row": ROWS.get(name, {}), "ipc": ipc, "seed": seed}
    path = pathlib.Path(CELLS / f"{name.replace(' ', '_').replace(',', '')}_{ipc}_{seed}.json")
    known = record.finished(path, settings)
    if known is not None or flags.finished:
        return known
    if name == "references":
        found, _ = distilled("dm", ipc, seed, dataset, argparse.Namespace(**{**vars(flags), "outer": 1, "inner": 1}))
        rows = evaluate(found, dataset, seed, flags, baselines=("random", "kmeans"))
        if ipc == 1:
            few = argparse.Namespace(**{**vars(flags), "epochs": FULL_EPOCHS, "models": 1})
            rows += evaluate(found, dataset, seed, few, baselines=(), full_data=True)
        figures = {row.name: [round(100 * run, 2) for run in row.runs] for row in rows if row.name != "distilled"}
    else:
        found, seconds = distilled(name, ipc, seed, dataset, flags)
        rows = evaluate(found, dataset, seed, flags, baselines=())
        figures = {"runs": [round(100 * run, 2) for run in rows[0].runs], "seconds": round(seconds, 1)}
    record.keep(path, settings, figures)
    print(name, ipc, seed, figures, flush=True)
    return figures


def main() -> None:
    """Runs what is asked for, and sums up what is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_path", required=True)
    parser.add_argument("--only", nargs="*", default=[*ROWS, "references"])
    parser.add_argument("--ipc", type=int, nargs="+", default=[1, 10])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    for name, default in (("outer", 4), ("inner", 50), ("width", 32), ("candidates", 1000), ("epochs", 300)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--models", type=int, default=2)
    parser.add_argument("--rate", type=float, default=1.0)
    parser.add_argument("--ema", type=float, default=0.999)
    parser.add_argument("--finished", action="store_true", help="sum up the cells that there are; run nothing")
    flags = parser.parse_args()
    dataset = data.load("mnist", flags.data_path)
    table: dict[str, Any] = {}
    for ipc in flags.ipc:
        for name in flags.only:
            cells = [found for seed in flags.seeds if (found := cell(name, ipc, seed, dataset, flags)) is not None]
            for key in [key for key in (cells[0] if cells else ()) if key != "seconds"]:
                means = [sum(found[key]) / len(found[key]) for found in cells]
                table.setdefault(f"ipc {ipc}", {})[name if key == "runs" else key] = record.spread(means)
    if set(flags.only) >= set(ROWS):
        record.save("matching_accuracy", table, vars(flags))
    else:
        print(table)


if __name__ == "__main__":
    main()
