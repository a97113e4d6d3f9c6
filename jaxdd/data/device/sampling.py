"""Sampling on the device: a batch is a function of (resident data, rule, key), inside the jitted step.

Random order comes from one sort of random keys (4 ms for 60 000 images on a CPU core, half of what
`jax.random.choice` takes); for the class rule the class number stands in the keys' upper bits, so the same one sort
groups and shuffles.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd.core.errors import ConfigError, DataError
from jaxdd.core.procedure import BatchRule
from jaxdd.core.types import Array, Examples, Key
from jaxdd.data.dataset import Dataset


def sample(examples: Examples, rule: BatchRule, key: Key) -> Examples:
    """Returns the batch that `rule` asks for. Pure and jittable.

    Arguments:
        examples: the resident data.
        rule: `uniform`: `size` examples without replacement (all of them if there are fewer); `class`: `size` of
            every class, class-major, without replacement (a class with fewer is cycled); `all` and `stream`: the data
            as they are.
        key: decides the choice.

    Returns:
        `Examples` of static size; their images are floats, unless the rule is `all` and the data are kept as uint8.

    Raises:
        ConfigError: a size below 1.
    """
    if rule.kind in ("all", "stream"):
        return examples
    if rule.size < 1:
        raise ConfigError(
            f"a batch of {rule.size} examples",
            where=f"batch rule '{rule.kind}'",
            expected="at least 1",
            remedy="set the batch size to 1 or more",
        )
    if rule.kind == "uniform":
        chosen = jnp.argsort(jax.random.bits(key, (len(examples),), jnp.uint32))[: rule.size]
    else:
        chosen = class_indices(examples, rule.size, key)
    return dataclasses.replace(examples, images=examples.take(chosen), labels=examples.labels[chosen])


def first_images(examples: Examples, ipc: int, key: Key) -> Examples:
    """Returns the first images of a distilled set: those that the examples name, else random real ones of every class.

    Arguments:
        ipc: images per class.
        key: decides the choice.

    Returns:
        `Examples` of `classes * ipc` images, class-major.
    """
    if examples.first_images is None:
        return sample(examples, BatchRule("class", ipc), key)
    labels = jnp.repeat(jnp.arange(examples.classes, dtype=jnp.int32), ipc)
    return dataclasses.replace(examples, images=examples.first_images, labels=labels)


def class_indices(examples: Examples, size: int, key: Key) -> Array:
    """Returns `[classes * size]` indices of random examples, class-major; a class with fewer than `size` is cycled."""
    return _class_rows(hard_labels(examples), examples.classes, size, key)


def _class_rows(labels: Array, classes: int, size: int, key: Key) -> Array:
    room = max(1, (classes - 1).bit_length())
    random = jax.random.bits(key, labels.shape, jnp.uint32) >> room
    order = jnp.argsort((labels.astype(jnp.uint32) << (32 - room)) | random)
    counts = jnp.zeros(classes, jnp.int32).at[labels].add(1)
    starts = jnp.cumsum(counts) - counts
    within = jnp.arange(size)[None, :] % jnp.maximum(counts, 1)[:, None]
    return order[(starts[:, None] + within).reshape(-1)]


def hard_labels(examples: Examples) -> Array:
    """Returns `[n]` int32 class indices; of soft labels, the largest entry."""
    if examples.labels.ndim == 2:
        return jnp.argmax(examples.labels, axis=1).astype(jnp.int32)
    return examples.labels


def real_images(source: Examples | Dataset, ipc: int, key: Key) -> Examples:
    """Returns random real images, `ipc` of every class, class-major: a distilled set starts from them.

    Arguments:
        source: preprocessed examples; or a data set, whose train images are then given raw, on the [0, 1] scale.
        ipc: images per class.
        key: decides the choice.

    Returns:
        `Examples` of `classes * ipc` distinct images.

    Raises:
        DataError: a class has fewer than `ipc` images.

    Source:
        RCIG: the first full window of `ipc` images of each class in a shuffled stream, which is this distribution.
    """
    if isinstance(source, Dataset):
        labels = source.train_labels
        source = Examples(jnp.asarray(source.train_images), jnp.asarray(labels), source.classes)
    else:
        labels = np.asarray(hard_labels(source))
    check_ipc(labels, source.classes, ipc)
    return sample(source, BatchRule("class", ipc), key)


def real_rows(labels: np.ndarray, classes: int, ipc: int, key: Key) -> np.ndarray:
    """Returns which images `real_images` takes: `[classes * ipc]` indices, class-major; needs no image.

    Arguments:
        labels: `[n]` class indices of all images.
        classes, ipc, key: as there.

    Raises:
        DataError: a class has fewer than `ipc` images.
    """
    check_ipc(labels, classes, ipc)
    return np.asarray(_class_rows(jnp.asarray(labels), classes, ipc, key))


def check_ipc(labels: np.ndarray, classes: int, ipc: int) -> None:
    """Refuses a class with fewer than `ipc` images."""
    counts = np.bincount(labels, minlength=classes)
    if ipc < 1 or counts.min() < ipc:
        scarce = int(counts.argmin())
        raise DataError(
            f"{ipc} images per class, but class {scarce} has {counts[scarce]}",
            where="images per class",
            expected=f"1 .. {counts.min()}",
            remedy="ask for fewer images per class",
        )
