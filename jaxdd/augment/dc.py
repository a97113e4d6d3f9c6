"""Augmentation of DC's evaluation (arXiv 2006.05929; also DSA and DM): one operation per image.

| operation | result                                                                                         |
|-----------|------------------------------------------------------------------------------------------------|
| crop      | moved by whole pixels, -4 to 3 along each axis; outside is the batch's mean of the channel      |
| scale     | resized to 0.8 to 1.2 of each side, nearest pixels; cut or framed by zeros in the middle        |
| rotate    | turned by whole degrees, -45 to 44, with cubic splines; outside is the batch's mean             |
| noise     | plus 0.001 N(0, 1)                                                                             |

The authors use `crop_scale_rotate` for MNIST, `crop_noise` for networks with batch normalisation and nothing else;
where one of them is used they train for 1000 epochs instead of 300. Their crop draws 8 of the 9 places there are, their
turn 90 of 91 degrees; both are kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd.augment import geometry, operations, spline
from jaxdd.augment.single import Augmentation, parse
from jaxdd.core.random import purpose_key
from jaxdd.core.types import Array, Key

CROP = 4  # pixels
SCALE = 0.2
ANGLE = 45  # degrees
NOISE = 0.001


def crop(images: Array, rows: Array, columns: Array) -> Array:
    """Shows what is `rows` further down and `columns` further right, `[n]` integer, at most `CROP` either way."""
    n, height, width, channels = images.shape
    mean = images.mean((0, 1, 2), keepdims=True)
    frame = jnp.broadcast_to(mean, (n, height + 2 * CROP, width + 2 * CROP, channels))
    framed = jax.lax.dynamic_update_slice(frame, images, (0, CROP, CROP, 0))
    return operations.windows(framed, rows + CROP, columns + CROP, height, width)


def scale(images: Array, heights: Array, widths: Array) -> Array:
    """Resizes to `heights` x `widths`, `[n]` integer pixels, nearest; keeps the middle, zero where there is nothing."""
    _, height, width, _ = images.shape
    canvas = jnp.maximum(jnp.maximum(heights, widths), max(height, width))[:, None]

    def source(side: int, sides: Array) -> tuple[Array, Array]:
        # Both middles are rounded down on a common canvas, as the authors do.
        place = jnp.arange(side)[None, :] + (canvas - side) // 2 - (canvas - sides[:, None]) // 2
        index = place * side // sides[:, None]
        return jnp.clip(index, 0, side - 1), (place >= 0) & (place < sides[:, None])

    (rows, in_rows), (columns, in_columns) = source(height, heights), source(width, widths)
    tall = jnp.take_along_axis(images, rows[:, :, None, None], 1)
    resized = jnp.take_along_axis(tall, columns[:, None, :, None], 2)
    inside = in_rows[:, :, None, None] & in_columns[:, None, :, None]
    return jnp.where(inside, resized, jnp.zeros((), images.dtype))


def rotate(images: Array, degrees: Array) -> Array:
    """Turns about the centre by `degrees`, `[n]` integer.

    The authors turn in a frame that holds the whole result, then cut the middle out; where the frame is larger by an
    odd number of pixels, that middle is half a pixel off.
    """
    _, height, width, _ = images.shape
    precise = jnp.promote_types(images.dtype, jnp.float32)
    angle = jnp.deg2rad(degrees.astype(precise))
    cosine, sine = jnp.cos(angle), jnp.sin(angle)
    row, column = (jnp.asarray(half, precise)[degrees % 360] for half in _half_pixels(height, width))
    turn = geometry.affine(
        (cosine, sine, -(cosine * row + sine * column)), (-sine, cosine, sine * row - cosine * column)
    )
    return spline.warp(images, turn, images.mean())


def _half_pixels(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    # How far the middle is off along each axis, 0 or 0.5, for each of 360 degrees: constants, so no turn rounds twice.
    angle = np.deg2rad(np.arange(360))
    cosine, sine = np.abs(np.cos(angle)), np.abs(np.sin(angle))
    framed = (height * cosine + width * sine, height), (height * sine + width * cosine, width)
    rows, columns = (np.mod(np.floor(frame + 0.5) - side, 2) / 2 for frame, side in framed)
    return rows, columns


def draw_crop(key: Key, images: Array) -> Array:
    """Returns a crop by -4 to 3 pixels along each axis."""
    rows, columns = (
        jax.random.randint(purpose_key(key, name), images.shape[:1], -CROP, CROP, jnp.int32)
        for name in ("rows", "columns")
    )
    return crop(images, rows, columns)


def draw_scale(key: Key, images: Array) -> Array:
    """Returns a resize by a uniform factor for each axis, to whole pixels."""
    n, height, width, _ = images.shape

    def drawn(name: str, side: int) -> Array:
        # floor(side (1 - SCALE + 2 SCALE u)), by comparing u, which is exact, with what each number of pixels takes:
        # the number decides which pixels are shown and where, and must be the same for both.
        u = jax.random.uniform(purpose_key(key, name), (n, 1), jnp.float32)
        least, most = math.floor(side * (1 - SCALE)), math.ceil(side * (1 + SCALE))
        takes = (np.arange(least + 1, most) / side - (1 - SCALE)) / (2 * SCALE)
        return least + (u >= jnp.asarray(takes, jnp.float32)[None]).sum(1, dtype=jnp.int32)

    return scale(images, drawn("height", height), drawn("width", width))


def draw_rotate(key: Key, images: Array) -> Array:
    """Returns a turn by -45 to 44 degrees."""
    return rotate(images, jax.random.randint(key, images.shape[:1], -ANGLE, ANGLE, jnp.int32))


def draw_noise(key: Key, images: Array) -> Array:
    """Returns a little Gaussian noise."""
    return images + NOISE * jax.random.normal(key, images.shape, images.dtype)


OPERATIONS: dict[str, Callable[[Key, Array], Array]] = {
    "crop": draw_crop,
    "scale": draw_scale,
    "rotate": draw_rotate,
    "noise": draw_noise,
}


def dc(strategy: str | None) -> Augmentation:
    """Makes the augmentation of DC's evaluation from a strategy such as `crop_scale_rotate`.

    Arguments:
        strategy: operations joined by `_`; each image gets one of them, drawn uniformly. None, "" or "none" for none.

    Returns:
        A pure function `(key, images) -> images`; images are `[n, height, width, channels]`, already preprocessed, and
        are not clipped. Means are taken over the whole batch.

    Raises:
        UsageError: an unknown or repeated operation.
    """
    names = parse(strategy, OPERATIONS)

    def augment(key: Key, images: Array) -> Array:
        drawn = jax.random.randint(purpose_key(key, "operation"), images.shape[:1], 0, len(names), jnp.int32)
        result = images
        for index, name in enumerate(names):
            changed = OPERATIONS[name](purpose_key(key, name), images)
            result = jnp.where((drawn == index).reshape(-1, 1, 1, 1), changed, result)
        return result

    return augment if names else lambda key, images: images
