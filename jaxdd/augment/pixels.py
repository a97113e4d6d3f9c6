"""Operations on pixel values: colour and cutout. Nothing is clipped: whitened pixels have no range."""

from __future__ import annotations

import jax.numpy as jnp

from jaxdd.core.types import Array


def colour(images: Array, brightness: Array, contrast: Array, saturation: Array) -> Array:
    """Brightness, contrast about the image's mean, saturation about the pixel's mean over channels.

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


def cutout(images: Array, top: Array, left: Array, side: int) -> Array:
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
