"""theta and u of the exact solvers are those of dense algebra in the space of all parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from jaxdd.kernels.linearized import dense_jacobian
from jaxdd.methods import RCIG
from jaxdd.methods.rcig.solve import solve_exactly
from tests.kernels import tiny

pytestmark = pytest.mark.usefixtures("x64")


@pytest.mark.slow
@pytest.mark.parametrize("last_kernel", [False, True])
@pytest.mark.parametrize("solver", ["pcg", "dense"])
def test_theta_and_u(solver, last_kernel):
    settings = RCIG(inner_solver=solver, solver_steps=300, solver_tolerance=1e-13, hinv_last_kernel=last_kernel)
    g = tiny.params(seed=3)

    @jax.jit
    def both(base, synthetic, g):
        found = solve_exactly(settings, tiny.problem(base), tiny.expand(synthetic))
        return found.theta, found.respond(g)[0]

    theta, u = both(tiny.params(), tiny.synthetic(), g)
    images, labels = tiny.expand(tiny.synthetic())
    features = np.asarray(tiny.forward(tiny.params(), images)[1])
    weights = np.linalg.inv(features @ features.T + tiny.LAM * np.eye(len(images)))  # (K + lam I)^-1
    inverse = np.kron(weights, np.eye(labels.shape[1]))
    jacobian = jax.jit(dense_jacobian, static_argnums=0)(tiny.forward, tiny.params(), images)
    rows = [np.asarray(leaf).reshape(labels.size, -1) for leaf in jax.tree.leaves(jacobian)]
    everything = np.concatenate(rows, axis=1)
    alive = np.asarray(ravel_pytree(tiny.freeze(jax.tree.map(jnp.ones_like, g)))[0]) > 0
    hessian = np.eye(len(alive)) + everything.T @ inverse @ everything  # of the inner loss, times n k / lam

    def minimum(kept, right):
        solution = np.zeros_like(right)
        solution[kept] = np.linalg.solve(hessian[np.ix_(kept, kept)], right[kept])
        return solution

    expected_theta = minimum(alive, everything.T @ inverse @ np.asarray(labels).reshape(-1))
    expected_u = minimum(alive | last_kernel, np.asarray(ravel_pytree(g)[0]))
    np.testing.assert_allclose(ravel_pytree(theta)[0], expected_theta, atol=1e-8 * np.abs(expected_theta).max())
    np.testing.assert_allclose(ravel_pytree(u)[0], expected_u, atol=1e-8 * np.abs(expected_u).max())
    assert bool(np.any(np.asarray(ravel_pytree(u)[0])[~alive])) == last_kernel
