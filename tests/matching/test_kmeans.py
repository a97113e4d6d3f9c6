"""k-means against published numbers, scikit-learn, and a literal loop where scikit-learn has other rules."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.cluster import KMeans

from jaxdd.core.errors import ConfigError
from jaxdd.matching.kmeans import closest_overall, kmeans, nearest, representatives

FIVE = np.array([[0, 0], [0, 1], [10, 0], [10, 1], [5, 5]], np.float64)


def literal(points, centroids, *, max_iterations=100, tolerance=1e-4):
    """Lloyd's iteration, point by point; an empty cluster becomes the zero vector."""
    iterations, shift = 0, np.inf
    while shift > tolerance and iterations < max_iterations:
        labels = np.array([np.argmin([((x - c) ** 2).sum() for c in centroids]) for x in points])
        members = [points[labels == j] for j in range(len(centroids))]
        moved = np.stack([m.mean(0) if len(m) else np.zeros(points.shape[1]) for m in members])
        shift = ((moved - centroids) ** 2).sum()
        centroids, iterations = moved, iterations + 1
    return centroids, labels, iterations


def random_points(n, d, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)) + 3


@pytest.mark.quick
@pytest.mark.parametrize(
    "initial, centroids, labels",
    [
        ([[0, 0], [10, 0]], [[5 / 3, 2], [10, 0.5]], [0, 0, 1, 1, 0]),
        ([[0, 0], [0, 0]], [[25 / 3, 2], [0, 0.5]], [1, 1, 0, 0, 0]),
    ],
    ids=["distinct", "duplicate"],
)
def test_published_numbers(initial, centroids, labels, x64):
    found = kmeans(jnp.asarray(FIVE), 2, initial=jnp.asarray(initial, jnp.float64))
    np.testing.assert_allclose(found.centroids, centroids, rtol=1e-14)
    np.testing.assert_array_equal(found.labels, labels)


@pytest.mark.quick
@pytest.mark.parametrize("separated", [True, False])
def test_agrees_with_scikit_learn(separated, x64):
    rng = np.random.default_rng(1)
    points = random_points(200, 5)
    points += 50 * rng.normal(size=(6, 5))[rng.integers(0, 6, 200)] if separated else 0
    initial = points[rng.choice(200, 6, replace=False)]
    oracle: Any = KMeans
    expected = oracle(6, init=initial, n_init=1, algorithm="lloyd", max_iter=300, tol=0).fit(points)
    found = jax.jit(functools.partial(kmeans, k=6, tolerance=0, max_iterations=300))(points, initial=initial)
    np.testing.assert_allclose(found.centroids, expected.cluster_centers_, rtol=1e-12)
    np.testing.assert_array_equal(found.labels, expected.labels_)


@pytest.mark.quick
@pytest.mark.parametrize("limits", [{}, {"max_iterations": 3}, {"tolerance": 0.5}], ids=str)
def test_agrees_with_the_literal_loop(limits, x64):
    points = random_points(60, 3)
    # Two equal centroids, of which the second stays empty and moves to zero, and one that nothing is near.
    initial = np.concatenate([points[:4], points[3:4], np.full((1, 3), 100.0)])
    centroids, labels, iterations = literal(points, initial, **limits)
    found = kmeans(jnp.asarray(points), 6, initial=jnp.asarray(initial), **limits)
    assert not centroids[5].any()
    np.testing.assert_allclose(found.centroids, centroids, rtol=1e-12)
    np.testing.assert_array_equal(found.labels, labels)
    assert found.iterations == iterations


@pytest.mark.quick
def test_reseeding_moves_an_empty_cluster_to_the_farthest_point(x64):
    initial = jnp.asarray([[0, 0], [10, 0], [100, 100], [100, 100]], jnp.float64)
    five = jnp.asarray(FIVE)
    once = kmeans(five, 4, initial=initial, reseed=True, max_iterations=1)
    # (5, 5) is farthest from its centroid by far; of the points at distance 1 the lowest index follows.
    np.testing.assert_array_equal(once.centroids[2:], FIVE[[4, 1]])
    done = kmeans(five, 4, initial=initial, reseed=True)
    assert sorted(map(tuple, np.asarray(done.centroids))) == [(0, 0), (0, 1), (5, 5), (10, 0.5)]


@pytest.mark.slow
@pytest.mark.quick
def test_starts_from_distinct_points_unless_told_otherwise(x64):
    points = jnp.arange(40.0)[:, None] * 10 + 1
    every = kmeans(points, 40, jax.random.key(0))
    np.testing.assert_array_equal(np.sort(every.centroids, 0), points)
    assert every.iterations == 1
    repeated = kmeans(points, 40, jax.random.key(0), replace=True, max_iterations=1)
    assert 5 < (np.asarray(repeated.centroids) == 0).sum() < 25  # 40 draws of 40 miss 1/e of them, about 15
    other = kmeans(points, 5, jax.random.key(1), max_iterations=1)
    assert not np.array_equal(other.centroids, kmeans(points, 5, jax.random.key(0), max_iterations=1).centroids)


@pytest.mark.slow
@pytest.mark.quick
def test_padding_takes_no_part(x64):
    points, padding = random_points(30, 4), np.full((10, 4), 1e3)
    padded, mask = jnp.asarray(np.concatenate([points, padding])), jnp.arange(40) < 30
    for reseed in (False, True):
        initial = jnp.asarray(np.concatenate([points[:5], np.full((1, 4), -50.0)]))
        expected = kmeans(jnp.asarray(points), 6, initial=initial, reseed=reseed)
        found = kmeans(padded, 6, initial=initial, mask=mask, reseed=reseed)
        np.testing.assert_allclose(found.centroids, expected.centroids, rtol=1e-13)
        for select in (nearest, closest_overall):
            np.testing.assert_array_equal(
                select(padded, found.centroids, 3, mask), select(jnp.asarray(points), expected.centroids, 3)
            )
    for replace in (False, True):
        drawn = kmeans(padded, 30, jax.random.key(0), mask=mask, replace=replace, max_iterations=1)
        assert np.abs(drawn.centroids).max() < 100
    few = kmeans(padded, 8, jax.random.key(0), mask=jnp.arange(40) < 3, max_iterations=1)
    assert {tuple(row) for row in np.asarray(few.centroids)} == {*map(tuple, points[:3]), (0, 0, 0, 0)}


@pytest.mark.quick
def test_nearest_and_closest_overall_are_their_definitions(x64):
    points, centroids = random_points(50, 3), random_points(7, 3, seed=1)
    distances = np.linalg.norm(points[:, None] - centroids[None], axis=-1)
    for count in (1, 4):
        found = nearest(jnp.asarray(points), jnp.asarray(centroids), count)
        np.testing.assert_array_equal(found, np.argsort(distances, 0)[:count].T.ravel())
    found = closest_overall(jnp.asarray(points), jnp.asarray(centroids), 9)
    np.testing.assert_array_equal(found, np.argsort(distances.min(1))[:9])


@pytest.mark.slow
@pytest.mark.quick
def test_representatives_are_each_class_by_itself(x64):
    sizes, k, count = (12, 7, 12), 3, 2
    features = jnp.asarray(random_points(31, 4))
    rows = np.split(np.random.default_rng(0).permutation(31), np.cumsum(sizes)[:-1])
    table = np.stack([np.pad(r, (0, 12 - len(r))) for r in rows])
    mask = np.stack([np.arange(12) < size for size in sizes])
    key = jax.random.key(3)
    select = functools.partial(representatives, key, features, jnp.asarray(table), jnp.asarray(mask), k, count=count)
    found, overall = select(max_iterations=5), select(max_iterations=5, overall=True)
    for c, members in enumerate(rows):
        points, present = features[table[c]], jnp.asarray(mask[c])
        alone = kmeans(points, k, jax.random.fold_in(key, c), mask=present, max_iterations=5)
        np.testing.assert_array_equal(found[c], members[nearest(features[members], alone.centroids, count)])
        assert np.isin(found[c], members).all()
        central = members[closest_overall(features[members], alone.centroids, k * count)]
        np.testing.assert_array_equal(overall[c], central)


@pytest.mark.quick
def test_float32_finds_the_same_images():
    points = random_points(300, 64).astype(np.float32)
    initial = points[:10]
    found = kmeans(jnp.asarray(points), 10, initial=jnp.asarray(initial))
    centroids, _, iterations = literal(points.astype(np.float64), initial.astype(np.float64))
    assert found.centroids.dtype == jnp.float32
    assert found.iterations == iterations
    np.testing.assert_allclose(found.centroids, centroids, rtol=1e-5)


@pytest.mark.quick
@pytest.mark.parametrize("k", [0, 6])
def test_impossible_numbers_of_clusters_are_refused(k):
    with pytest.raises(ConfigError, match=f"{k} clusters of 5 points"):
        kmeans(jnp.asarray(FIVE, jnp.float32), k, jax.random.key(0))


@pytest.mark.quick
def test_a_start_is_needed():
    with pytest.raises(ConfigError, match="nothing to start from"):
        kmeans(jnp.asarray(FIVE, jnp.float32), 2)
