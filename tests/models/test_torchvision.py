"""torchvision's ResNets against their layers written out in NumPy; published sizes, stems, features and draws."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd import models
from jaxdd.core.errors import UsageError
from jaxdd.models import names, registry, torchvision
from jaxdd.models.torchvision import BLOCKS, ResNet, stem_for
from tests.models import plain
from tests.models.test_registry import abstractly, size

FEW = (1, 2, 1, 1)  # blocks per stage that show everything and compile soon; published sizes tell the true numbers


def literal(params, x, depth, stem):
    """Blocks and logits, layer by layer, in training mode."""
    large, kernels = stem == "imagenet", (1, 3, 1) if depth >= 50 else (3, 3)
    x = plain.convolve(x, params["Conv_0"], stride=2 if large else 1)
    x = plain.relu(plain.normalize(x, params, 0))
    blocks = [plain.max_pool(x, 3, 2, 1) if large else x]
    index = 0
    for stage, count in enumerate(FEW):
        x = blocks[-1]
        for first in (True, *[False] * (count - 1)):
            block, y = params[f"Block_{index}"], x
            stride = 2 if stage and first else 1
            for number in range(len(kernels)):
                halves = number == kernels.index(3)
                y = plain.convolve(y, block[f"Conv_{number}"], stride if halves else 1)
                y = plain.normalize(y, block, number)
                y = y if number == len(kernels) - 1 else plain.relu(y)
            if f"Conv_{len(kernels)}" in block:
                x = plain.convolve(x, block[f"Conv_{len(kernels)}"], stride)
                x = plain.normalize(x, block, len(kernels))
            x = plain.relu(x + y)
            index += 1
        blocks.append(x)
    blocks.append(x.mean((1, 2)))
    return blocks, plain.linear(blocks[-1], params["Dense_0"])


@pytest.mark.slow
@pytest.mark.quick
@pytest.mark.parametrize(
    ("depth", "stem", "side"), [(18, "imagenet", 37), (18, "small", 9), (50, "imagenet", 37), (50, "small", 8)]
)
def test_they_are_their_layers_written_out(x64, monkeypatch, depth, stem, side):
    monkeypatch.setitem(BLOCKS, depth, FEW)
    network = models.Network(ResNet(3, depth, 4, stem), (side, side, 3))
    variables = plain.variables(network)
    images = np.random.default_rng(1).normal(size=(3, side, side, 3))
    outputs = jax.jit(lambda v, x: network.apply(v, x, train=True))(variables, jnp.asarray(images))
    blocks, logits = literal(variables["params"], images, depth, stem)
    assert len(outputs.blocks) == len(blocks) == 6
    for found, wanted in zip(outputs.blocks, blocks, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(outputs.logits, logits, rtol=1e-8, atol=1e-9)


@pytest.mark.fast("18-11689512-512")
@pytest.mark.quick
@pytest.mark.parametrize(
    ("depth", "count", "features"),
    [(18, 11_689_512, 512), (34, 21_797_672, 512), (50, 25_557_032, 2048), (101, 44_549_160, 2048)],
)
def test_published_sizes(depth, count, features):
    network = models.build("torchvision_resnet", depth=depth, image_shape=(224, 224, 3), classes=1000)
    assert size(network) == count
    assert network.feature_size == features


@pytest.mark.quick
def test_feature_maps_and_the_stem_go_by_the_images_side():
    def maps(side, depth=18):
        network = models.build("torchvision_resnet", depth=depth, image_shape=(side, side, 3), classes=10)
        return [block.shape[1:] for block in abstractly(network).blocks]

    halves = [(56, 56, 64), (56, 56, 64), (28, 28, 128), (14, 14, 256), (7, 7, 512), (512,)]
    assert maps(224) == halves
    assert maps(64) == [(64, 64, 64), (64, 64, 64), (32, 32, 128), (16, 16, 256), (8, 8, 512), (512,)]
    assert maps(224, 50)[1:] == [(56, 56, 256), (28, 28, 512), (14, 14, 1024), (7, 7, 2048), (2048,)]
    assert [stem_for(side) for side in (28, 64, 65, 224)] == ["small", "small", "imagenet", "imagenet"]


@pytest.mark.slow
@pytest.mark.quick
def test_draws_are_torchvisions():
    """Kernels from N(0, 2 / (area * outputs)), the classifier as PyTorch does, normalisations trivial."""
    network = models.build("torchvision_resnet", image_shape=(32, 32, 3), classes=10, width=32)
    variables = jax.jit(network.init)(jax.random.key(0))
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        name, values = path[-1].key, np.asarray(leaf)
        if values.ndim == 4:
            variance = 2 / (values.shape[0] * values.shape[1] * values.shape[3])
            assert values.var() == pytest.approx(variance, rel=6 * np.sqrt(2 / values.size))
        elif path[1].key == "Dense_0":
            assert 0.9 / np.sqrt(128) < np.abs(values).max() <= 1 / np.sqrt(128) or values.size == 10
        else:
            assert (values == (name in ("scale", "var"))).all()


@pytest.mark.quick
def test_names_of_teachers_are_torchvisions_and_rcigs_alias_stays():
    for depth in BLOCKS:
        assert models.TEACHERS[f"resnet{depth}"] == ("torchvision_resnet", depth)
        assert models.called("torchvision_resnet", depth) == f"resnet{depth}"
    assert tuple(torchvision.BLOCKS) == names.DEPTHS and tuple(registry.TRAITS) == names.NAMES
    assert models.TEACHERS["vit"] == models.TEACHERS["vit_bn"] == ("vit_bn", None)
    assert models.TEACHERS["convnet"] == models.TEACHERS["conv"] == ("conv", None)
    assert models.called("torchvision_resnet", None) == "resnet18"
    assert models.called("densenet", 121) == "densenet"
    built = models.build(**models.teacher_architecture("resnet50", 128), image_shape=(32, 32, 3), classes=2)
    assert built.module == ResNet(2, 50, 128, "small")
    assert models.ALIASES["resnet18"] == "resnet"
    with pytest.raises(UsageError, match=r"no depth 152(.|\n)*18 or 34 or 50 or 101"):
        models.build("torchvision_resnet", depth=152, image_shape=(32, 32, 3), classes=2)
