"""Sampling rules: what they choose, that they are pure, and that they are cheap."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd.core.errors import ConfigError, DataError
from jaxdd.core.procedure import BatchRule
from jaxdd.core.types import Examples
from jaxdd.data import Dataset, real_images, sample

pytestmark = pytest.mark.quick


def _examples(counts=(40, 25, 60), seed=0) -> Examples:
    """Each image holds its own index; labels in random order."""
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts)).astype(np.int32)
    images = np.arange(len(labels), dtype=np.float32)[:, None, None, None]
    return Examples(jnp.asarray(images), jnp.asarray(labels), len(counts))


def _indices(batch: Examples) -> np.ndarray:
    return np.asarray(batch.images).ravel().astype(int)


def test_uniform_takes_distinct_examples_and_follows_the_key():
    data, rule = _examples(), BatchRule("uniform", 50)
    draw = jax.jit(lambda key: sample(data, rule, key))
    first = draw(jax.random.key(0))
    assert len(set(_indices(first))) == 50
    np.testing.assert_array_equal(np.asarray(first.labels), np.asarray(data.labels)[_indices(first)])
    np.testing.assert_array_equal(_indices(first), _indices(sample(data, rule, jax.random.key(0))))
    assert set(_indices(first)) != set(_indices(draw(jax.random.key(1))))
    assert sorted(_indices(sample(data, BatchRule("uniform", 1000), jax.random.key(0)))) == list(range(125))


def test_uniform_is_uniform():
    data, rule = _examples((5, 5)), BatchRule("uniform", 3)
    draws = jax.vmap(lambda key: sample(data, rule, key).images.ravel())(jax.random.split(jax.random.key(0), 4000))
    shares = np.bincount(np.asarray(draws).ravel().astype(int), minlength=10) / 4000
    np.testing.assert_allclose(shares, 0.3, atol=5 * np.sqrt(0.3 * 0.7 / 4000))


def test_class_takes_distinct_examples_of_every_class_in_class_order():
    data, rule = _examples(), BatchRule("class", 20)
    batch = jax.jit(lambda key: sample(data, rule, key))(jax.random.key(3))
    np.testing.assert_array_equal(np.asarray(batch.labels), np.repeat(np.arange(3), 20))
    assert len(set(_indices(batch))) == 60
    np.testing.assert_array_equal(np.asarray(data.labels)[_indices(batch)], np.asarray(batch.labels))
    cycled = sample(data, BatchRule("class", 30), jax.random.key(3))  # the class of 25 is gone through again
    of_one = _indices(cycled)[30:60]
    assert len(set(of_one)) == 25 and list(of_one[25:]) == list(of_one[:5])


def test_class_is_uniform_within_a_class_and_takes_soft_labels():
    data = _examples((6, 4))
    soft = Examples(data.images, jax.nn.one_hot(data.labels, 2) * 3 - 0.5, 2)
    keys = jax.random.split(jax.random.key(0), 4000)
    draws = jax.vmap(lambda key: sample(soft, BatchRule("class", 2), key).images.ravel())(keys)
    shares = np.bincount(np.asarray(draws).ravel().astype(int), minlength=10) / 4000
    expected = np.where(np.asarray(data.labels) == 0, 2 / 6, 2 / 4)
    np.testing.assert_allclose(shares, expected, atol=0.04)


@pytest.mark.slow
def test_many_classes_and_one_class():
    for classes in (1, 2, 200):
        labels = jnp.arange(classes * 3, dtype=jnp.int32) % classes
        data = Examples(jnp.zeros((classes * 3, 1, 1, 1)), labels, classes)
        batch = sample(data, BatchRule("class", 3), jax.random.key(0))
        np.testing.assert_array_equal(np.asarray(batch.labels), np.repeat(np.arange(classes), 3))


def test_all_is_the_data_and_a_size_of_zero_is_refused():
    data = _examples()
    assert sample(data, BatchRule("all"), jax.random.key(0)) is data
    for kind in ("uniform", "class"):
        with pytest.raises(ConfigError, match="at least 1"):
            sample(data, BatchRule(kind, 0), jax.random.key(0))


def test_real_images_are_distinct_class_major_and_enough():
    data = _examples()
    chosen = real_images(data, 25, jax.random.key(5))
    np.testing.assert_array_equal(np.asarray(chosen.labels), np.repeat(np.arange(3), 25))
    assert len(set(_indices(chosen))) == 75
    np.testing.assert_array_equal(_indices(chosen), _indices(real_images(data, 25, jax.random.key(5))))
    for ipc in (0, 26):
        with pytest.raises(DataError, match="class 1 has 25"):
            real_images(data, ipc, jax.random.key(0))


def test_real_images_of_a_data_set_are_raw(arrays):
    x, y, tx, ty = arrays
    chosen = real_images(Dataset.of_arrays(x, y, tx, ty), 4, jax.random.key(0))
    pixels = {image.tobytes() for image in np.rint(np.asarray(chosen.images) * 255).astype(np.uint8)}
    assert pixels == {image.tobytes() for image in x} and chosen.images.dtype == jnp.float32


@pytest.mark.parametrize("rule", [BatchRule("uniform", 1024), BatchRule("class", 100)], ids=lambda rule: rule.kind)
def test_sampling_is_one_sort_and_touches_only_the_images_it_takes(rule):
    """Four milliseconds for sixty thousand images; a second sort, or a look at all images, would double them."""
    data = Examples(jnp.zeros((60_000, 2, 2, 1)), jnp.arange(60_000, dtype=jnp.int32) % 10, 10)
    lowered = jax.jit(lambda data, key: sample(data, rule, key).images).lower(data, jax.random.key(0)).as_text()
    assert lowered.count("stablehlo.sort") == 1
    images = [line for line in lowered.splitlines() if "60000x2x2x1xf32" in line and "func" not in line]
    assert images and all("gather" in line or "call @" in line for line in images), images
