"""Pooling, activation and normalisation against Flax's and JAX's own."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd.models import layers

POINTS = [-1e30, -20.0, -1.0, -0.05, -1e-3, -1e-12, 0.0, 1e-12, 1e-3, 0.05, 1.0, 20.0, 1e30]


@pytest.mark.fast("shape0")
@pytest.mark.quick
@pytest.mark.parametrize("shape", [(2, 8, 8, 3), (1, 7, 5, 2), (3, 2, 2, 4), (2, 3, 6, 1)])
def test_pooling_is_flaxs(x64, shape):
    x = jax.random.normal(jax.random.key(0), shape, jnp.float64)
    expected, expected_pull = jax.vjp(lambda x: nn.avg_pool(x, (2, 2), strides=(2, 2)), x)
    result, pull = jax.vjp(layers.average_pool, x)
    np.testing.assert_allclose(result, expected, rtol=1e-14, atol=1e-15)
    cotangent = jax.random.normal(jax.random.key(1), expected.shape, jnp.float64)
    np.testing.assert_allclose(pull(cotangent)[0], expected_pull(cotangent)[0], rtol=1e-14, atol=1e-15)


@pytest.mark.slow
@pytest.mark.quick
@pytest.mark.parametrize("shape", [(2, 8, 8, 3), (1, 7, 5, 2)])
def test_pooling_by_maximum_is_flaxs(x64, shape):
    """After a ReLU, whose zeros are equals, its derivatives too, of second order as well: gradients are matched."""
    x = jax.random.normal(jax.random.key(0), shape, jnp.float64)
    weight = jax.random.normal(jax.random.key(1), shape[-1:], jnp.float64)

    def everything(pool):
        def slope(x):
            return jax.grad(lambda w: jnp.sum(pool(nn.relu(x * w.reshape(1, 1, 1, -1))) ** 3))(weight)

        value, pull = jax.vjp(slope, x)
        return pool(nn.relu(x)), value, pull(jnp.cos(value))[0]

    expected = everything(lambda x: nn.max_pool(x, (2, 2), strides=(2, 2)))
    for a, b in zip(everything(layers.max_pool), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)
    assert float(jnp.abs(expected[-1]).max()) > 0.1


@pytest.mark.quick
@pytest.mark.parametrize("beta", [1.0, 60.0])
def test_softplus_is_jaxs_with_its_derivatives(x64, beta):
    x = jnp.array(POINTS[1:-1])

    def reference(x):
        return jax.nn.softplus(beta * x) / beta

    def ours(x):
        return layers.softplus(x, beta)

    for order in range(3):
        got, want = (np.asarray(jax.vmap(f)(x)) for f in (ours, reference))
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-13 * beta**order)
        ours, reference = jax.grad(ours), jax.grad(reference)


@pytest.mark.fast("float32")
@pytest.mark.quick
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_softplus_and_its_derivatives_are_finite_everywhere(dtype):
    x = jnp.array(POINTS, dtype)
    activation = layers.activation(60.0)

    def curvature(x):
        return jax.jvp(lambda x: jax.vjp(activation, x)[1](jnp.ones_like(x))[0], (x,), (jnp.ones_like(x),))[1]

    for fn in (activation, jax.vmap(jax.grad(activation)), curvature):
        assert fn(x).dtype == dtype
        assert np.isfinite(np.asarray(fn(x), np.float32)).all()


@pytest.mark.quick
def test_softplus_approaches_relu_and_zero_means_relu():
    x = jnp.linspace(-2, 2, 41)
    np.testing.assert_allclose(layers.activation(60.0)(x), nn.relu(x), atol=np.log(2) / 60 + 1e-6)
    np.testing.assert_array_equal(layers.activation(0.0)(x), nn.relu(x))


@pytest.mark.quick
@pytest.mark.parametrize(
    ("kind", "axes"), [("identity", ()), ("batch", (0, 1, 2)), ("instance", (1, 2)), ("layer", (3,)), ("group", None)]
)
def test_normalization_is_over_the_right_axes(x64, kind, axes):
    class Only(nn.Module):
        @nn.compact
        def __call__(self, x):
            return layers.normalize(x, kind, train=True)

    x = 3 * jax.random.normal(jax.random.key(0), (4, 5, 6, 64), jnp.float64) + 1
    result, _ = Only().init_with_output(jax.random.key(1), x)
    if kind == "identity":
        np.testing.assert_array_equal(result, x)
        return
    grouped, axes = (x, axes) if axes else (x.reshape(4, 5, 6, layers.GROUPS, 2), (1, 2, 4))
    centred = grouped - grouped.mean(axes, keepdims=True)
    epsilon = 1e-5 if kind == "batch" else 1e-6
    expected = centred / np.sqrt(np.square(centred).mean(axes, keepdims=True) + epsilon)
    np.testing.assert_allclose(result, expected.reshape(x.shape), rtol=1e-9, atol=1e-9)
