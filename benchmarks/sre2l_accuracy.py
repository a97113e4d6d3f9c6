"""SRe2L, CDA, RDED, SRe2L++ and FADRM beside real images under the same soft labels, at equal budget, on a CPU's scale.

    python -m benchmarks.sre2l_accuracy --data_path DATA --output_dir OUT [--ipc 1 10] [--only cda rded ...]

`DATA/tiny_imagenet_20`: 20 classes of Tiny-ImageNet, 500 training images each, 64 pixels. Teacher and students are
torchvision's ResNet-18 with a quarter of the channels. One teacher, one seed for images, three for students; standard
deviations are over students.

| link    | is                                                                                                     |
|---------|--------------------------------------------------------------------------------------------------------|
| squeeze | Tiny-ImageNet's published recipe, shortened to `--squeeze` epochs                                      |
| recover | T = 500 iterations; all else as published for the method and Tiny-ImageNet, groups of the 20 classes   |
| student | of every row alike: AdamW 1e-3, batches of 10 or 50 images, T 20, CutMix, crops of 8 % and more, a     |
|         | cosine stretched by 2; labels by the teacher, online; `EPOCHS` says how long                           |

`random real` and `k-means real` are real images in place of recovered ones. `--only` takes `VARIANTS` too: a method
with one thing changed. Every cell (row, ipc, student) is kept as soon as it is finished, and teacher and images lie in
OUT, so a run that was killed goes on where it was; several processes may share out the rows, where each waits for what
another is making. On two cores the whole takes 2.4 hours: 45 minutes for the teacher, and with a process on each core
20 for the images, 60 and 15 for the students at 10 and 1 images per class.
"""

from __future__ import annotations

import argparse
import pathlib
import time
from typing import Any

import jax
import numpy as np

from benchmarks import record
from jaxdd import data
from jaxdd.core import backend
from jaxdd.core.distilled import DistilledSet
from jaxdd.core.random import key_for
from jaxdd.core.shards import Pieces, alone
from jaxdd.evaluation.students import SoftRecipe
from jaxdd.methods.recovery import published
from jaxdd.methods.recovery.settings import Recovery
from jaxdd.run import evaluating
from jaxdd.run.chain import teachers
from jaxdd.run.chain.pieces import KEYS, merge
from jaxdd.run.chain.recover import Recovering
from jaxdd.run.chain.squeeze import Squeezing
from jaxdd.run.chain.teachers import Teacher
from jaxdd.run.control import Control, Reporter
from jaxdd.training.recipe import TINY, TeacherRecipe

NAME = "sre2l_accuracy"
REAL = ("random real", "k-means real")
METHODS = ("sre2l", "cda", "rded", "sre2l_pp", "fadrm")
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {  # row -> method, and what is changed to see what decides
    "cda without curriculum": ("cda", {"milestone": 0.0}),
    "cda with sre2l's weights": ("cda", {"lr_img": 0.1, "r_bn": 1.0}),
    "sre2l, 4000 iterations": ("sre2l", {"iterations": 4000}),
    "cda, 4000 iterations": ("cda", {"iterations": 4000}),
    "medium real": ("sre2l_pp", {"iterations": 0}),
}
EPOCHS = {1: 300, 10: 100}  # of students, by images per class
BATCH = {1: 10, 10: 50}
STUDENT = {"eval_lr": 1e-3, "slowdown": 2.0, "temperature": 20.0, "mix": "cutmix", "min_scale": 0.08, "tests": 1}
IMAGE_SEED = 0


class Bench:
    """The data, the teacher and the budget, shared by all rows."""

    def __init__(self, flags: argparse.Namespace):
        self.flags, self.folder = flags, pathlib.Path(flags.output_dir).expanduser()
        self.dataset = data.load(f"parquet:{pathlib.Path(flags.data_path) / 'tiny_imagenet_20'}")
        self.preprocessing = data.fit(self.dataset, family="sre2l", kind="raw")
        self.teacher = self._squeezed()
        self.accuracy = 100 * self.teacher.accuracy(self.dataset, self.preprocessing)

    def _squeezed(self) -> Teacher:
        dataset = self.dataset
        architecture = {"name": "torchvision_resnet", "depth": 18, "width": self.flags.width, "normalization": "batch"}
        words = teachers.words(architecture, dataset.image_shape, dataset.classes)
        recipe = TeacherRecipe(
            **{**vars(TINY), "epochs": self.flags.squeeze, "warmup_epochs": min(5, self.flags.squeeze - 1)}
        )
        network = teachers.network(words)
        squeezing = Squeezing.of(dataset, self.preprocessing, network, recipe, architecture=words)
        with alone(self.folder, "teacher"):
            return squeezing.make(self.folder / "teacher", Control(Printer()))

    def recovered(self, row: str, ipc: int) -> tuple[DistilledSet, float]:
        """The set of a method or of a variant, and the seconds that its images took."""
        method, changes = VARIANTS.get(row, (row, {}))
        given: dict[str, Any] = {"method": method, "n_images": ipc, "dataset_name": self.dataset.name}
        given |= {"iterations": self.flags.iterations} if method != "rded" else {}
        given |= changes
        side, classes = self.dataset.resolution, self.dataset.classes
        implied = published.implied(given, resolution=side, classes=classes).values
        values = {key: value for key, value in {**given, **implied}.items() if key != "dataset_name"}
        recovering = Recovering(Recovery(**values), self.dataset, self.preprocessing, (self.teacher,), seed=IMAGE_SEED)
        place = self.folder / f"{_word(row)}_{ipc}"
        with alone(place, "row"):
            recovering.recover(place / "recovered")
            seconds = sum(entry["seconds"] for entry in _entries(place / "recovered"))
            return merge([place / "recovered"], place), seconds

    def real(self, row: str, ipc: int) -> tuple[DistilledSet, float]:
        """As many real images, and the seconds that choosing them took."""
        began, dataset = time.perf_counter(), self.dataset
        if row == "random real":
            examples = data.examples(dataset, self.preprocessing)
            chosen = data.real_images(examples, ipc, key_for(IMAGE_SEED, "random baseline"))
            images, labels = chosen.images, chosen.labels
        else:
            pixels = dataset.train_images.astype(np.float32) / 255
            rows = data.kmeans_images(pixels, dataset.train_labels, ipc, IMAGE_SEED)
            images, labels = dataset.train_images[rows], dataset.train_labels[rows]
        named = {"dataset": dataset.name, "class_names": tuple(dataset.class_names)}
        found = DistilledSet(
            np.asarray(images), np.asarray(labels), preprocessing=self.preprocessing.describe(), **named
        )
        return found, time.perf_counter() - began

    def student(self, found: DistilledSet, ipc: int, seed: int) -> float:
        """The accuracy of one student, in percent, at the end of its training."""
        recipe = SoftRecipe(
            depth=18,
            width=self.flags.width,
            models_to_test=1,
            epochs=self.epochs(ipc),
            batch_size=BATCH[ipc],
            teachers=(self.teacher.network,),
            **STUDENT,
        )
        teachers = (jax.device_put(self.teacher.variables),)
        rows = evaluating.evaluate(found, self.dataset, recipe, seed=seed, teachers=teachers, baselines=()).rows
        return 100 * rows[0].runs[-1]

    def epochs(self, ipc: int) -> int:
        """Of one student."""
        return max(1, round(EPOCHS[ipc] * self.flags.share))

    def cell(self, row: str, ipc: int, seed: int) -> dict[str, Any]:
        """The figures of one student of one row; from its file if it is finished."""
        flags = self.flags
        settings = {"row": row, "ipc": ipc, "student": seed, "width": flags.width, "squeeze": flags.squeeze}
        iterations = VARIANTS.get(row, (row, {}))[1].get("iterations", flags.iterations)
        settings |= {"iterations": iterations, "epochs": self.epochs(ipc), "batch": BATCH[ipc], **STUDENT}
        settings |= {"teacher": self.teacher.digest[:12]}
        path = _cells(flags) / f"{_word(row)}_{ipc}_{seed}.json"
        known = record.finished(path, settings)
        if known is not None:
            return known
        found, chosen = self.real(row, ipc) if row in REAL else self.recovered(row, ipc)
        began = time.perf_counter()
        figures = {"accuracy": round(self.student(found, ipc, seed), 2), "images_seconds": round(chosen, 1)}
        figures |= {"student_seconds": round(time.perf_counter() - began, 1), "teacher": round(self.accuracy, 2)}
        record.keep(path, settings, figures)
        print(row, ipc, seed, figures, flush=True)
        return figures


class Printer(Reporter):
    """Prints every test of the teacher."""

    def ends(self, piece: str, facts: Any) -> None:
        """One test."""
        print("teacher", *facts.values(), flush=True)


def _word(row: str) -> str:
    return row.replace(" ", "_").replace("-", "").replace("'", "").replace(",", "")


def _entries(folder: pathlib.Path) -> list[dict[str, Any]]:
    return list(Pieces(folder, KEYS).entries().values())


def _cells(flags: argparse.Namespace) -> pathlib.Path:
    return pathlib.Path(flags.output_dir) / "cells" if flags.quick else record.RESULTS / "cells" / NAME


def main() -> None:
    """Runs what is asked for, and sums it up."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_path", required=True)
    parser.add_argument("--output_dir", required=True, help="where the teacher and the images lie")
    parser.add_argument("--only", nargs="*", default=[*REAL, *METHODS], help="rows; none: the teacher alone")
    parser.add_argument("--ipc", type=int, nargs="+", default=[1, 10], choices=list(EPOCHS))
    parser.add_argument("--students", type=int, nargs="+", default=[0, 1, 2], help="seeds")
    for name, default in (("width", 32), ("squeeze", 25), ("iterations", 500)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--share", type=float, default=1.0, help="of the students' epochs")
    parser.add_argument("--quick", action="store_true", help="tiny budgets: checks that every row runs")
    flags = parser.parse_args()
    if flags.quick:
        flags.width, flags.squeeze, flags.iterations, flags.share, flags.students = 8, 2, 4, 0.01, [0]
    backend.use_compilation_cache()
    bench = Bench(flags)
    table: dict[str, Any] = {"teacher": round(bench.accuracy, 2)}
    for ipc in flags.ipc:
        for row in flags.only:
            cells = [bench.cell(row, ipc, seed) for seed in flags.students]
            spread = record.spread([cell["accuracy"] for cell in cells])
            table.setdefault(f"ipc {ipc}", {})[row] = spread | {"images_seconds": cells[0]["images_seconds"]}
    variants = bool(flags.only) and set(flags.only) <= set(VARIANTS)
    if (variants or set(flags.only) >= {*REAL, *METHODS}) and not flags.quick:
        settings = {key: value for key, value in vars(flags).items() if key != "output_dir"}
        record.save(NAME + "_variants" * variants, table, settings)
    else:
        print(table)


if __name__ == "__main__":
    main()
