"""The random choices of the matching methods: what a set starts from, and which images a step reads."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxdd.core import formation
from jaxdd.core.random import purpose_key
from jaxdd.core.types import Array, Examples, Key, PyTree
from jaxdd.data.device.sampling import class_indices, hard_labels
from jaxdd.methods.condensation import dream
from jaxdd.methods.condensation.settings import CondensationSettings
from jaxdd.models.network import Network

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
