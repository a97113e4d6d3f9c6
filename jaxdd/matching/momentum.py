"""The momentum that all classes share while one class after another takes its step, in closed form.

The synthetic images S are one tensor with one buffer v (arXiv 2205.14959, released code). In a sweep over the C classes
the step of class c has a gradient g_c in its own images and zero in the others, yet the whole buffer moves them all:

    for c = 0..C-1:    v <- mu v + g_c,    S <- S - rate v

In k steps the images of class c have thus moved by -rate (a[k, c] v_c + b[k, c] g_c), where v_c is their buffer before
the sweep and

    a[k, c] = mu + mu^2 + ... + mu^k               b[k, c] = 1 + mu + ... + mu^(k-1-c), 0 for k <= c

and after all C their buffer is mu^C v_c + mu^(C-1-c) g_c. Class c takes its gradient where c steps of the others have
brought it, which does not depend on what their gradients are: so all can be taken together, at `positions`, and
`after_sweep` makes the C steps. An average E, with E <- decay E + (1 - decay) S after each step, is a sum of such terms
over k (`averaged_sweep`). With `shared=False` every class has a buffer of its own, which only its own step moves:
a[k, c] = mu and b[k, c] = 1 for k > c, else 0.

| symbol | here        |
|--------|-------------|
| S      | `images`    |
| v      | `buffer`    |
| g      | `gradients` |
| mu     | `momentum`  |
| E      | `average`   |
"""

from __future__ import annotations

import functools

import jax.numpy as jnp
import numpy as np

from jaxdd.core.types import Array


def positions(images: Array, buffer: Array, rate: Array | float, momentum: float, *, shared: bool = True) -> Array:
    """Returns the place of each class when its turn in the sweep comes: there its gradient is taken.

    Arguments:
        images: `[classes, m, ...]` before the sweep.
        buffer: like `images`, before the sweep.
        rate: learning rate, > 0; may be traced.
        momentum: mu, 0 to 1.
        shared: one buffer for all classes, as published; False for one for each.

    Returns:
        Like `images`.
    """
    of_buffer, _ = _travelled(len(images), momentum, shared)
    return images - rate * _each(np.diagonal(of_buffer), images) * buffer


def after_sweep(
    images: Array, buffer: Array, gradients: Array, rate: Array | float, momentum: float, *, shared: bool = True
) -> tuple[Array, Array]:
    """Returns images and buffer after every class has taken its step.

    Arguments:
        gradients: like `images`; of each class at its `positions`.
        images, buffer, rate, momentum, shared: as in `positions`.

    Returns:
        `(images, buffer)`.
    """
    of_buffer, of_gradient = _travelled(len(images), momentum, shared)
    moved = images - rate * (_each(of_buffer[-1], images) * buffer + _each(of_gradient[-1], images) * gradients)
    return moved, _buffer_after(buffer, gradients, momentum, shared)


def averaged_sweep(
    images: Array,
    buffer: Array,
    gradients: Array,
    average: Array,
    rate: Array | float,
    momentum: float,
    decay: float,
    *,
    shared: bool = True,
) -> tuple[Array, Array, Array]:
    """Returns `after_sweep`, and the moving average over its class steps.

    Arguments:
        average: E, like `images`, before the sweep.
        decay: of the average at each of the sweep's C class steps, 0 to 1.
        images, buffer, gradients, rate, momentum, shared: as in `after_sweep`.

    Returns:
        `(images, buffer, average)`.
    """
    classes = len(images)
    of_buffer, of_gradient = _travelled(classes, momentum, shared)
    weights = (1 - decay) * decay ** np.arange(classes - 1, -1, -1.0)  # of the images after step k = 1..C, in E
    travelled = _each(weights @ of_buffer[1:], images) * buffer + _each(weights @ of_gradient[1:], images) * gradients
    average = average + (1 - decay**classes) * (images - average) - rate * travelled
    return *after_sweep(images, buffer, gradients, rate, momentum, shared=shared), average


def _buffer_after(buffer: Array, gradients: Array, momentum: float, shared: bool) -> Array:
    if not shared:
        return momentum * buffer + gradients
    since = np.arange(len(buffer) - 1, -1, -1.0)  # steps that follow each class's own
    return momentum ** len(buffer) * buffer + _each(momentum**since, buffer) * gradients


@functools.cache
def _travelled(classes: int, momentum: float, shared: bool) -> tuple[np.ndarray, np.ndarray]:
    """Returns `a` and `b` of the module's header, float64 `[classes + 1, classes]`: row k is after k steps."""
    steps, turns = np.arange(classes + 1)[:, None], np.arange(classes)[None, :]
    taken = steps > turns
    if not shared:
        return momentum * taken, 1.0 * taken
    series = np.concatenate([[0.0], np.cumsum(momentum ** np.arange(classes, dtype=float))])  # of 0, 1, ... terms
    return momentum * series[steps] + 0.0 * turns, np.where(taken, series[np.maximum(steps - turns, 0)], 0.0)


def _each(coefficients: np.ndarray, like: Array) -> Array:
    """Returns one coefficient for each class, shaped to multiply `like`, in its type."""
    return jnp.asarray(coefficients, like.dtype).reshape(-1, *[1] * (like.ndim - 1))
