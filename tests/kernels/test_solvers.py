"""Exact solvers: pcg stops where it says and agrees with the dense solve."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd.kernels.solvers import pcg
from tests.kernels import tiny

pytestmark = [pytest.mark.quick, pytest.mark.usefixtures("x64")]


def system(condition: float = 100.0):
    """A symmetric positive definite `[12, 12]` matrix of that condition number, and a right-hand side `[6, 2]`."""
    random = np.random.default_rng(0)
    vectors = np.linalg.qr(random.normal(size=(12, 12)))[0]
    return vectors @ np.diag(np.geomspace(1, condition, 12)) @ vectors.T, random.normal(size=(6, 2))


@functools.cache
def compiled(steps: int):
    """pcg without preconditioner for `[6, 2]`, compiled: `(matrix, right, tolerance) -> Solved`."""

    def run(matrix, right, tolerance):
        def operator(v):
            return (matrix @ v.reshape(-1)).reshape(v.shape), None

        return pcg(operator, right, lambda r: r, steps=steps, tolerance=tolerance)

    return jax.jit(run)


def solve(matrix, right, *, steps: int, tolerance: float):
    """pcg on NumPy arrays, in the right-hand side's type."""
    dtype = np.asarray(right).dtype
    return compiled(steps)(jnp.asarray(matrix, dtype), jnp.asarray(right), jnp.asarray(tolerance, dtype))


def true_residual(matrix, right, solution) -> float:
    """`||b - A x|| / ||b||`."""
    flat = np.asarray(right, np.float64).reshape(-1)
    return float(np.linalg.norm(flat - matrix @ np.float64(solution).reshape(-1)) / np.linalg.norm(flat))


class TestStopping:
    def test_at_the_tolerance(self):
        matrix, right = system()
        found = solve(matrix, right, steps=100, tolerance=1e-3)
        one_less = solve(matrix, right, steps=int(found.steps) - 1, tolerance=1e-3)
        assert true_residual(matrix, right, found.solution) <= 1e-3
        assert true_residual(matrix, right, one_less.solution) > 1e-3
        assert 1 < found.steps <= 12

    def test_at_the_cap_with_the_residual_of_what_it_returns(self):
        matrix, right = system()
        found = solve(matrix, right, steps=7, tolerance=0.0)
        assert found.steps == 7
        assert 1e-3 < found.residual < 1
        np.testing.assert_allclose(found.residual, true_residual(matrix, right, found.solution), rtol=1e-10)

    def test_when_progress_is_lost_in_rounding(self):
        matrix, right = system(condition=1e4)
        found = solve(matrix, np.float32(right), steps=500, tolerance=0.0)
        assert 12 <= found.steps < 100
        assert true_residual(matrix, right, found.solution) < 1e-2

    def test_not_while_only_the_residual_grows(self):
        matrix, right = system(condition=1e4)
        early = solve(matrix, right, steps=7, tolerance=0.0)
        assert true_residual(matrix, right, early.solution) > 1  # a residual rule would have given up at zero
        assert solve(matrix, right, steps=100, tolerance=1e-6).residual <= 1e-6

    def test_at_once_when_there_is_nothing_to_solve(self):
        matrix, right = system()
        found = solve(matrix, 0 * right, steps=100, tolerance=1e-5)
        assert found.steps == 0
        assert found.residual == 0
        assert not found.solution.any()


def test_the_right_preconditioner_solves_in_one_step():
    matrix, right = system(condition=1e4)

    def operator(v):
        return (jnp.asarray(matrix) @ v.reshape(-1)).reshape(v.shape), None

    def inverse(v):
        return (jnp.asarray(np.linalg.inv(matrix)) @ v.reshape(-1)).reshape(v.shape)

    found = pcg(operator, jnp.asarray(right), inverse, steps=5, tolerance=1e-8)
    assert found.steps == 1
    np.testing.assert_allclose(np.asarray(found.solution).ravel(), np.linalg.solve(matrix, right.ravel()), rtol=1e-6)


@pytest.mark.slow
def test_pcg_and_dense_agree_on_a_network():
    @jax.jit
    def both(base, synthetic):
        expanded, inner = tiny.expand(synthetic), tiny.problem(base)
        solve_dense, _ = tiny.solver("dense", inner, expanded)
        solve_pcg, linear = tiny.solver("pcg", inner, expanded, tolerance=1e-12)
        dense, iterated = solve_dense(expanded.labels), solve_pcg(expanded.labels)
        pulled = inner.freeze(linear.pull(iterated.solution))
        return dense, iterated, [dense.pulled, iterated.pulled, pulled]

    dense, iterated, (expected, *thetas) = both(tiny.params(), tiny.synthetic())
    assert iterated.residual <= 1e-12
    np.testing.assert_allclose(iterated.solution, dense.solution, atol=1e-8 * np.abs(dense.solution).max())
    for theta in thetas:
        for one, other in zip(*map(jax.tree.leaves, (theta, expected)), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-8 * max(np.abs(other).max(), 1e-3))
