"""RCIG's `naive_loss`: implicit gradients without convexification, the paper's ablation.

    inner    theta = n_inner_steps of Adam from p on [ |f(X; theta) - Y|^2 + lam |theta|^2 ] / (2 n k)
    outer    g = gradient in theta of |f(x_t; theta) - y_t|^2 / (2 b k);  no direct gradient
    implicit c = gradient in (X, Y) of - < x, gradient of the inner loss >, x ~ H^-1 g;  not clipped

theta is the whole network, not a tangent; Adam continues from the network's own moments, as in the authors' code.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxdd.core import trees
from jaxdd.core.types import Array, Examples, Metrics, PyTree
from jaxdd.kernels import adam
from jaxdd.kernels.meta_gradient import Expanded, Synthetic
from jaxdd.methods.rcig.solve import Rates
from jaxdd.models.network import Network
from jaxdd.training import pool

POOL_LEARNING_RATE = 1e-4  # the authors' code trains the pool at this rate here, whatever the configuration says


def implicit_gradient(
    network: Network,
    member: pool.Member,
    synthetic: Synthetic,
    expand: Callable[[Synthetic], Expanded],
    batch: Examples,
    *,
    lam: float,
    steps: tuple[int, int],
    rates: Rates,
) -> tuple[Synthetic, Metrics, Array, Array]:
    """Returns the implicit gradient of one outer step.

    Arguments:
        network, member: the architecture, and the network of the pool that theta starts from.
        synthetic, expand: the stored set and its mirroring.
        batch: real images and class indices.
        lam: weight decay.
        steps: of Adam for theta and for the inverse-Hessian product.
        rates: learning rates of the two.

    Returns:
        c, metrics, inner losses by step, residuals by step.
    """

    def logits(params: PyTree, images: Array) -> Array:
        return network.apply({**member.variables, "params": params}, images).logits

    def inner(params: PyTree, synthetic: Synthetic) -> Array:
        images, labels = expand(synthetic)
        return (jnp.sum((logits(params, images) - labels) ** 2) + lam * trees.dot(params, params)) / (2 * labels.size)

    def outer(params: PyTree) -> tuple[Array, Array]:
        outputs = logits(params, batch.images)
        targets = jax.nn.one_hot(batch.labels, batch.classes, dtype=outputs.dtype) - 1 / batch.classes
        accuracy = jnp.mean(jnp.argmax(outputs, -1) == batch.labels)
        return jnp.sum((outputs - targets) ** 2) / (2 * targets.size), accuracy

    def slope_along(x: PyTree, _: Array) -> PyTree:
        return jax.jvp(lambda t: jax.grad(inner)(t, synthetic), (theta,), (x,))[1]

    theta, losses = adam.descend(
        lambda t, _: jax.value_and_grad(inner)(t, synthetic),
        member.params,
        member.optimizer,
        steps=steps[0],
        learning_rate=rates.inner,
    )
    (loss, accuracy), g = jax.value_and_grad(outer, has_aux=True)(theta)
    x, residuals = adam.solve_quadratic(slope_along, g, steps=steps[1], learning_rate=rates.hvp)
    c = jax.grad(lambda s: -trees.dot(x, jax.grad(inner)(theta, s)))(synthetic)
    return c, {"loss": loss, "accuracy": accuracy, "implicit_norm": trees.norms(c).images}, losses, residuals
