"""The statistics loss against its definition on the inputs of the normalisations themselves, in float64."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd.core.types import Moments
from jaxdd.methods.recovery.stage import norm, statistics_loss

RANDOM = np.random.default_rng(0)
INPUTS = [RANDOM.normal(3.0, 2.0, shape) for shape in ((6, 4, 4, 5), (6, 2, 2, 3), (6, 7))]
RUNNING = [(RANDOM.normal(size=x.shape[-1]), RANDOM.uniform(0.5, 2.0, x.shape[-1])) for x in INPUTS]


def moments(x, mean, variance):
    axes = tuple(range(x.ndim - 1))
    apart = x - mean.reshape((1,) * (x.ndim - 1) + (-1,))
    return Moments(apart.mean(axes), (apart * apart).mean(axes), jnp.asarray(variance))


def literal(inputs, first_multiplier):
    total = 0.0
    for layer, (x, (mean, variance)) in enumerate(zip(inputs, RUNNING, strict=True)):
        flat = x.reshape(-1, x.shape[-1])
        term = np.linalg.norm(flat.var(0) - variance) + np.linalg.norm(flat.mean(0) - mean)
        total += (first_multiplier if layer == 0 else 1.0) * term
    return total


@pytest.mark.quick
@pytest.mark.parametrize("first_multiplier", [10.0, 1.0, 0.0])
def test_it_is_its_definition(first_multiplier, x64):
    layers = [moments(jnp.asarray(x), *map(jnp.asarray, running)) for x, running in zip(INPUTS, RUNNING, strict=True)]
    found = statistics_loss(layers, first_multiplier=first_multiplier)
    assert float(found) == pytest.approx(literal(INPUTS, first_multiplier), rel=1e-12)


@pytest.mark.quick
def test_its_derivative_is_that_of_finite_differences(x64):
    def loss(x):
        given = [x, *map(jnp.asarray, INPUTS[1:])]
        return statistics_loss([moments(x, *running) for x, running in zip(given, RUNNING, strict=True)])

    x, direction = INPUTS[0], RANDOM.normal(size=INPUTS[0].shape)
    slope = (np.asarray(jax.jit(jax.grad(loss))(jnp.asarray(x))) * direction).sum()
    ends = (literal([x + sign * 1e-6 * direction, *INPUTS[1:]], 10.0) for sign in (1, -1))
    assert slope == pytest.approx((next(ends) - next(ends)) / 2e-6, rel=1e-7)


@pytest.mark.quick
def test_moments_of_equal_parts_average_to_those_of_the_whole(x64):
    x, running = jnp.asarray(INPUTS[0]), RUNNING[0]
    whole, parts = moments(x, *running), [moments(part, *running) for part in (x[:2], x[2:4], x[4:])]
    average = jax.tree.map(lambda *leaves: sum(leaves) / 3, *parts)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-13), average, whole)


@pytest.mark.quick
def test_a_large_mean_costs_no_digits_of_the_variance():
    x = 1e4 + RANDOM.normal(size=(64, 8, 8, 4)).astype(np.float32)
    running = jnp.full(4, 1e4, jnp.float32), jnp.ones(4, jnp.float32)
    m = moments(jnp.asarray(x), *running)
    np.testing.assert_allclose(m.second - m.first**2, x.astype(np.float64).reshape(-1, 4).var(0), rtol=1e-4)


@pytest.mark.quick
def test_the_norm_of_nothing_has_no_slope():
    assert norm(jnp.zeros(3)) == 0
    np.testing.assert_array_equal(jax.grad(norm)(jnp.zeros(3)), np.zeros(3))
    np.testing.assert_allclose(jax.grad(norm)(jnp.asarray([3.0, 4.0])), [0.6, 0.8], rtol=1e-6)
