"""Perturbed networks: one trained network stands for many (AccDD, arXiv 2212.06152).

    theta' = theta + a_x d_x + a_y d_y,      a = s u,   s = -1 or 1,   u uniform in [low, high]

d_x and d_y are drawn from the normal distribution, parameter by parameter, and brought to the parameters' scale. With w
one parameter, d its direction, and j its filters, which are its output channels (Flax's last axis):

| `xnorm`, `ynorm` | d becomes                              |
|------------------|----------------------------------------|
| `filter`         | d_j * norm(w_j) / (norm(d_j) + 1e-10)  |
| `layer`          | d * norm(w) / norm(d)                  |
| `weight`         | d * w                                  |
| `dfilter`        | d_j / (norm(d_j) + 1e-10)              |
| `dlayer`         | d / norm(d)                            |

Vectors (biases, normalisation) are left alone by `biasbn`; with `none` their direction is the vector itself, as in the
released code. Per filter the perturbation is about sqrt(a_x^2 + a_y^2) of its length: 1 to 13 % as published.
"""

from __future__ import annotations

from typing import get_args

import jax
import jax.numpy as jnp

from jaxdd.core import trees
from jaxdd.core.config import Ignore, Norm, Scope
from jaxdd.core.errors import ConfigError, choose
from jaxdd.core.random import purpose_key
from jaxdd.core.types import Array, Key, PyTree

EPSILON = 1e-10  # beside a filter's length, as published


def perturb(
    key: Key,
    variables: PyTree,
    *,
    low: float = 0.01,
    high: float = 0.09,
    xnorm: str = "filter",
    ynorm: str = "filter",
    xignore: str = "biasbn",
    yignore: str = "biasbn",
    same_dir: bool = False,
    dir_type: str = "weights",
) -> PyTree:
    """Moves a network a little along two random directions.

    Arguments:
        key: draws the directions and how far.
        variables: of a network: `params`, and `batch_stats` if it normalises by batch.
        low, high: range of `abs(a)`, relative to the parameters' length (with `filter`, `layer` and `weight`).
        xnorm, ynorm: one of `Norm`, of each direction.
        xignore, yignore: one of `Ignore`, of each direction.
        same_dir: d_y is d_x.
        dir_type: `weights` moves `params` only; `states` the batch statistics too.

    Returns:
        Variables like those given.

    Raises:
        ConfigError: an unknown word, or `low` above `high`.
    """
    choose(dir_type, get_args(Scope), kind="direction type", where="dir_type", error=ConfigError)
    if low > high:
        raise ConfigError(
            f"perturbations from {low} to {high}",
            where="vmin, vmax",
            expected="a lower bound that is the lower one",
            remedy="exchange vmin and vmax",
        )
    moved = variables if dir_type == "states" else {"params": variables["params"]}
    x = direction(purpose_key(key, "x"), moved, norm=xnorm, ignore=xignore)
    y = x if same_dir else direction(purpose_key(key, "y"), moved, norm=ynorm, ignore=yignore)
    a_x, a_y = (_coefficient(purpose_key(key, name), low, high) for name in ("a_x", "a_y"))

    def add(leaf: Array, d_x: Array, d_y: Array) -> Array:
        return leaf + (a_x.astype(leaf.dtype) * d_x + a_y.astype(leaf.dtype) * d_y)

    return {**variables, **jax.tree.map(add, moved, x, y)}


def direction(key: Key, weights: PyTree, *, norm: str = "filter", ignore: str = "biasbn") -> PyTree:
    """Returns one random direction at the scale of `weights`.

    Arguments:
        key: decides it; drawn in float32 whatever the type of `weights`.
        weights: any tree of arrays.
        norm: one of `Norm`.
        ignore: one of `Ignore`.

    Returns:
        A tree like `weights`.

    Raises:
        ConfigError: an unknown word.
    """
    choose(ignore, get_args(Ignore), kind="choice", where="xignore, yignore", error=ConfigError)

    def of_leaf(path: str, leaf: Array) -> Array:
        if leaf.ndim <= 1:
            return jnp.zeros_like(leaf) if ignore == "biasbn" else leaf
        drawn = jax.random.normal(purpose_key(key, path), leaf.shape, jnp.float32)
        return normalize(drawn.astype(leaf.dtype), leaf, norm)

    leaves = [of_leaf(path, leaf) for path, leaf in trees.paths(weights)]
    return jax.tree.unflatten(jax.tree.structure(weights), leaves)


def normalize(drawn: Array, weights: Array, norm: str = "filter") -> Array:
    """Brings one parameter's direction to the parameter's scale.

    Arguments:
        drawn: `[..., out]`.
        weights: like `drawn`.
        norm: one of `Norm`.

    Raises:
        ConfigError: an unknown norm.
    """
    choose(norm, get_args(Norm), kind="norm", where="xnorm, ynorm", error=ConfigError)
    rest = tuple(range(drawn.ndim - 1))
    if norm == "filter":
        return drawn * (_length(weights, rest) / (_length(drawn, rest) + EPSILON))
    if norm == "layer":
        return drawn * (_length(weights, None) / _length(drawn, None))
    if norm == "weight":
        return drawn * weights
    if norm == "dfilter":
        return drawn / (_length(drawn, rest) + EPSILON)
    return drawn / _length(drawn, None)


def _length(x: Array, axes: tuple[int, ...] | None) -> Array:
    return jnp.sqrt(jnp.sum(jnp.square(x), axes, keepdims=True))


def _coefficient(key: Key, low: float, high: float) -> Array:
    sign = jax.random.rademacher(purpose_key(key, "sign"), (), jnp.float32)
    return sign * jax.random.uniform(purpose_key(key, "size"), (), jnp.float32, low, high)
