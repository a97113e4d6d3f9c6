"""The operations with random numbers drawn as published: `(key, images, count) -> images`.

`count` is how many draws are made: one for each image, or 1 for all of them. The numbers are float32 or int32 whatever
the images are, and depend on the key and the count alone, so one draw is the same for every batch.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxdd.augment import operations
from jaxdd.core.errors import UsageError
from jaxdd.core.random import purpose_key
from jaxdd.core.types import Array, Key

Draw = Callable[[Key, Array, int], Array]


def _uniform(key: Key, purpose: str, count: int) -> Array:
    return jax.random.uniform(purpose_key(key, purpose), (count,), jnp.float32)


def _integer(key: Key, purpose: str, count: int, low: int, high: int) -> Array:
    return jax.random.randint(purpose_key(key, purpose), (count,), low, high + 1, jnp.int32)


def flip(key: Key, images: Array, count: int) -> Array:
    """Mirrors left and right with probability 1/2."""
    return operations.flip(images, _uniform(key, "flip", count))


def colour(key: Key, images: Array, count: int) -> Array:
    """Changes brightness, saturation and contrast, each by its own draw."""
    return operations.colour(images, *(_uniform(key, name, count) for name in ("brightness", "saturation", "contrast")))


def crop(key: Key, images: Array, count: int) -> Array:
    """Moves by whole pixels, up to an eighth of the side."""
    down, right = operations.reach(images.shape[1]), operations.reach(images.shape[2])
    rows = _integer(key, "rows", count, -down, down)
    return operations.crop(images, rows, _integer(key, "columns", count, -right, right))


def translate(key: Key, images: Array, count: int) -> Array:
    """Moves left or right by whole pixels, up to an eighth of the side."""
    right = operations.reach(images.shape[2])
    return operations.translate(images, _integer(key, "columns", count, -right, right))


def scale(key: Key, images: Array, count: int) -> Array:
    """Stretches each axis by a factor of its own."""
    return operations.scale(images, _uniform(key, "rows", count), _uniform(key, "columns", count))


def rotate(key: Key, images: Array, count: int) -> Array:
    """Turns by up to 15 degrees either way."""
    return operations.rotate(images, _uniform(key, "angle", count))


def cutout(key: Key, images: Array, count: int) -> Array:
    """Zeroes a square of half the side whose middle is anywhere."""
    _, height, width, _ = images.shape
    odd = operations.hole(height) % 2
    rows = _integer(key, "rows", count, 0, height - odd)
    return operations.cutout(images, rows, _integer(key, "columns", count, 0, width - odd))


OPERATIONS: dict[str, Draw] = {
    "flip": flip,
    "color": colour,
    "crop": crop,
    "translate": translate,
    "scale": scale,
    "rotate": rotate,
    "cutout": cutout,
}


def apply(name: str, key: Key, images: Array, count: int) -> Array:
    """Returns one operation; its draws depend on its own name, not on which others there are."""
    return OPERATIONS[name](purpose_key(key, name), images, count)


def apply_one(names: tuple[str, ...], key: Key, images: Array, count: int) -> Array:
    """Applies exactly one of the operations, drawn uniformly for the whole call."""
    if len(names) == 1:
        return apply(names[0], key, images, count)
    branches = [lambda key, images, name=name: apply(name, key, images, count) for name in names]
    return jax.lax.switch(drawn(key, len(names)), branches, key, images)


def drawn(key: Key, operations: int) -> Array:
    """Returns which of so many operations a call with this key applies, an int32 scalar."""
    return jax.random.randint(purpose_key(key, "operation"), (), 0, operations, jnp.int32)


def count_for(images: Array, resolution: int, *, siamese: bool) -> int:
    """Returns how many draws a call makes.

    Raises:
        UsageError: the images are not of the stated height.
    """
    if images.shape[1] != resolution:
        raise UsageError(
            f"images of {images.shape[1]} x {images.shape[2]} pixels",
            where="augmentation",
            expected=f"{resolution} pixels a side, which the augmentation was built for",
            remedy="build it with the resolution of the images",
        )
    return 1 if siamese else images.shape[0]
