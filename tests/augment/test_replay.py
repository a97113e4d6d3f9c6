"""What a step of soft-label training shows, against literal transcriptions in NumPy on the same draws."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd.augment.imagenet import draw_boxes, resized_crop
from jaxdd.augment.replay import Show, padded_crop, shuffle_patches
from jaxdd.core.errors import UsageError
from jaxdd.core.random import purpose_key

pytestmark = pytest.mark.quick

STILL = Show(6, scale=None, flip=False, mix="none")
KEY = jax.random.key(4)


def images(n: int = 5, side: int = 6) -> np.ndarray:
    return np.random.default_rng(0).random((n, side, side, 2)).astype(np.float32)


def test_without_anything_images_are_shown_as_they_are():
    np.testing.assert_array_equal(STILL.show(KEY, jnp.asarray(images())), images())


@pytest.mark.parametrize("seed", range(6))
def test_cutmix_pastes_one_box_of_one_permutation_and_corrects_nothing(seed):
    key, given = jax.random.key(seed), images()
    found = np.asarray(dataclasses.replace(STILL, mix="cutmix").show(key, jnp.asarray(given)))
    mix = purpose_key(key, "mix")
    lam = float(jax.random.uniform(purpose_key(mix, "share"), (), jnp.float32))
    partner = np.asarray(jax.random.permutation(purpose_key(mix, "partner"), 5))
    row, column = (int(jax.random.randint(purpose_key(mix, name), (), 0, 6)) for name in ("row", "column"))
    half = int(6 * np.sqrt(1 - lam)) // 2
    expected = given.copy()
    for i in range(5):
        for y in range(max(0, row - half), min(6, row + half)):
            for x in range(max(0, column - half), min(6, column + half)):
                expected[i, y, x] = given[partner[i], y, x]
    np.testing.assert_array_equal(found, expected)


def test_mixup_is_one_convex_combination_for_the_whole_batch():
    given = images()
    found = np.asarray(dataclasses.replace(STILL, mix="mixup", alpha=0.8).show(KEY, jnp.asarray(given)))
    mix = purpose_key(KEY, "mix")
    lam = float(jax.random.beta(purpose_key(mix, "share"), 0.8, 0.8, dtype=jnp.float32))
    partner = np.asarray(jax.random.permutation(purpose_key(mix, "partner"), 5))
    assert 0 < lam < 1 and (partner != np.arange(5)).any()
    np.testing.assert_allclose(found, [lam * given[i] + (1 - lam) * given[partner[i]] for i in range(5)], rtol=1e-5)


@pytest.mark.slow
def test_crops_and_flips_are_each_images_own():
    show = dataclasses.replace(STILL, scale=(0.3, 1.0), flip=True)
    given = jnp.asarray(np.repeat(images(1), 24, axis=0))
    found = np.asarray(show.show(KEY, given))
    assert len(np.unique(found.reshape(24, -1), axis=0)) > 20
    cropped = resized_crop(given, draw_boxes(purpose_key(KEY, "crop"), given.shape, (0.3, 1.0), (3 / 4, 4 / 3)), 6)
    mirrored = np.asarray(jax.random.bernoulli(purpose_key(KEY, "flip"), 0.5, (24,)))
    assert 4 < mirrored.sum() < 20
    for i in range(24):
        np.testing.assert_allclose(found[i], cropped[i, :, ::-1] if mirrored[i] else cropped[i], atol=1e-6)


@pytest.mark.slow
def test_the_same_key_shows_the_same_and_another_something_else():
    show, given = Show(6, padding=1, patches=2), jnp.asarray(images())
    first, again, other = (np.asarray(show.show(jax.random.key(i), given)) for i in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1


@pytest.mark.parametrize("factor", [2, 3])
def test_shuffled_patches_permute_rows_and_columns_of_tiles(factor):
    n, side = 16, 6
    tile = side // factor
    place = np.arange(side) // tile
    numbers = np.broadcast_to((place[:, None] * factor + place[None, :])[None, :, :, None], (n, side, side, 1))
    within = np.arange(side * side).reshape(1, side, side, 1) % tile  # what is inside a tile moves along
    given = jnp.asarray(np.concatenate([numbers, np.broadcast_to(within, numbers.shape)], -1).astype(np.float32))
    found = np.asarray(shuffle_patches(KEY, given, factor))
    orders = set()
    for image in found:
        tiles = image[::tile, ::tile, 0].astype(int)
        rows, columns = tiles[:, 0] // factor, tiles[0] % factor
        assert sorted(rows) == sorted(columns) == list(range(factor))
        np.testing.assert_array_equal(tiles, rows[:, None] * factor + columns[None, :])
        np.testing.assert_array_equal(image[..., 0], np.repeat(np.repeat(tiles, tile, 0), tile, 1))
        np.testing.assert_array_equal(image[..., 1], np.asarray(given)[0, ..., 1])
        orders.add((*rows, *columns))
    assert len(orders) > 2


def test_images_that_cannot_be_cut_into_tiles_are_refused():
    with pytest.raises(UsageError, match="cannot be cut"):
        shuffle_patches(KEY, jnp.zeros((2, 6, 6, 1)), 4)


def test_a_padded_crop_is_a_window_of_the_image_with_black_around():
    given = images(12)
    found = np.asarray(padded_crop(KEY, jnp.asarray(given), 2))
    framed = np.pad(given, ((0, 0), (2, 2), (2, 2), (0, 0)))
    places = []
    for i in range(12):
        matches = [
            (y, x) for y in range(5) for x in range(5) if np.array_equal(framed[i, y : y + 6, x : x + 6], found[i])
        ]
        places += matches
        assert len(matches) == 1
    assert len(set(places)) > 6


def test_all_windows_of_a_padded_crop_are_as_likely():
    image = np.random.default_rng(0).uniform(0.1, 1, (1, 6, 6, 3)).astype(np.float32)
    shown = np.asarray(padded_crop(KEY, jnp.asarray(np.repeat(image, 800, 0)), 4))
    padded = np.pad(image[0], ((4, 4), (4, 4), (0, 0)))
    windows = {padded[i : i + 6, j : j + 6].tobytes(): (i, j) for i in range(9) for j in range(9)}
    places = [windows[each.tobytes()] for each in shown]  # every one is a window
    assert len(set(places)) == 81
    assert np.abs(np.mean(places, 0) - 4).max() < 0.35
