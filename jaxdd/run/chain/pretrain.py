"""Networks at an early stage: trained on the real images for a few epochs, each from a start of its own (AccDD).

With P epochs, SGD as while matching, the rate times 0.2 after the epochs 2(P + 1)//3 and 5(P + 1)//6, and the
augmentation and CutMix of the matching method's own network training. Of each network the epoch is kept that is best on
the test images, as released. Source: `pretrain.py` of AccDD (arXiv 2212.06152).
"""

from __future__ import annotations

import dataclasses
import math
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdd import data as data_room
from jaxdd.core import backend, io, trees
from jaxdd.core.config import as_dict
from jaxdd.core.random import key_for
from jaxdd.core.types import PyTree
from jaxdd.methods import Condensation
from jaxdd.models.network import Network
from jaxdd.run import loop
from jaxdd.run.control import Control
from jaxdd.run.storage import networks
from jaxdd.run.storage.networks import Networks
from jaxdd.training.classifier import ClassifierTraining
from jaxdd.training.ensemble import Ensemble
from jaxdd.training.schedules import two_thirds_and_five_sixths
from jaxdd.training.snapshots import Snapshots
from jaxdd.training.trainer import accuracies

SETTINGS = (  # of a matching method: those that decide how its networks are trained
    *("net_type", "norm_type", "depth", "width", "lr", "momentum", "weight_decay", "batch_real"),
    *("aug_family", "net_aug", "mixup_net", "mix_p", "beta", "precision"),
)
COUNT = 5  # networks of a run, as published
EPOCHS, IMAGENET_EPOCHS = 2, 10  # published
HALVED = ("resnet", "resnet_ap")  # networks to which `half_width` means something


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
    count: int = COUNT

    @property
    def network(self) -> Network:
        """The architecture."""
        return self.method.network(self.dataset.image_shape, self.dataset.classes)

    @property
    def identity(self) -> dict[str, Any]:
        """What the networks depend on, for their manifest."""
        return {
            "dataset": {"name": self.dataset.name, "digest": self.dataset.digest},
            "preprocessing": self.preprocessing.describe(),
            "architecture": architecture(self.method, self.dataset.image_shape, self.dataset.classes),
            "recipe": recipe(self.method, self.epochs),
            "seed": self.seed,
        }

    @property
    def steps(self) -> int:
        """Of one network's training."""
        return self.epochs * self._per_epoch

    def finished(self, place: str | os.PathLike) -> bool:
        """Whether all networks are there.

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
            found = loop.run(procedure, real, steps=self.steps, seed=group[0], **options)
            several = (self.epochs, len(group))
            stacked = jax.tree.map(lambda leaf, room=several: _with_axes(leaf, room), found)
            tests = [accuracies(self.network, trees.take(stacked, epoch), test) for epoch in range(self.epochs)]
            for place, reached in enumerate(zip(*tests, strict=True)):
                best = max(range(self.epochs), key=reached.__getitem__)
                yield Pretrained(trees.take(trees.take(stacked, best), place), list(reached), best + 1)

    @property
    def training(self) -> ClassifierTraining:
        """How one network is trained."""
        method = self.method
        return ClassifierTraining(
            self.network,
            learning_rate=method.lr,
            milestones=tuple(epoch * self._per_epoch for epoch in two_thirds_and_five_sixths(self.epochs + 1)),
            momentum=method.momentum,
            weight_decay=method.weight_decay,
            batch_size=min(method.batch_real, len(self.dataset.train_images)),
            kind=method.aug_family if method.net_aug else "none",
            strategy=method.net_aug or "",
            resolution=self.dataset.resolution,
            mix_p=method.mix_p if method.mixup_net == "cut" else 0.0,
            mix_beta=method.beta,
        )

    @property
    def _per_epoch(self) -> int:
        return math.ceil(len(self.dataset.train_images) / self.method.batch_real)


def epochs(dataset: str) -> int:
    """Returns the published epochs of a data set."""
    return IMAGENET_EPOCHS if dataset.startswith("imagenet") else EPOCHS


def recipe(method: Condensation, epochs: int) -> dict[str, Any]:
    """How a method's networks are trained beforehand; JSON types."""
    settings = as_dict(method)
    return {"epochs": epochs, **{name: settings[name] for name in SETTINGS}}


def architecture(method: Condensation, image_shape: tuple[int, int, int], classes: int) -> dict[str, Any]:
    """What networks of a method must have in common with those trained beforehand; JSON types."""
    halved = {"half_width": method.half_width} if method.net_type in HALVED else {}
    return {
        "net_type": method.net_type,
        **halved,
        "network": method.network(image_shape, classes).description,
        "normalization": method.norm_type,
        "image_shape": list(image_shape),
        "classes": classes,
    }


def _with_axes(leaf: jax.Array, several: tuple[int, int]) -> jax.Array:
    """`[epochs, networks, ...]` from a leaf that lacks each of the two axes whose length is 1."""
    return leaf.reshape(several + leaf.shape[sum(count > 1 for count in several) :])
