"""ResNet and ResNetAP against their layers written out in NumPy; published sizes, feature maps and the index map."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd import models
from jaxdd.models.resnet import ResNet, stem_for
from tests.models import plain
from tests.models.test_registry import abstractly, size


def literal(params, x, *, pools, stem, depth, flat=False):
    """Blocks and logits, layer by layer."""
    kernel = 7 if stem == "large" else 3
    x = plain.convolve(x, params["Conv_0"], stride=2 if stem == "large" and not pools else 1, pad=kernel // 2)
    x = plain.relu(plain.normalize(x, params, 0))
    if stem != "small":
        x = plain.average_pool(x, {"mid": 2, "large": 4}[stem]) if pools else plain.max_pool(x, 3, 2, 1)
    blocks = [x]
    for index in range(4 * (depth - 2) // 8):
        per_stage = (depth - 2) // 8
        halves = index >= per_stage and index % per_stage == 0
        block = params[f"BasicBlock_{index}"]
        stride = 2 if halves and not pools else 1
        y = plain.relu(plain.normalize(plain.convolve(x, block["Conv_0"], stride), block, 0))
        if halves and pools:
            y = plain.average_pool(y, 2)
        y = plain.normalize(plain.convolve(y, block["Conv_1"]), block, 1)
        assert ("Conv_2" in block) == halves
        if halves:
            x = plain.convolve(x, block["Conv_2"], stride)
            x = plain.normalize(plain.average_pool(x, 2) if pools else x, block, 2)
        x = plain.relu(y + x)
        if (index + 1) % per_stage == 0:
            blocks.append(x)
    blocks.append(plain.flatten(x) if flat else x.mean((1, 2)))
    return blocks, plain.linear(blocks[-1], params["Dense_0"])


@pytest.mark.fast("options0-16")
@pytest.mark.quick
@pytest.mark.parametrize(
    ("options", "side"),
    [
        ({"normalization": "instance"}, 16),
        ({"normalization": "batch", "stem": "mid"}, 18),
        ({"normalization": "batch", "stem": "large"}, 37),
        ({"normalization": "instance", "pools": True, "depth": 18}, 17),
        ({"normalization": "batch", "pools": True, "stem": "mid"}, 32),
        ({"normalization": "identity", "pools": True, "stem": "large"}, 35),
        ({"normalization": "batch", "pools": True, "from_dc": True}, 16),
    ],
)
def test_they_are_their_layers_written_out(x64, options, side):
    network = models.Network(ResNet(3, width=4, **options), (side, side, 3))
    variables = plain.variables(network)
    images = np.random.default_rng(1).normal(size=(2, side, side, 3))
    outputs = jax.jit(lambda v, x: network.apply(v, x, train=True))(variables, jnp.asarray(images))
    expected = {"pools": False, "stem": "small", "depth": 10} | options
    flat = expected.pop("from_dc", False)
    del expected["normalization"]
    blocks, logits = literal(variables["params"], images, flat=flat, **expected)
    assert len(outputs.blocks) == len(blocks) == 6
    for found, wanted in zip(outputs.blocks, blocks, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(outputs.logits, logits, rtol=1e-8, atol=1e-9)
    assert ("bias" in variables["params"]["BasicBlock_0"]["Conv_0"]) == (options["normalization"] == "identity")


@pytest.mark.quick
@pytest.mark.parametrize(
    ("name", "options", "count", "features"),
    [
        ("resnet_ap", {"image_shape": (224, 224, 3)}, 4_910_922, 512),
        ("resnet_ap", {"image_shape": (224, 224, 3), "classes": 100}, 4_957_092, 512),
        ("resnet_ap", {"image_shape": (224, 224, 3), "depth": 18}, 11_181_642, 512),
        ("resnet_ap", {"image_shape": (64, 64, 3), "classes": 200}, 5_000_712, 512),
        ("resnet_ap", {"cifar": True}, 1_228_970, 256),
        ("resnet_idc", {"cifar": True, "normalization": "batch"}, 1_228_970, 256),
        ("resnet_idc", {"normalization": "batch"}, 4_903_242, 512),
        ("resnet_idc", {"image_shape": (224, 224, 3), "depth": 18, "normalization": "batch"}, 11_181_642, 512),
        ("resnet_dc", {}, 11_173_962, 512),
        ("resnet_dc", {"normalization": "batch"}, 11_173_962, 512),
        ("resnet_ap_dc", {"normalization": "batch"}, 11_250_762, 8192),
    ],
)
def test_published_sizes(name, options, count, features):
    options = {"image_shape": (32, 32, 3), "classes": 10, "normalization": "instance"} | options
    network = models.build(name, **options)
    assert size(network) == count
    assert network.feature_size == features


def shapes(network):
    """Height, width and channels of the blocks."""
    return [block.shape[1:] for block in abstractly(network).blocks]


@pytest.mark.quick
@pytest.mark.parametrize("name", ["resnet_ap", "resnet_idc"])
def test_feature_maps_at_224_pixels(name):
    network = models.build(name, image_shape=(224, 224, 3), classes=10, normalization="instance")
    assert shapes(network) == [(56, 56, 64), (56, 56, 64), (28, 28, 128), (14, 14, 256), (7, 7, 512), (512,)]


@pytest.mark.quick
def test_the_stem_goes_by_the_images_side():
    assert [stem_for(side) for side in (8, 32, 64, 65, 128, 129, 224)] == [
        *("small", "small", "small", "mid", "mid", "large", "large")
    ]

    def first(name, side, **options):
        return shapes(models.build(name, image_shape=(side, side, 3), classes=10, width=8, **options))[0]

    for name in ("resnet_ap", "resnet_idc"):
        assert first(name, 64) == (64, 64, 4)
        assert first(name, 128) == (64, 64, 4)
        assert first(name, 256) == (64, 64, 4)
        assert first(name, 256, cifar=True) == (256, 256, 2)
    assert first("resnet_dc", 128) == first("resnet_ap_dc", 128) == (128, 128, 4)
