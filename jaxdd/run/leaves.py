"""States described leaf by leaf, so that two that do not fit can be told apart by name."""

from __future__ import annotations

from collections.abc import Mapping

from jaxdd.core import trees
from jaxdd.core.types import PyTree


def describe(tree: PyTree) -> dict[str, str]:
    """Path of every leaf -> its type and shape, such as `float32[3, 4]`; shapes from `jax.eval_shape` will do."""
    return {path: f"{leaf.dtype}{list(leaf.shape)}" for path, leaf in trees.paths(tree)}


def differences(expected: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """One line per leaf in which two descriptions differ."""
    return [
        f"'{path}': expected {expected.get(path, 'nothing')}, found {found.get(path, 'nothing')}"
        for path in dict.fromkeys((*expected, *found))
        if expected.get(path) != found.get(path)
    ]
