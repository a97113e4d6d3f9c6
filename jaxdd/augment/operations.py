"""The operations of differentiable augmentation in the form of DSA, DM, IDC and their successors.

Facts from arXiv 2102.08259 (DSA), 2205.14959 (IDC) and their authors' code. With u uniform in [0, 1), k = 1/8 of the
side and s = 1/2 of the side, both rounded half up, for an image x whose pixels are relative to its centre:

| operation  | result                                                | random numbers                 |
|------------|-------------------------------------------------------|--------------------------------|
| flip       | mirrored left and right where u < 1/2                 | u                              |
| brightness | x + u - 1/2                                           | u                              |
| saturation | m + 2 u (x - m), m the mean of the pixel's channels   | u                              |
| contrast   | m + (u + 1/2) (x - m), m the mean of the image        | u                              |
| crop       | pixel (r, c) shows (r + i, c + j), zero outside       | i, j in -k..k                  |
| translate  | the same with i = 0                                   | j in -k..k                     |
| scale      | pixel (r, c) shows (a r, b c), zero outside           | a, b = 1/1.2 + u (1.2 - 1/1.2) |
| rotate     | turned by (2 u - 1) 15 degrees, zero outside          | u                              |
| cutout     | zero in the s x s square with its middle at (i, j)    | i, j in 0..side - (s mod 2)    |

Random numbers are arguments of shape `[n]`, one for each of the n images, or `[1]`, one for all of them (Siamese).
Pixels between others are bilinear. All work on preprocessed images and clip nothing: zero is the mean colour.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from jaxdd.augment import geometry
from jaxdd.core.types import Array


def recoloured(images: Array, brightness: Array, contrast: Array, saturation: Array) -> Array:
    """Changes brightness, contrast about the image's mean, and saturation about the pixel's mean over channels.

    The three commute, so their order is no parameter.

    Arguments:
        images: `[n, height, width, channels]`.
        brightness: `[n]`, added.
        contrast: `[n]`, factor of the difference from the image's mean.
        saturation: `[n]`, factor of the difference from the pixel's mean; without effect on one channel.
    """
    brightness, contrast, saturation = (x.reshape(-1, 1, 1, 1) for x in (brightness, contrast, saturation))
    mean = images.mean((1, 2, 3), keepdims=True)
    grey = images.mean(3, keepdims=True)
    return mean + brightness + contrast * (grey - mean + saturation * (images - grey))


def cut_out(images: Array, top: Array, left: Array, side: int) -> Array:
    """Sets one square of each image to zero.

    Arguments:
        images: `[n, height, width, channels]`.
        top, left: `[n]` integer, the square's first row and column.
        side: of the square, in pixels.
    """
    rows, columns = jnp.arange(images.shape[1])[None, :], jnp.arange(images.shape[2])[None, :]
    in_rows = (rows >= top[:, None]) & (rows < top[:, None] + side)
    in_columns = (columns >= left[:, None]) & (columns < left[:, None] + side)
    inside = in_rows[:, :, None, None] & in_columns[:, None, :, None]
    return jnp.where(inside, jnp.zeros((), images.dtype), images)


FLIP = 0.5
BRIGHTNESS = 1.0
SATURATION = 2.0
CONTRAST = 0.5
SHIFT = 0.125  # of the side
CUTOUT = 0.5  # of the side
SCALE = 1.2
ANGLE = math.radians(15)


def reach(side: int) -> int:
    """Returns the most pixels that a crop or translation moves: 4 of 28 or 32, 8 of 64, 28 of 224."""
    return int(SHIFT * side + 0.5)


def hole(side: int) -> int:
    """Returns the side of the cutout's square in pixels."""
    return int(CUTOUT * side + 0.5)


def _each(numbers: Array, images: Array) -> Array:
    return numbers.astype(images.dtype).reshape(-1, 1, 1, 1)


def flip(images: Array, u: Array) -> Array:
    """Mirrors left and right where `u` is below 1/2."""
    return jnp.where((u < FLIP).reshape(-1, 1, 1, 1), images[:, :, ::-1], images)


def brightness(images: Array, u: Array) -> Array:
    """Adds between -1/2 and 1/2."""
    return images + BRIGHTNESS * (_each(u, images) - 0.5)


def saturation(images: Array, u: Array) -> Array:
    """Multiplies the difference from the pixel's mean over channels by 0 to 2."""
    mean = images.mean(3, keepdims=True)
    return mean + SATURATION * _each(u, images) * (images - mean)


def contrast(images: Array, u: Array) -> Array:
    """Multiplies the difference from the image's mean by 1/2 to 3/2."""
    mean = images.mean((1, 2, 3), keepdims=True)
    return mean + (_each(u, images) + CONTRAST) * (images - mean)


def colour(images: Array, u_brightness: Array, u_saturation: Array, u_contrast: Array) -> Array:
    """Returns the three above in one pass: saturation keeps the image's mean, so they commute."""
    add, factor = BRIGHTNESS * (u_brightness - 0.5), u_contrast + CONTRAST
    return recoloured(images, *(x.astype(images.dtype) for x in (add, factor, SATURATION * u_saturation)))


def windows(images: Array, top: Array, left: Array, height: int, width: int) -> Array:
    """Cuts a window out of each image: one slice where all are cut alike.

    Arguments:
        images: `[n, h, w, channels]`.
        top, left: `[n]` or `[1]` integer, the window's first row and column; it lies inside the image.
        height, width: of the window, in pixels.

    Returns:
        `[n, height, width, channels]`.
    """
    n, _, _, channels = images.shape
    if top.shape[0] == 1:
        zero = jnp.zeros((), top.dtype)
        return jax.lax.dynamic_slice(images, (zero, top[0], left[0], zero), (n, height, width, channels))

    def window(image: Array, top: Array, left: Array) -> Array:
        return jax.lax.dynamic_slice(image, (top, left, jnp.zeros((), top.dtype)), (height, width, channels))

    return jax.vmap(window)(images, top, left)


def crop(images: Array, rows: Array, columns: Array) -> Array:
    """Shows what is `rows` further down and `columns` further right, both integer and at most `reach` either way."""
    _, height, width, _ = images.shape
    down, right = reach(height), reach(width)
    padded = jnp.pad(images, ((0, 0), (down, down), (right, right), (0, 0)))
    return windows(padded, rows + down, columns + right, height, width)


def translate(images: Array, columns: Array) -> Array:
    """Returns a crop that moves left and right only."""
    return crop(images, jnp.zeros_like(columns), columns)


def scale(images: Array, u_rows: Array, u_columns: Array) -> Array:
    """Stretches each axis by its own factor, from 1/1.2 to 1.2; above 1 the content shrinks.

    One small matrix per axis: its transpose, the derivative, costs as little, where that of a warp costs ten times it.
    """
    height, width = images.shape[1:3]
    precise = jnp.promote_types(images.dtype, jnp.float32)
    down, across = _stretch(u_rows, height).astype(precise), _stretch(u_columns, width).astype(precise)
    whose = "n" if u_rows.shape[0] > 1 else ""
    if not whose:
        down, across = down[0], across[0]
    stretched = jnp.einsum(f"{whose}ij,njwc->niwc", down, images.astype(precise), precision="highest")
    return jnp.einsum(f"{whose}ij,nhjc->nhic", across, stretched, precision="highest").astype(images.dtype)


def _stretch(u: Array, side: int) -> Array:
    # Bilinear weights [n, side, side]: a hat about each sampled point, so that what is outside counts as zero.
    factor = (u * (SCALE - 1 / SCALE) + 1 / SCALE)[:, None, None]
    place = jnp.arange(side, dtype=u.dtype) - (side - 1) / 2
    return jnp.maximum(0, 1 - jnp.abs(factor * place[None, :, None] - place[None, None, :]))


def rotate(images: Array, u: Array) -> Array:
    """Turns about the centre by up to 15 degrees either way; `u` = 1/2 is no turn."""
    n, height, width, channels = images.shape
    angle = (2 * u - 1) * ANGLE
    cosine, sine = jnp.cos(angle), jnp.sin(angle)
    # Coordinates are shares of the side, as the authors have them: images that are not square are sheared a little.
    turn = geometry.affine((cosine, height / width * sine, 0.0), (-width / height * sine, cosine, 0.0))
    padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))  # the edge that a warp replicates is zero then
    if u.shape[0] > 1 or n == 1:
        return geometry.warp(padded, turn)[:, 1:-1, 1:-1]
    # One turn for all: the batch is so many more channels of one image, whose derivative is a fifth of the work.
    together = padded.transpose(1, 2, 0, 3).reshape(1, height + 2, width + 2, n * channels)
    turned = geometry.warp(together, turn)[0, 1:-1, 1:-1].reshape(height, width, n, channels)
    return turned.transpose(2, 0, 1, 3)


def cutout(images: Array, rows: Array, columns: Array) -> Array:
    """Sets the square with its middle at (`rows`, `columns`), both integer, to zero; it may stick out."""
    side = hole(images.shape[1])
    return cut_out(images, rows - side // 2, columns - side // 2, side)
