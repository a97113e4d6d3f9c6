"""One operation per image, drawn uniformly from a strategy: what RCIG's evaluation trains with.

Facts from the code of RCIG (arXiv 2302.06755) and FRePo (arXiv 2206.00719), which draw with vmapped switches that
compute every operation for every image. Here the drawn geometric operations become one matrix per image and all share
one warp; colour and cutout are masked. An operation is added by an entry in `GEOMETRIC` or `PIXELWISE`.

Augmentations, and how a strategy such as `color_crop_cutout` names its operations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp

from jaxdd.augment import geometry, operations
from jaxdd.core.errors import UsageError, choose
from jaxdd.core.random import purpose_key
from jaxdd.core.types import Array, Key

Augmentation = Callable[[Key, Array], Array]  # (key, images [n, height, width, channels]) -> images


def parse(strategy: str | None, operations: Iterable[str]) -> tuple[str, ...]:
    """Returns the operations that a strategy names, in its order.

    Arguments:
        strategy: names joined by `_`; None, "" or "none" for none at all.
        operations: the names that there are.

    Raises:
        UsageError: an unknown or repeated operation.
    """
    names = tuple(strategy.lower().split("_")) if strategy and strategy.lower() != "none" else ()
    for name in names:
        choose(name, operations, kind="operation", where=f"augmentation strategy '{strategy}'")
    if len(set(names)) < len(names):
        raise UsageError(f"the strategy '{strategy}' repeats an operation", where="augmentation", remedy="name it once")
    return names


def check_resolution(resolution: int) -> None:
    """Refuses images without pixels.

    Raises:
        UsageError: a resolution below one pixel.
    """
    if resolution < 1:
        raise UsageError(
            f"resolution is {resolution}",
            where="augmentation",
            expected="at least 1 pixel",
            remedy="give the images' side in pixels",
        )


COLOUR = 0.25  # brightness is added from +-COLOUR; contrast and saturation are multiplied by exp of it
ZOOM = (0.8, 1.25)
ANGLE = math.radians(15)
SHIFT = 0.125  # of the side
CUTOUT = 4  # the square's side is the image's divided by this


def _uniform(key: Key, shape: tuple[int, ...], low: float = -1.0, high: float = 1.0) -> Array:
    return jax.random.uniform(key, shape, jnp.float32, low, high)  # float32: the same draw whatever the images are


def draw_flip(key: Key, shape: tuple[int, ...]) -> Array:
    """Mirrors left and right with probability 1/2."""
    return geometry.reflection(jax.random.bernoulli(key, 0.5, shape[:1]))


def draw_crop(key: Key, shape: tuple[int, ...]) -> Array:
    """Zooms by a log-uniform factor in `ZOOM`, about a centre that keeps the frame inside (or around) the image."""
    factor = jnp.exp(_uniform(purpose_key(key, "zoom"), shape[:1], *map(math.log, ZOOM)))
    room = jnp.abs(factor - 1)[:, None] * jnp.array([shape[1:3]], jnp.float32) / 2
    return geometry.zoom(factor, room * _uniform(purpose_key(key, "centre"), (shape[0], 2)))


def draw_rotate(key: Key, shape: tuple[int, ...]) -> Array:
    """Turns by an angle uniform in +-15 degrees."""
    return geometry.rotation(ANGLE * _uniform(key, shape[:1]))


def draw_translate(key: Key, shape: tuple[int, ...]) -> Array:
    """Shifts by a uniform fraction in +-1/8 of each side, not only by whole pixels."""
    return geometry.translation(SHIFT * jnp.array([shape[1:3]], jnp.float32) * _uniform(key, (shape[0], 2)))


def draw_color(key: Key, images: Array, resolution: int) -> Array:
    """Changes brightness, contrast and saturation, each by its own draw."""
    draws = (COLOUR * _uniform(purpose_key(key, name), images.shape[:1]) for name in ("add", "contrast", "saturation"))
    brightness, contrast, saturation = (draw.astype(images.dtype) for draw in draws)
    return operations.recoloured(images, brightness, jnp.exp(contrast), jnp.exp(saturation))


def draw_cutout(key: Key, images: Array, resolution: int) -> Array:
    """Zeroes one square of a quarter of the side, wholly inside the image."""
    side = resolution // CUTOUT
    n, height, width, _ = images.shape
    top = jax.random.randint(purpose_key(key, "top"), (n,), 0, height - side + 1)
    left = jax.random.randint(purpose_key(key, "left"), (n,), 0, width - side + 1)
    return operations.cut_out(images, top, left, side)


GEOMETRIC = {"flip": draw_flip, "crop": draw_crop, "rotate": draw_rotate, "translate": draw_translate}
PIXELWISE = {"color": draw_color, "cutout": draw_cutout}
OPERATIONS = (*GEOMETRIC, *PIXELWISE)


def build(strategy: str | None, resolution: int) -> Augmentation:
    """Makes the augmentation of a strategy such as `flip_color_crop_rotate_translate_cutout`.

    Arguments:
        strategy: operations joined by `_`; each image gets one of them, drawn uniformly. None, "" or "none" for
            none at all.
        resolution: side of the images in pixels, which sets the size of the cutout.

    Returns:
        A pure function `(key, images) -> images`, differentiable in the images; images are `[n, height, width,
        channels]` in any space and are not clipped. The key for an operation's draws depends on its name alone.

    Raises:
        UsageError: an unknown or repeated operation, or a resolution below one pixel.
    """
    names = parse(strategy, OPERATIONS)
    check_resolution(resolution)
    if not names:
        return lambda key, images: images

    def augment(key: Key, images: Array) -> Array:
        drawn = jax.random.randint(purpose_key(key, "operation"), images.shape[:1], 0, len(names))
        return _apply(key, images, names, drawn, resolution)

    return augment


def _apply(key: Key, images: Array, names: tuple[str, ...], drawn: Array, resolution: int) -> Array:
    matrices = geometry.reflection(jnp.zeros(images.shape[:1], bool))  # the identity
    result = images
    for index, name in enumerate(names):
        chosen = (drawn == index).reshape(-1, 1, 1)
        if name in GEOMETRIC:
            matrices = jnp.where(chosen, GEOMETRIC[name](purpose_key(key, name), images.shape), matrices)
        else:
            changed = PIXELWISE[name](purpose_key(key, name), images, resolution)
            result = jnp.where(chosen[..., None], changed, result)
    # An image that drew another kind of operation goes through the warp as it is: the identity is exact.
    return geometry.warp(result, matrices) if any(name in GEOMETRIC for name in names) else result
