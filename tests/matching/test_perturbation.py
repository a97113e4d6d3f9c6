"""Perturbation: published numbers, the scale of each filter, how far it goes, and what stays as it is."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd.core.errors import ConfigError
from jaxdd.matching.perturbation import direction, normalize, perturb

SHAPES = {
    "params": {"Conv_0": {"kernel": (3, 3, 2, 5), "bias": (5,)}, "Dense_0": {"kernel": (8, 4), "bias": (4,)}},
    "batch_stats": {"BatchNorm_0": {"mean": (5,), "var": (5,)}},
}


@pytest.fixture
def variables(x64):
    rng = np.random.default_rng(0)
    is_leaf = lambda node: isinstance(node, tuple)  # noqa: E731
    return jax.tree.map(lambda shape: jnp.asarray(rng.normal(size=shape)), SHAPES, is_leaf=is_leaf)


def literal(d, w, norm):
    """One filter after another."""
    d, w = np.asarray(d).copy(), np.asarray(w)
    for j in range(d.shape[-1]):
        if norm == "filter":
            d[..., j] *= np.linalg.norm(w[..., j]) / (np.linalg.norm(d[..., j]) + 1e-10)
        elif norm == "dfilter":
            d[..., j] /= np.linalg.norm(d[..., j]) + 1e-10
    whole = {"layer": np.linalg.norm(w) / np.linalg.norm(d), "weight": w, "dlayer": 1 / np.linalg.norm(d)}
    return d * whole.get(norm, 1)


def changes(variables, seeds=64, **options):
    """What is added to each leaf, by as many keys: `[seeds, ...]`."""
    perturbed = jax.vmap(lambda key: perturb(key, variables, **options))(jax.random.split(jax.random.key(0), seeds))
    return jax.tree.map(lambda new, old: np.asarray(new) - np.asarray(old)[None], perturbed, variables)


@pytest.mark.quick
def test_published_numbers(x64):
    weights = jnp.asarray([[3.0, 0.0], [4.0, 2.0]])  # two filters, the columns: [3, 4] and [0, 2]
    drawn = jnp.asarray([[1.0, 1.0], [0.0, 1.0]])
    np.testing.assert_allclose(normalize(drawn, weights).T, [[5, 0], [1.41421356, 1.41421356]], rtol=1e-8)


@pytest.mark.fast("layer", "weight")
@pytest.mark.quick
@pytest.mark.parametrize("norm", ["filter", "layer", "weight", "dfilter", "dlayer"])
def test_directions_are_normal_draws_at_the_scale_of_their_norm(norm, variables):
    rng = np.random.default_rng(1)
    for leaves in variables["params"].values():
        drawn = jnp.asarray(rng.normal(size=leaves["kernel"].shape))
        found = normalize(drawn, leaves["kernel"], norm)
        np.testing.assert_allclose(found, literal(drawn, leaves["kernel"], norm), rtol=1e-12)
    large = {"kernel": jnp.ones((20, 20, 3, 4)), "bias": jnp.ones(4)}
    found = direction(jax.random.key(0), large, norm=norm)
    draws = np.asarray(found["kernel"]) / np.std(found["kernel"])
    assert abs(draws.mean()) < 0.05 and abs((draws**4).mean() - 3) < 0.4  # a normal distribution's kurtosis
    assert not np.any(found["bias"])


@pytest.mark.slow
@pytest.mark.quick
def test_both_coefficients_are_uniform_in_size_and_of_either_sign(variables):
    for ignores in ({"xignore": "none"}, {"yignore": "none"}):
        # The direction of a vector that is not ignored is the vector itself: its growth shows the coefficient.
        found = changes(variables, seeds=256, **ignores)
        bias = np.asarray(variables["params"]["Conv_0"]["bias"])
        a = found["params"]["Conv_0"]["bias"] / bias
        np.testing.assert_allclose(a, a[:, :1] + 0 * bias, rtol=1e-9)
        sizes, signs = np.abs(a[:, 0]), np.sign(a[:, 0])
        assert 0.01 <= sizes.min() < 0.015 and 0.085 < sizes.max() <= 0.09 and abs(sizes.mean() - 0.05) < 0.006
        assert abs(signs.mean()) < 0.25
        assert abs(np.corrcoef(signs, sizes)[0, 1]) < 0.25
    both = changes(variables, seeds=256, xignore="none", yignore="none")["params"]["Dense_0"]["bias"]
    total = np.abs(both / np.asarray(variables["params"]["Dense_0"]["bias"]))[:, 0]
    assert total.max() > 0.12 and total.min() < 0.01  # signs of x and y are independent


@pytest.mark.slow
@pytest.mark.quick
def test_two_directions_of_filters_length(variables):
    found = changes(variables, low=0.05, high=0.05)
    for layer in ("Conv_0", "Dense_0"):
        kernel = np.asarray(variables["params"][layer]["kernel"])
        change = found["params"][layer]["kernel"]
        axes = tuple(range(1, change.ndim - 1))
        ratio = np.sqrt((change**2).sum(axes) / (kernel**2).sum(tuple(a - 1 for a in axes))[None])
        assert (ratio < 0.1).all() and abs((ratio**2).mean() - 2 * 0.05**2) < 3e-4  # at right angles on average
        assert not found["params"][layer]["bias"].any()
    same = changes(variables, low=0.05, high=0.05, same_dir=True)["params"]["Conv_0"]["kernel"]
    kernel = np.asarray(variables["params"]["Conv_0"]["kernel"])
    ratio = np.sqrt((same**2).sum((1, 2, 3)) / (kernel**2).sum((0, 1, 2))[None])
    assert set(np.unique(ratio.round(8))) == {0.0, 0.1}


@pytest.mark.quick
def test_batch_statistics_move_only_as_states(variables):
    for scope, moves in (("weights", False), ("states", True)):
        found = changes(variables, seeds=2, dir_type=scope, xignore="none")
        assert found["batch_stats"]["BatchNorm_0"]["var"].any() == moves
        assert found["params"]["Conv_0"]["bias"].any()
    assert not changes(variables, seeds=2, dir_type="states")["batch_stats"]["BatchNorm_0"]["mean"].any()


@pytest.mark.quick
@pytest.mark.parametrize(
    "options", [{"xnorm": "filters"}, {"yignore": "bn"}, {"dir_type": "weight"}, {"low": 0.2}], ids=str
)
def test_what_does_not_exist_is_refused(options, variables):
    with pytest.raises(ConfigError):
        perturb(jax.random.key(0), variables, **options)
