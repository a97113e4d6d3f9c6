"""Selection of real images by k-means on their features (DREAM, arXiv 2302.14416; DREAM+, arXiv 2310.15052).

Lloyd's iteration on points x_i and centroids c_j, from k points drawn at random, without restarts:

    label_i = argmin_j |x_i - c_j|^2, ties to the lowest j
    c_j     = mean of the points with label j; the zero vector if there is none (`reseed` mends that)
    stop      when the centroids' squared moves add up to at most `tolerance`

as in fast_pytorch_kmeans, which DREAM uses. Distances and sums are matrix products in full float32, in which also the
order of summation is fixed, on accelerators too. A class with fewer points than others may be padded: `mask` tells.

| of the papers' code | here                                                            |
|---------------------|-----------------------------------------------------------------|
| query               | `kmeans`, then `nearest`: DREAM                                 |
| query_match         | k = batch / subsample, then `nearest(count=subsample)`: DREAM+  |
| query_tiny          | `kmeans`, then `closest_overall`: DREAM+ for Tiny-ImageNet      |
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdd.core import backend
from jaxdd.core.errors import ConfigError
from jaxdd.core.precision import exact_products
from jaxdd.core.random import purpose_key
from jaxdd.core.types import Array, Key


class Clusters(NamedTuple):
    """Clusters that `kmeans` finds.

    Arguments:
        centroids: `[k, d]`.
        labels: `[n]` int32, of the points whose means the centroids are; padding has arbitrary ones.
        iterations: scalar int32, how many were made.
        shift: scalar, the sum of squared moves in the last one.
    """

    centroids: Array
    labels: Array
    iterations: Array
    shift: Array


def kmeans(
    points: Array,
    k: int,
    key: Key | None = None,
    *,
    initial: Array | None = None,
    mask: Array | None = None,
    replace: bool = False,
    reseed: bool = False,
    max_iterations: int = 100,
    tolerance: float = 1e-4,
) -> Clusters:
    """Finds centroids by Lloyd's iteration; pure and jittable.

    Arguments:
        points: `[n, d]`.
        k: number of clusters, 1 to n.
        key: draws the first centroids; not needed with `initial`.
        initial: `[k, d]`, the first centroids.
        mask: `[n]` bool, which points there are; None for all. Where fewer than k are, some are drawn repeatedly.
        replace: draw with replacement (fast_pytorch_kmeans from May 2023 on); False as when DREAM was released.
        reseed: an empty cluster moves to one of the points that are farthest from their centroids, not to zero.
        max_iterations: at least 1.
        tolerance: >= 0, squared length.

    Raises:
        ConfigError: k out of range, or neither `key` nor `initial` given.
    """
    if not 1 <= k <= len(points):
        raise ConfigError(
            f"{k} clusters of {len(points)} points",
            where="k-means",
            expected="at least 1 cluster, and no more than there are points",
            remedy="lower the number of clusters",
        )
    if initial is None:
        if key is None:
            raise ConfigError(
                "k-means has nothing to start from",
                where="k-means",
                expected="a key, or centroids",
                remedy="pass key=jax.random.key(seed)",
            )
        initial = points[_draw(key, k, len(points), mask, replace)]
    present = jnp.ones(len(points), bool) if mask is None else mask

    def update(clusters: Clusters) -> Clusters:
        distances = _to_centroids(points, clusters.centroids)
        labels = jnp.argmin(distances, 1).astype(jnp.int32)
        members = (jax.nn.one_hot(labels, k, dtype=points.dtype) * present[:, None]).T
        counts = members.sum(1)
        centroids = _product(members, points) / jnp.maximum(counts, 1)[:, None]
        if reseed:
            centroids = _reseeded(centroids, counts == 0, points, distances.min(1), present)
        shift = jnp.sum(jnp.square(centroids - clusters.centroids))
        return Clusters(centroids, labels, clusters.iterations + 1, shift)

    nothing = jnp.zeros(len(points), jnp.int32)
    start = Clusters(
        initial.astype(points.dtype), nothing, jnp.zeros((), jnp.int32), jnp.full((), jnp.inf, points.dtype)
    )
    return backend.bounded_while(max_iterations, lambda clusters: clusters.shift > tolerance, update, start)


def nearest(points: Array, centroids: Array, count: int = 1, mask: Array | None = None) -> Array:
    """Returns the points nearest to each centroid; one point may be nearest to several.

    Arguments:
        points: `[n, d]`.
        centroids: `[k, d]`.
        count: how many of each, at least 1; no more than there are.
        mask: `[n]` bool, which points there are; None for all.

    Returns:
        `[k * count]` int32 indices of points, centroid by centroid, the nearest first, ties to the lowest index.
    """
    distances = jnp.sum(jnp.square(points), 1)[None, :] - 2 * _product(centroids, points.T)  # less the centroid's part
    return jax.lax.top_k(-_absent_last(distances, mask), count)[1].reshape(-1)


def closest_overall(points: Array, centroids: Array, count: int, mask: Array | None = None) -> Array:
    """Returns the points that are closest to any centroid, each to its nearest.

    Arguments:
        points, centroids, mask: as in `nearest`.
        count: how many in all, at least 1; no more than there are.

    Returns:
        `[count]` int32 indices of points, all different, the closest first.
    """
    squares = jnp.sum(jnp.square(points), 1) + _to_centroids(points, centroids).min(1)
    return jax.lax.top_k(-_absent_last(squares, mask), count)[1]


def representatives(
    key: Key,
    features: Array,
    table: Array,
    mask: Array,
    k: int,
    *,
    count: int = 1,
    overall: bool = False,
    **options: int | float | bool,
) -> Array:
    """Returns `nearest` of the `kmeans` of every class, one class after another, so that only one is gathered at a
    time.

    Arguments:
        key: draws the first centroids.
        features: `[n, d]`, of all classes.
        table: `[classes, most]` int, each class's rows of `features`, padded.
        mask: `[classes, most]` bool, which entries of `table` there are.
        k: clusters of each class, 1 to `most`.
        count: points of each cluster, no more than the smallest class has.
        overall: choose the `k * count` points that are `closest_overall` instead.
        **options: of `kmeans`.

    Returns:
        `[classes, k * count]` int, rows of `features`.

    Raises:
        ConfigError: k out of range.
    """

    def select(of_class: tuple[Array, Array, Array]) -> Array:
        index, rows, present = of_class
        points = features[rows]
        clusters = kmeans(points, k, jax.random.fold_in(key, index), mask=present, **options)  # pyright: ignore
        if overall:
            return rows[closest_overall(points, clusters.centroids, k * count, present)]
        return rows[nearest(points, clusters.centroids, count, present)]

    return jax.lax.map(select, (jnp.arange(len(table)), table, mask))


def _draw(key: Key, k: int, n: int, mask: Array | None, replace: bool) -> Array:
    """Returns `[k]` indices of points that are there."""
    random = jax.random.bits(purpose_key(key, "order"), (n,), jnp.uint32) >> 1
    order = jnp.argsort(random if mask is None else jnp.where(mask, random, jnp.uint32(2**31)))
    there = n if mask is None else jnp.maximum(mask.sum(), 1)
    if replace:
        return order[jax.random.randint(purpose_key(key, "replace"), (k,), 0, there)]
    return order[jnp.arange(k) % there]


def _reseeded(centroids: Array, empty: Array, points: Array, distances: Array, present: Array) -> Array:
    """Puts each empty cluster at a point of its own: the first of them at the farthest one, and so on."""
    squares = jnp.sum(jnp.square(points), 1) + distances
    farthest = jax.lax.top_k(jnp.where(present, squares, -jnp.inf), len(centroids))[1]
    rank = jnp.maximum(jnp.cumsum(empty) - 1, 0)
    return jnp.where(empty[:, None], points[farthest[rank]], centroids)


def _to_centroids(points: Array, centroids: Array) -> Array:
    """Returns `[n, k]`, squared distances less each point's own square, which no comparison between centroids needs."""
    return jnp.sum(jnp.square(centroids), 1)[None, :] - 2 * _product(points, centroids.T)


def _product(a: Array, b: Array) -> Array:
    with exact_products():
        return a @ b


def _absent_last(distances: Array, mask: Array | None) -> Array:
    if mask is None:
        return distances
    return jnp.where(mask.reshape(*[1] * (distances.ndim - 1), -1), distances, jnp.inf)
