"""CutMix (arXiv 1905.04899) as IDC and its successors train with: one box and one permutation p for a whole batch.

    lambda ~ Beta(beta, beta);  the box has sqrt(1 - lambda) of each side, its middle anywhere, clipped to the image
    x[box] = x[p][box];  y = rho y + (1 - rho) y[p],  rho = 1 - area of the clipped box / area of the image

The published loss is rho CE(y) + (1 - rho) CE(y[p]); cross entropy is linear in its target, so one against the mixed
target is the same.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd.core.random import purpose_key
from jaxdd.core.types import Array, Key


class Box(NamedTuple):
    """Rows `top` to `bottom` - 1 and columns `left` to `right` - 1 of an image: integer scalars."""

    top: Array
    bottom: Array
    left: Array
    right: Array


def box(height: int, width: int, lam: Array, row: Array, column: Array) -> Box:
    """Returns the box with its middle at (`row`, `column`), clipped to the image.

    Arguments:
        height, width: of the image, in pixels.
        lam: scalar in [0, 1], the share of the image that should be left outside.
        row, column: integer scalars.
    """
    inside = 1 - jnp.asarray(lam)  # exact where lam is uniform

    def span(middle: Array, side: int) -> tuple[Array, Array]:
        # floor(side sqrt(1 - lam)) is how many of 1 .. side have a square of at most side^2 (1 - lam). It is found by a
        # sort, which is done once: pixels and labels get one number even where a compiler computes lam twice.
        squares = jnp.asarray(np.square(np.arange(1, side + 1) / side), inside.dtype)
        half = jnp.searchsorted(squares, inside, side="right", method="sort").astype(jnp.int32) // 2
        return jnp.clip(middle - half, 0, side), jnp.clip(middle + half, 0, side)

    return Box(*span(row, height), *span(column, width))


def paste(images: Array, targets: Array, where: Box, permutation: Array) -> tuple[Array, Array]:
    """Fills the box of each image from its partner, and mixes the targets by the areas.

    Arguments:
        images: `[n, height, width, channels]`.
        targets: `[n, classes]` probabilities.
        where: the box, the same for all.
        permutation: `[n]` integer, each image's partner.
    """
    _, height, width, _ = images.shape
    pasted = (where.bottom - where.top) * (where.right - where.left)
    ratio = (1 - pasted / (height * width)).astype(targets.dtype)
    return fill(images, where, permutation), ratio * targets + (1 - ratio) * targets[permutation]


def fill(images: Array, where: Box, permutation: Array) -> Array:
    """Returns the images alone; arguments as in `paste`."""
    _, height, width, _ = images.shape
    rows, columns = jnp.arange(height), jnp.arange(width)
    in_rows = (rows >= where.top) & (rows < where.bottom)
    in_columns = (columns >= where.left) & (columns < where.right)
    inside = (in_rows[:, None] & in_columns[None, :])[None, :, :, None]
    return jnp.where(inside, images[permutation], images)


def cutmix(key: Key, images: Array, targets: Array, *, probability: float, beta: float = 1.0) -> tuple[Array, Array]:
    """Mixes a batch with itself, or leaves it as it is.

    Arguments:
        key: gives all choices, one set of them for the batch.
        images: `[n, height, width, channels]`.
        targets: `[n, classes]` probabilities, e.g. one-hot labels.
        probability: with which the batch is mixed, 0 to 1; published are 0.5 for small images and 1 for ImageNet.
        beta: above 0; both parameters of the Beta distribution.

    Returns:
        Images and targets of the same shapes and types.
    """
    n, height, width, _ = images.shape
    if beta == 1:  # the same distribution, without rejection sampling
        lam = jax.random.uniform(purpose_key(key, "share"), (), jnp.float32)
    else:
        lam = jax.random.beta(purpose_key(key, "share"), beta, beta, dtype=jnp.float32)
    mixed = jax.random.bernoulli(purpose_key(key, "mix"), probability)
    row = jax.random.randint(purpose_key(key, "row"), (), 0, height, jnp.int32)
    column = jax.random.randint(purpose_key(key, "column"), (), 0, width, jnp.int32)
    permutation = jax.random.permutation(purpose_key(key, "partner"), n)
    # An empty box leaves images and targets as they are, to the bit.
    return paste(images, targets, box(height, width, jnp.where(mixed, lam, 1.0), row, column), permutation)
