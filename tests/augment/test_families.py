"""What IDC's and DSA's words mean: which operations a call applies, in which order, with which draws."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd import augment
from jaxdd.augment import draws
from jaxdd.core.errors import UsageError
from jaxdd.core.random import purpose_key
from tests.augment import transcription

EVERY = "color_crop_cutout_flip_scale_rotate"
SIDE = 10


def uniform(key, *purposes, count):
    """The documented draws: float32 for each purpose, whatever the images are."""
    return [np.asarray(jax.random.uniform(purpose_key(key, p), (count,), jnp.float32), np.float64) for p in purposes]


def integer(key, *purposes, count, low, high):
    return [np.asarray(jax.random.randint(purpose_key(key, p), (count,), low, high + 1, jnp.int32)) for p in purposes]


def numbers(name, key, count):
    """What an operation draws: shifts of up to 1 of 10 pixels, holes of 5, which may stick out."""
    key = purpose_key(key, name)
    if name in ("crop", "translate"):
        return integer(key, *(("rows", "columns") if name == "crop" else ("columns",)), count=count, low=-1, high=1)
    if name == "cutout":
        return integer(key, "rows", "columns", count=count, low=0, high=SIDE - 1)
    purposes = {"color": ("brightness", "saturation", "contrast"), "scale": ("rows", "columns"), "rotate": ("angle",)}
    return uniform(key, *purposes.get(name, ("flip",)), count=count)


def apply(names, key, images, count):
    images = np.asarray(images, np.float64)
    for name in names:
        drawn = [np.broadcast_to(x, len(images)) for x in numbers(name, key, count)]
        images = np.stack([getattr(transcription, name)(x, *u) for x, *u in zip(images, *drawn, strict=True)])
    return images


@pytest.fixture
def images(x64):
    return jax.random.normal(jax.random.key(1), (4, SIDE, SIDE, 3), jnp.float64)


@pytest.mark.fast("color_crop_cutout-before0-geometric0-after0-False", "translate_flip-before2-geometric2-after2-True")
@pytest.mark.quick
@pytest.mark.parametrize("siamese", [False, True])
@pytest.mark.parametrize(
    ("strategy", "before", "geometric", "after"),
    [
        ("color_crop_cutout", ["color"], ["crop"], ["cutout"]),
        ("cutout_rotate_crop_flip_scale_color", ["flip", "color"], ["rotate", "crop", "scale"], ["cutout"]),
        ("translate_flip", ["flip"], ["translate"], []),
        ("color", ["color"], [], []),
    ],
)
def test_diffaug_is_flip_colour_one_geometric_cutout(images, siamese, strategy, before, geometric, after):
    run = jax.jit(augment.diffaug(strategy, SIDE, siamese=siamese))
    seen = set()
    for seed in range(8 if len(geometric) > 1 else 2):
        key = jax.random.key(seed)
        chosen = geometric[int(draws.drawn(key, len(geometric)))] if geometric else None
        names = [*before, *([chosen] if chosen else []), *after]
        expected = apply(names, key, images, 1 if siamese else len(images))
        # Factors and angles are computed in float32, whatever the images are.
        np.testing.assert_allclose(run(key, images), expected, rtol=0, atol=1e-5)
        seen.add(chosen)
    assert len(seen) == max(len(geometric), 1)


@pytest.mark.slow
@pytest.mark.quick
@pytest.mark.parametrize("siamese", [False, True])
def test_dsa_is_exactly_one_operation(images, siamese):
    run = jax.jit(augment.dsa(EVERY, SIDE, siamese=siamese))
    names, seen = EVERY.split("_"), set()
    for seed in range(16):
        key = jax.random.key(seed)
        chosen = names[int(draws.drawn(key, len(names)))]
        expected = apply([chosen], key, images, 1 if siamese else len(images))
        np.testing.assert_allclose(run(key, images), expected, rtol=0, atol=1e-5)
        seen.add(chosen)
    assert seen == set(names)


@pytest.mark.quick
def test_the_operation_is_drawn_uniformly():
    # The tests above show that a call applies the one that is drawn here.
    keys = jax.random.split(jax.random.key(0), 3000)
    counts = np.bincount(jax.vmap(lambda key: draws.drawn(key, 6))(keys), minlength=6)
    assert ((counts - 500) ** 2 / 500).sum() < 20.5  # chi squared, five degrees of freedom, one in a thousand


@pytest.mark.slow
@pytest.mark.quick
@pytest.mark.parametrize("make", [augment.dsa, augment.diffaug])
def test_siamese_batches_are_transformed_alike_whatever_their_size(make):
    run = jax.jit(make(EVERY, 16, siamese=True))
    real = jax.random.normal(jax.random.key(0), (7, 16, 16, 3))
    for seed in range(12):
        key = jax.random.key(seed)
        np.testing.assert_allclose(run(key, real)[2:4], run(key, real[2:4]), rtol=0, atol=2e-6)


@pytest.mark.fast("diffaug")
@pytest.mark.quick
@pytest.mark.parametrize("make", [augment.dsa, augment.diffaug])
def test_images_have_draws_of_their_own_unless_siamese(make):
    same = jnp.broadcast_to(jax.random.normal(jax.random.key(0), (1, 16, 16, 3)), (6, 16, 16, 3))
    for name in ("color", "crop", "scale", "rotate", "cutout") if make is augment.dsa else ("color_crop",):
        alone, alike = (
            np.asarray(jax.jit(make(name, 16, siamese=siamese))(jax.random.key(1), same)) for siamese in (False, True)
        )
        assert len(np.unique(alone.reshape(6, -1), axis=0)) > 3, name
        np.testing.assert_allclose(alike, np.broadcast_to(alike[:1], alike.shape), rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.quick
def test_draws_have_their_distributions():
    n, side = 4000, 16
    ones = jnp.ones((n, side, side, 1))
    shown = np.asarray(jax.jit(augment.dsa("crop", side, siamese=False))(jax.random.key(0), ones))[..., 0]
    tall, wide = shown.any(2).sum(1), shown.any(1).sum(1)  # what a shift by i leaves
    for left in (tall, wide):
        assert np.bincount(side - left, minlength=3) / n == pytest.approx([1 / 5, 2 / 5, 2 / 5], abs=0.04)
    assert np.corrcoef(tall, wide)[0, 1] == pytest.approx(0, abs=0.06)
    bright = np.asarray(jax.jit(augment.dsa("color", side, siamese=False))(jax.random.key(0), ones))[:, 0, 0, 0] - 1
    assert np.quantile(bright, [0, 0.25, 0.5, 0.75, 1]) == pytest.approx([-0.5, -0.25, 0, 0.25, 0.5], abs=0.04)
    ramp = jnp.broadcast_to(jnp.arange(side, dtype=jnp.float32)[None, None, :, None], (n, side, side, 1))
    mirrored = (
        np.asarray(jax.jit(augment.diffaug("flip", side, siamese=False))(jax.random.key(0), ramp))[:, 0, 0, 0] > 0
    )
    assert mirrored.mean() == pytest.approx(0.5, abs=0.04)
    holes = np.asarray(jax.jit(augment.diffaug("cutout", side, siamese=False))(jax.random.key(0), ones))[..., 0] == 0
    rows = holes.any(2).sum(1)  # of 8 rows; the middle is at 0 to 16, so 4 to 8 of them are inside
    assert np.bincount(rows, minlength=9)[4:] / n == pytest.approx(np.array([2, 2, 2, 2, 9]) / 17, abs=0.04)


@pytest.mark.slow
@pytest.mark.quick
def test_colour_comes_before_what_makes_zeros():
    images = 5 + jax.random.normal(jax.random.key(1), (32, 16, 16, 3))
    result = np.asarray(jax.jit(augment.diffaug("color_crop_cutout", 16, siamese=False))(jax.random.key(0), images))
    assert (result == 0).all(3).any((1, 2)).all()


@pytest.mark.quick
@pytest.mark.parametrize("make", [augment.dsa, augment.diffaug])
@pytest.mark.parametrize("strategy", [None, "", "none", "None"])
def test_no_strategy_is_the_identity(make, strategy):
    images = jnp.ones((2, 8, 8, 3))
    assert make(strategy, 8, siamese=True)(jax.random.key(0), images) is images


@pytest.mark.quick
@pytest.mark.parametrize(
    ("make", "strategy", "resolution", "message"),
    [
        (augment.diffaug, "color_cutoff", 8, r"unknown operation 'cutoff'(.|\n)*did you mean 'cutout'"),
        (augment.dsa, "flip_translate", 8, "unknown operation 'translate'"),
        (augment.dsa, "crop_crop", 8, "repeats an operation"),
        (augment.diffaug, "crop", 0, "resolution is 0"),
        (augment.dc, "crop_turn", 8, "unknown operation 'turn'"),
    ],
)
def test_refusals(make, strategy, resolution, message):
    with pytest.raises(UsageError, match=message):
        make(strategy) if make is augment.dc else make(strategy, resolution, siamese=False)


@pytest.mark.quick
def test_images_of_another_resolution_are_refused():
    with pytest.raises(UsageError, match=r"images of 28 x 28 pixels(.|\n)*32 pixels a side"):
        augment.dsa("crop", 32, siamese=False)(jax.random.key(0), jnp.ones((2, 28, 28, 1)))
