"""The closed form of the shared momentum against the literal loop over classes."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd.matching import momentum

RATE, MU, DECAY = 0.3, 0.5, 0.9


def literal_sweep(images, buffer, average, gradient, *, mu=MU, shared=True):
    """Class after class, as the published loop goes; `gradient(c, images_c)` is asked where class c stands."""
    images, buffer, average = images.copy(), buffer.copy(), average.copy()
    for c in range(len(images)):
        step = np.zeros_like(images)
        step[c] = gradient(c, images[c])
        moves = np.ones(len(images), bool) if shared else np.arange(len(images)) == c
        buffer[moves] = mu * buffer[moves] + step[moves]
        images[moves] -= RATE * buffer[moves]
        average = DECAY * average + (1 - DECAY) * images
    return images, buffer, average


def curved(c, images):
    """A gradient that depends on where it is taken, and on the class."""
    return np.sin(3 * images + c) + images


@pytest.mark.quick
@pytest.mark.parametrize("shared", [True, False], ids=["shared", "own"])
@pytest.mark.parametrize("classes", [1, 3, 10])
def test_three_sweeps_are_the_literal_loop(classes, shared, x64):
    rng = np.random.default_rng(classes)
    literal = rng.normal(size=(3, classes, 2, 3))
    fast = tuple(jnp.asarray(literal))
    for _ in range(3):
        literal = literal_sweep(literal[0], literal[1], literal[2], curved, shared=shared)
        images, buffer, average = fast
        where = np.asarray(momentum.positions(images, buffer, RATE, MU, shared=shared))
        gradients = jnp.stack([curved(c, where[c]) for c in range(classes)])
        fast = momentum.averaged_sweep(images, buffer, gradients, average, RATE, MU, DECAY, shared=shared)
        without = momentum.after_sweep(images, buffer, gradients, RATE, MU, shared=shared)
        for expected, found in zip(literal, fast, strict=True):
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
        for averaged, plain in zip(fast, without, strict=False):
            np.testing.assert_array_equal(plain, averaged)


@pytest.mark.quick
def test_published_trajectory(x64):
    # Steps of classes 0, 1, 2, then 0 again: rate 1, momentum 1/2, every gradient 1.
    start, ones = jnp.zeros((3, 1)), jnp.ones((3, 1))
    images, buffer = momentum.after_sweep(start, start, ones, 1.0, 0.5)
    np.testing.assert_array_equal(images.ravel(), [-1.75, -1.5, -1.0])
    np.testing.assert_array_equal(momentum.positions(images, buffer, 1.0, 0.5).ravel(), [-1.75, -1.75, -1.75])
    np.testing.assert_array_equal((images - (0.5 * buffer + np.eye(3, 1))).ravel(), [-2.875, -1.75, -1.5])


@pytest.mark.quick
@pytest.mark.parametrize("mu, decay", [(0.0, 0.0), (0.9, 1.0)])
def test_limits_of_momentum_and_decay(mu, decay, x64):
    rng = np.random.default_rng(0)
    images, buffer, gradients, average = rng.normal(size=(4, 5, 1))
    moved, _, averaged = momentum.averaged_sweep(images, buffer, gradients, average, RATE, mu, decay)
    np.testing.assert_allclose(averaged, moved if decay == 0 else average, rtol=0, atol=1e-15)
    if mu == 0:
        np.testing.assert_allclose(moved, images - RATE * gradients, rtol=0, atol=1e-15)
