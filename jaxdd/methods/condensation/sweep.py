"""The sweep over the classes: each takes its gradient and its step; `methods.condensation.method` has the equations.

The gradients of k classes are computed together, each where the images stand when its turn comes. On accelerators k is
the number of classes, on CPU one (on each device); the numbers do not depend on it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxdd.core import backend, formation, sharding
from jaxdd.core.random import purpose_key
from jaxdd.core.types import Array, Examples, Key, PyTree
from jaxdd.matching import momentum
from jaxdd.matching.moments import image_gradient, moments
from jaxdd.methods.condensation import draws, gradient_amplification
from jaxdd.methods.condensation.objective import PLAIN, SECOND, SHIFTED, objective
from jaxdd.methods.condensation.settings import CondensationSettings
from jaxdd.methods.condensation.state import CondensationState

HELD = 10  # activations of a block that are alive together: convolution, norm, ReLU, and their tangents


def together(settings: CondensationSettings, image_shape: tuple[int, int, int], classes: int) -> int:
    """Returns k: the largest divisor of the number of classes that the backend takes at once and the memory holds."""
    most = backend.classes_at_once(classes)
    if most > sharding.ways():
        room = backend.working_memory() * sharding.ways()
        most = min(most, max(1, room // memory_of_class(settings, image_shape, classes)))
    return next(k for k in range(most, 0, -1) if classes % k == 0)


def memory_of_class(settings: CondensationSettings, image_shape: tuple[int, int, int], classes: int) -> int:
    """Estimates the bytes that matching one class takes: `HELD` times the largest activation of its images."""
    network = settings.network(image_shape, classes)
    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    blocks = jax.eval_shape(lambda key, image: network.apply(network.init(key), image).blocks, jax.random.key(0), image)
    largest = 4 * max(math.prod(block.shape) for block in blocks)  # a block's size is that after pooling
    decoded = len(formation.sources(settings.n_images, settings.factor, settings.decode_type))
    images = settings.batch_real + min(decoded, settings.batch_syn_max)
    return backend.rows_at_once(images) * largest * (2 if settings.precision == "bfloat16" else 4) * HELD


def sweep(
    settings: CondensationSettings, state: CondensationState, data: Examples, key: Key, index: Array
) -> CondensationState:
    """Takes the steps of the classes `index * k ... index * k + k - 1`.

    Arguments:
        key: of this step of the run; a class's choices depend on it and on the class alone.
        index: which of the C / k stretches of the sweep.
    """
    k = together(settings, data.image_shape, data.classes)
    start, rate, shared = index * k, settings.rate(data.image_shape[0]), settings.shared_momentum
    held = {"images": state.images, "buffer": state.buffer}
    if state.average is not None and settings.averages == "class":
        held["average"] = state.average
    held_here = jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, start, k), held)
    labels = start + jnp.arange(k, dtype=jnp.int32)
    turn = momentum.positions(held_here["images"], held_here["buffer"], rate, settings.mom_img, shared=shared)
    gradients, parts = gradients_of(settings, state, data, turn, labels, key)
    images, buffer, moved = held_here["images"], held_here["buffer"], {}
    if "average" in held_here:
        arguments = (images, buffer, gradients, held_here["average"], rate, settings.mom_img, settings.ema_decay)
        images, buffer, moved["average"] = momentum.averaged_sweep(*arguments, shared=shared)
    else:
        images, buffer = momentum.after_sweep(images, buffer, gradients, rate, settings.mom_img, shared=shared)
    moved |= {"images": images, "buffer": buffer}
    held = _coasted(settings, held, rate, k) if k < data.classes else held
    held = jax.tree.map(lambda whole, part: jax.lax.dynamic_update_slice_in_dim(whole, part, start, 0), held, moved)
    stage = state.stage._replace(shifted=state.stage.shifted + parts[:, 1].sum())
    return state._replace(**held, losses=state.losses + parts.sum(0), stage=stage)


def _coasted(settings: CondensationSettings, held: dict[str, Array], rate: float, steps: int) -> dict[str, Array]:
    """Returns images, momentum and average as k steps of other classes leave them."""
    held = dict(held)
    for _ in range(steps):
        if settings.shared_momentum:
            held["buffer"] = settings.mom_img * held["buffer"]
            held["images"] = held["images"] - rate * held["buffer"]
        if "average" in held:
            held["average"] = settings.ema_decay * held["average"] + (1 - settings.ema_decay) * held["images"]
    return held


def gradients_of(
    settings: CondensationSettings, state: CondensationState, data: Examples, images: Array, labels: Array, key: Key
) -> tuple[Array, Array]:
    """Returns the gradient of each of several classes' matching loss in its own images.

    The classes are shared out among the devices.

    Arguments:
        images: `[k, m, side, side, channels]`, those of each class as its turn finds them.
        labels: `[k]` int.

    Returns:
        The gradients, like `images`; and the parts of the losses, `[k, 2]`.
    """

    def some(xs: PyTree, state: CondensationState, data: Examples, key: Key) -> tuple[Array, Array]:
        def one(x: PyTree) -> tuple[Array, Array]:
            own, label, rows = x
            return gradient_of(settings, state, data, own, label, data.take(rows), jax.random.fold_in(key, label))

        return backend.map(one, xs)

    return sharding.spread(some, (images, labels, state.matched[labels]), state, data, key)


def gradient_of(
    settings: CondensationSettings,
    state: CondensationState,
    data: Examples,
    images: Array,
    label: Array,
    real: Array,
    key: Key,
) -> tuple[Array, Array]:
    """Returns the gradient of one class's matching loss in its images, and the parts of the loss.

    Arguments:
        images: `[m, side, side, channels]`.
        label: int scalar.
        real: `[batch_real, side, side, channels]`.

    Returns:
        The gradient, like `images`; and the parts of the loss, `[2]`.
    """
    network, variables = settings.network(data.image_shape, data.classes), state.network.variables
    augment, alike = (
        settings.augmentation(settings.aug_type, data.image_shape[0], siamese=True),
        purpose_key(key, "augment"),
    )

    def training_images(stored: Array) -> Array:
        decoded = formation.decode(stored, settings.factor, settings.decode_type, bound=settings.batch_syn_max)
        kept = draws.some_of(len(decoded), settings.batch_syn_max, purpose_key(key, "kept"))
        return augment(alike, data.standardise(decoded if kept is None else decoded[kept]))

    real = augment(alike, data.standardise(real))
    synthetic, pull = jax.vjp(training_images, images)
    iteration = (state.step - 1) // settings.inner_loop
    other = gradient_amplification.shifted_label(settings, label, data.classes, iteration)

    blocks = len(jax.eval_shape(network.apply, variables, real).blocks)

    def in_stage(stage: str) -> tuple[Array, Array]:
        loss = objective(settings, stage, blocks)
        labels = jnp.stack([label, other])[: loss.labels]
        constant = moments(network, variables, real, labels, loss.blocks)
        return image_gradient(network, variables, synthetic, labels, loss, constant)

    slope, parts = _by_stage(settings, state, iteration, in_stage)
    return pull(slope)[0], parts


def _by_stage(
    settings: CondensationSettings, state: CondensationState, iteration: Array, in_stage: Callable[[str], Any]
) -> tuple[Array, Array]:
    """Returns the gradient in the stage that the run is in; only what the settings can bring about is compiled."""
    way = functools.partial(in_stage, PLAIN)
    if settings.dm_weight:
        featured = gradient_amplification.matches_features(state.stage, iteration)
        way = functools.partial(backend.cond, featured, functools.partial(in_stage, SECOND), way)
    if settings.shifts_labels:
        way = functools.partial(backend.cond, state.stage.shifting, functools.partial(in_stage, SHIFTED), way)
    return way()
