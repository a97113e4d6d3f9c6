"""Tiny networks and data for training."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd import models

SHAPE, CLASSES = (4, 4, 3), 3


def network(normalization: str = "identity"):
    """83 parameters, or 87 with normalisation."""
    return models.build("conv", image_shape=SHAPE, classes=CLASSES, width=2, depth=1, normalization=normalization)


def data(count: int = 9, seed: int = 0):
    """Images around one pattern per class, and soft labels; in float64 where that is enabled."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    patterns = np.random.default_rng(100).normal(size=(CLASSES, *SHAPE))
    images = patterns[labels] + 0.3 * random.normal(size=(count, *SHAPE))
    return jnp.asarray(images), jnp.asarray(np.eye(CLASSES)[labels] - 1 / CLASSES)


def squares(net, variables, images, labels):
    """Half the mean squared error, and the variables with updated statistics."""
    outputs = net.apply(variables, images, train=True)
    return jnp.mean((outputs.logits - labels) ** 2) / 2, outputs.variables


def literal_adam(net, variables, batches, rates, *, count: int = 0):
    """Adam written out: the trained variables, and the loss before each step."""
    params = variables["params"]
    first = second = jax.tree.map(jnp.zeros_like, params)
    losses = []
    step = jax.jit(jax.value_and_grad(lambda p, v, *batch: squares(net, {**v, "params": p}, *batch), has_aux=True))
    for i, (batch, rate) in enumerate(zip(batches, rates, strict=True), start=count + 1):
        (loss, variables), slope = step(params, variables, *batch)
        losses.append(float(loss))
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, slope)
        second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g**2, second, slope)
        params = jax.tree.map(
            lambda p, m, v, i=i, rate=rate: p - rate * (m / (1 - 0.9**i)) / (jnp.sqrt(v / (1 - 0.999**i)) + 1e-8),
            params,
            first,
            second,
        )
    return {**variables, "params": params}, losses


def assert_close(found, expected, rtol: float = 1e-7):
    """Leaf by leaf, relative to the largest entry, or to 1e-2 where all are smaller (a bias before BatchNorm)."""
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=rtol, atol=rtol * max(float(jnp.abs(other).max()), 0.01))
