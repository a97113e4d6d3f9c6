"""Distances between gradients and between features: what methods that match them minimise.

g is the gradient in the parameters of a batch's mean cross-entropy (`moments`): g^r of a real, g^s of a synthetic one.
With x and y one parameter's entries of both, and o its output channels, the distance is the sum over parameters of
D(x, y):

| metric       | D(x, y)                                                     | source                       |
|--------------|-------------------------------------------------------------|------------------------------|
| `mse`        | sum (x - y)^2, a sum and no mean                            | DC, IDC (arXiv 2205.14959)   |
| `l1`         | sum abs(x - y)                                              | IDC                          |
| `l1_mean`    | sum over o of the mean of abs(x_o - y_o)                    | IDC                          |
| `cos`        | sum over o of 1 - <x_o, y_o> / (norm x_o * norm y_o + 1e-6) | IDC                          |
| `ours`       | `cos` over all parameters that are no vectors               | DC (arXiv 2006.05929)        |
| `vector_cos` | one cosine for all parameters together; DC's name is "cos"  | DC                           |

IDC leaves out vectors (biases, normalisation) unless `bias` and the classifier's matrix unless `fc`; DC's `ours` and
`vector_cos` fix themselves which parameters count, and DC's "mse" is `mse` with both. Output channels are the last axis
of a Flax parameter, which is PyTorch's first. Between features the first four metrics apply to the batch's mean of each
block; that of the last block, squared, is what distribution matching (arXiv 2110.04181) minimises.

Moments by which images are matched; and the gradient of a matching loss in synthetic images.

With x the synthetic training images, g_y(x) the gradient in the parameters theta of their mean cross-entropy with label
y, and f_l(x) the mean features of block l, a loss is a function L(g, f) of both (`Objective`); the same of the real
images are constants. Its gradient in x is taken in two passes that hold no gradient of a gradient:

    u_y = dL / dg_y,   w_l = dL / df_l                           at g(x), f(x)
    dL/dx = d/dx [ sum_y <u_y, g_y(x)> + sum_l <w_l, f_l(x)> ]   u and w constant

and <u, g_y(x)> is the derivative of the cross-entropy along u: one forward-mode pass, which reverse mode then
differentiates in x. Equal to differentiating L directly, to rounding; on a CPU 5 times as fast at 40 images of 32x32,
since none of the convolutions that XLA is slow at arises (products of activations with cotangents of gradients).

Images go through the network in pieces that the caches hold: g, f and the bracket are sums over images.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, get_args

import jax
import jax.numpy as jnp

from jaxdd.core import backend, trees
from jaxdd.core.config import FeatureMetric, GradientMetric
from jaxdd.core.errors import ConfigError, choose
from jaxdd.core.types import Array, PyTree

EPSILON = 1e-6  # in the denominator of every published cosine


class Classifier(Protocol):
    """Functions that are asked of a network; `models.Network` has them."""

    def apply(self, variables: Any, images: Array, *, train: bool = False) -> Any:
        """Returns `logits` `[n, classes]` and `blocks`, the features after each stage, `[n, ...]` each."""
        ...


def gradient_distance(real: PyTree, synthetic: PyTree, metric: str, *, bias: bool = False, fc: bool = False) -> Array:
    """Returns the distance between two gradients, a scalar; differentiable, with finite derivatives also where they
    vanish.

    Arguments:
        real, synthetic: gradients in the same parameters: convolutions `[height, width, in, out]`, the classifier
            `[in, out]`, vectors `[out]`.
        metric: one of `GradientMetric`.
        bias: whether vectors count; unused by `ours` (never) and `vector_cos` (always).
        fc: whether matrices count; unused by `ours` and `vector_cos` (always).

    Raises:
        ConfigError: an unknown metric, or no parameter that counts.
    """
    _check(metric, get_args(GradientMetric))
    if metric == "vector_cos":
        norms = _safe_sqrt(trees.dot(real, real)) * _safe_sqrt(trees.dot(synthetic, synthetic))
        return 1 - trees.dot(real, synthetic) / (norms + EPSILON)
    if metric == "ours":
        metric, bias, fc = "cos", False, True
    left_out = {*([] if bias else [1]), *([] if fc else [2])}
    pairs = zip(jax.tree.leaves(real), jax.tree.leaves(synthetic), strict=True)
    terms = [_DISTANCES[metric](x, y) for x, y in pairs if x.ndim not in left_out]
    if not terms:
        raise ConfigError(
            "no parameter's gradient is matched",
            where="the network",
            expected="convolutions, or fc = true or bias = true",
            remedy="set one of them, or choose a network with convolutions",
        )
    return functools.reduce(operator.add, terms)


def feature_distance(real_means: Sequence[Array], synthetic_means: Sequence[Array], metric: str) -> Array:
    """Returns the distance between mean features, summed over the blocks given; a scalar.

    Arguments:
        real_means, synthetic_means: mean features of each block: `[height, width, channels]`, or `[d]`,
            where every entry is a channel of its own (which only `l1_mean` and `cos` ask for).
        metric: one of `FeatureMetric`; IDC and DM use `mse`.

    Raises:
        ConfigError: an unknown metric, or no block.
    """
    _check(metric, get_args(FeatureMetric))
    if not real_means:
        raise ConfigError(
            "no block's features are matched",
            where="the list of blocks",
            expected="at least one block",
            remedy="name a block of the network",
        )
    terms = [_DISTANCES[metric](x, y) for x, y in zip(real_means, synthetic_means, strict=True)]
    return functools.reduce(operator.add, terms)


def _check(metric: str, options: Sequence[str]) -> None:
    if metric == "l2":
        raise ConfigError(
            "metric 'l2' was never implemented: the published code accepts the word and fails",
            where="metric",
            expected="one of " + ", ".join(options),
            remedy="use mse, the squared distance",
        )
    choose(metric, options, kind="metric", where="metric", error=ConfigError)


def _safe_sqrt(squares: Array) -> Array:
    # The root of zero has no derivative, and gradients of a channel that ReLU has silenced are exact zeros.
    positive = squares > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squares, 1)), 0)


def _squared(x: Array, y: Array) -> Array:
    return jnp.sum(jnp.square(x - y))


def _absolute(x: Array, y: Array) -> Array:
    return jnp.sum(jnp.abs(x - y))


def _mean_absolute(x: Array, y: Array) -> Array:
    return _absolute(x, y) * (x.shape[-1] / x.size)


def _cosine(x: Array, y: Array) -> Array:
    rest = tuple(range(x.ndim - 1))
    norms = _safe_sqrt(jnp.sum(jnp.square(x), rest)) * _safe_sqrt(jnp.sum(jnp.square(y), rest))
    return jnp.sum(1 - jnp.sum(x * y, rest) / (norms + EPSILON))


_DISTANCES: dict[str, Callable[[Array, Array], Array]] = {
    "mse": _squared,
    "l1": _absolute,
    "l1_mean": _mean_absolute,
    "cos": _cosine,
}


class Moments(NamedTuple):
    """Moments by which images are matched.

    Arguments:
        gradients: one tree like the parameters for every label asked for: of the mean cross-entropy with it.
        features: mean of each block asked for.
    """

    gradients: tuple[PyTree, ...]
    features: tuple[Array, ...]


class Objective(NamedTuple):
    """A matching loss.

    Arguments:
        labels: how many labels a class is matched with; 0 where only features count.
        blocks: indices of the blocks whose features count.
        loss: `(real, synthetic) -> scalar, parts`, both `Moments`; parts is `[2]`: the loss with the class's own label
            or features, and that with the shifted label.
    """

    labels: int
    blocks: tuple[int, ...]
    loss: Callable[[Moments, Moments], tuple[Array, Array]]


def moments(network: Classifier, variables: PyTree, images: Array, labels: Array, blocks: tuple[int, ...]) -> Moments:
    """Returns the gradients and mean features of a batch.

    Arguments:
        images: `[n, height, width, channels]`.
        labels: `[l]` int: the gradient is taken with each of them as the label of all images.
        blocks: indices of the blocks whose features are wanted.
    """
    count = len(images)

    def of(images: Array) -> Moments:
        def logits(params: PyTree) -> tuple[Array, tuple[Array, ...]]:
            outputs = network.apply({**variables, "params": params}, images, train=True)
            return outputs.logits, outputs.blocks

        computed, pull, features = jax.vjp(logits, variables["params"], has_aux=True)
        slopes = [_slope(computed, label) / count for label in labels]
        return Moments(
            tuple(pull(slope)[0] for slope in slopes), tuple(features[block].sum(0) / count for block in blocks)
        )

    return of(images) if "batch_stats" in variables else backend.accumulate(of, images)


def image_gradient(
    network: Classifier, variables: PyTree, images: Array, labels: Array, objective: Objective, real: Moments
) -> tuple[Array, Array]:
    """Returns the gradient of the loss in a batch of synthetic training images.

    Arguments:
        images: `[n, height, width, channels]`, augmented.
        labels: `[l]` int, as many as `objective.labels`.
        objective: the loss.
        real: the same moments of real images.

    Returns:
        `[n, height, width, channels]`, and the parts of the loss, `[2]`.
    """
    count = len(images)
    synthetic = moments(network, variables, images, labels, objective.blocks)
    along, parts = jax.grad(objective.loss, argnums=1, has_aux=True)(real, synthetic)

    def bracket(images: Array) -> Array:
        def logits(params: PyTree) -> tuple[Array, tuple[Array, ...]]:
            outputs = network.apply({**variables, "params": params}, images, train=True)
            return outputs.logits, outputs.blocks

        params, features = variables["params"], None
        total = jnp.zeros((), images.dtype)
        for label, tangent in zip(labels, along.gradients, strict=True):
            computed, moved, features = jax.jvp(logits, (params,), (tangent,), has_aux=True)
            total += jnp.sum(_slope(computed, label) * moved)
        features = logits(params)[1] if features is None else features
        for block, weight in zip(objective.blocks, along.features, strict=True):
            total += jnp.sum(features[block].sum(0) * weight)
        return total / count

    if "batch_stats" in variables:
        return jax.grad(bracket)(images), parts
    return backend.by_rows(jax.grad(bracket), images), parts


def _slope(logits: Array, label: Array) -> Array:
    """Returns the derivative of the summed cross-entropy in the logits: softmax minus one-hot."""
    return jax.nn.softmax(logits) - jax.nn.one_hot(label, logits.shape[-1], dtype=logits.dtype)[None]
