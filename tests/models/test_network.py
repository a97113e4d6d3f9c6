"""The interface: variables, outputs, taps, the last layer, precision, and what `init` costs."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd import models
from jaxdd.core.errors import UsageError
from jaxdd.core.precision import exact_products
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


@pytest.mark.slow
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


@pytest.mark.fast("identity")
@pytest.mark.quick
@pytest.mark.parametrize("normalization", models.NORMALIZATIONS)
def test_float64_stays_float64(x64, images, normalization):
    network = make(normalization, width=32)
    outputs = network.apply(network.init(jax.random.key(0), jnp.float64), images.astype(jnp.float64), train=True)
    assert {leaf.dtype for leaf in jax.tree.leaves(outputs)} == {jnp.dtype(jnp.float64)}


def layer_types(network, variables, images) -> list[str]:
    """The types in which the convolutions (or the products in their place) and the classifier run, in order."""
    text = str(jax.make_jaxpr(lambda v: network.apply(v, images, train=True).logits)(variables))
    lines = [line for line in text.splitlines() if "conv_general_dilated" in line or "dot_general" in line]
    return [line.split(":")[1].split("[")[0] for line in lines]


SINGLE, HALF = ["f32"] * 3, ["bf16", "bf16", "f32"]


@pytest.mark.slow
@pytest.mark.quick
@pytest.mark.parametrize("normalization", models.NORMALIZATIONS)
def test_bfloat16_is_a_matter_of_the_inside(images, normalization):
    full, half = make(normalization, width=32), make(normalization, width=32, precision="bfloat16")
    variables = full.init(jax.random.key(0))
    assert layer_types(full, variables, images) == SINGLE
    assert layer_types(half, variables, images) == HALF
    outputs, expected = (network.apply(variables, images, train=True) for network in (half, full))
    assert {leaf.dtype for leaf in jax.tree.leaves(outputs)} == {jnp.dtype(jnp.float32)}
    for name in ("logits", "features"):
        found, exact = getattr(outputs, name), getattr(expected, name)
        np.testing.assert_allclose(found, exact, atol=0.03 * float(jnp.abs(exact).max()))
        assert not np.array_equal(found, exact)
    for a, b in zip(jax.tree.leaves(outputs.variables), jax.tree.leaves(expected.variables), strict=True):
        np.testing.assert_allclose(a, b, atol=0.02)  # batch statistics: float32 means of rounded activations


@pytest.mark.quick
def test_the_classifier_reads_bfloat16_features_in_float32(images):
    network = make(precision="bfloat16")
    variables = network.init(jax.random.key(0))
    outputs, last = network.apply(variables, images), variables["params"]["Dense_0"]
    np.testing.assert_array_equal(outputs.features, outputs.features.astype(jnp.bfloat16).astype(jnp.float32))
    exact = np.asarray(outputs.features, np.float64) @ np.asarray(last["kernel"], np.float64)
    np.testing.assert_allclose(outputs.logits, exact, atol=1e-6)  # bias 0


@pytest.mark.quick
def test_inside_exact_products_nothing_is_rounded(images):
    full, half = make(), make(precision="bfloat16")
    variables = full.init(jax.random.key(0))
    with exact_products():
        assert layer_types(half, variables, images) == SINGLE
        np.testing.assert_array_equal(half.apply(variables, images).logits, full.apply(variables, images).logits)
    assert layer_types(half, variables, images) == HALF


@pytest.mark.slow
@pytest.mark.quick
def test_bfloat16_networks_can_be_linearised(images):
    """Their derivative is that of float32 to bfloat16 rounding; push and pull are transposes to the same."""
    full, half = make(softplus_temp=6.0), make(softplus_temp=6.0, precision="bfloat16")
    params = full.init(jax.random.key(0))["params"]
    direction = full.init(jax.random.key(1))["params"]
    covector = jax.random.normal(jax.random.key(2), (5, 3))

    def derivatives(network):
        logits = lambda p: network.apply({"params": p}, images).logits  # noqa: E731
        _, push = jax.linearize(logits, params)
        (pulled,) = jax.linear_transpose(push, params)(covector)
        np.testing.assert_allclose(jax.jvp(logits, (params,), (direction,))[1], push(direction), rtol=0.02, atol=0.02)
        return push(direction), pulled

    (pushed, pulled), (exact_push, exact_pull) = derivatives(half), derivatives(full)
    assert {leaf.dtype for leaf in jax.tree.leaves((pushed, pulled))} == {jnp.dtype(jnp.float32)}
    np.testing.assert_allclose(pushed, exact_push, atol=0.03 * float(jnp.abs(exact_push).max()))
    for a, b in zip(jax.tree.leaves(pulled), jax.tree.leaves(exact_pull), strict=True):
        np.testing.assert_allclose(a, b, atol=0.05 * float(jnp.abs(b).max()))


@pytest.mark.quick
def test_an_unknown_precision_is_refused():
    with pytest.raises(UsageError, match=r"unknown precision 'bfloat61'(.|\n)*bfloat16"):
        make(precision="bfloat61")


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
