"""Choosing real images for baselines: the image nearest to each k-means centroid of its class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from jaxdd.data.device.sampling import check_ipc

_MINI_BATCH_FROM = 2000  # images per class from which the mini-batch form is used


def kmeans_images(
    images: np.ndarray | Callable[[np.ndarray], np.ndarray], labels: np.ndarray, ipc: int, seed: int
) -> np.ndarray:
    """Returns the indices of `ipc` distinct real images of every class, each the nearest to a k-means centroid.

    Arguments:
        images: `[n, ...]` preprocessed pixels (or features), flattened for distances; or what gives those of some
            indices, which is asked for one class at a time.
        labels: `[n]` integers.
        ipc: images per class, the number of clusters.
        seed: decides the initial centroids; equal seeds give equal choices.

    Returns:
        `[classes * ipc]` int64 indices into `images`, class-major, largest cluster first.

    Raises:
        DataError: a class has fewer than `ipc` images.

    Source:
        k-means++ and Lloyd (below 2000 images a class) or mini-batch k-means, of scikit-learn.
    """
    from sklearn.cluster import KMeans, MiniBatchKMeans

    labels = np.asarray(labels)
    classes = int(labels.max()) + 1
    check_ipc(labels, classes, ipc)
    take = images if callable(images) else np.asarray(images).__getitem__
    chosen = []
    for label in range(classes):
        members = np.flatnonzero(labels == label)
        points = take(members).reshape(len(members), -1).astype(np.float32)
        settings: Any = {"n_clusters": ipc, "n_init": 1, "random_state": seed}
        small = len(members) < _MINI_BATCH_FROM
        model: Any = KMeans(**settings) if small else MiniBatchKMeans(**settings, batch_size=1024)
        clusters = model.fit_predict(points)
        order = np.argsort(-np.bincount(clusters, minlength=ipc), kind="stable")
        chosen.append(members[_nearest_distinct(points, model.cluster_centers_[order])])
    return np.concatenate(chosen)


def _nearest_distinct(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Returns for each centre in turn the nearest point not taken yet, `[len(centres)]`."""
    squares = (points**2).sum(axis=1)
    taken = np.zeros(len(points), bool)
    rows = np.empty(len(centres), np.int64)
    for index, centre in enumerate(centres):
        distance = np.where(taken, np.inf, squares - 2 * (points @ centre))
        rows[index] = distance.argmin()
        taken[rows[index]] = True
    return rows
