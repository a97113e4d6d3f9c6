"""Geometric operations as 2x3 matrices, and the one batched warp that applies them.

A matrix maps a pixel of the result to the point of the image that it shows, both as (row, column) relative to the
centre. Operations compose as matrices do; one warp costs the same whatever they are.

Along each axis a place c between two pixels is between an even one, 2 floor((c + 1) / 2), and an odd one,
2 floor(c / 2) + 1. With r = c - 2 floor(c / 2), from 0 to 2, their weights are

    odd   w = r where r < 1, else 2 - r          even   1 - w

Each of the two changes only where its own weight is zero. So where a compiler computes c twice, once contracted to
fused multiply-adds, pixels and weights may come from either: they disagree by rounding, never by a pixel, as the pixel
before c and the fraction c - floor(c) would where c is whole.
"""

from __future__ import annotations

import jax.numpy as jnp

from jaxdd.core.types import Array


def affine(rows_by: tuple, columns_by: tuple) -> Array:
    """Stacks two rows `(from row, from column, shift)`, whose entries broadcast to `[n]`, into `[n, 2, 3]`."""
    entries = jnp.broadcast_arrays(*rows_by, *columns_by)
    return jnp.stack(entries, -1).reshape(*entries[0].shape, 2, 3)


def reflection(flipped: Array) -> Array:
    """Mirrors left and right where `flipped` `[n]` holds."""
    return affine((1.0, 0.0, 0.0), (0.0, jnp.where(flipped, -1.0, 1.0), 0.0))


def zoom(factor: Array, centre: Array) -> Array:
    """Enlarges by `factor` `[n]`; `centre` `[n, 2]` is what comes to the middle, in pixels of the enlarged image."""
    shift = centre / factor[:, None]
    return affine((1 / factor, 0.0, shift[:, 0]), (0.0, 1 / factor, shift[:, 1]))


def rotation(angle: Array) -> Array:
    """Turns about the centre by `angle` `[n]` in radians."""
    cosine, sine = jnp.cos(angle), jnp.sin(angle)
    return affine((cosine, sine, 0.0), (-sine, cosine, 0.0))


def translation(shift: Array) -> Array:
    """Shows the point `shift` `[n, 2]` pixels further on in each place."""
    return affine((1.0, 0.0, shift[:, 0]), (0.0, 1.0, shift[:, 1]))


def warp(images: Array, matrices: Array) -> Array:
    """Samples every image through its own matrix: bilinear, edge pixels replicated outside.

    Four gathers from the flattened batch; dense sampling matrices are 16 to 100 times as slow on XLA:CPU. An identity
    or a reflection returns the pixels exactly. Differentiable in the images and, almost everywhere, in the matrices.

    Arguments:
        images: `[n, height, width, channels]`.
        matrices: `[n, 2, 3]`; see the module's header.

    Returns:
        `[n, height, width, channels]`, of the images' type.
    """
    n, height, width, channels = images.shape
    precise = jnp.promote_types(images.dtype, jnp.float32)  # bfloat16 could not even count the pixels
    m = matrices.astype(precise)[:, :, :, None, None]
    row = (jnp.arange(height, dtype=precise) - (height - 1) / 2)[None, :, None]
    column = (jnp.arange(width, dtype=precise) - (width - 1) / 2)[None, None, :]
    rows, down = neighbours(m[:, 0, 0] * row + m[:, 0, 1] * column + m[:, 0, 2], height)
    columns, right = neighbours(m[:, 1, 0] * row + m[:, 1, 1] * column + m[:, 1, 2], width)
    first, pixels = (jnp.arange(n, dtype=jnp.int32) * height)[:, None, None], images.reshape(-1, channels)

    def across(i: Array) -> Array:
        even, odd = (pixels.at[(first + i) * width + j].get(mode="promise_in_bounds") for j in columns)
        return (1 - right) * even + right * odd

    even, odd = (across(i) for i in rows)
    return ((1 - down) * even + down * odd).astype(images.dtype)


def neighbours(coordinate: Array, size: int) -> tuple[tuple[Array, Array], Array]:
    """Returns the even and the odd pixel beside each coordinate, relative to the centre, and the weight of the odd one.

    See the module's header; what is beyond the edge is on it.

    Returns:
        Two int32 indices from 0 to `size` - 1, of the coordinates' shape, and `[..., 1]` from 0 to 1.
    """
    place = jnp.clip(coordinate + (size - 1) / 2, 0, size - 1)
    below = 2 * jnp.floor(place / 2)
    beyond = (place - below)[..., None]
    # A pixel after the last is there only where it has no weight.
    even, odd = (
        jnp.minimum(pixel.astype(jnp.int32), size - 1) for pixel in (2 * jnp.floor((place + 1) / 2), below + 1)
    )
    return (even, odd), jnp.where(beyond < 1, beyond, 2 - beyond)
