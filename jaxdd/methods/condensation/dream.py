"""DREAM: efficient dataset distillation by representative matching (arXiv 2302.14416), and DREAM+ (2310.15052).

IDC matches random real images; DREAM matches those that represent their class. Every `interval` inner iterations:

    z_i = features of the current network, of every real image of a class     (raw pixels, no augmentation)
    centroids = k-means of z with `batch_real / subsample` clusters
    R_c = the `subsample` images nearest to each centroid                     the class's real batch until the next time

The set starts from such images too. DREAM+ trains each new network for one epoch first, and matches features as well:

    L = D(mean f^r, mean f^s) + sum over layers of D(g^r, g^s)                f: flattened last block; one metric D

| paper                       | here                                                             |
|-----------------------------|------------------------------------------------------------------|
| I_int, number of iterations | `interval`                                                       |
| N, clusters per class       | `batch_real`, 128 (64 for Tiny-ImageNet)                         |
| bidirectional matching      | `match = bi_match`                                               |

`candidates` limits how many images of a class are embedded (a random subset of it, another one each time): ours, for
small machines. As released, images are embedded raw though the network is trained on standardised ones
(`kmean_space`). DREAM's first network is a new one, not that which chose the first images; DREAM+'s is the same.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxdd.core import backend
from jaxdd.core.random import purpose_key
from jaxdd.core.types import Array, Examples, Key, PyTree
from jaxdd.data.device.sampling import hard_labels
from jaxdd.matching import kmeans
from jaxdd.methods.condensation.settings import CondensationSettings
from jaxdd.models.network import Network

DREAM: dict[str, Any] = {"selection": "kmean", "initial": "kmean", "f2_init": "kmean", "batch_real": 128}
DREAM_PLUS: dict[str, Any] = {**DREAM, "early": 1, "match": "bi_match"}
TINY: dict[str, Any] = {"batch_real": 64, "rank": "overall"}  # DREAM+'s own selection for Tiny-ImageNet
EMBEDDED_AT_ONCE = 256  # images: what bounds the memory of an embedding


def choose(settings: CondensationSettings, network: Network, variables: PyTree, data: Examples, key: Key) -> Array:
    """Chooses the representatives of every class: indices into `data`, `[classes, batch_real]`."""
    clusters = settings.batch_real // settings.subsample
    return representatives(settings, network, variables, data, key, clusters, settings.subsample)


def representatives(
    settings: CondensationSettings,
    network: Network,
    variables: PyTree,
    data: Examples,
    key: Key,
    clusters: int,
    count: int = 1,
) -> Array:
    """Finds the images of every class that are nearest to the centres of its clusters.

    Arguments:
        variables: of the network that embeds.
        clusters: per class.
        count: images of each cluster.

    Returns:
        `[classes, clusters * count]` int32 indices into `data`; an image may be there twice, and is where a class has
        fewer images than are asked for.
    """
    wanted = clusters * count
    table, mask = class_table(data, purpose_key(key, "candidates"), settings.candidates)
    rows, features = embed_those(settings, network, variables, data, table)
    most = table.shape[1]
    clusters = min(clusters, most)
    count = min(count, most // clusters)
    overall, key = settings.rank == "overall", purpose_key(key, "clusters")
    chosen = kmeans.representatives(key, features, rows, mask, clusters, count=count, overall=overall)
    chosen = chosen[:, jnp.arange(wanted) % chosen.shape[1]]
    return (table.reshape(-1)[chosen] if settings.candidates else chosen).astype(jnp.int32)


def embed_those(
    settings: CondensationSettings, network: Network, variables: PyTree, data: Examples, table: Array
) -> tuple[Array, Array]:
    """Embeds the candidates.

    Returns:
        The rows of each class among them, `[classes, most]`, and their features, `[n, d]`.
    """
    raw = settings.kmean_space == "raw" or data.constants is None

    def embed(index: Array) -> Array:
        images = data.take(index) if raw else data.standardise(data.take(index))
        features = lambda images: network.apply(variables, images, train=True).features  # noqa: E731
        if "batch_stats" in variables:  # rows depend on their batch, which is then the same on every device
            return features(images)
        return backend.by_rows(features, images)

    candidates = table.reshape(-1) if settings.candidates else jnp.arange(len(data))
    features = backend.chunked_map(embed, candidates, min(EMBEDDED_AT_ONCE, len(candidates)))
    return (jnp.arange(table.size).reshape(table.shape) if settings.candidates else table), features


def class_table(data: Examples, key: Key, most: int | None) -> tuple[Array, Array]:
    """Returns the rows of each class in the data's order, and which entries are no padding: both `[classes, n]`.

    Arguments:
        key: decides which rows stand there if `most` is less than the largest class has.
        most: rows of each class; None for all.
    """
    labels = hard_labels(data)
    whole = data.largest or len(data)
    size = whole if most is None else min(most, whole)
    order = jnp.argsort(labels, stable=True)
    if size < whole:
        shuffled = jax.random.permutation(key, len(data))
        order = shuffled[jnp.argsort(labels[shuffled], stable=True)]
    counts = jnp.zeros(data.classes, jnp.int32).at[labels].add(1)
    starts = jnp.cumsum(counts) - counts
    within = jnp.arange(size)[None, :]
    mask = within < counts[:, None]
    return order[jnp.where(mask, starts[:, None] + within, starts[:, None])], mask
