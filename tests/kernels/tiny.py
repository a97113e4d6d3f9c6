"""A tiny inner problem in float64, with everything that an outer step needs."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd import models
from jaxdd.core.types import Array, Examples, PyTree
from jaxdd.kernels import solvers
from jaxdd.kernels.linearized import dense_jacobian, linearize
from jaxdd.kernels.meta_gradient import Expanded, InnerProblem, Synthetic
from jaxdd.models.network import LAST

NETWORK = models.build("conv", image_shape=(8, 8, 3), classes=3, width=4, depth=2, softplus_temp=6.0)
LAM = 0.01


def forward(params: PyTree, images: Array) -> tuple[Array, Array]:
    """The network as the kernels take it."""
    outputs = NETWORK.apply({"params": params}, images)
    return outputs.logits, outputs.features


def freeze(tree: PyTree) -> PyTree:
    """Without the last kernel's part."""
    body, last = NETWORK.split_last(tree)
    return NETWORK.join_last(body, {**last, "kernel": jnp.zeros_like(last["kernel"])})


def images(count: int, seed: int) -> Array:
    """`[count, 8, 8, 3]` float64."""
    return jnp.asarray(np.random.default_rng(seed).normal(size=(count, 8, 8, 3)))


def params(seed: int = 0) -> PyTree:
    """Parameters with non-zero biases."""
    found = NETWORK.init(jax.random.key(seed), jnp.float64)["params"]
    random = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: leaf + 0.1 * jnp.asarray(random.normal(size=leaf.shape)), found)


def problem(base: PyTree, **changes: Any) -> InnerProblem:
    """The inner problem at the parameters `base`."""
    return dataclasses.replace(InnerProblem(forward, base, LAM, LAST), **changes)


def synthetic() -> Synthetic:
    """Six images; labels around one-hot, some with a margin below the threshold of 1/6 and some above."""
    labels = np.eye(3)[[0, 0, 1, 1, 2, 2]] * [[0.05], [1.0], [0.1], [0.9], [0.12], [2.0]]
    spread = np.linspace(0, 0.03, 3)  # no ties: the margin has kinks there
    return Synthetic(images(6, seed=1), jnp.asarray(labels - 1 / 3 - spread), jnp.asarray(0.3))


def real() -> Examples:
    """One real batch of five images."""
    return Examples(images(5, seed=2), jnp.asarray([0, 1, 2, 1, 0], jnp.int32), 3)


def expand(stored: Synthetic) -> Expanded:
    """With mirror images."""
    mirrored = jnp.concatenate([stored.images, stored.images[:, :, ::-1]])
    return Expanded(mirrored, jnp.concatenate([stored.labels, stored.labels]))


def solver(name: str, inner: InnerProblem, expanded: Expanded, **limits: Any):
    """`right -> Solved` for `A x = right`, and the linearised network."""
    linear = linearize(inner.forward, inner.params, expanded.images)
    ridge = inner.ridge(linear.features)
    if name == "dense":
        jacobian = inner.without_last_kernel(dense_jacobian(inner.forward, inner.params, expanded.images))
        return solvers.dense_operator_solve(jacobian, linear, ridge, inner.freeze), linear
    limits = {"steps": 200, "tolerance": 1e-13} | limits
    operator = solvers.tangent_operator(linear, ridge, inner.freeze)
    return functools.partial(solvers.pcg, operator, precondition=ridge.solve, **limits), linear
