"""The few types that every floor shares."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax

Array = jax.Array
Key = jax.Array  # a typed PRNG key, as made by `jax.random.key`
PyTree = Any
Metrics = dict[str, jax.Array]  # name -> scalar, on device


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Examples:
    """Labelled images resident on the device, already preprocessed.

    Arguments:
        images: `[n, height, width, channels]` float, in the space the networks see.
        labels: `[n]` int32 class indices, or `[n, classes]` float soft labels.
        classes: number of classes.
    """

    images: Array
    labels: Array
    classes: int = dataclasses.field(metadata={"static": True})

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """`(height, width, channels)`."""
        _, height, width, channels = self.images.shape
        return height, width, channels

    def __len__(self) -> int:
        return self.images.shape[0]
