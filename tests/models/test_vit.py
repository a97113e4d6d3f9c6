"""The transformer normalised by batch: against its equations in NumPy; published sizes, patches, draws, derivatives."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd import models
from jaxdd.models import layers, vit
from tests.models import plain
from tests.models.test_registry import size


def by_batch(x, layer, running, train):
    """Over images and tokens together."""
    flat = x.reshape(-1, x.shape[-1])
    mean, variance = (flat.mean(0), flat.var(0)) if train else (running["mean"], running["var"])
    return (x - mean) / np.sqrt(variance + plain.EPSILON) * layer["scale"] + layer["bias"]


def attention(x, params):
    """Of one image's tokens at a time, head by head."""
    size = x.shape[-1] // vit.HEADS
    result = []
    for tokens in x:
        q, k, v = np.split(plain.linear(tokens, params["Dense_0"]), 3, axis=-1)
        heads = []
        for each in (slice(h * size, (h + 1) * size) for h in range(vit.HEADS)):
            weights = np.exp(q[:, each] @ k[:, each].T / math.sqrt(size))
            heads.append(weights / weights.sum(1, keepdims=True) @ v[:, each])
        result.append(plain.linear(np.concatenate(heads, 1), params["Dense_1"]))
    return np.stack(result)


def literal(variables, images, patch, depth, train):
    """Logits; `variables` in NumPy."""
    params, running = variables["params"], variables["batch_stats"]
    n, height, width, _ = images.shape
    corners = [(i, j) for i in range(0, height - patch + 1, patch) for j in range(0, width - patch + 1, patch)]
    patches = np.stack([images[:, i : i + patch, j : j + patch].reshape(n, -1) for i, j in corners], 1)
    x = plain.linear(patches, params["patches"])
    x = np.concatenate([np.repeat(params["class_token"], n, 0), x], 1) + params["positions"]
    gelu = np.vectorize(lambda u: u * (1 + math.erf(u / math.sqrt(2))) / 2)
    for number in range(depth):
        layer, stats = params[f"Layer_{number}"], running[f"Layer_{number}"]

        def normalize(x, index, layer=layer, stats=stats):
            return by_batch(x, layer[f"BatchNorm_{index}"], stats[f"BatchNorm_{index}"], train)

        x = x + attention(normalize(x, 0), layer["Attention_0"])
        hidden = normalize(plain.linear(normalize(x, 1), layer["Dense_0"]), 2)
        x = x + plain.linear(gelu(hidden), layer["Dense_1"])
    x = by_batch(x, params["BatchNorm_0"], running["BatchNorm_0"], train)
    return plain.linear(x[:, 0], params["Dense_0"])


@pytest.mark.quick
@pytest.mark.parametrize("train", [False, True])
def test_it_is_its_equations(x64, train):
    network = models.Network(vit.ViT(3, depth=2, width=8, patch=4), (8, 13, 3))
    variables = plain.variables(network)
    images = np.random.default_rng(1).normal(size=(4, 8, 13, 3))
    outputs = jax.jit(lambda v, x: network.apply(v, x, train=train))(variables, jnp.asarray(images))
    expected = literal(jax.tree.map(np.asarray, variables), images, 4, 2, train)
    np.testing.assert_allclose(outputs.logits, expected, rtol=1e-8, atol=1e-9)
    assert [block.shape for block in outputs.blocks] == [(4, 7, 12)] * 3 + [(4, 12)]
    moved = jax.tree.map(lambda a, b: bool((a != b).all()), outputs.variables["batch_stats"], variables["batch_stats"])
    assert all(moved == train for moved in jax.tree.leaves(moved))


@pytest.mark.quick
def test_sizes_are_deit_tinys_with_one_normalisation_more_per_layer():
    network = models.build("vit_bn", image_shape=(224, 224, 3), classes=1000)
    assert size(network) == 5_717_416 + 12 * 2 * 768
    assert network.feature_size == 192
    variables = jax.eval_shape(network.init, jax.random.key(0))
    assert len(jax.tree.leaves(variables["batch_stats"])) == 2 * (12 * 3 + 1)


@pytest.mark.quick
def test_patches_go_by_the_images_side():
    assert [vit.patch_for(side) for side in (8, 28, 32, 64, 96, 128, 224, 256)] == [1, 2, 4, 8, 8, 16, 16, 16]
    for side in range(8, 256):
        assert 8 <= side // vit.patch_for(side) <= 15
    for width in (1, 16, 100):
        network = models.build("vit_bn", image_shape=(32, 32, 3), classes=2, width=width, depth=3)
        assert network.feature_size == vit.HEADS * layers.scaled(64, width)


@pytest.mark.slow
@pytest.mark.quick
def test_draws_are_narrow_and_biases_nothing():
    network = models.build("vit_bn", image_shape=(32, 32, 3), classes=10, width=32, depth=3)
    for path, leaf in jax.tree_util.tree_leaves_with_path(jax.jit(network.init)(jax.random.key(0))["params"]):
        if leaf.ndim > 1:
            deviation = float(leaf.std())
            assert deviation == pytest.approx(0.02, rel=6 / math.sqrt(2 * leaf.size)), path
        else:
            assert (leaf == (path[-1].key == "scale")).all()


@pytest.mark.slow
@pytest.mark.quick
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_statistics_and_logits_move_every_pixel(precision):
    network = models.build("vit_bn", image_shape=(8, 8, 1), classes=2, width=8, depth=3, precision=precision)
    variables = plain.variables(network)

    def loss(images):
        outputs = network.apply(variables, images, taps=(layers.MOMENTS,))
        moments = outputs.taps[layers.MOMENTS]
        assert outputs.logits.dtype == moments[0].first.dtype == jnp.float32
        return jnp.square(outputs.logits).sum(), sum(jnp.square(each.first).sum() for each in moments)

    gradients = jax.jit(jax.jacrev(loss))(jax.random.normal(jax.random.key(0), (2, 8, 8, 1)))
    for gradient in gradients:
        assert bool(jnp.isfinite(gradient).all()) and float(jnp.abs(gradient).min()) > 0
