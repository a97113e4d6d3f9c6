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
from jaxtyping import Float, Int

from jaxdd.core import backend, trees
from jaxdd.core.types import Array, Examples, PyTree
from jaxdd.kernels.linearized import Forward, in_chunks, on_rows, tangent_output
from jaxdd.kernels.ridge import Ridge


class Synthetic(NamedTuple):
    """Learned parts of a distilled set.

    Arguments:
        images: X.
        labels: Y.
        log_temperature: predictions are multiplied by its exponential.
    """

    images: Float[Array, "p h w c"]
    labels: Float[Array, "p classes"]
    log_temperature: Float[Array, ""]


class Expanded(NamedTuple):
    """The synthetic set as the networks see it, mirrored and augmented."""

    images: Float[Array, "n h w c"]
    labels: Float[Array, "n classes"]


@dataclasses.dataclass(frozen=True)
class InnerProblem:
    """The inner problem at one network of the pool.

    Arguments:
        forward: the network at fixed batch statistics.
        params: its base parameters, p.
        lam: ridge coefficient, > 0.
        last: name of the classifier among the parameters; its `kernel` takes no part in a tangent.
        linear: use the first-order term of the network in theta (else its exact difference).
        double: form and factorise `K + lam I` in float64.
        chunk: most images in one pass through the network, whose forward pass is then repeated for derivatives, so that
            memory is bounded; None for as many as is fastest.
    """

    forward: Forward
    params: PyTree
    lam: float | Array
    last: str
    linear: bool = True
    double: bool = False
    chunk: int | None = None

    def tangent(self, theta: PyTree, images: Array) -> tuple[Array, Array]:
        """Returns `J theta` `[n, k]` and `Phi` `[n, d]` on `images`."""
        return tangent_output(self.forward, self.params, theta, images, linear=self.linear)

    def freeze(self, tree: PyTree) -> PyTree:
        """Returns a tangent tree with zero for the last kernel."""
        return {**tree, self.last: {**tree[self.last], "kernel": jnp.zeros_like(tree[self.last]["kernel"])}}

    def without_last_kernel(self, tree: PyTree) -> PyTree:
        """Returns a tree like the parameters, without that leaf."""
        return {**tree, self.last: {name: leaf for name, leaf in tree[self.last].items() if name != "kernel"}}

    def on_rows(self, fn: Callable[[Array], PyTree], images: Array, rows: Array | None) -> PyTree:
        """Returns `fn` of the synthetic images, row by row; derivatives flow through the given rows, None for all."""
        if rows is not None:
            return on_rows(self.bounded(fn), images, rows)
        if self.chunk is None or self.chunk >= len(images):
            return backend.by_rows(fn, images)
        return self.bounded(fn)(images)

    def bounded(self, fn: Callable[[Array], PyTree]) -> Callable[[Array], PyTree]:
        """Returns `fn`, which works row by row, in chunks; of each only its images are kept, derivatives repeat the
        rest."""
        if self.chunk is None:
            return fn
        return lambda images: in_chunks(jax.checkpoint(fn, prevent_cse=False), images, self.chunk)

    def ridge(self, features: Array) -> Ridge:
        """Returns the factorised `K + lam I`."""
        return Ridge.of(features, self.lam, double=self.double)


class Rows(NamedTuple):
    """Through which images gradients flow (None: all): indices into the expanded set and into the real batch."""

    synthetic: Int[Array, " m"] | None = None
    real: Int[Array, " r"] | None = None


def label_margin(labels: Array, share: float) -> Array:
    """Returns by how much the highest label of an image exceeds the second; the mean over images.

    It is subtracted from a loss, to keep a class on top.

    Arguments:
        labels: of synthetic images, `[n, k]`.
        share: a margin counts up to `share / k`.
    """
    highest, _ = jax.lax.top_k(labels, 2)
    return jnp.mean(jnp.minimum(highest[:, 0] - highest[:, 1], share / labels.shape[-1]))


def outer_loss(predictions: Array, labels: Array, real_labels: Array, log_temperature: Array) -> Array:
    """Returns the cross-entropy of tempered predictions, minus a margin that keeps each synthetic label's class on top.

    Arguments:
        predictions: `[b, k]`.
        labels: synthetic labels of the expanded set, `[n, k]`.
        real_labels: `[b]` class indices.
        log_temperature: scalar.
    """
    logits = predictions * jnp.exp(log_temperature)
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, real_labels)) - label_margin(labels, 0.5)


def direct_gradient(
    problem: InnerProblem,
    theta: PyTree,
    synthetic: Synthetic,
    expand: Callable[[Synthetic], Expanded],
    real: Examples,
    rows: Rows,
) -> tuple[Array, Array, Synthetic, PyTree]:
    """Returns the outer loss and its gradients at fixed theta.

    The real batch meets the synthetic set only through theta and the last kernel W = Phi^T a, so its gradient is taken
    in (theta, W, log_temperature), piece by piece, and W's is pulled back through the synthetic set once.

    Arguments:
        expand: mirrors (and augments) the synthetic set, differentiably.
        real: one batch, images `[b, H, W, C]`, labels `[b]`.
        rows: sub-sampling of the gradients; the loss always sees every image.

    Returns:
        loss, accuracy on the real batch, d (a `Synthetic`), g (a tree like theta).
    """

    def last_kernel(synthetic: Synthetic, theta: PyTree) -> tuple[Array, Array]:
        images, labels = expand(synthetic)
        output, features = problem.on_rows(functools.partial(problem.tangent, theta), images, rows.synthetic)
        weights = problem.ridge(features).solve(labels - output)
        return jnp.matmul(features.T, weights, precision=jax.lax.Precision.HIGHEST), label_margin(labels, 0.5)

    (kernel, margin), pull = jax.vjp(last_kernel, synthetic, theta)
    entropy, accuracy, slopes = _real_gradient(problem, theta, kernel, synthetic.log_temperature, real, rows.real)
    d, by_margin = pull((slopes.kernel, -jnp.ones_like(margin)))
    d = d._replace(log_temperature=d.log_temperature + slopes.log_temperature)
    return entropy - margin, accuracy, d, trees.add(slopes.theta, by_margin)


class _Slopes(NamedTuple):
    theta: PyTree
    kernel: Array
    log_temperature: Array


def _real_gradient(
    problem: InnerProblem, theta: PyTree, kernel: Array, log_temperature: Array, real: Examples, rows: Array | None
) -> tuple[Array, Array, _Slopes]:
    """Returns the mean cross-entropy and accuracy of `J theta + Phi W` on a real batch, and the entropy's gradient."""

    def total(at: _Slopes, images: Array, labels: Array) -> tuple[Array, Array]:
        tangent = problem.bounded(functools.partial(problem.tangent, at.theta))
        output, features = on_rows(tangent, images, rows)
        predictions = output + jnp.matmul(features, at.kernel, precision=jax.lax.Precision.HIGHEST)
        logits = predictions * jnp.exp(at.log_temperature)
        entropy = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return jnp.sum(entropy) / len(real), jnp.sum(jnp.argmax(predictions, -1) == labels) / len(real)

    def piece(batch: tuple[Array, Array]) -> tuple[tuple[Array, Array], _Slopes]:
        return jax.value_and_grad(total, has_aux=True)(_Slopes(theta, kernel, log_temperature), *batch)

    batch = (real.images, real.labels)
    (entropy, accuracy), slopes = piece(batch) if rows is not None else backend.accumulate(piece, batch, problem.chunk)
    return entropy, accuracy, slopes


def implicit_gradient(
    problem: InnerProblem,
    theta: PyTree,
    u: PyTree,
    synthetic: Synthetic,
    expand: Callable[[Synthetic], Expanded],
    rows: Array | None = None,
) -> Synthetic:
    """Returns `c`, the gradient of `< J(X) u, a(X, Y) >` with theta and u constant.

    Arguments:
        u: tangent tree, the scaled inverse-Hessian product.
        rows: gradients flow only through these expanded images; None for all.
    """

    def alignment(synthetic: Synthetic) -> Array:
        images, labels = expand(synthetic)

        def both(batch: Array) -> tuple[Array, Array, Array]:
            output, along_u, features = jax.jvp(lambda t: problem.tangent(t, batch), (theta,), (u,), has_aux=True)
            return output, along_u, features

        output, along_u, features = problem.on_rows(both, images, rows)
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
