"""The interface: variables, outputs, taps, the last layer, precision, and what `init` costs."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd import models
from jaxdd.core.errors import UsageError
from tests import hlo


def make(normalization: str = "identity", **options):
    options = {"image_shape": (8, 8, 3), "classes": 3, "width": 4, "depth": 2} | options
    return models.build("conv", normalization=normalization, **options)


@pytest.fixture(scope="module")
def images():
    return jax.random.normal(jax.random.key(9), (5, 8, 8, 3))


@pytest.mark.quick
def test_outputs_and_names(images):
    network = make("batch")
    variables = network.init(jax.random.key(0))
    assert list(variables["params"]) == ["BatchNorm_0", "BatchNorm_1", "Conv_0", "Conv_1", "Dense_0"]
    assert list(variables["batch_stats"]) == ["BatchNorm_0", "BatchNorm_1"]
    assert all(type(node) is dict for node in (variables, *variables.values(), *variables["params"].values()))
    outputs = jax.jit(network.apply)(variables, images)
    assert outputs.logits.shape == (5, network.classes)
    assert [block.shape for block in outputs.blocks] == [(5, 4, 4, 4), (5, 32)]
    assert outputs.features is outputs.blocks[-1]
    assert outputs.taps == {}
    assert network.feature_size == 32
    last = variables["params"]["Dense_0"]
    np.testing.assert_allclose(outputs.logits, outputs.features @ last["kernel"] + last["bias"][None], rtol=1e-5)


@pytest.mark.quick
def test_variables_change_only_in_training(images):
    network = make("batch")
    variables = network.init(jax.random.key(0))
    assert network.apply(variables, images).variables is variables
    plain = make()
    unchanged = plain.init(jax.random.key(0))
    assert list(unchanged) == ["params"]
    assert plain.apply(unchanged, images, train=True).variables is unchanged

    updated = network.apply(variables, images, train=True).variables
    assert updated["params"] is variables["params"]
    first = nn.Conv(4, (3, 3), padding=1).apply({"params": variables["params"]["Conv_0"]}, images)
    mean = 0.1 * variables["batch_stats"]["BatchNorm_0"]["mean"] + 0.9 * jnp.asarray(first).mean((0, 1, 2))
    np.testing.assert_allclose(updated["batch_stats"]["BatchNorm_0"]["mean"], mean, rtol=1e-4, atol=1e-6)
    assert jax.tree.structure(updated) == jax.tree.structure(variables)


@pytest.mark.quick
def test_split_and_join():
    network = make()
    params = network.init(jax.random.key(0))["params"]
    body, last = network.split_last(params)
    assert sorted(body) == ["Conv_0", "Conv_1"]
    assert {name: leaf.shape for name, leaf in last.items()} == {"kernel": (32, 3), "bias": (3,)}
    joined = network.join_last(body, last)
    assert jax.tree.structure(joined) == jax.tree.structure(params)
    assert "Dense_0" not in body


@pytest.mark.quick
def test_networks_are_hashable_values(images):
    assert make() == make()
    assert hash(make()) == hash(make())
    assert make() != make("batch")
    variables = make().init(jax.random.key(0))
    apply = jax.jit(lambda network, v, x: network.apply(v, x).logits, static_argnums=0)
    assert apply(make(), variables, images).shape == apply(make(), variables, images).shape == (5, 3)


@pytest.mark.quick
def test_init_runs_no_convolution_and_draws_the_same_in_every_precision(x64):
    network = make("batch")
    assert hlo.convolutions(hlo.program(network.init, jax.random.key(0))) == []
    single, double = network.init(jax.random.key(3)), network.init(jax.random.key(3), jnp.float64)
    for a, b in zip(jax.tree.leaves(single), jax.tree.leaves(double), strict=True):
        assert (a.dtype, b.dtype) == (jnp.float32, jnp.float64)
        np.testing.assert_array_equal(a, b)


@pytest.mark.quick
def test_flax_draws_the_same(images):
    network = make()
    expected = network.module.init(jax.random.key(4), images)
    for a, b in zip(jax.tree.leaves(network.init(jax.random.key(4))), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.quick
@pytest.mark.parametrize("normalization", models.NORMALIZATIONS)
def test_float64_stays_float64(x64, images, normalization):
    network = make(normalization, width=32)
    outputs = network.apply(network.init(jax.random.key(0), jnp.float64), images.astype(jnp.float64), train=True)
    assert {leaf.dtype for leaf in jax.tree.leaves(outputs)} == {jnp.dtype(jnp.float64)}


@pytest.mark.quick
def test_bfloat16_activations_keep_float32_parameters(images):
    network = make("batch", dtype=jnp.bfloat16)
    outputs = network.apply(network.init(jax.random.key(0)), images, train=True)
    assert outputs.logits.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(outputs.variables)} == {jnp.dtype(jnp.float32)}


class Tapped(nn.Module):
    """A network that offers a statistic of two of its layers."""

    classes: int = 2

    @nn.compact
    def __call__(self, images, train=False):
        inner = Sower()(images)
        self.sow("taps", "mean", inner.mean())
        features = inner.reshape(inner.shape[0], -1)
        return nn.Dense(self.classes)(features), (features,)


class Sower(nn.Module):
    @nn.compact
    def __call__(self, x):
        self.sow("taps", "mean", x.mean())
        return 2 * x


@pytest.mark.quick
def test_taps_are_collected_by_name_and_only_when_asked_for(images):
    network = models.Network(Tapped(), (8, 8, 3))
    variables = network.init(jax.random.key(0))
    assert list(variables) == ["params"]
    assert network.apply(variables, images).taps == {}
    outputs = network.apply(variables, images, taps=["mean"])
    np.testing.assert_allclose(sorted(outputs.taps["mean"]), sorted([images.mean(), 2 * images.mean()]), rtol=1e-5)
    assert outputs.variables is variables
    with pytest.raises(UsageError, match=r"unknown statistic 'means'(.|\n)*'mean'"):
        network.apply(variables, images, taps=["means"])
    with pytest.raises(UsageError, match="unknown statistic"):
        make().apply(make().init(jax.random.key(0)), images, taps=["mean"])
