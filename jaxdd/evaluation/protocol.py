"""The evaluation protocol: train fresh networks on a distilled set, measure them on the real test set, and do the same
for baselines of equal size."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd import data as data_room
from jaxdd.core.distilled import DistilledSet
from jaxdd.core.errors import CheckpointError
from jaxdd.core.procedure import Runner
from jaxdd.core.random import key_for
from jaxdd.core.types import Examples
from jaxdd.evaluation.recipe import Recipe
from jaxdd.training.trainer import accuracy

BASELINES = ("random", "kmeans")


@dataclasses.dataclass(frozen=True)
class Row:
    """Accuracies of networks trained on one set in one way.

    Arguments:
        name: what they were trained on.
        augmented: whether training images were augmented.
        runs: one test accuracy per network, in [0, 1].
    """

    name: str
    augmented: bool
    runs: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean accuracy, in [0, 1]."""
        return statistics.fmean(self.runs)

    @property
    def std(self) -> float:
        """Population standard deviation over networks, as published."""
        return statistics.pstdev(self.runs)

    def as_dict(self) -> dict[str, Any]:
        """JSON types."""
        return {**dataclasses.asdict(self), "runs": list(self.runs), "mean": self.mean, "std": self.std}


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """All rows of one evaluation, with the recipe and the seed that made them."""

    rows: tuple[Row, ...]
    recipe: Recipe
    seed: int
    dataset: str

    def as_dict(self) -> dict[str, Any]:
        """What `eval.json` holds."""
        return {
            "dataset": self.dataset,
            "seed": self.seed,
            "recipe": dataclasses.asdict(self.recipe),
            "rows": [row.as_dict() for row in self.rows],
        }


@dataclasses.dataclass(frozen=True)
class _TrainingSet:
    name: str
    images: np.ndarray
    labels: np.ndarray
    stored: int  # before mirroring


def evaluate(
    distilled: DistilledSet,
    dataset: data_room.Dataset,
    preprocessing: data_room.Preprocessing,
    recipe: Recipe,
    *,
    run: Runner,
    seed: int,
    baselines: Iterable[str] = BASELINES,
    full_data: bool = False,
    report: Callable[[Row], None] = lambda row: None,
) -> Evaluation:
    """Trains `recipe.models_to_test` networks on the set and on every baseline, without and with augmentation.

    Arguments:
        distilled: the set.
        dataset, preprocessing: the real data it was distilled from, and the map into the set's space.
        recipe: how networks are trained.
        run: drives one training.
        seed: network i is initialised by a function of (seed, i); the same for every row.
        baselines: of `random` (random real images) and `kmeans` (the real images nearest to k-means centres).
        full_data: also train on the whole training split.
        report: called with each row when it is ready.

    Raises:
        CheckpointError: the set is of another data set, shape, number of classes or preprocessing.
    """
    require_same_origin(distilled, dataset, preprocessing)
    test = data_room.examples(dataset, preprocessing, "test")
    network = recipe.network(test.image_shape, test.classes)
    rows = []
    for training_set in _training_sets(distilled, dataset, preprocessing, tuple(baselines), full_data, seed):
        examples = Examples(jnp.asarray(training_set.images), jnp.asarray(training_set.labels), test.classes)
        for augmented in (False, True) if recipe.test_aug else (False,):
            procedure, steps = recipe.training(network, training_set.stored, augmented=augmented)
            seeds = [_network_seed(seed, i) for i in range(recipe.models_to_test)]
            runs = [accuracy(network, run(procedure, examples, steps=steps, seed=s), test) for s in seeds]
            rows.append(Row(training_set.name, augmented, tuple(runs)))
            report(rows[-1])
    return Evaluation(tuple(rows), recipe, seed, dataset.name)


def require_same_origin(
    distilled: DistilledSet, dataset: data_room.Dataset, preprocessing: data_room.Preprocessing
) -> None:
    """Refuses a set that was distilled from other data, with the reason.

    Raises:
        CheckpointError: see above.
    """
    shape, classes = tuple(distilled.images.shape[1:]), distilled.classes
    if shape != tuple(dataset.image_shape) or classes != dataset.classes:
        raise CheckpointError(
            f"the set has images {shape} of {classes} classes",
            where=distilled.dataset or "the distilled set",
            expected=f"{tuple(dataset.image_shape)} and {dataset.classes} classes, as in '{dataset.name}'",
            remedy="name the data set it was distilled from with --dataset_name",
        )
    digest = distilled.preprocessing.get("digest")
    if digest and digest != preprocessing.digest:
        raise CheckpointError(
            "the set was distilled from other data, or with another preprocessing",
            where=f"preprocessing digest {digest[:12]} of '{distilled.dataset}'",
            expected=f"{preprocessing.digest[:12]}, that of '{dataset.name}' as it is here",
            remedy="evaluate it on the very data it was distilled from (--dataset_name, --data_path)",
        )


def _training_sets(
    distilled: DistilledSet,
    dataset: data_room.Dataset,
    preprocessing: data_room.Preprocessing,
    baselines: tuple[str, ...],
    full_data: bool,
    seed: int,
) -> Iterator[_TrainingSet]:
    yield _TrainingSet("distilled", *distilled.decoded(), stored=len(distilled))
    if not baselines and not full_data:
        return
    real = data_room.examples(dataset, preprocessing, "train")
    targets = np.eye(real.classes, dtype=np.float32) - 1 / np.float32(real.classes)

    def mirrored(name: str, images: np.ndarray, labels: np.ndarray) -> _TrainingSet:
        chosen = distilled.replace(images=images, labels=targets[labels], pixels=None)
        return _TrainingSet(name, *chosen.decoded(), stored=len(images))

    if "random" in baselines:
        chosen = data_room.real_images(real, distilled.ipc, key_for(seed, "random baseline"))
        yield mirrored("random real", np.asarray(chosen.images), np.asarray(chosen.labels))
    if "kmeans" in baselines:
        images, labels = np.asarray(real.images), np.asarray(real.labels)
        nearest = data_room.kmeans_images(images, labels, distilled.ipc, seed)
        yield mirrored("k-means real", images[nearest], labels[nearest])
    if full_data:
        images, labels = np.asarray(real.images), np.asarray(real.labels)
        yield _TrainingSet("full data", images, targets[labels], stored=len(images))


def _network_seed(seed: int, index: int) -> int:
    bits = jax.random.bits(key_for(seed, "evaluation network", index), (), jnp.uint32)
    return int(bits)
