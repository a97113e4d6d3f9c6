"""Arithmetic on pytrees."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd.core import trees

pytestmark = pytest.mark.quick

A = {"x": jnp.asarray([1.0, 2.0]), "y": (jnp.asarray(3.0),)}
B = {"x": jnp.asarray([4.0, -1.0]), "y": (jnp.asarray(0.5),)}


def leaves(tree) -> list:
    return [np.asarray(leaf).tolist() for leaf in jax.tree.leaves(tree)]


def test_add_subtract_scale_zeros():
    assert leaves(trees.add(A, B)) == [[5.0, 1.0], 3.5]
    assert leaves(trees.subtract(A, B)) == [[-3.0, 3.0], 2.5]
    assert leaves(trees.scale(2.0, A)) == [[2.0, 4.0], 6.0]
    assert leaves(trees.zeros_like(A)) == [[0.0, 0.0], 0.0]


def test_dot_is_over_all_leaves_and_norms_are_one_per_leaf():
    assert float(trees.dot(A, B)) == 4 - 2 + 1.5
    assert leaves(trees.norms({"x": jnp.asarray([[3.0, 4.0]]), "y": jnp.asarray(-2.0)})) == [5.0, 2.0]


def test_trees_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match=r"structure|key"):
        trees.add(A, {"x": A["x"]})


def test_take_and_put_work_with_a_traced_index():
    stacked = {"a": jnp.arange(6).reshape(3, 2), "b": jnp.arange(3)}
    index = jnp.asarray(2)
    assert leaves(jax.jit(trees.take)(stacked, index)) == [[4, 5], 2]
    entry = {"a": jnp.asarray([9, 9]), "b": jnp.asarray(9)}
    assert leaves(jax.jit(trees.put)(stacked, index, entry)) == [[[0, 1], [2, 3], [9, 9]], [0, 1, 9]]


def test_paths_are_readable():
    found = dict(trees.paths({"pool": {"params": {"kernel": A["x"]}}, "rest": [A["x"]]}))
    assert set(found) == {"pool/params/kernel", "rest/0"}


def test_byte_size_needs_shapes_only():
    shapes = jax.eval_shape(lambda: {"a": jnp.zeros((3, 4), jnp.bfloat16), "b": jnp.zeros((), jnp.int32)})
    assert trees.byte_size(shapes) == 3 * 4 * 2 + 4
