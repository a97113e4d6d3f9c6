"""The tap `moments` against NumPy's mean and variance of what every batch normalisation reads."""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd import models
from jaxdd.core.types import Moments
from jaxdd.models import layers, torchvision, vit
from tests.models import plain

NETWORKS = {
    "resnet": models.build("torchvision_resnet", image_shape=(8, 8, 3), classes=3, width=4),
    "conv": models.build("conv", image_shape=(8, 8, 3), classes=3, width=4, depth=2, normalization="batch"),
    "vit": models.Network(vit.ViT(3, depth=2, width=4, patch=4), (8, 8, 3)),
}


@pytest.fixture(autouse=True)
def few_blocks(monkeypatch):
    """ResNet-10, which compiles sooner."""
    monkeypatch.setitem(torchvision.BLOCKS, 18, (1, 1, 1, 1))


def images(count: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(1).normal(0.5, 2.0, (count, 8, 8, 3)))


def spied(network: models.Network, variables: Any, x: jax.Array, train: bool) -> list[tuple[dict, jax.Array]]:
    """Running statistics and input of every batch normalisation, in the order in which they run: Flax is asked."""
    seen = {}

    def spy(call, args, options, context):
        if isinstance(context.module, layers.BatchNorm):
            seen.setdefault(context.module.path, args[0])  # it comes by twice, once as Flax's own
        return call(*args, **options)

    with nn.intercept_methods(spy):
        network.apply(variables, x, train=train)
    return [
        (functools.reduce(lambda node, key: node[key], path, variables["batch_stats"]), x) for path, x in seen.items()
    ]


@pytest.mark.fast("True-conv", "False-conv")
@pytest.mark.quick
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("train", [False, True])
def test_they_are_mean_and_biased_variance_of_every_layers_input(x64, name, train):
    network = NETWORKS[name]
    variables = plain.variables(network)

    @jax.jit
    def both(variables, x):
        tapped = network.apply(variables, x, train=train, taps=(layers.MOMENTS,)).taps[layers.MOMENTS]
        return tapped, spied(network, variables, x, train)

    tapped, inputs = both(variables, images(5))
    assert len(tapped) == len(inputs) == len(jax.tree.leaves(variables["batch_stats"])) // 2 > 1
    for moments, (running, seen) in zip(tapped, inputs, strict=True):
        seen, axes = np.asarray(seen), tuple(range(seen.ndim - 1))
        np.testing.assert_allclose(moments.first + running["mean"], seen.mean(axes), rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(moments.second - moments.first**2, seen.var(axes), rtol=1e-8, atol=1e-11)
        np.testing.assert_array_equal(moments.variance, running["var"])


@pytest.mark.fast("conv")
@pytest.mark.quick
@pytest.mark.parametrize("name", ["conv", "vit"])
def test_those_of_equal_parts_average_to_those_of_the_whole(x64, name):
    """In evaluation mode, where images do not see each other."""
    network = NETWORKS[name]
    variables, x = plain.variables(network), images(6)
    apply = jax.jit(lambda v, x: network.apply(v, x, taps=(layers.MOMENTS,)).taps[layers.MOMENTS])
    whole, halves = apply(variables, x), [apply(variables, half) for half in (x[:3], x[3:])]
    for all_of_it, *parts in zip(whole, *halves, strict=True):
        mean = Moments(*((a + b) / 2 for a, b in zip(*parts, strict=True)))
        for found, wanted in zip(mean, all_of_it, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-12)
        assert np.abs(parts[0].first - parts[1].first).max() > 1e-3


@pytest.mark.fast("conv")
@pytest.mark.quick
@pytest.mark.parametrize("name", ["conv", "vit"])
def test_asking_changes_nothing_else(x64, name):
    network = NETWORKS[name]
    variables, x = plain.variables(network), images(4)
    both = jax.jit(lambda v, x: [network.apply(v, x, train=True, taps=taps) for taps in ((), (layers.MOMENTS,))])
    plainly, asked = both(variables, x)
    assert not plainly.taps and asked.variables.keys() == variables.keys()
    for a, b in zip(*(jax.tree.leaves(each._replace(taps={})) for each in (plainly, asked)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)
