"""The evaluation protocol: train fresh networks on a distilled set, measure them on the real test set, and do the same
for baselines of equal size."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd import data as data_room
from jaxdd.core import backend, trees
from jaxdd.core.config import as_dict
from jaxdd.core.distilled import DistilledSet
from jaxdd.core.errors import CheckpointError
from jaxdd.core.procedure import Procedure, Runner
from jaxdd.core.random import key_for
from jaxdd.core.types import Examples, PyTree
from jaxdd.data.large import Parts
from jaxdd.data.streaming import Stream
from jaxdd.evaluation.base import BaseRecipe, Training
from jaxdd.evaluation.contenders import Contender, contenders, subjects
from jaxdd.models.network import Network
from jaxdd.training.ensemble import Ensemble
from jaxdd.training.snapshots import Snapshots
from jaxdd.training.trainer import accuracies

BASELINES = ("random", "kmeans")


@dataclasses.dataclass(frozen=True)
class Row:
    """Accuracies of networks trained on one set in one way.

    Arguments:
        name: what they were trained on.
        augmented: whether training images were augmented.
        runs: one test accuracy per network at the end of its training, in [0, 1].
        best: the best of several tests during each training; empty where there was one test. It is chosen by the test
            images: for comparison with tables that were made so.
        architecture: of the networks.
    """

    name: str
    augmented: bool
    runs: tuple[float, ...]
    best: tuple[float, ...] = ()
    architecture: str = ""

    @property
    def mean(self) -> float:
        """Mean accuracy, in [0, 1]."""
        return statistics.fmean(self.runs)

    @property
    def std(self) -> float:
        """Population standard deviation over networks, as published."""
        return statistics.pstdev(self.runs)

    def as_dict(self) -> dict[str, Any]:
        """Returns the row as JSON types."""
        values = {**dataclasses.asdict(self), "runs": list(self.runs), "mean": self.mean, "std": self.std}
        if not self.best:
            return {name: value for name, value in values.items() if name != "best"}
        best = {"best_mean": statistics.fmean(self.best), "best_std": statistics.pstdev(self.best)}
        return {**values, "best": list(self.best), **best}


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """All rows of one evaluation, with the recipe and the seed that made them."""

    rows: tuple[Row, ...]
    recipe: BaseRecipe
    seed: int
    dataset: str

    def as_dict(self) -> dict[str, Any]:
        """Returns what `eval.json` holds."""
        return {
            "dataset": self.dataset,
            "seed": self.seed,
            "recipe": {"protocol": self.recipe.protocol, **as_dict(self.recipe)},
            "rows": [row.as_dict() for row in self.rows],
        }


def evaluate(
    distilled: DistilledSet,
    dataset: data_room.Dataset,
    preprocessing: data_room.Preprocessing,
    recipe: BaseRecipe,
    *,
    run: Runner,
    seed: int,
    baselines: Iterable[str] = BASELINES,
    full_data: bool = False,
    others: Sequence[BaseRecipe] = (),
    teachers: tuple[PyTree, ...] = (),
    labels: Stream | None = None,
    report: Callable[[Row], None] = lambda row: None,
) -> Evaluation:
    """Trains `recipe.models_to_test` networks on the set and on every baseline, in each of the recipe's ways.

    Arguments:
        distilled: the set; raw images are standardised on their way into the networks.
        dataset, preprocessing: the real data it was distilled from, and the map into the set's space.
        recipe: how networks are trained.
        run: drives one training: of one network, or of all networks of a row together (`trainings_per_row`).
        seed: network i is initialised and trained by a function of (seed, i); the same for every row.
        baselines: of `random` (random real images, others for each network) and `kmeans` (the real images nearest to
            k-means centres).
        full_data: also train on the whole training split.
        others: more recipes, all rows again for each: the same one for other architectures.
        teachers: variables of each, for recipes that have some: every row has the same.
        labels: those of the set that are on disk (`training.stored_labels`), in place of its teachers' answers; the
            baselines have none, their teachers are asked.
        report: called with each row when it is ready.

    Raises:
        CheckpointError: the set is of another data set, shape, number of classes or preprocessing.
    """
    require_same_origin(distilled, dataset, preprocessing)
    rows = []
    for each in (recipe, *others):
        network = each.network(dataset.image_shape, dataset.classes, dataset.name)
        raw = preprocessing.space == "raw"  # which networks standardise themselves, in float32
        held = np.float32 if raw or network.activations is None else network.activations
        test = data_room.test_examples(dataset, preprocessing, dtype=held)
        options: dict[str, Any] = {"baselines": tuple(baselines), "full_data": full_data, "seed": seed}
        options |= {"teachers": teachers, "labels": labels, "compact": each.compact}
        for contender in contenders(distilled, dataset, preprocessing, each.targets, **options):
            for augmented in each.ways(contender.subject):
                training = each.training(network, contender.subject, augmented=augmented)
                tests = _Trainings(network, training, contender, test, each.models_to_test, run, seed).tested()
                best = tuple(map(max, zip(*tests, strict=True))) if len(tests) > 1 else ()
                rows.append(Row(contender.name, augmented, tuple(tests[-1]), best, each.architecture))
                report(rows[-1])
    return Evaluation(tuple(rows), recipe, seed, dataset.name)


def planned(
    distilled: DistilledSet,
    dataset: data_room.Dataset,
    recipes: Iterable[BaseRecipe],
    *,
    baselines: Iterable[str] = BASELINES,
    full_data: bool = False,
) -> list[Training]:
    """Returns the trainings that `evaluate` will run, in order."""
    height, width, channels = distilled.images.shape[1:]
    sizes = subjects(distilled, dataset.name, len(dataset.train_labels), tuple(baselines), full_data)
    trainings = []
    for recipe in recipes:
        network = recipe.network((height, width, channels), distilled.classes, dataset.name)
        for _, subject in sizes:
            for augmented in recipe.ways(subject):
                trainings += [recipe.training(network, subject, augmented=augmented)] * trainings_per_row(recipe)
    return trainings


def trainings_per_row(recipe: BaseRecipe) -> int:
    """Returns how often `run` is called for one row: once for all networks together, or once for each."""
    return 1 if backend.maps_networks() else recipe.models_to_test


def require_same_origin(
    distilled: DistilledSet, dataset: data_room.Dataset, preprocessing: data_room.Preprocessing
) -> None:
    """Refuses a set that was distilled from other data.

    Raises:
        CheckpointError: see above.
    """
    shape, classes = tuple(distilled.images.shape[1:]), distilled.classes
    if shape != tuple(dataset.image_shape) or classes != dataset.classes:
        raise CheckpointError(
            f"the set has images {shape} of {classes} classes",
            where=distilled.dataset or "the distilled set",
            expected=f"{tuple(dataset.image_shape)} and {dataset.classes} classes, as in '{dataset.name}'",
            remedy="name the data set it was distilled from with `dataset_name`",
        )
    digest = distilled.preprocessing.get("digest")
    if digest and digest != preprocessing.digest:
        raise CheckpointError(
            "the set was distilled from other data, or with another preprocessing",
            where=f"preprocessing digest {digest[:12]} of '{distilled.dataset}'",
            expected=f"{preprocessing.digest[:12]}, that of '{dataset.name}' as it is here",
            remedy="evaluate it on the very data it was distilled from (`dataset_name`, `data_path`)",
        )


@dataclasses.dataclass(frozen=True, eq=False)
class _Trainings:
    """The networks of one row.

    Arguments:
        network: their architecture.
        training: of each of them.
        given: what they are trained on.
        test: what they are tested on.
        count: how many.
        run, seed: as in `evaluate`.
    """

    network: Network
    training: Training
    given: Contender
    test: Examples | Parts
    count: int
    run: Runner
    seed: int

    def tested(self) -> list[list[float]]:
        """Trains and tests the networks; returns their accuracies at every test, `[tests][count]`, in order."""
        return self._together() if backend.maps_networks() else self._in_turn()

    def _in_turn(self) -> list[list[float]]:
        """Trains one network after another."""
        procedure, tests = _with_tests(self.training)
        shared = self.given.of(0) if self.given.shared else None
        tested = []
        for i in range(self.count):
            examples = self.given.of(i) if shared is None else shared
            variables = self._ran(procedure, examples, _network_seed(self.seed, i))
            stacked = jax.tree.map(lambda leaf: leaf[None, None] if tests == 1 else leaf[:, None], variables)
            tested.append([accuracies(self.network, trees.take(stacked, t), self.test)[0] for t in range(tests)])
        return [list(at_once) for at_once in zip(*tested, strict=True)]

    def _together(self) -> list[list[float]]:
        """Trains all networks at once in one program; the accuracies are the same but for rounding."""
        if self.given.shared:
            examples = self.given.of(0)
        else:
            each = [self.given.of(i) for i in range(self.count)]  # what they share, such as teachers, is there once
            stacked = {name: jnp.stack([getattr(one, name) for one in each]) for name in ("images", "labels")}
            examples = dataclasses.replace(each[0], **stacked)
        seeds = tuple(_network_seed(self.seed, i) for i in range(self.count))
        ensemble = Ensemble(self.training.procedure, seeds)
        procedure, tests = _with_tests(self.training._replace(procedure=ensemble))
        variables = self._ran(procedure, examples, self.seed)
        stacked = jax.tree.map(lambda leaf: leaf[None] if tests == 1 else leaf, variables)
        return [accuracies(self.network, trees.take(stacked, t), self.test) for t in range(tests)]

    def _ran(self, procedure: Procedure, examples: Examples, seed: int) -> PyTree:
        return self.run(procedure, examples, steps=self.training.steps, seed=seed, stream=self.given.labels)


def _with_tests(training: Training) -> tuple[Procedure, int]:
    """Returns the procedure whose result is what is tested, and how many tests there are; of several it is stacked."""
    if not training.test_every:
        return training.procedure, 1
    before_the_last = min(training.tests - 1, (training.steps - 1) // training.test_every)
    if before_the_last < 1:
        return training.procedure, 1
    return Snapshots(training.procedure, training.test_every, before_the_last), before_the_last + 1


def _network_seed(seed: int, index: int) -> int:
    bits = jax.random.bits(key_for(seed, "evaluation network", index), (), jnp.uint32)
    return int(bits)
