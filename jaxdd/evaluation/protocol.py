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
from jaxdd.core import backend
from jaxdd.core.distilled import DistilledSet
from jaxdd.core.errors import CheckpointError
from jaxdd.core.procedure import Runner
from jaxdd.core.random import key_for
from jaxdd.core.types import Array, Examples
from jaxdd.evaluation.recipe import Recipe
from jaxdd.training.ensemble import Ensemble
from jaxdd.training.trainer import NetworkTraining, accuracies, accuracy

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
    stored: int  # images before mirroring
    of: Callable[[int], DistilledSet]  # network number -> what it is trained on
    shared: bool = True  # the same set for all networks

    def examples(self, network: int) -> Examples:
        """What this network is trained on, decoded, on the device."""
        found = self.of(network)
        images, labels = jax.device_put(found.decoded())
        return Examples(images, labels, found.classes)


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
        run: drives one training: of one network, or of all networks of a row together (`trainings_per_row`).
        seed: network i is initialised and trained by a function of (seed, i); the same for every row.
        baselines: of `random` (random real images, others for each network) and `kmeans` (the real images nearest to
            k-means centres).
        full_data: also train on the whole training split.
        report: called with each row when it is ready.

    Raises:
        CheckpointError: the set is of another data set, shape, number of classes or preprocessing.
    """
    require_same_origin(distilled, dataset, preprocessing)
    network = recipe.network(dataset.image_shape, dataset.classes)
    test = data_room.examples(dataset, preprocessing, "test", dtype=network.activations or np.float32)
    rows = []
    for training_set in _training_sets(distilled, dataset, preprocessing, tuple(baselines), full_data, seed):
        for augmented in (False, True) if recipe.test_aug else (False,):
            procedure, steps = recipe.training(network, training_set.stored, augmented=augmented)
            train = _train_together if trainings_per_row(recipe) == 1 else _train_in_turn
            runs = train(procedure, training_set, test, recipe.models_to_test, run=run, steps=steps, seed=seed)
            rows.append(Row(training_set.name, augmented, tuple(runs)))
            report(rows[-1])
    return Evaluation(tuple(rows), recipe, seed, dataset.name)


def trainings_per_row(recipe: Recipe) -> int:
    """How often `run` is called for one row: once where networks are trained together, else once per network."""
    return 1 if backend.maps_networks() else recipe.models_to_test


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


def _train_in_turn(
    procedure: NetworkTraining, given: _TrainingSet, test: Examples, count: int, *, run: Runner, steps: int, seed: int
) -> list[float]:
    """Test accuracies of `count` networks, trained one after another."""
    shared = given.examples(0) if given.shared else None
    runs = []
    for i in range(count):
        examples = given.examples(i) if shared is None else shared
        variables = run(procedure, examples, steps=steps, seed=_network_seed(seed, i))
        runs.append(accuracy(procedure.network, variables, test))
    return runs


def _train_together(
    procedure: NetworkTraining, given: _TrainingSet, test: Examples, count: int, *, run: Runner, steps: int, seed: int
) -> list[float]:
    """The same numbers, to rounding, from one program that trains all networks at once."""
    if given.shared:
        examples = given.examples(0)
    else:
        examples = jax.tree.map(lambda *sets: jnp.stack(sets), *map(given.examples, range(count)))
    ensemble = Ensemble(procedure, tuple(_network_seed(seed, i) for i in range(count)))
    return accuracies(procedure.network, run(ensemble, examples, steps=steps, seed=seed), test)


def _training_sets(
    distilled: DistilledSet,
    dataset: data_room.Dataset,
    preprocessing: data_room.Preprocessing,
    baselines: tuple[str, ...],
    full_data: bool,
    seed: int,
) -> Iterator[_TrainingSet]:
    yield _TrainingSet("distilled", len(distilled), lambda i: distilled)
    if not baselines and not full_data:
        return
    real = data_room.examples(dataset, preprocessing, "train")
    targets = np.eye(real.classes, dtype=np.float32) - 1 / np.float32(real.classes)

    def as_set(images: Array, labels: Array) -> DistilledSet:
        return distilled.replace(images=np.asarray(images), labels=targets[np.asarray(labels)], pixels=None)

    def random(i: int) -> DistilledSet:
        chosen = data_room.real_images(real, distilled.ipc, key_for(seed, "random baseline", i))
        return as_set(chosen.images, chosen.labels)

    if "random" in baselines:
        yield _TrainingSet("random real", len(distilled), random, shared=False)
    if "kmeans" in baselines:
        nearest = data_room.kmeans_images(np.asarray(real.images), np.asarray(real.labels), distilled.ipc, seed)
        chosen = as_set(real.images[nearest], real.labels[nearest])
        yield _TrainingSet("k-means real", len(distilled), lambda i: chosen)
    if full_data:
        whole = as_set(real.images, real.labels)
        yield _TrainingSet("full data", len(real), lambda i: whole)


def _network_seed(seed: int, index: int) -> int:
    bits = jax.random.bits(key_for(seed, "evaluation network", index), (), jnp.uint32)
    return int(bits)
