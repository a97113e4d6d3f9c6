"""RCIG with bfloat16 activations: the same meta-gradient to their rounding; solves, state and updates in float32."""

import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd.core import backend
from jaxdd.methods.rcig.method import RCIG
from tests.methods.rcig import tiny

pytestmark = pytest.mark.usefixtures("x64")  # under which rcig_tiny makes its arrays; here they are cast

SOLVERS = {
    "pcg": {"inner_solver": "pcg", "solver_steps": 3},
    "adam": {"inner_solver": "adam", "n_inner_steps": 2, "n_hinv_steps": 2, "skip_tune": True},
}


def single(tree):
    """In the types of a run."""
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32) if leaf.dtype == jnp.float64 else leaf, tree)


def arguments(method: RCIG):
    return single(tiny.arguments(method))


@functools.cache
def gradient(method: RCIG):
    """Its meta-gradient in float32."""
    return jax.jit(method.meta_gradient, static_argnums=0)(tiny.network(method), *arguments(method))


@pytest.mark.slow
@pytest.mark.parametrize("solver", SOLVERS)
def test_the_meta_gradient_points_the_same_way(solver):
    half, full = (tiny.method(precision=word, **SOLVERS[solver]) for word in ("bfloat16", "float32"))
    for part in ("direct", "implicit", "total"):
        for name in ("images", "labels"):
            found, expected = (np.ravel(getattr(getattr(gradient(m), part), name)) for m in (half, full))
            cosine = found @ expected / np.linalg.norm(found) / np.linalg.norm(expected)
            assert cosine > 0.99 and not np.array_equal(found, expected), (part, name, cosine)


@pytest.mark.slow
def test_state_and_gradients_stay_float32():
    method = tiny.method(precision="bfloat16", **SOLVERS["pcg"])
    _, state, batch, draws = arguments(method)
    after, _ = jax.eval_shape(method.update, state, batch, draws)
    assert [leaf.dtype for leaf in jax.tree.leaves(after)] == [leaf.dtype for leaf in jax.tree.leaves(state)]
    found = gradient(method)
    moved = (after.synthetic, after.ema, after.pool.params, found.direct, found.implicit, found.total)
    assert {leaf.dtype for leaf in jax.tree.leaves(moved)} == {jnp.dtype("float32")}


@pytest.mark.slow
def test_the_exact_solve_runs_on_unrounded_networks(monkeypatch):
    half, full = (tiny.method(precision=word, **SOLVERS["pcg"]) for word in ("bfloat16", "float32"))
    residuals = [gradient(m).metrics["inner_residual"] for m in (half, full)]
    np.testing.assert_array_equal(*residuals)
    monkeypatch.setattr(backend, "exact_products", contextlib.nullcontext)
    gradient.cache_clear()
    assert float(gradient(half).metrics["inner_residual"]) != float(residuals[0])
    gradient.cache_clear()
