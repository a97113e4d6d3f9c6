"""DC's MLP, LeNet, AlexNet and VGG11 against their layers written out in NumPy; published sizes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd import models
from tests.models import plain
from tests.models.test_registry import size


@pytest.mark.quick
@pytest.mark.parametrize(
    ("name", "options", "count", "features"),
    [
        ("mlp", {}, 411_146, 128),
        ("mlp", {"image_shape": (28, 28, 1)}, 784 * 128 + 128 + 128 * 128 + 128 + 1290, 128),
        ("lenet", {}, 62_006, 84),
        ("lenet", {"image_shape": (28, 28, 1)}, 62_006 - 2 * 25 * 6, 84),
        ("alexnet_dc", {}, 1_872_202, 3072),
        ("alexnet_dc", {"normalization": "batch"}, 1_872_202 + 2 * (128 + 192 + 256 + 192 + 192), 3072),
        ("vgg_dc", {"normalization": "instance"}, 9_231_114, 512),
        ("vgg_dc", {"normalization": "batch"}, 9_231_114, 512),
    ],
)
def test_published_sizes(name, options, count, features):
    network = models.build(name, **({"image_shape": (32, 32, 3), "classes": 10} | options))
    assert size(network) == count
    assert network.feature_size == features


def run(name, shape, **options):
    """The network's outputs for random variables and images, and both of these."""
    network = models.build(name, image_shape=shape, classes=3, **options)
    variables = plain.variables(network)
    images = np.random.default_rng(1).normal(size=(3, *shape))
    outputs = jax.jit(lambda v, x: network.apply(v, x, train=True))(variables, jnp.asarray(images))
    return outputs, variables["params"], images


def compare(outputs, params, blocks):
    for found, wanted in zip(outputs.blocks, blocks, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(outputs.logits, plain.linear(blocks[-1], params["Dense_0"]), rtol=1e-8, atol=1e-9)


@pytest.mark.quick
def test_mlp(x64):
    outputs, params, images = run("mlp", (4, 4, 3), width=5)
    first = plain.relu(plain.linear(plain.flatten(images), params["Hidden_0"]))
    compare(outputs, params, [first, plain.relu(plain.linear(first, params["Hidden_1"]))])


@pytest.mark.fast("shape0-0")
@pytest.mark.quick
@pytest.mark.parametrize(("shape", "pad"), [((17, 17, 3), 0), ((12, 12, 1), 2)])
def test_lenet(x64, shape, pad):
    outputs, params, images = run("lenet", shape, width=43)  # 2 and 5 filters
    first = plain.max_pool(plain.relu(plain.convolve(images, params["Conv_0"], pad=pad)))
    second = plain.max_pool(plain.relu(plain.convolve(first, params["Conv_1"], pad=0)))
    third = plain.relu(plain.linear(plain.flatten(second), params["Hidden_0"]))
    compare(outputs, params, [first, second, third, plain.relu(plain.linear(third, params["Hidden_1"]))])
    assert [block.shape[-1] for block in outputs.blocks] == [2, 5, 40, 28]


@pytest.mark.fast("alexnet_dc-shape1-batch-pools_after1")
@pytest.mark.quick
@pytest.mark.parametrize(
    ("name", "shape", "normalization", "pools_after"),
    [
        ("alexnet_dc", (9, 9, 3), "identity", (0, 1, 4)),
        ("alexnet_dc", (8, 8, 1), "batch", (0, 1, 4)),
        ("vgg_dc", (28, 28, 1), "instance", (0, 1, 3, 5, 7)),
    ],
)
def test_alexnet_and_vgg(x64, name, shape, normalization, pools_after):
    outputs, params, images = run(name, shape, width=4, normalization=normalization)
    x = images
    blocks = []
    for index in range(pools_after[-1] + 1):
        side = params[f"Conv_{index}"]["kernel"].shape[0]
        pad = side // 2 + (2 if index == 0 and shape[-1] == 1 else 0)
        x = plain.convolve(x, params[f"Conv_{index}"], pad=pad)
        x = plain.relu(plain.normalize(x, params, index))
        if index in pools_after:
            x = plain.max_pool(x)
            blocks.append(x)
    assert f"Conv_{pools_after[-1] + 1}" not in params
    compare(outputs, params, [*blocks[:-1], plain.flatten(x)])
