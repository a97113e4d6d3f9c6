"""The base of every evaluation recipe: settings, a network, and how one network is trained on one set."""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp

from jaxdd import models
from jaxdd.core.procedure import Procedure
from jaxdd.core.types import Array
from jaxdd.evaluation.settings import RecipeSettings
from jaxdd.models.network import Network


@dataclasses.dataclass(frozen=True)
class Subject:
    """Facts of a set that the published rules of training look at.

    Arguments:
        stored: images in it.
        decoded: training images that it decodes to; None for as many.
        classes: number of classes.
        resolution: side of the images in pixels.
        channels: 1 or 3.
        dataset: name of the data set.
        factor: cells per side that the distilled images are cut into; of a baseline, that of the set it stands beside.
        whole: whether it is the whole training split.
        labelled: whether its soft labels are on disk.
    """

    stored: int
    decoded: int | None = None
    classes: int = 10
    resolution: int = 32
    channels: int = 3
    dataset: str = ""
    factor: int = 1
    whole: bool = False
    labelled: bool = False

    @property
    def images(self) -> int:
        """Training images in all."""
        return self.stored if self.decoded is None else self.decoded

    @property
    def ipc(self) -> int:
        """Stored images per class."""
        return max(1, self.stored // self.classes)


class Training(NamedTuple):
    """How one network is trained.

    Arguments:
        procedure: its result is the network's variables.
        steps: how many of them.
        test_every: steps between two tests of the network in training; 0 to test it at the end only.
        tests: how many tests there are in all, the last one included.
    """

    procedure: Procedure
    steps: int
    test_every: int = 0
    tests: int = 1


@dataclasses.dataclass(frozen=True)
class BaseRecipe(RecipeSettings, abc.ABC):
    """How networks are trained on a set; each recipe has its own."""

    compact: ClassVar[bool] = False  # whether its trainings take uint8 images and class indices as they are stored

    @property
    def architecture(self) -> str:
        """The name of the architecture in rows."""
        return self.eval_arch

    @abc.abstractmethod
    def network(self, image_shape: tuple[int, int, int], classes: int, dataset: str = "") -> Network:
        """Returns the architecture; of some, IDC has a variant for the CIFAR data sets.

        Raises:
            UsageError: an unknown one, or images too small for it.
        """

    def built(self, image_shape: tuple[int, int, int], classes: int, **options: Any) -> Network:
        """Builds the architecture; `options` of `models.build` stand in place of the recipe's settings."""
        usual = {"width": self.width, "depth": self.depth, "precision": self.precision}
        return models.build(self.eval_arch, image_shape=image_shape, classes=classes, **{**usual, **options})

    @abc.abstractmethod
    def training(self, network: Network, subject: Subject, *, augmented: bool) -> Training:
        """Returns the training of one network on one set; `augmented` is one of `ways`."""

    @abc.abstractmethod
    def ways(self, subject: Subject) -> tuple[bool, ...]:
        """Returns the ways of training: without augmentation (False), with it (True), or both; one row each."""

    def targets(self, labels: Array) -> Array:
        """Returns a set's labels `[n, classes]` as training targets, which are class indices `[n]` for most recipes."""
        return jnp.argmax(labels, axis=-1).astype(jnp.int32)

    @abc.abstractmethod
    def check(self, resolution: int) -> None:
        """Refuses settings that do not suit images of `resolution` pixels.

        Raises:
            UsageError: an augmentation that does not exist, or images that cannot be cut as asked.
        """

    @abc.abstractmethod
    def summary(self, training: Training) -> str:
        """Describes one of its trainings in a few words, e.g. `Adam 0.0001, identity normalization`."""
