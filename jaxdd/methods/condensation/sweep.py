"""The sweep over the classes: each takes its gradient and its step; `methods.condensation.method` has the equations.

The gradients of k classes are computed together, each where the images stand when its turn comes. On accelerators k is
the number of classes, on CPU one (on each device); the numbers do not depend on it.

The matching loss between the moments of real and of synthetic images, by settings and stage.

| stage     | loss                                                                                 |
|-----------|--------------------------------------------------------------------------------------|
| `plain`   | `match`: GM(c), the gradients' distance; or F, the features'; or GM(c) + D(last)      |
| `shifted` | that + lcs_weight GM(shifted label)                                                  |
| `second`  | that + dm_weight sum over blocks of D(block) (`gradient_amplification.second_stage`) |

The random choices of the matching methods: what a set starts from, and which images a step reads.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxdd.core import backend, formation, sharding
from jaxdd.core.errors import ConfigError
from jaxdd.core.random import purpose_key
from jaxdd.core.types import Array, Examples, Key, PyTree
from jaxdd.data.device.sampling import class_indices, hard_labels
from jaxdd.matching import momentum
from jaxdd.matching.distances import Moments, Objective, feature_distance, gradient_distance, image_gradient, moments
from jaxdd.methods.condensation import dream, gradient_amplification
from jaxdd.methods.condensation.gradient_amplification import second_stage
from jaxdd.methods.condensation.settings import CondensationSettings
from jaxdd.methods.condensation.state import CondensationState
from jaxdd.models.network import Network

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
        kept = some_of(len(decoded), settings.batch_syn_max, purpose_key(key, "kept"))
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


NOISE = 0.25  # standard deviation of raw noise, about 0.5


def first_images(
    settings: CondensationSettings, network: Network, variables: PyTree, data: Examples, key: Key
) -> Array:
    """Returns the first synthetic images, `[classes, m, side, side, channels]`, class-major.

    Arguments:
        variables: of the network that embeds images for k-means.
    """
    shape = (data.classes, settings.n_images, *data.image_shape)
    if data.first_images is not None:
        return data.first_images.reshape(shape)
    if settings.initial == "noise" and settings.factor == 1:
        noise = jax.random.normal(key, shape, data.dtype)
        return noise if settings.space == "standardised" else jnp.clip(NOISE * noise + 0.5, 0, 1)
    count = settings.n_images * settings.factor**2
    if settings.embeds_first_images:
        rows = dream.representatives(settings, network, variables, data, key, count)
    elif settings.initial == "real" and settings.factor == 1:
        rows = class_indices(data, count, key).reshape(data.classes, count)
    else:
        rows = in_order(data, count)
    if settings.factor == 1:
        return data.take(rows)
    return jax.vmap(lambda own: formation.paste(own, settings.factor))(data.take(rows))


def in_order(data: Examples, count: int) -> Array:
    """Returns the rows of every class's first images in the data's order, `[classes, count]`.

    A class that has fewer images repeats them.
    """
    labels = hard_labels(data)
    order = jnp.argsort(labels, stable=True)
    counts = jnp.zeros(data.classes, jnp.int32).at[labels].add(1)
    starts = jnp.cumsum(counts) - counts
    return order[starts[:, None] + jnp.arange(count)[None, :] % jnp.maximum(counts, 1)[:, None]]


def to_match(settings: CondensationSettings, data: Examples, key: Key) -> Array:
    """Draws the rows of real images to match, without replacement within a class: `[classes, batch_real]`."""
    rows = class_indices(data, settings.batch_real, purpose_key(key, "matched"))
    return rows.reshape(data.classes, -1).astype(jnp.int32)


def to_train(data: Examples, key: Key, count: int) -> Array:
    """Draws the rows of real images that a network trains on, `[count]`; none twice while there are enough."""
    order = jnp.argsort(jax.random.bits(purpose_key(key, "trained"), (len(data),), jnp.uint32))
    return order[jnp.arange(count) % len(data)].astype(jnp.int32)


def some_of(count: int, most: int, key: Key) -> Array | None:
    """Draws indices of `most` of `count` things, without replacement; returns None where that is all of them."""
    return None if count <= most else jax.random.permutation(key, count)[:most]


PLAIN, SHIFTED, SECOND = "plain", "shifted", "second"


def objective(settings: CondensationSettings, stage: str, blocks: int) -> Objective:
    """Returns the matching loss of one stage.

    Arguments:
        stage: see the module's header.
        blocks: how many blocks the network has.

    Raises:
        ConfigError: a block of `f_idx` that the network does not have.
    """
    gradients = settings.match != "feat"
    wanted = tuple(range(blocks)) if stage == SECOND else matched_blocks(settings, blocks)

    def loss(real: Moments, synthetic: Moments) -> tuple[Array, Array]:
        def gm(which: int) -> Array:
            x, y = real.gradients[which], synthetic.gradients[which]
            return gradient_distance(x, y, settings.metric, bias=settings.bias, fc=settings.fc)

        def features(first: int = 0) -> list[Array]:
            pairs = zip(real.features[first:], synthetic.features[first:], strict=True)
            metric = "mse" if settings.match == "feat" else settings.metric
            return [feature_distance([x], [y], metric) for x, y in pairs]

        total = gm(0) if gradients else functools.reduce(operator.add, features())
        if settings.match == "bi_match":
            total += features(-1)[0]
        if stage == SECOND:
            total = second_stage(settings, total, features())
        other = gm(1) if stage == SHIFTED else jnp.zeros_like(total)
        return total + settings.lcs_weight * other, jnp.stack([total, other])

    return Objective(gradients + (stage == SHIFTED), wanted, loss)


def matched_blocks(settings: CondensationSettings, blocks: int) -> tuple[int, ...]:
    """Returns indices of the blocks whose features count in the plain loss."""
    if settings.match == "grad":
        return ()
    if settings.match == "bi_match" or settings.f_idx is None:
        return (blocks - 1,)
    try:
        first, *last = (int(word) for word in settings.f_idx.split(","))
        chosen = tuple(range(first, (last[0] if last else first) + 1))
    except ValueError:
        chosen = ()
    if not chosen or len(last) > 1 or chosen[0] < 0 or chosen[-1] >= blocks:
        raise ConfigError(
            f"f_idx '{settings.f_idx}' names no blocks",
            where="f_idx",
            expected=f"a block from 0 to {blocks - 1}, or two of them: from,to",
            remedy="set f_idx to blocks that the network has, or another depth",
        )
    return chosen
