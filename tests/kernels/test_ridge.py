"""The ridge solve on the last layer: value, derivatives, and the type of the factorisation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd.kernels.solvers import Ridge, kernel

pytestmark = pytest.mark.quick


def given(seed: int = 0):
    """Features `[6, 9]` and a right-hand side `[6, 2]`, NumPy float64."""
    random = np.random.default_rng(seed)
    return random.normal(size=(6, 9)), random.normal(size=(6, 2))


@pytest.mark.usefixtures("x64")
class TestInFloat64:
    def test_value_and_derivatives_equal_those_of_a_plain_solve(self):
        features, right = map(jnp.asarray, given())
        weights = jnp.asarray(given(seed=1)[1])

        def ours(features, right, lam):
            return jnp.sum(weights * jnp.sin(Ridge.of(features, lam).solve(right)))

        def plain(features, right, lam):
            return jnp.sum(weights * jnp.sin(jnp.linalg.solve(features @ features.T + lam * jnp.eye(6), right)))

        for derivative in (jax.value_and_grad, jax.jacfwd):
            both = jax.jit(lambda *at, of=derivative: [of(fn, argnums=(0, 1, 2))(*at) for fn in (ours, plain)])
            found, expected = both(features, right, 0.1)
            for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)

    def test_second_derivatives_equal_those_of_a_plain_solve(self):
        features, right = map(jnp.asarray, given())
        direction = jnp.asarray(given(seed=2)[0])

        def along(solve):
            slope = jax.grad(lambda f: jnp.sum(solve(f) ** 2))
            return jax.jvp(slope, (features,), (direction,))[1]

        found = along(lambda f: Ridge.of(f, 0.1).solve(right))
        expected = along(lambda f: jnp.linalg.solve(f @ f.T + 0.1 * jnp.eye(6), right))
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)

    def test_double_factorises_float32_features_in_float64_and_answers_in_float32(self):
        features, right = given()
        features[3] = features[2] * (1 + 1e-4)  # nearly the same image twice: condition number about 1e10
        single = jnp.asarray(features, jnp.float32), jnp.asarray(right, jnp.float32)
        exact = np.float64(single[0])
        expected = np.linalg.solve(exact @ exact.T + 1e-9 * np.eye(6), np.float64(single[1]))
        solution = Ridge.of(single[0], 1e-9, double=True).solve(single[1])
        assert solution.dtype == jnp.float32
        np.testing.assert_allclose(solution, expected, rtol=1e-5)
        poor = Ridge.of(single[0], 1e-9).solve(single[1])
        assert not np.allclose(poor, expected, rtol=0.1)  # the case is one that float32 cannot solve


def test_kernel_of_two_sets_is_the_matrix_of_inner_products():
    features, others = (np.float32(given(seed)[0]) for seed in (0, 1))
    np.testing.assert_allclose(kernel(jnp.asarray(features), jnp.asarray(others[:4])), features @ others[:4].T, 1e-5)
