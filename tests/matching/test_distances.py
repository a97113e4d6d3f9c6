"""Distances against loops over parameters and channels, at vanishing gradients, and what is refused."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd import models
from jaxdd.core.errors import ConfigError
from jaxdd.matching import distances

SHAPES = {"Conv_0": {"bias": (4,), "kernel": (3, 3, 2, 4)}, "Dense_0": {"bias": (3,), "kernel": (8, 3)}}
NETWORK = models.build("conv", image_shape=(8, 8, 3), classes=3, width=4, depth=2, normalization="instance")


def gradients(seed):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda shape: rng.normal(size=shape), SHAPES, is_leaf=lambda node: isinstance(node, tuple))


def literal(x, y, metric):
    """One parameter's distance, output channel by output channel."""
    total = 0.0
    for channel in range(x.shape[-1]):
        a, b = x[..., channel].ravel(), y[..., channel].ravel()
        total += {
            "mse": ((a - b) ** 2).sum(),
            "l1": np.abs(a - b).sum(),
            "l1_mean": np.abs(a - b).mean(),
            "cos": 1 - a @ b / (np.linalg.norm(a) * np.linalg.norm(b) + 1e-6),
        }[metric]
    return total


@pytest.mark.quick
@pytest.mark.parametrize("bias, fc", [(False, False), (False, True), (True, False), (True, True)])
@pytest.mark.parametrize("metric", ["mse", "l1", "l1_mean", "cos"])
def test_gradient_distance_is_its_definition(metric, bias, fc, x64):
    real, synthetic = gradients(0), gradients(1)
    counts = [("Conv_0", "kernel")]
    counts += [("Dense_0", "kernel")] if fc else []
    counts += [("Conv_0", "bias"), ("Dense_0", "bias")] if bias else []
    expected = sum(literal(real[layer][name], synthetic[layer][name], metric) for layer, name in counts)
    found = distances.gradient_distance(real, synthetic, metric, bias=bias, fc=fc)
    np.testing.assert_allclose(found, expected, rtol=1e-13)


@pytest.mark.quick
def test_distances_of_dc_choose_their_parameters_themselves(x64):
    real, synthetic = gradients(0), gradients(1)
    ours = sum(literal(real[layer]["kernel"], synthetic[layer]["kernel"], "cos") for layer in SHAPES)
    x, y = (np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(tree)]) for tree in (real, synthetic))
    one_vector = 1 - x @ y / (np.linalg.norm(x) * np.linalg.norm(y) + 1e-6)
    for switch in (False, True):
        for metric, expected in (("ours", ours), ("vector_cos", one_vector)):
            found = distances.gradient_distance(real, synthetic, metric, bias=switch, fc=switch)
            np.testing.assert_allclose(found, expected, rtol=1e-13)


@pytest.mark.fast("mse", "ours")
@pytest.mark.quick
@pytest.mark.parametrize("metric", ["mse", "l1", "l1_mean", "cos", "ours", "vector_cos"])
def test_derivatives_are_finite_where_gradients_vanish(metric, x64):
    some, nothing = gradients(0), jax.tree.map(np.zeros_like, gradients(0))
    for real, synthetic in ((some, nothing), (nothing, some), (nothing, nothing)):

        def distance(y, real=real):
            return distances.gradient_distance(real, y, metric, bias=True, fc=True)

        slope, curvature = jax.jvp(jax.grad(distance), (synthetic,), (some,))
        for leaf in jax.tree.leaves((slope, curvature)):
            assert np.isfinite(leaf).all()


@pytest.mark.quick
@pytest.mark.parametrize("metric", ["mse", "l1", "l1_mean", "cos"])
def test_feature_distance_sums_over_blocks(metric, x64):
    rng = np.random.default_rng(0)
    real, synthetic = ([jnp.asarray(rng.normal(size=(n, *shape))) for shape in ((4, 4, 3), (6,))] for n in (5, 2))
    expected = sum(
        literal(np.asarray(x.mean(0)), np.asarray(y.mean(0)), metric) for x, y in zip(real, synthetic, strict=True)
    )
    means = [[block.mean(0) for block in blocks] for blocks in (real, synthetic)]
    found = distances.feature_distance(*means, metric)
    np.testing.assert_allclose(found, expected, rtol=1e-13)


@pytest.mark.quick
@pytest.mark.parametrize("metric, sentence", [("l2", "never implemented"), ("mes", "did you mean 'mse'")])
def test_unknown_metrics_are_refused(metric, sentence):
    with pytest.raises(ConfigError, match=sentence):
        distances.gradient_distance({}, {}, metric)
    with pytest.raises(ConfigError, match=sentence):
        distances.feature_distance([], [], metric)


@pytest.mark.quick
def test_a_distance_over_nothing_is_refused():
    classifier = {"Dense_0": gradients(0)["Dense_0"]}
    with pytest.raises(ConfigError, match="no parameter"):
        distances.gradient_distance(classifier, classifier, "mse")
    with pytest.raises(ConfigError, match="no block"):
        distances.feature_distance([], [], "mse")
