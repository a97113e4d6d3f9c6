"""Arithmetic on pytrees, leaf by leaf; and differences of two trees, or of two nested settings."""

from __future__ import annotations

import functools
import json
import operator
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd.core.errors import CheckpointError, JaxddError
from jaxdd.core.types import Array, PyTree

add: Callable[..., Any] = lambda a, b: jax.tree.map(operator.add, a, b)  # noqa: E731
subtract: Callable[..., Any] = lambda a, b: jax.tree.map(operator.sub, a, b)  # noqa: E731


def scale(factor: Array | float, tree: PyTree) -> PyTree:
    """Returns `factor * leaf` for every leaf."""
    return jax.tree.map(lambda leaf: factor * leaf, tree)


def dot(a: PyTree, b: PyTree) -> Array:
    """Returns the inner product over all leaves, a scalar."""
    products = jax.tree.leaves(jax.tree.map(lambda x, y: jnp.sum(x * y), a, b))
    return functools.reduce(operator.add, products)  # not from a zero, whose type would be another under x64


def norms(tree: PyTree) -> PyTree:
    """Returns the L2 norm of each leaf as a whole."""
    return jax.tree.map(lambda leaf: jnp.sqrt(jnp.sum(jnp.square(leaf))), tree)


def zeros_like(tree: PyTree) -> PyTree:
    """Returns a tree of zeros of the same shapes and types."""
    return jax.tree.map(jnp.zeros_like, tree)


def take(tree: PyTree, index: Array | int) -> PyTree:
    """Takes entry `index` along the leading axis of every leaf."""
    return jax.tree.map(lambda leaf: jax.lax.dynamic_index_in_dim(leaf, index, keepdims=False), tree)


def put(tree: PyTree, index: Array | int, entry: PyTree) -> PyTree:
    """Replaces entry `index` along the leading axis of every leaf; the inverse of `take`."""
    return jax.tree.map(lambda leaf, new: jax.lax.dynamic_update_index_in_dim(leaf, new, index, 0), tree, entry)


def paths(tree: PyTree) -> list[tuple[str, Any]]:
    """Returns the leaves, each with a readable path such as `pool/params/Conv_0/kernel`."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [(jax.tree_util.keystr(path, simple=True, separator="/"), leaf) for path, leaf in leaves]


def byte_size(tree: PyTree) -> int:
    """Returns bytes held by all leaves; shapes suffice, so `jax.eval_shape` results may be passed."""
    return sum(int(np.prod(leaf.shape)) * np.dtype(leaf.dtype).itemsize for leaf in jax.tree.leaves(tree))


def describe(tree: PyTree) -> dict[str, str]:
    """Returns the path of every leaf -> its type and shape, such as `float32[3, 4]`; shapes from `jax.eval_shape` will
    do."""
    return {path: f"{leaf.dtype}{list(leaf.shape)}" for path, leaf in paths(tree)}


def differences(expected: Mapping[str, str], actual: Mapping[str, str]) -> list[str]:
    """Returns one line per leaf in which two descriptions differ."""
    return [
        f"'{path}': expected {expected.get(path, 'nothing')}, found {actual.get(path, 'nothing')}"
        for path in dict.fromkeys((*expected, *actual))
        if expected.get(path) != actual.get(path)
    ]


def changes(old: Any, new: Any, path: str = "") -> list[str]:
    """Returns one line `key: old -> new` for every difference of two nested settings."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        before, after = json.dumps(old), json.dumps(new)
        return [] if before == after else [f"{path}: {before} -> {after}"]
    lines = []
    for key in dict.fromkeys((*old, *new)):
        inner = f"{path}.{key}" if path else key
        if key in old and key in new:
            lines += changes(old[key], new[key], inner)
        else:
            before, after = (json.dumps(side[key]) if key in side else "absent" for side in (old, new))
            lines.append(f"{inner}: {before} -> {after}")
    return lines


def require_same(
    old: Any,
    new: Any,
    what: str,
    *,
    where: object,
    remedy: str,
    expected: str = "",
    error: type[JaxddError] = CheckpointError,
) -> None:
    """Refuses two nested settings that differ.

    Arguments:
        old, new: the two.
        what: the error's first line; one line follows for each difference.
        where, remedy, expected, error: of the error.

    Raises:
        JaxddError: `error`, which names every key that differs.
    """
    if lines := changes(old, new):
        raise error(what + "".join(f"\n  {line}" for line in lines), where=str(where), expected=expected, remedy=remedy)
