"""AlexNet, VGG11 and ResNet18: sizes, shapes, and what the published forms do differently."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd import models
from tests.models.test_registry import size


def build(name, **options):
    return models.build(name, **({"image_shape": (32, 32, 3), "classes": 10} | options))


@pytest.mark.quick
@pytest.mark.parametrize(
    ("name", "options", "count", "features"),
    [
        ("alexnet", {}, 1_872_202, 3072),  # the first and the last two counts are those of arXiv 2006.05929's code
        ("vgg", {}, 3 * 9 * 128 + 7 * 9 * 128 * 128 + 8 * 128 + 1290, 128),
        ("resnet", {}, 11_159_232 + 81_930, 8192),
        ("resnet", {"normalization": "batch"}, 11_159_232 + 81_930 + 2 * 64, 8192),
        ("vgg", {"as_published": False, "normalization": "instance"}, 9_231_114, 512),
        ("resnet", {"as_published": False, "normalization": "instance"}, 11_173_962, 512),
    ],
)
def test_sizes(name, options, count, features):
    network = build(name, **options)
    assert size(network) == count
    assert network.feature_size == features


@pytest.mark.slow
@pytest.mark.quick
@pytest.mark.parametrize(("name", "shape"), [("alexnet", (28, 28, 1)), ("vgg", (28, 28, 1)), ("resnet", (9, 12, 3))])
def test_they_run_at_small_width(name, shape):
    network = build(name, width=4, image_shape=shape, normalization="batch", as_published=False)
    variables = jax.jit(network.init)(jax.random.key(0))
    images = jax.random.normal(jax.random.key(1), (2, *shape))
    outputs = jax.jit(lambda v, x: network.apply(v, x, train=True))(variables, images)
    assert outputs.logits.shape == (2, 10)
    assert outputs.features.shape == (2, network.feature_size)
    assert np.isfinite(outputs.logits).all()
    assert jax.tree.structure(outputs.variables) == jax.tree.structure(variables)
    last = variables["params"]["Dense_0"]
    np.testing.assert_allclose(
        outputs.logits, outputs.features @ last["kernel"] + last["bias"][None], rtol=1e-4, atol=1e-5
    )
    if name != "alexnet":
        moved = jax.tree.map(lambda a, b: jnp.any(a != b), variables["batch_stats"], outputs.variables["batch_stats"])
        assert all(jax.tree.leaves(moved))


@pytest.mark.quick
def test_published_resnet_normalizes_its_stem_only():
    def names(network):
        leaves, _ = jax.tree_util.tree_flatten_with_path(jax.eval_shape(network.init, jax.random.key(0))["params"])
        return {jax.tree_util.keystr(path[:-1], simple=True, separator="/") for path, _ in leaves}

    published = {name for name in names(build("resnet", normalization="batch")) if "BatchNorm" in name}
    assert published == {"BatchNorm_0"}
    mended = {name for name in names(build("resnet", normalization="batch", as_published=False)) if "BatchNorm" in name}
    assert len(mended) == 1 + 8 * 2 + 3


@pytest.mark.slow
@pytest.mark.quick
def test_residual_block_is_what_it_says(x64):
    network = build("resnet", width=4, image_shape=(8, 8, 3))
    variables = network.init(jax.random.key(0), jnp.float64)
    images = jax.random.normal(jax.random.key(1), (2, 8, 8, 3), jnp.float64)
    outputs = network.apply(variables, images)

    def conv(x, kernel, stride, pad):
        padding = ((pad, pad), (pad, pad))
        return jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    x = outputs.blocks[1]
    for index, stride in ((2, 2), (3, 1)):
        kernels = [variables["params"][f"BasicBlock_{index}"].get(f"Conv_{i}", {}).get("kernel") for i in range(3)]
        inner = conv(jax.nn.relu(conv(x, kernels[0], stride, 1)), kernels[1], 1, 1)
        x = jax.nn.relu(inner + (conv(x, kernels[2], 2, 0) if stride == 2 else x))
    np.testing.assert_allclose(outputs.blocks[2], x, rtol=1e-10, atol=1e-12)
    np.testing.assert_array_equal(outputs.features, outputs.blocks[-2].reshape(2, -1))
