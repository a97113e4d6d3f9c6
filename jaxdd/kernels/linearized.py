"""A network linearised around its parameters.

| symbol   | argument | shape    |
|----------|----------|----------|
| p        | params   | tree     |
| theta    | theta    | tree of p's shape: a tangent direction |
| Phi(x)   | features | [n, d]: what the last layer reads      |
| J(x)     |          | [n k, |p|]: derivative of the logits   |
| J theta  | output   | [n, k]   |
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Protocol

import jax
import jax.numpy as jnp

from jaxdd.core import backend, trees
from jaxdd.core.types import Array, PyTree


class Forward(Protocol):
    """A network at fixed batch statistics: `(params, images [n, H, W, C]) -> logits [n, k], features [n, d]`."""

    def __call__(self, params: PyTree, images: Array) -> tuple[Array, Array]: ...


def tangent_output(
    forward: Forward, params: PyTree, theta: PyTree, images: Array, *, linear: bool = True
) -> tuple[Array, Array]:
    """Returns the output of the linearised network, `J(x) theta`, and the features `Phi(x)` at the base parameters.

    Arguments:
        forward, params, theta, images: see the module's table.
        linear: False gives the difference `f(x; p + theta) - f(x; p)` instead of its first-order term.

    Returns:
        `[n, k]` and `[n, d]`.
    """
    if linear:
        _, output, features = jax.jvp(lambda p: forward(p, images), (params,), (theta,), has_aux=True)
        return output, features
    logits, features = forward(params, images)
    return forward(trees.add(params, theta), images)[0] - logits, features


def on_rows(fn: Callable[[Array], PyTree], images: Array, rows: Array | None) -> PyTree:
    """Returns `fn(images)` whose derivatives flow only through the images at `rows`: exact values, sub-sampled
    gradients.

    Arguments:
        fn: works on a batch, row by row.
        images: `[n, H, W, C]`.
        rows: `[m]` int indices without repetition, or None for all rows.
    """
    if rows is None:
        return fn(images)
    constant = jax.lax.stop_gradient(fn(images))
    return jax.tree.map(lambda all_rows, some: all_rows.at[rows].set(some), constant, fn(images[rows]))


def in_chunks(fn: Callable[[Array], PyTree], images: Array, chunk: int | None) -> PyTree:
    """Returns `fn(images)`, at most `chunk` images at a time when `chunk` is given."""
    if chunk is None or chunk >= len(images):
        return fn(images)
    return backend.chunked_map(fn, images, chunk)


@dataclasses.dataclass(frozen=True)
class Linearized:
    """A network linearised once: every later product reuses the residuals of one forward pass.

    Arguments:
        features: `[n, d]`.
        push: `theta -> J theta`, `[n, k]`.
        pull: `v [n, k] -> J^T v`, a tree.
    """

    features: Array
    push: Callable[[PyTree], Array]
    pull: Callable[[Array], PyTree]


def linearize(forward: Forward, params: PyTree, images: Array, *, chunk: int | None = None) -> Linearized:
    """Linearises `forward` around `params` on `images`.

    Arguments:
        chunk: with it, products run over chunks of that many images and recompute the forward pass of each, so memory
            is bounded by one chunk's activations; without it, the residuals of all images are kept.
    """
    bounded = chunk is not None and chunk < len(images)
    kept = jax.checkpoint(forward, prevent_cse=False) if bounded else forward

    def network(p: PyTree) -> tuple[Array, Array]:
        if bounded:
            return in_chunks(lambda x: kept(p, x), images, chunk)
        return backend.by_rows(lambda x: kept(p, x), images)

    _, push, features = jax.linearize(network, params, has_aux=True)
    transpose = jax.linear_transpose(push, params)
    return Linearized(features, push, lambda v: transpose(v)[0])


def dense_jacobian(forward: Forward, params: PyTree, images: Array) -> PyTree:
    """Returns `J` as a tree whose leaves are `[n, k, *leaf shape]`: per-image backward passes, batched as matrix
    products."""
    with backend.looping():  # per-image kernel gradients of native convolutions would be grouped convolutions
        return jax.vmap(jax.jacrev(lambda p, x: forward(p, x[None])[0][0]), in_axes=(None, 0))(params, images)


def gram(jacobian: PyTree) -> Array:
    """Returns `J J^T`, `[n k, n k]`, from a dense Jacobian: the empirical neural tangent kernel of its leaves."""
    blocks = [leaf.reshape(leaf.shape[0] * leaf.shape[1], -1) for leaf in jax.tree.leaves(jacobian)]
    product = jnp.zeros((), blocks[0].dtype)
    for block in blocks:
        product = product + jnp.matmul(block, block.T, precision=jax.lax.Precision.HIGHEST)
    return product
