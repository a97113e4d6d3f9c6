"""How teachers are trained (`training.teacher` has the equations); a module of settings, which imports no JAX."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

from jaxdd.core.config import setting
from jaxdd.data.registry import one_way

if TYPE_CHECKING:
    from jaxdd.core.types import Array

Augmentation = Literal["resized_crop", "pad_crop", "flip", "none"]

SMALL, MEDIUM = 32, 64  # pixels up to which the recipe of CIFAR, and of Tiny-ImageNet, is taken for other sets


@dataclasses.dataclass(frozen=True)
class TeacherRecipe:
    """How a teacher is trained; the defaults are those of Tiny-ImageNet."""

    learning_rate: float = setting(0.2, "largest learning rate of SGD", low=0)
    momentum: float = setting(0.9, "momentum of SGD", low=0, high=1)
    weight_decay: float = setting(1e-4, "weight decay, of all parameters", low=0)
    batch_size: int = setting(256, "images per step", low=1)
    epochs: int = setting(50, "epochs in all", low=1)
    warmup_epochs: int = setting(5, "of these, epochs in which the learning rate rises", low=0)
    augmentation: Augmentation = setting("resized_crop", "resized_crop, pad_crop, flip or none")
    label_smoothing: float = setting(0.0, "share of every label that is spread over all classes", low=0, high=1)

    def rate(self, epoch: Array | int) -> Array:
        """Returns the learning rate of an epoch, counted from 0."""
        from jaxdd.training.schedules import by_epoch

        rule = {"shape": "cosine", "epochs": self.epochs, "warmup": self.warmup_epochs}
        return by_epoch(self.learning_rate, **rule)(epoch)


TINY = TeacherRecipe()
CIFAR = TeacherRecipe(0.1, weight_decay=5e-4, batch_size=128, epochs=200, warmup_epochs=0, augmentation="pad_crop")
IMAGENET = TeacherRecipe(0.1, epochs=90, warmup_epochs=0)
DIGITS = TeacherRecipe(0.1, weight_decay=5e-4, batch_size=128, epochs=20, warmup_epochs=0, augmentation="none")


def published_recipe(dataset: str, resolution: int) -> TeacherRecipe:
    """Returns the recipe for a data set: as published, or that of the published set whose images are of such a size.

    Arguments:
        dataset: its name in the registry; any other name for a user's own.
        resolution: side of its images in pixels.
    """
    if one_way(dataset):
        return DIGITS
    return CIFAR if resolution <= SMALL else TINY if resolution <= MEDIUM else IMAGENET
