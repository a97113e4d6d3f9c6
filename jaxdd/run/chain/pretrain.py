"""Networks at an early stage: trained on the real images for a few epochs, each from a start of its own (AccDD).

How, says `methods.condensation.early`. Of each network the epoch is kept that is best on the test images, as released.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdd import data as data_room
from jaxdd.core import backend, io, trees
from jaxdd.core.random import key_for
from jaxdd.core.types import PyTree
from jaxdd.methods import Condensation
from jaxdd.methods.condensation import early
from jaxdd.models.network import Network
from jaxdd.run import loop
from jaxdd.run.control import Control
from jaxdd.run.storage import networks
from jaxdd.run.storage.networks import Networks
from jaxdd.training.classifier import ClassifierTraining
from jaxdd.training.ensemble import Ensemble
from jaxdd.training.snapshots import Snapshots
from jaxdd.training.trainer import accuracies


class Pretrained(NamedTuple):
    """One network.

    Arguments:
        variables: after its best epoch.
        accuracies: on the test images after every epoch, in [0, 1].
        epoch: the best one, from 1.
    """

    variables: PyTree
    accuracies: list[float]
    epoch: int


@dataclasses.dataclass(frozen=True, eq=False)
class Pretraining:
    """A number of networks, complete but not begun.

    Arguments:
        method: whose networks they will be; its settings say how they are trained.
        dataset: the real images.
        preprocessing: fitted on them.
        epochs: P.
        seed: network i is a function of (seed, i).
        count: how many networks there are to be.
    """

    method: Condensation
    dataset: data_room.Dataset
    preprocessing: data_room.Preprocessing
    epochs: int
    seed: int = 0
    count: int = early.COUNT

    @property
    def network(self) -> Network:
        """The architecture."""
        return self.method.network(self.dataset.image_shape, self.dataset.classes)

    @property
    def identity(self) -> dict[str, Any]:
        """The settings that the networks depend on, for their manifest."""
        return {
            "dataset": {"name": self.dataset.name, "digest": self.dataset.digest},
            "preprocessing": self.preprocessing.describe(),
            "architecture": early.architecture(self.method, self.dataset.image_shape, self.dataset.classes),
            "recipe": early.recipe(self.method, self.epochs),
            "seed": self.seed,
        }

    @property
    def steps(self) -> int:
        """Number of steps of one network's training."""
        return self.epochs * self._per_epoch

    def finished(self, place: str | os.PathLike) -> bool:
        """Returns whether all networks are there.

        Raises:
            CheckpointError: the place holds networks of another kind.
        """
        return len(networks.finished(place, self.identity)) >= self.count

    def make(self, place: str | os.PathLike, control: Control = Control()) -> Networks:
        """Trains the networks that are missing.

        Arguments:
            place: the folder where they are and will be.
            control: its reporter hears the steps; `begins("network", i, count)` of every training, in which several may
                be trained together; and of each network `ends("network", {number, accuracies, epoch})`. Its layout is
                not used: each network is trained on one device.

        Returns:
            The networks, as they were read back.

        Raises:
            Stopped: by a signal; finished networks are kept.
            CheckpointError: the folder holds networks of another kind, or another process writes into it.
        """
        place = pathlib.Path(place)
        with io.folder_lock(place):
            missing = range(len(networks.finished(place, self.identity)), self.count)
            trained = self.train(missing, control)
            for index, made in zip(missing, trained, strict=True):
                networks.add(place, self.identity, made.variables, made.accuracies, made.epoch)
                facts = {"number": index, "accuracies": made.accuracies, "epoch": made.epoch}
                control.reporter.ends("network", facts)
        return networks.load(place)

    def train(self, indices: Sequence[int], control: Control = Control()) -> Iterator[Pretrained]:
        """Trains some of the networks: together on accelerators, one after another on CPU.

        Arguments:
            indices: which; network i is the same in any company.
            control: as in `make`.

        Yields:
            Each network when it is finished.

        Raises:
            Stopped: by a signal.
        """
        if not indices:
            return
        real, test = (data_room.examples(self.dataset, self.preprocessing, split) for split in ("train", "test"))
        options = {**control.options, "layout": None, "log_every": self._per_epoch}
        options |= {"steps_per_dispatch": backend.steps_per_dispatch(backend.TRAINING_STEPS_PER_DISPATCH)}
        seeds = [int(jax.random.bits(key_for(self.seed, "pretrained", i), (), jnp.uint32)) for i in indices]
        groups = [seeds] if backend.maps_networks() else [[seed] for seed in seeds]
        for number, group in enumerate(groups):
            together = self.training if len(group) == 1 else Ensemble(self.training, tuple(group))
            procedure = Snapshots(together, self._per_epoch, self.epochs - 1) if self.epochs > 1 else together
            control.reporter.begins("network", number, len(groups))
            variables = loop.run(procedure, real, steps=self.steps, seed=group[0], **options)
            several = (self.epochs, len(group))
            stacked = jax.tree.map(lambda leaf, room=several: _with_axes(leaf, room), variables)
            tests = [accuracies(self.network, trees.take(stacked, epoch), test) for epoch in range(self.epochs)]
            for place, reached in enumerate(zip(*tests, strict=True)):
                best = max(range(self.epochs), key=reached.__getitem__)
                yield Pretrained(trees.take(trees.take(stacked, best), place), list(reached), best + 1)

    @property
    def training(self) -> ClassifierTraining:
        """How one network is trained."""
        images, classes = self.dataset.train_images, self.dataset.classes
        return early.training(self.method, self.dataset.image_shape, classes, len(images), self.epochs)

    @property
    def _per_epoch(self) -> int:
        return early.steps_per_epoch(self.method, len(self.dataset.train_images))


def _with_axes(leaf: jax.Array, several: tuple[int, int]) -> jax.Array:
    """Returns a leaf as `[epochs, networks, ...]`; it lacks each of the two axes whose length is 1."""
    return leaf.reshape(several + leaf.shape[sum(count > 1 for count in several) :])
