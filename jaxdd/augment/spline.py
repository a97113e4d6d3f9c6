"""Cubic B-spline interpolation as `scipy.ndimage` does it (order 3, mode `constant`), batched and differentiable.

The coefficients c of a row x solve (c[i-1] + 4 c[i] + c[i+1]) / 6 = x[i], mirrored at both ends: a constant matrix.
At a distance d of at most 2 from a place a coefficient has the weight

    B(d) = ((2 - d)^3 - 4 max(0, 1 - d)^3) / 6

Four have one. They are taken by their rests modulo 4: of each rest the nearest, which changes only at distance 2, where
B and its derivative are zero. So, as in `augment/geometry.py`, a place that is computed twice costs rounding at most.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from jaxdd.core.types import Array


def warp(images: Array, matrices: Array, outside: Array) -> Array:
    """Samples every image through its own matrix, as `geometry.warp` does, but with cubic splines.

    Arguments:
        images: `[n, height, width, channels]`.
        matrices: `[n, 2, 3]`, from a pixel of the result to a point of the image, both relative to the centre.
        outside: scalar, what is beyond the outermost pixels' middles, by more than a place's rounding.

    Returns:
        `[n, height, width, channels]`, of the images' type.
    """
    n, height, width, channels = images.shape
    precise = jnp.promote_types(images.dtype, jnp.float32)
    m = matrices.astype(precise)[:, :, :, None, None]
    row = (jnp.arange(height, dtype=precise) - (height - 1) / 2)[None, :, None]
    column = (jnp.arange(width, dtype=precise) - (width - 1) / 2)[None, None, :]
    r = m[:, 0, 0] * row + m[:, 0, 1] * column + m[:, 0, 2] + (height - 1) / 2
    c = m[:, 1, 0] * row + m[:, 1, 1] * column + m[:, 1, 2] + (width - 1) / 2
    down, right = (jnp.asarray(_coefficients(side), precise) for side in (height, width))
    filtered = jnp.einsum("ij,njwc->niwc", down, images.astype(precise), precision="highest")
    pixels = jnp.einsum("ij,nhjc->nhic", right, filtered, precision="highest").reshape(-1, channels)
    first, total = (jnp.arange(n) * height)[:, None, None], jnp.zeros((n, height, width, channels), precise)
    for i, in_rows in _taps(r, height):
        for j, in_columns in _taps(c, width):
            total += (in_rows * in_columns)[..., None] * pixels.at[(first + i) * width + j].get(mode="clip")
    inside = _within(r, height) & _within(c, width)
    return jnp.where(inside[..., None], total, outside).astype(images.dtype)


def _coefficients(side: int) -> np.ndarray:
    if side == 1:
        return np.ones((1, 1))
    matrix = (4 * np.eye(side) + np.eye(side, k=1) + np.eye(side, k=-1)) / 6
    matrix[0, 1] = matrix[-1, -2] = 2 / 6
    return np.linalg.inv(matrix)


def _within(place: Array, side: int) -> Array:
    # What an identity or a reflection puts on the outermost pixels stays there, however its place was rounded.
    rounding = 4 * side * float(jnp.finfo(place.dtype).eps)
    return (place >= -rounding) & (place <= side - 1 + rounding)


def _taps(place: Array, side: int) -> list[tuple[Array, Array]]:
    # The four coefficients about each place, mirrored at the ends, and their weights.
    place, last, taps = jnp.clip(place, 0, side - 1), side - 1, []
    for rest in range(4):
        nearest = 4 * jnp.floor((place - rest) / 4 + 0.5) + rest
        within = 2 - jnp.abs(place - nearest)
        index = last - jnp.abs(last - jnp.abs(nearest.astype(jnp.int32)))
        # What is mirrored twice has no weight.
        taps.append((jnp.maximum(index, 0), (within**3 - 4 * jnp.maximum(0, within - 1) ** 3) * (1 / 6)))
    return taps
