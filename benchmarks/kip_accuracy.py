"""How well a distilled set does as the support of kernel ridge regression: KIP's own measure, on the real test images.

`python -m benchmarks.kip_accuracy FOLDER --data_path DIR` prints the accuracy of the kernel that the set was made with,
and what it has with the real images and labels that the run started from (`start`). It writes both into
`results/accuracy_kip_<data set>_<images per class>.json`, beside the figures of `eval.json` where `eval.py` has written
it. `--quick` distils the digits in a few steps and judges those: it checks that all of it runs.
"""

from __future__ import annotations

import argparse
import json
import pathlib
from typing import Any

from benchmarks import record
from jaxdd import data
from jaxdd.core.distilled import DistilledSet
from jaxdd.methods.kip.method import KIP, kernel_accuracy, made_with
from jaxdd.run.distillation import Distillation


def judge(distilled: DistilledSet, data_path: str | None) -> dict[str, Any]:
    """The kernel's accuracy on the test split of the set's own data."""
    dataset = data.load(distilled.dataset, data_path, resolution=distilled.images.shape[1])
    family = distilled.preprocessing["family"]
    preprocessing = data.fit(dataset, family=family, kind=distilled.space)
    made = distilled.provenance
    start = Distillation("kip", made_with(distilled), dataset, preprocessing, 0, made["seed"]).drive()
    reached = {"kernel_accuracy": distilled, "start": start}
    reached = {name: round(kernel_accuracy(one, dataset, preprocessing), 4) for name, one in reached.items()}
    return {**reached, "test_images": len(dataset.test_images)}


def quick() -> DistilledSet:
    """The digits after five steps."""
    digits, method = data.load("digits"), KIP(n_images=1, batch_per_class=20)
    return Distillation("kip", method, digits, data.fit(digits, family=method.family, kind=method.kind), 5).drive()


def networks(folder: pathlib.Path) -> dict[str, Any]:
    """What `eval.py` found, in percent: row -> mean and standard deviation over networks."""
    path = folder / "eval.json"
    rows = json.loads(path.read_text())["rows"] if path.is_file() else []
    names = [row["name"] + " + augmentation" * row["augmented"] for row in rows]
    return {name: [round(100 * row[key], 1) for key in ("mean", "std")] for name, row in zip(names, rows, strict=True)}


def main() -> None:
    """Parses flags, measures, records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", help="what `distill_dataset.py --output_dir` was given")
    parser.add_argument("--data_path", default=None, help="where the data sets lie")
    parser.add_argument("--name", default=None, help="what follows `accuracy_kip_` in the name of the result")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: checks that the benchmark runs")
    arguments = parser.parse_args()
    if arguments.quick == bool(arguments.folder):
        parser.error("give the folder of a set, or --quick")
    folder = pathlib.Path(arguments.folder or ".")
    distilled = quick() if arguments.quick else DistilledSet.load(folder / "distilled")
    figures = judge(distilled, arguments.data_path)
    if not arguments.quick:
        figures["networks"] = networks(folder)
    name = "quick" if arguments.quick else arguments.name or f"{distilled.dataset}_{distilled.ipc}"
    made = {key: distilled.provenance[key] for key in ("settings", "seed", "step")}
    record.save(f"accuracy_kip_{name}", figures, {**made, "recipe": distilled.recipe, **vars(arguments)})


if __name__ == "__main__":
    main()
