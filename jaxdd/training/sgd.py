"""Classifiers by stochastic gradient descent, exactly as PyTorch's SGD moves them (no dampening, no Nesterov).

    g     <- gradient of the mean cross-entropy + weight_decay * theta
    buf   <- momentum * buf + g                   buf = 0 before the first step
    theta <- theta - learning_rate * buf

| symbol | here                                                                   |
|--------|------------------------------------------------------------------------|
| theta  | `Trained.variables["params"]`: all of them, biases and normalisation too |
| buf    | `Trained.momentum`                                                     |

The learning rate stands outside the buffer, as in PyTorch: when it falls, the momentum gathered so far counts less at
once. This is what the gradient-matching methods train their networks by (DC arXiv 2006.05929, IDC 2205.14959).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxdd.core import backend, trees
from jaxdd.core.types import Array, Key, Metrics, PyTree
from jaxdd.models.network import Network


class Trained(NamedTuple):
    """A network in training.

    Arguments:
        variables: `params` and perhaps `batch_stats`.
        momentum: the buffer, shaped as `params`.
    """

    variables: PyTree[Float[Array, "..."]]
    momentum: PyTree[Float[Array, "..."]]

    @property
    def params(self) -> PyTree:
        """The parameters."""
        return self.variables["params"]


def fresh(network: Network, key: Key, dtype: Any = jnp.float32) -> Trained:
    """Returns a newly initialised network."""
    return at_rest(network.init(key, dtype))


def at_rest(variables: PyTree) -> Trained:
    """Returns a network with these variables and no momentum, as with a new optimiser."""
    return Trained(variables, trees.zeros_like(variables["params"]))


def cross_entropy(logits: Array, targets: Array) -> Array:
    """Returns the sum over images of `-sum_k targets_k log softmax(logits)_k`.

    Arguments:
        logits, targets: `[n, classes]`; targets are probabilities, one-hot for hard labels.
    """
    return -jnp.sum(targets * jax.nn.log_softmax(logits))


def update(
    network: Network,
    trained: Trained,
    images: Array,
    targets: Array,
    *,
    learning_rate: float | Array,
    momentum: float,
    weight_decay: float,
) -> tuple[Trained, Metrics]:
    """Trains a network for one step on the mean cross-entropy of one batch.

    Arguments:
        images: `[n, height, width, channels]`, in the space that the network sees.
        targets: `[n, classes]` probabilities.
        learning_rate, momentum, weight_decay: >= 0; the first may be a scalar on the device.

    Returns:
        The network after the step, and `loss`, the mean cross-entropy before it (without the weight decay).
    """
    count = len(targets)

    def gradient(batch: tuple[Array, Array]) -> tuple[tuple[Array, PyTree], PyTree]:
        images, targets = batch

        def loss(params: PyTree) -> tuple[Array, PyTree]:
            outputs = network.apply({**trained.variables, "params": params}, images, train=True)
            return cross_entropy(outputs.logits, targets) / count, outputs.variables

        return jax.value_and_grad(loss, has_aux=True)(trained.params)

    if "batch_stats" in trained.variables:  # which couple the images of a batch
        (value, variables), slope = gradient((images, targets))
    else:
        value, slope = backend.accumulate(lambda batch: _without_variables(gradient(batch)), (images, targets))
        variables = trained.variables
    return descend(
        Trained(variables, trained.momentum),
        slope,
        learning_rate=learning_rate,
        momentum=momentum,
        weight_decay=weight_decay,
    ), {"loss": value}


def descend(
    trained: Trained, gradient: PyTree, *, learning_rate: float | Array, momentum: float, weight_decay: float
) -> Trained:
    """Takes the step of the module's header, for a gradient without weight decay.

    Arguments:
        gradient: shaped as `params`, without the weight decay.
        learning_rate, momentum, weight_decay: as in `update`.
    """
    decayed = trees.add(gradient, trees.scale(weight_decay, trained.params))
    buffer = trees.add(trees.scale(momentum, trained.momentum), decayed)
    params = trees.subtract(trained.params, trees.scale(learning_rate, buffer))
    return Trained({**trained.variables, "params": params}, buffer)


def _without_variables(result: tuple[tuple[Array, PyTree], PyTree]) -> tuple[Array, PyTree]:
    (value, _), slope = result
    return value, slope
