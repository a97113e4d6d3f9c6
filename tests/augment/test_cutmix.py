"""CutMix against the authors' loop, its loss, and the distribution of its draws."""

from __future__ import annotations

import functools
import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd.augment import cutmix
from jaxdd.augment.cutmix import Box, box, paste


def literal_box(height, width, lam, row, column):
    share = np.sqrt(1 - lam)
    tall, wide = int(height * share), int(width * share)
    rows = np.clip(row - tall // 2, 0, height), np.clip(row + tall // 2, 0, height)
    return *rows, np.clip(column - wide // 2, 0, width), np.clip(column + wide // 2, 0, width)


@pytest.mark.quick
def test_box_is_the_authors(x64):
    rng = np.random.default_rng(0)
    for lam in (0.0, 1.0, *rng.random(20)):
        row, column = rng.integers(0, 28), rng.integers(0, 20)
        found = jax.jit(box, static_argnums=(0, 1))(28, 20, lam, row, column)
        assert tuple(map(int, found)) == literal_box(28, 20, lam, row, column)


@pytest.mark.quick
def test_box_has_exactly_its_share_of_each_side():
    """In float32 too, where side sqrt(1 - lambda) is a whole number and where it is just below one."""
    corners = np.float32([1 - (k / 28) ** 2 for k in (7, 14, 21)])
    lam = np.concatenate([np.random.default_rng(0).random(200, np.float32), corners, np.nextafter(corners, 1)])
    found = jax.jit(jax.vmap(lambda lam: jnp.stack(box(28, 28, lam, 14, 14))))(lam)
    sides = [math.isqrt(math.floor(28**2 * (1 - Fraction(float(each))))) for each in lam]
    np.testing.assert_array_equal(found[:, 1] - found[:, 0], np.array(sides) // 2 * 2)
    np.testing.assert_array_equal(found[:, :2], found[:, 2:])


@pytest.mark.quick
def test_loss_is_the_published_one(x64):
    rng = np.random.default_rng(0)
    images, logits = rng.normal(size=(6, 8, 10, 2)), rng.normal(size=(6, 4))
    labels, permutation = np.array([0, 1, 2, 3, 3, 0]), np.array([3, 0, 5, 1, 4, 2])
    mixed, soft = jax.jit(paste)(images, np.eye(4)[labels], Box(*np.array([0, 5, 7, 10])), permutation)
    expected = images.copy()
    expected[:, 0:5, 7:10] = images[permutation, 0:5, 7:10]
    np.testing.assert_array_equal(mixed, expected)
    log = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    ratio = 1 - 15 / 80
    own, partner = -log[np.arange(6), labels], -log[np.arange(6), labels[permutation]]
    np.testing.assert_allclose(-(soft * log).sum(1), ratio * own + (1 - ratio) * partner, rtol=1e-14)


@pytest.mark.slow
@pytest.mark.quick
@pytest.mark.parametrize("beta", [1.0, 0.5])
def test_draws(beta):
    n, side, keys = 16, 12, jax.random.split(jax.random.key(0), 600)
    images = jnp.broadcast_to(jnp.arange(n, dtype=jnp.float32).reshape(n, 1, 1, 1), (n, side, side, 1))
    one_hot = jnp.eye(n)
    call = jax.jit(jax.vmap(lambda key: cutmix(key, images, one_hot, probability=0.75, beta=beta)))
    mixed, soft = map(np.asarray, call(keys))
    np.testing.assert_allclose(soft.sum(2), 1, atol=1e-6)
    # Each image is constant, so pixels tell the partner and its area, which the targets must state.
    shares = (mixed[..., 0][..., None] == np.arange(n)).mean((2, 3))
    np.testing.assert_allclose(shares, soft, atol=1e-6)
    changed = (soft != np.eye(n)).any((1, 2))
    # Expected: 3/4 of the calls, but for boxes of less than 2 pixels (probability of a share below 1/6) and the like.
    lam = np.random.default_rng(0).beta(beta, beta, 100_000)
    visible = ((side * np.sqrt(1 - lam)).astype(int) >= 2).mean()
    assert changed.mean() == pytest.approx(0.75 * visible, abs=0.06)
    kept = np.diagonal(soft, axis1=1, axis2=2).max(1)[changed]  # an image that is its own partner keeps everything
    assert 0.2 < kept.mean() < 0.99
    partners = soft[changed].argsort(2)[:, 0, -2:]
    assert len(np.unique(partners)) == n


@pytest.mark.quick
def test_probability_0_changes_nothing_and_1_mixes():
    images, targets = jax.random.normal(jax.random.key(0), (8, 8, 8, 3)), jnp.eye(8)
    still, same = jax.jit(functools.partial(cutmix, probability=0.0))(jax.random.key(1), images, targets)
    np.testing.assert_array_equal(still, images)
    np.testing.assert_array_equal(same, targets)
    mix = jax.jit(functools.partial(cutmix, probability=1.0))
    moved = [mix(jax.random.key(i), images, targets)[0] for i in range(5)]
    assert sum(not np.array_equal(x, images) for x in moved) >= 4
    assert moved[0].dtype == images.dtype
