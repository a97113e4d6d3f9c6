"""The meta-gradient of RCIG, split where the paper splits it because each half is clipped against the other.

    a               = (K + lam I)^-1 (Y - J theta)
    L(theta; X, Y)  = [ |Y - J theta - K a|^2 + lam ( tr(a^T K a) + |theta|^2 ) ] / (2 n k)
                    = lam [ tr((Y - J theta)^T a) + |theta|^2 ] / (2 n k)
    prediction(x_t) = J_t theta + Phi_t Phi^T a
    (d, g)          = gradient of the outer loss in ((X, Y, log_temperature), theta), at the solution theta*
    u               = (the inverse Hessian of L applied to g) lam / (n k)
    c               = gradient in (X, Y) of < J(X) u, a(X, Y) >,   theta* and u held constant
    meta-gradient   = d + c

| symbol | argument |
|--------|----------|
| X, Y, log_temperature | `Synthetic` |
| lam    | `InnerProblem.lam` |
| p      | `InnerProblem.params`, frozen |
| theta, u | tangent trees |

The formulas hold for every solver of the inner problem; see arXiv 2302.06755.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdd.core.types import Array, Examples, PyTree
from jaxdd.kernels.linearized import Forward, on_rows, tangent_output
from jaxdd.kernels.ridge import Ridge, kernel


class Synthetic(NamedTuple):
    """What is learned.

    Arguments:
        images: `[p, H, W, C]`, X.
        labels: `[p, k]`, Y.
        log_temperature: scalar; predictions are multiplied by its exponential.
    """

    images: Array
    labels: Array
    log_temperature: Array


class Expanded(NamedTuple):
    """The synthetic set as the networks see it, mirrored and augmented: images `[n, H, W, C]`, labels `[n, k]`."""

    images: Array
    labels: Array


@dataclasses.dataclass(frozen=True)
class InnerProblem:
    """The inner problem at one network of the pool.

    Arguments:
        forward: the network at fixed batch statistics.
        params: its base parameters, p.
        lam: ridge coefficient, > 0.
        freeze: sets the last kernel's part of a tangent to zero.
        linear: use the first-order term of the network in theta (else its exact difference).
        double: form and factorise `K + lam I` in float64.
        chunk: most images in one forward pass without derivatives; None for all.
    """

    forward: Forward
    params: PyTree
    lam: float | Array
    freeze: Callable[[PyTree], PyTree]
    linear: bool = True
    double: bool = False
    chunk: int | None = None

    def tangent(self, theta: PyTree, images: Array) -> tuple[Array, Array]:
        """`J theta` `[n, k]` and `Phi` `[n, d]` on `images`."""
        return tangent_output(self.forward, self.params, theta, images, linear=self.linear)

    def ridge(self, features: Array) -> Ridge:
        """The factorised `K + lam I`."""
        return Ridge.of(features, self.lam, double=self.double)


class Rows(NamedTuple):
    """Through which images gradients flow (None: all): indices into the expanded set and into the real batch."""

    synthetic: Array | None = None
    real: Array | None = None


def outer_loss(predictions: Array, labels: Array, real_labels: Array, log_temperature: Array) -> Array:
    """Cross-entropy of tempered predictions, minus a margin that keeps each synthetic label's class on top.

    Arguments:
        predictions: `[b, k]`.
        labels: synthetic labels of the expanded set, `[n, k]`.
        real_labels: `[b]` class indices.
        log_temperature: scalar.
    """
    logits = predictions * jnp.exp(log_temperature)
    entropy = optax.softmax_cross_entropy_with_integer_labels(logits, real_labels)
    highest, _ = jax.lax.top_k(labels, 2)
    margin = jnp.minimum(highest[:, 0] - highest[:, 1], 1 / (2 * labels.shape[-1]))
    return jnp.mean(entropy) - jnp.mean(margin)


def direct_gradient(
    problem: InnerProblem,
    theta: PyTree,
    synthetic: Synthetic,
    expand: Callable[[Synthetic], Expanded],
    real: Examples,
    rows: Rows,
) -> tuple[Array, Array, Synthetic, PyTree]:
    """The outer loss and its gradients at fixed theta.

    Arguments:
        expand: mirrors (and augments) the synthetic set, differentiably.
        real: one batch, images `[b, H, W, C]`, labels `[b]`.
        rows: sub-sampling of the gradients; the loss always sees every image.

    Returns:
        loss, accuracy on the real batch, d (a `Synthetic`), g (a tree like theta).
    """

    def loss(synthetic: Synthetic, theta: PyTree):
        images, labels = expand(synthetic)
        tangent = functools.partial(problem.tangent, theta)
        output, features = on_rows(tangent, images, rows.synthetic, chunk=problem.chunk)
        real_output, real_features = on_rows(tangent, real.images, rows.real, chunk=problem.chunk)
        weights = problem.ridge(features).solve(labels - output)
        predictions = real_output + jnp.matmul(
            kernel(real_features, features), weights, precision=jax.lax.Precision.HIGHEST
        )
        accuracy = jnp.mean(jnp.argmax(predictions, -1) == real.labels)
        return outer_loss(predictions, labels, real.labels, synthetic.log_temperature), accuracy

    (value, accuracy), (d, g) = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(synthetic, theta)
    return value, accuracy, d, g


def implicit_gradient(
    problem: InnerProblem,
    theta: PyTree,
    u: PyTree,
    synthetic: Synthetic,
    expand: Callable[[Synthetic], Expanded],
    rows: Array | None = None,
) -> Synthetic:
    """`c`, the gradient of `< J(X) u, a(X, Y) >` with theta and u constant.

    Arguments:
        u: tangent tree, the scaled inverse-Hessian product.
        rows: gradients flow only through these expanded images; None for all.
    """

    def alignment(synthetic: Synthetic) -> Array:
        images, labels = expand(synthetic)

        def both(batch: Array) -> tuple[Array, Array, Array]:
            output, along_u, features = jax.jvp(lambda t: problem.tangent(t, batch), (theta,), (u,), has_aux=True)
            return output, along_u, features

        output, along_u, features = on_rows(both, images, rows, chunk=problem.chunk)
        product = along_u * problem.ridge(features).solve(labels - output)
        return jnp.sum(product if rows is None else product[rows])  # the others do not depend on theta here

    return jax.grad(alignment)(synthetic)


def clip_to(implicit: PyTree, direct: PyTree) -> PyTree:
    """Scales each leaf of `implicit` down to the norm of the same leaf of `direct`; a 0/0 leaf becomes 0."""

    def clip(c: Array, d: Array) -> Array:
        c_norm, d_norm = jnp.sqrt(jnp.sum(c**2)), jnp.sqrt(jnp.sum(d**2))
        some = c_norm != 0  # True for NaN too: a solve that failed must show
        return jnp.where(some, c / jnp.where(some, c_norm, 1) * jnp.minimum(c_norm, d_norm), 0)

    return jax.tree.map(clip, implicit, direct)
