"""Names, default depths, published sizes and refusals."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd import models
from jaxdd.core.errors import UsageError


def size(network: models.Network) -> int:
    """Number of parameters, by shape alone."""
    params = jax.eval_shape(network.init, jax.random.key(0))["params"]
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))


def abstractly(network: models.Network, dtype=jnp.float32) -> models.Outputs:
    """What the network gives for two images, as shapes and types: nothing is computed."""
    variables = jax.eval_shape(functools.partial(network.init, dtype=dtype), jax.random.key(0))
    images = jax.ShapeDtypeStruct((2, *network.image_shape), dtype)
    return jax.eval_shape(functools.partial(network.apply, train=True), variables, images)


@pytest.mark.quick
@pytest.mark.parametrize(
    ("shape", "classes", "depth", "millions", "features"),
    [
        ((32, 32, 3), 10, 3, 1.561, 8192),
        ((32, 32, 3), 100, 3, 2.298, 8192),
        ((64, 64, 3), 200, 4, 9.476, 16384),
        ((128, 128, 3), 10, 5, 25.4, 32768),
        ((28, 28, 1), 10, 3, 1.559, 8192),
    ],
)
def test_published_sizes(shape, classes, depth, millions, features):
    network = models.build("conv", image_shape=shape, classes=classes)
    assert models.default_depth(shape[0]) == depth == network.module.depth
    assert size(network) == pytest.approx(1e6 * millions, abs=10 ** (6 - len(str(millions).partition(".")[2])) / 2 + 1)
    assert network.feature_size == features


@pytest.mark.quick
@pytest.mark.parametrize(
    ("depth", "width", "shape", "classes", "count"),
    [
        (3, 128, (32, 32, 3), 10, 320_010),
        (3, 128, (32, 32, 3), 100, 504_420),
        (3, 128, (28, 28, 1), 10, 317_706),
        (4, 128, (64, 64, 3), 200, 857_160),
        (3, 128, (64, 64, 3), 200, 1_938_120),
        (4, 128, (64, 64, 1), 8, 461_448),
        (3, 32, (32, 32, 3), 10, 24_714),
        (3, 64, (32, 32, 3), 10, 86_282),
        (3, 256, (32, 32, 3), 10, 1_229_834),
        (1, 128, (32, 32, 3), 10, 331_530),
        (2, 128, (32, 32, 3), 10, 233_610),
        (4, 128, (32, 32, 3), 10, 452_490),
    ],
)
def test_published_sizes_at_constant_width(depth, width, shape, classes, count):
    options = {"widening": False, "normalization": "instance", "depth": depth, "width": width}
    network = models.build("conv", image_shape=shape, classes=classes, **options)
    assert size(network) == count
    pytorch = models.build("conv", image_shape=shape, classes=classes, initialization="pytorch", **options)
    assert size(pytorch) == count


@pytest.mark.quick
@pytest.mark.parametrize(
    ("shape", "depth", "shapes"),
    [
        ((32, 32, 3), 3, [(16, 16, 128), (8, 8, 128), (2048,)]),
        ((28, 28, 1), 3, [(16, 16, 128), (8, 8, 128), (2048,)]),
        ((64, 64, 3), 3, [(32, 32, 128), (16, 16, 128), (8192,)]),
        ((64, 64, 3), 4, [(32, 32, 128), (16, 16, 128), (8, 8, 128), (2048,)]),
        ((64, 64, 1), 4, [(34, 34, 128), (17, 17, 128), (8, 8, 128), (2048,)]),
    ],
)
def test_published_feature_maps_at_constant_width(shape, depth, shapes):
    network = models.build("conv", image_shape=shape, classes=10, depth=depth, widening=False, normalization="instance")
    assert [block.shape[1:] for block in abstractly(network).blocks] == shapes


@pytest.mark.quick
def test_default_depth_leaves_at_least_a_pixel():
    assert [models.default_depth(side) for side in (1, 2, 4, 8, 16, 28, 32, 64, 96, 128, 224)] == [
        *(1, 1, 2, 2, 2, 3, 3, 4, 5, 5, 5)
    ]
    for side in range(2, 300):
        assert side >> models.default_depth(side) >= 1


@pytest.mark.quick
@pytest.mark.parametrize(("alias", "name"), [*models.ALIASES.items(), ("ConvNet", "conv"), ("ResNet18", "resnet")])
def test_aliases(alias, name):
    common = {"image_shape": (32, 32, 3), "classes": 2}
    assert models.build(alias, **common) == models.build(name, **common)


@pytest.mark.quick
@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("convnett", {}, "unknown architecture 'convnett'"),
        ("resnt", {}, "did you mean 'resnet'"),
        ("conv", {"normalization": "instanc"}, "did you mean 'instance'"),
        ("conv", {"depth": 6}, "too small for conv with 6 poolings(.|\n)*depth 5 or less"),
        ("conv", {"depth": 0}, "depth is 0"),
        ("conv", {"classes": 0}, "classes is 0"),
        ("vgg", {"image_shape": (16, 16, 3)}, "too small for vgg(.|\n)*32 pixels"),
        ("alexnet", {"depth": 5}, "alexnet has no depth 5"),
        ("resnet", {"width": 1}, "width is 1"),
        ("conv", {"normalization": "group", "width": 16}, "do not divide width 16"),
        ("resnet_ap", {"depth": 34}, "resnet_ap has no depth 34(.|\n)*10 or 18"),
        ("resnet_app", {}, "did you mean 'resnet_ap'"),
        ("resnet_ap", {"image_shape": (7, 7, 3)}, "too small for resnet_ap(.|\n)*8 pixels"),
        ("resnet_ap", {"normalization": "group", "width": 64, "cifar": True}, "a multiple of 128"),
        ("lenet", {"image_shape": (15, 15, 3)}, "too small for lenet(.|\n)*16 pixels"),
        ("vgg_dc", {"image_shape": (27, 27, 1)}, "too small for vgg_dc(.|\n)*28 pixels"),
        ("conv", {"initialization": "torch"}, "unknown initialization 'torch'"),
        ("vgg", {"initialization": "pytorch"}, "vgg is drawn as Flax does(.|\n)*vgg_dc"),
    ],
)
def test_refusals(name, options, message):
    with pytest.raises(UsageError, match=message):
        models.build(name, **({"image_shape": (32, 32, 3), "classes": 10} | options))


@pytest.mark.quick
@pytest.mark.parametrize(("side", "channels", "depth"), [(28, 1, 5), (8, 1, 3), (4, 3, 2), (33, 3, 5)])
def test_the_deepest_network_that_is_accepted_runs(side, channels, depth):
    common = {"image_shape": (side, side, channels), "classes": 2, "width": 2}
    network = models.build("conv", depth=depth, **common)
    assert network.feature_size == 2 ** (depth - 1) * 2
    with pytest.raises(UsageError, match="too small"):
        models.build("conv", depth=depth + 1, **common)


@pytest.mark.quick
@pytest.mark.parametrize("name", models.NAMES)
def test_every_network_has_one_interface(x64, name):
    """In every type, whatever the normalisation; the last block is what the one top-level Dense layer reads."""
    options: dict[str, Any] = {"classes": 3, "width": 16}
    smallest = {"vgg": 32, "vgg_dc": 32, "lenet": 16}.get(name, 8)
    network = models.build(name, image_shape=(smallest, smallest, 3), normalization="batch", **options)
    outputs = abstractly(network, jnp.float64)
    assert {leaf.dtype for leaf in jax.tree.leaves(outputs)} == {jnp.dtype(jnp.float64)}
    assert outputs.logits.shape == (2, 3)
    assert outputs.features.shape == (2, outputs.variables["params"]["Dense_0"]["kernel"].shape[0])
    assert [key for key in outputs.variables["params"] if key.startswith("Dense")] == ["Dense_0"]

    half = models.build(name, image_shape=(28, 29, 1), normalization="none", precision="bfloat16", **options)
    outputs = abstractly(half)
    assert {leaf.dtype for leaf in jax.tree.leaves(outputs)} == {jnp.dtype(jnp.float32)}
    assert outputs.features.shape == (2, outputs.variables["params"]["Dense_0"]["kernel"].shape[0])
