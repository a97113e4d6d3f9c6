"""PyTorch's defaults: how every layer of every network is drawn, and what running statistics take in."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd import models
from jaxdd.models import layers, pytorch
from jaxdd.models.densenet import DenseNet
from tests.models import plain


def drawn_layers(network: models.Network, seed: int = 0) -> dict[str, tuple[np.ndarray, Any]]:
    """Name of each layer -> `(kernel, bias or None)`."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(jax.jit(network.init)(jax.random.key(seed))["params"])
    found = {jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf) for path, leaf in leaves}
    kernels = [name.removesuffix("/kernel") for name in found if name.endswith("kernel")]
    return {name: (found[f"{name}/kernel"], found.get(f"{name}/bias")) for name in kernels}


def is_uniform(values, bound):
    """Within the bounds and near them, centred, of variance bound^2 / 3: to 6 standard errors."""
    count = values.size
    assert np.abs(values).max() <= bound
    assert np.abs(values).max() > bound * (1 - 12 / count)  # fails once in 160 000 draws
    assert abs(values.mean()) < 6 * bound / np.sqrt(3 * count)
    assert values.var() == pytest.approx(bound**2 / 3, rel=6 * np.sqrt(0.8 / count) + 1 / count)


def is_normal(values, deviation):
    """Centred and of this deviation: to 6 standard errors; not cut off."""
    count = values.size
    assert abs(values.mean()) < 6 * deviation / np.sqrt(count)
    assert values.var() == pytest.approx(deviation**2, rel=6 * np.sqrt(2 / count) + 1 / count)
    assert np.abs(values).max() > 2.5 * deviation or count < 2000  # truncated draws would end at 2.27


@pytest.mark.fast("mlp-options1")
@pytest.mark.quick
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("conv", {"initialization": "pytorch", "widening": False, "width": 32}),
        ("mlp", {"width": 16}),
        ("lenet", {}),
        ("alexnet_dc", {"width": 16}),
        ("vgg_dc", {"width": 16, "normalization": "instance"}),
        ("resnet_dc", {"width": 8, "depth": 10, "normalization": "batch"}),
        ("resnet_ap_dc", {"width": 8, "depth": 10}),
    ],
)
def test_layers_are_drawn_uniformly(name, options):
    they_are_uniform(drawn_layers(models.build(name, image_shape=(32, 32, 3), classes=10, **options)))


@pytest.mark.slow
@pytest.mark.quick
def test_densenets_layers_are_drawn_uniformly():
    they_are_uniform(drawn_layers(models.Network(DenseNet(10, layout=(1, 1, 1, 1)), (32, 32, 3))))


def they_are_uniform(found):
    for kernel, bias in found.values():
        bound = 1 / np.sqrt(np.prod(kernel.shape[:-1]))
        is_uniform(kernel, bound)
        if bias is not None:
            assert (np.abs(bias) <= bound).all()
            assert (bias != 0).all()
    bounds = [bias * np.sqrt(np.prod(kernel.shape[:-1])) for kernel, bias in found.values() if bias is not None]
    is_uniform(np.concatenate(bounds), 1.0)  # of all layers together: some have few


@pytest.mark.slow
@pytest.mark.quick
@pytest.mark.parametrize("name", ["resnet_ap", "resnet_idc"])
def test_idcs_resnets_draw_normal_kernels(name):
    network = models.build(name, image_shape=(32, 32, 3), classes=10, width=32, normalization="instance")
    found = drawn_layers(network)
    kernel, bias = found.pop("Dense_0")
    is_uniform(kernel, 1 / np.sqrt(128))
    assert (np.abs(bias) <= 1 / np.sqrt(128)).all() and (bias != 0).all()
    assert len(found) == 1 + 4 * 2 + 3
    for kernel, bias in found.values():
        assert bias is None
        is_normal(kernel, np.sqrt(2 / (kernel.shape[0] * kernel.shape[1] * kernel.shape[3])))


@pytest.mark.slow
@pytest.mark.quick
def test_flax_stays_the_default():
    common = {"image_shape": (32, 32, 3), "classes": 10, "width": 32, "widening": False}
    for kernel, bias in drawn_layers(models.build("conv", **common)).values():
        deviation = 1 / np.sqrt(np.prod(kernel.shape[:-1]))
        assert kernel.var() == pytest.approx(deviation**2, rel=6 * np.sqrt(2 / kernel.size))
        assert (bias == 0).all()


@pytest.mark.quick
def test_running_statistics_are_pytorchs(x64):
    x = np.random.default_rng(0).normal(2.0, 3.0, (3, 2, 2, 4))
    layer: Any = layers.BatchNorm(use_running_average=False, epsilon=1e-5, momentum=0.9, unbiased=True)
    fresh = jax.jit(layer.init)(jax.random.key(0), jnp.asarray(x))
    assert (fresh["batch_stats"]["mean"] == 0).all() and (fresh["batch_stats"]["var"] == 1).all()

    old = {"mean": jnp.arange(4.0), "var": 2 + jnp.arange(4.0)}
    result, new = layer.apply({**fresh, "batch_stats": old}, jnp.asarray(x), mutable=["batch_stats"])
    np.testing.assert_allclose(new["batch_stats"]["mean"], 0.9 * old["mean"] + 0.1 * x.mean((0, 1, 2)), rtol=1e-12)
    unbiased = x.var((0, 1, 2), ddof=1)
    np.testing.assert_allclose(new["batch_stats"]["var"], 0.9 * old["var"] + 0.1 * unbiased, rtol=1e-12)
    expected = (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-5)
    np.testing.assert_allclose(result, expected, rtol=1e-10, atol=1e-12)

    tested = layer.copy(use_running_average=True).apply({**fresh, **new}, jnp.asarray(x))
    mean, variance = (np.asarray(new["batch_stats"][name]) for name in ("mean", "var"))
    np.testing.assert_allclose(tested, (x - mean) / np.sqrt(variance + 1e-5), rtol=1e-12)


@pytest.mark.slow
@pytest.mark.quick
def test_the_convnet_keeps_statistics_as_its_initialisation_or_as_asked():
    images = jax.random.normal(jax.random.key(1), (5, 4, 4, 3))

    def statistics(**options):
        """How much of the old running mean stays; new running variances over the batch's biased ones."""
        network = models.build(
            "conv", image_shape=(4, 4, 3), classes=2, width=4, depth=1, normalization="batch", **options
        )
        variables = network.init(jax.random.key(0))
        old = {"BatchNorm_0": {"mean": jnp.full(4, 1e6), "var": jnp.zeros(4)}}
        updated = jax.jit(lambda v: network.apply(v, images, train=True).variables)({**variables, "batch_stats": old})
        new = updated["batch_stats"]["BatchNorm_0"]
        kept = float(new["mean"][0]) / 1e6
        variance = plain.convolve(np.asarray(images), variables["params"]["Conv_0"]).var((0, 1, 2))
        return round(kept, 3), [round(float(ratio), 3) for ratio in new["var"] / ((1 - kept) * variance)]

    biased, unbiased = [1.0] * 4, [round(80 / 79, 3)] * 4
    assert statistics() == statistics(initialization="pytorch", norm_pytorch=False) == (0.1, biased)
    assert statistics(initialization="pytorch") == statistics(norm_pytorch=True) == (0.9, unbiased)


@pytest.mark.quick
@pytest.mark.parametrize("kind", ["batch", "instance"])
def test_epsilon_is_pytorchs(x64, kind):
    x = 1e-3 * jax.random.normal(jax.random.key(0), (3, 4, 4, 2), jnp.float64)  # variance 1e-6: epsilon rules

    class Only(nn.Module):
        @nn.compact
        def __call__(self, x):
            return pytorch.normalize(x, kind, train=True)

    axes = (1, 2) if kind == "instance" else (0, 1, 2)
    expected = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-5)
    result: Any = Only().init_with_output(jax.random.key(1), x)[0]
    np.testing.assert_allclose(result, expected, rtol=1e-9, atol=1e-12)
