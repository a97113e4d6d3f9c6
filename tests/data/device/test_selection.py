"""k-means selection of real images."""

from __future__ import annotations

import numpy as np
import pytest

from jaxdd.core.errors import DataError
from jaxdd.data import kmeans_images

pytestmark = pytest.mark.quick


@pytest.mark.parametrize("count", [60, 2400])  # both forms of k-means
def test_one_image_of_every_cluster_is_chosen_and_it_is_central(count):
    random = np.random.default_rng(0)
    centres = random.normal(size=(2, 3, 4, 4, 1)) * 20  # two classes of three clusters
    labels, cluster = np.arange(2 * count) % 2, np.arange(2 * count) // 2 % 3
    images = centres[labels, cluster] + random.normal(size=(2 * count, 4, 4, 1))
    chosen = kmeans_images(images, labels, 3, seed=0)
    assert chosen.shape == (6,) and list(labels[chosen]) == [0, 0, 0, 1, 1, 1]
    for label in (0, 1):
        mine = chosen[3 * label : 3 * label + 3]
        assert set(cluster[mine]) == {0, 1, 2}
        for index in mine:
            same = images[(labels == label) & (cluster == cluster[index])]
            distance = np.linalg.norm((same - same.mean(0)).reshape(len(same), -1), axis=1)
            own = np.linalg.norm(images[index] - same.mean(0))
            assert own <= np.quantile(distance, 0.1)
    np.testing.assert_array_equal(chosen, kmeans_images(images, labels, 3, seed=0))


def test_the_images_are_distinct_even_when_centroids_are_close():
    images = np.repeat(np.arange(4.0), 2)[:, None]
    chosen = kmeans_images(images, np.zeros(8, int), 4, seed=1)
    assert len(set(chosen)) == 4


def test_more_images_than_there_are_is_refused():
    with pytest.raises(DataError, match="class 0 has 3"):
        kmeans_images(np.arange(3.0)[:, None], np.zeros(3, int), 4, seed=0)
