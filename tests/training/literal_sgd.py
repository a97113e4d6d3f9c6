"""PyTorch's SGD on the mean cross-entropy, written out in NumPy but for the gradient."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np


def mean_cross_entropy(net, variables, images, targets):
    """Over images and classes one by one; and the variables with updated statistics."""
    outputs = net.apply(variables, images, train=True)
    shares = jnp.exp(outputs.logits) / jnp.exp(outputs.logits).sum(1, keepdims=True)
    rows, columns = targets.shape
    total = sum(targets[i, k] * jnp.log(shares[i, k]) for i in range(rows) for k in range(columns))
    return -total / rows, outputs.variables


def literal_sgd(net, variables, batches, rates, *, momentum, weight_decay, restarts=()):
    """The network after one step per batch, and the loss before each; `restarts`: steps that begin without momentum."""
    loss_of = lambda params, variables, *batch: mean_cross_entropy(net, {**variables, "params": params}, *batch)  # noqa: E731
    slope_of = jax.jit(jax.value_and_grad(loss_of, has_aux=True))
    params, structure = jax.tree.flatten(variables["params"])
    params, buffers, losses = [np.array(leaf) for leaf in params], None, []
    for step, (batch, rate) in enumerate(zip(batches, rates, strict=True)):
        (loss, variables), slopes = slope_of(jax.tree.unflatten(structure, params), variables, *batch)
        losses.append(float(loss))
        slopes = [np.asarray(slope) for slope in jax.tree.leaves(slopes)]
        slopes = [slope + weight_decay * leaf for slope, leaf in zip(slopes, params, strict=True)]
        if buffers is None or step in restarts:
            buffers = slopes
        else:
            buffers = [momentum * buffer + slope for buffer, slope in zip(buffers, slopes, strict=True)]
        params = [leaf - rate * buffer for leaf, buffer in zip(params, buffers, strict=True)]
    return {**variables, "params": jax.tree.unflatten(structure, params)}, losses
