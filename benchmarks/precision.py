"""What precision costs in accuracy: sets distilled in float32, with bfloat16 activations, and with float64 solves.

    python -m benchmarks.precision --data_path DIR

Every cell (data set, precision, seed) distils one image per class and evaluates the set with fresh networks, in float32
and, for bfloat16, also in bfloat16. The figures are test accuracies in percent: mean and population deviation over
seeds, whose own spread says which differences mean something. A run that was stopped continues with the next cell.
Sizes are those of a CPU, on which bfloat16 is emulated: nothing here is about speed.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import statistics
from typing import Any

from benchmarks import record
from jaxdd import data
from jaxdd.core import backend
from jaxdd.core.precision import float64
from jaxdd.evaluation.protocol import evaluate
from jaxdd.evaluation.recipe import Recipe
from jaxdd.methods import RCIG
from jaxdd.run import loop

PRECISIONS: dict[str, dict[str, Any]] = {
    "float32": {},
    "bfloat16": {"precision": "bfloat16"},
    "float64_solves": {"use_x64": True},
}
SIZES: dict[str, dict[str, Any]] = {
    "digits": {
        "method": {"width": 32, "batch_size": 256, "pool_model_count": 10, "use_flip": False},
        "steps": 300,
        "recipe": {"width": 32, "eval_lr": 1e-3, "warmup_steps": 50, "plain_steps": 300, "models_to_test": 3},
    },
    "mnist": {
        "method": {"width": 16, "batch_size": 128, "pool_model_count": 10, "use_flip": False},
        "steps": 200,
        "recipe": {"width": 16, "eval_lr": 1e-3, "warmup_steps": 50, "plain_steps": 200, "models_to_test": 1},
    },
}


def cell(dataset: data.Dataset, size: dict[str, Any], precision: str, seed: int) -> dict[str, float]:
    """Accuracies of one distilled set, in [0, 1], by the precision of the evaluation."""
    preprocessing = data.fit(dataset)
    method = RCIG(n_images=1, **size["method"], **PRECISIONS[precision])
    with float64(method.use_x64):
        train = data.examples(dataset, preprocessing)
        distilled = loop.run(method, train, steps=size["steps"], seed=seed, log_every=size["steps"])
    found = {}
    for evaluated in ("float32", "bfloat16") if precision == "bfloat16" else ("float32",):
        recipe = Recipe(test_aug=None, precision=evaluated, **size["recipe"])
        rows = evaluate(distilled, dataset, preprocessing, recipe, run=loop.run, seed=seed, baselines=()).rows
        found[evaluated] = rows[0].mean
    return found


def table(cells: dict[str, dict[str, float]]) -> dict[str, dict[str, float | int]]:
    """`<data set>/<precision>/evaluated in <precision>` -> mean and deviation over seeds, in percent."""
    groups: dict[str, list[float]] = {}
    for name, accuracies in cells.items():
        dataset, precision, _ = name.split("/")
        for evaluated, accuracy in accuracies.items():
            groups.setdefault(f"{dataset}/{precision}/evaluated in {evaluated}", []).append(100 * accuracy)
    return {
        name: {
            "mean": round(statistics.fmean(found), 2),
            "std": round(statistics.pstdev(found), 2),
            "seeds": len(found),
        }
        for name, found in groups.items()
    }


def main() -> None:
    """Parses flags, runs the cells that are not there yet, records."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_path", default=None, help="folder that holds mnist/; digits only when absent")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: checks that the benchmark runs")
    arguments = parser.parse_args()
    backend.use_compilation_cache()
    name = "precision" + "_quick" * arguments.quick
    partial = record.RESULTS / f"{name}.partial.json"
    cells = json.loads(partial.read_text()) if partial.exists() else {}
    for dataset_name, size in SIZES.items():
        if dataset_name != "digits" and not arguments.data_path:
            continue
        if arguments.quick:
            size = quick(size)
        dataset = data.load(dataset_name, None if dataset_name == "digits" else arguments.data_path)
        for seed in range(1 if arguments.quick else arguments.seeds):
            for precision in PRECISIONS:
                key = f"{dataset_name}/{precision}/{seed}"
                if key not in cells:
                    cells[key] = cell(dataset, size, precision, seed)
                    keep(partial, cells)
                    print(key, cells[key], flush=True)
    record.save(name, table(cells), {**vars(arguments), "sizes": SIZES})
    partial.unlink()


def quick(size: dict[str, Any]) -> dict[str, Any]:
    """Two steps of tiny networks."""
    method = {**size["method"], "width": 4, "batch_size": 16, "pool_model_count": 2}
    recipe = {**size["recipe"], "width": 4, "plain_steps": 2, "models_to_test": 1}
    return {"method": method, "steps": 2, "recipe": recipe}


def keep(path: pathlib.Path, cells: dict[str, dict[str, float]]) -> None:
    """Writes what is finished."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(cells))


if __name__ == "__main__":
    main()
