"""One view for a whole batch: against crops image by image, NumPy's flips and rolls, and the literal rule."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd.augment import shared
from jaxdd.augment.imagenet import Boxes, resized_crop

BOXES = [(0, 0, 12, 15), (3, 5, 7, 9), (11, 14, 1, 1), (2, 0, 10, 4)]
SHAPE = (3, 12, 15, 2)


def images(dtype=np.float64):
    return jnp.asarray(np.random.default_rng(0).normal(size=SHAPE), dtype)


def scalars(box):
    return Boxes(*(jnp.asarray(each, jnp.int32) for each in box))


@pytest.mark.quick
@pytest.mark.parametrize("box", BOXES)
def test_crops_of_all_images_are_those_image_by_image(box, x64):
    def mine(x):
        return shared.see(shared.window(scalars(box), SHAPE, 12, x.dtype), x)

    def theirs(x):
        return resized_crop(x, Boxes(*(jnp.full(len(x), each) for each in box)), 12)

    weights = jnp.asarray(np.random.default_rng(1).normal(size=(3, 12, 12, 2)))
    values, slopes = zip(
        *(
            jax.jit(lambda x, f=f: (f(x), jax.grad(lambda x: (weights * f(x)).sum())(x)))(images())
            for f in (mine, theirs)
        ),
        strict=True,
    )
    np.testing.assert_allclose(*values, rtol=0, atol=1e-13)
    np.testing.assert_allclose(*slopes, rtol=0, atol=1e-13)
    outside = np.ones(SHAPE, bool)
    outside[:, box[0] : box[0] + box[2], box[1] : box[1] + box[3]] = False
    assert not np.asarray(slopes[0])[outside].any()  # only what is shown has a slope


@pytest.mark.quick
def test_flips_and_rolls_are_those_of_numpy():
    x = images(np.float32)[:, :, :12]
    whole = shared.whole(x.shape, 12)
    np.testing.assert_array_equal(shared.see(whole, x), x)
    for coin, down, right in itertools.product((False, True), (0, 3, -2), (0, 1, 11)):
        view = shared.rolled(shared.flipped(whole, jnp.asarray(coin)), jnp.asarray(down), jnp.asarray(right))
        wanted = np.roll(np.asarray(x)[:, :, ::-1] if coin else np.asarray(x), (down, right), (1, 2))
        np.testing.assert_array_equal(shared.see(view, x), wanted)


@pytest.mark.quick
def test_the_type_of_the_images_is_kept():
    assert shared.see(shared.whole(SHAPE, 4), images(jnp.bfloat16)).dtype == jnp.bfloat16


def literal_box(random, side, scale):
    """torchvision's rule, in Python: the window, and whether it is the one for want of another."""
    for _ in range(10):
        area, ratio = side**2 * random.uniform(scale, 1), np.exp(random.uniform(np.log(3 / 4), np.log(4 / 3)))
        w, h = round(np.sqrt(area * ratio)), round(np.sqrt(area / ratio))
        if 0 < w <= side and 0 < h <= side:
            return (random.integers(0, side - h + 1), random.integers(0, side - w + 1), h, w), False
    return (0, 0, side, side), True  # the whole of a square, whose ratio is within the bounds


def features(boxes, side):
    """Numbers whose means tell distributions of windows apart."""
    top, left, height, width = boxes.T
    ratio = np.log(width / height)
    return top, left, height, width, height * width / side**2, ratio, np.abs(ratio)


@pytest.mark.quick
@pytest.mark.parametrize("scale", [0.08, 0.6, 0.97, 1.0])
def test_windows_have_their_distribution_for_a_traced_least_scale(scale):
    n, side = 4000, 64
    draw = jax.jit(
        lambda keys, least: jax.vmap(lambda key: shared.draw_box(key, (1, side, side, 3), (least, 1.0)))(keys)
    )
    found = np.stack(draw(jax.random.split(jax.random.key(0), n), jnp.float32(scale)), 1)
    random = np.random.default_rng(0)
    literal, without = zip(*(literal_box(random, side, scale) for _ in range(n)), strict=True)
    literal = np.asarray(literal)
    top, left, height, width = found.T
    assert (found >= 0).all() and (top + height <= side).all() and (left + width <= side).all() and (height > 0).all()
    for mine, theirs in zip(features(found, side), features(literal, side), strict=True):
        error = np.hypot(mine.std(), theirs.std()) / np.sqrt(n)
        assert abs(mine.mean() - theirs.mean()) <= 4 * error
    whole = (found[:, 2:] == side).all(1).mean()
    expected = (literal[:, 2:] == side).all(1).mean()
    assert abs(whole - expected) < 4 * np.sqrt(0.5 / n)
    assert any(without) == (scale >= 0.97)  # where windows seldom fit, the whole image is shown for want of one
    if scale == 1:
        assert whole > 0.5


@pytest.mark.quick
@pytest.mark.parametrize("signed", [False, True])
def test_rolls_take_every_number_up_to_the_most_equally_often(signed):
    draw = jax.jit(jax.vmap(lambda key: jnp.stack(shared.draw_roll(key, 4, signed))))
    found = np.asarray(draw(jax.random.split(jax.random.key(1), 4000)))
    numbers = np.arange(-4 if signed else 0, 5)
    for column in found.T:
        values, counts = np.unique(column, return_counts=True)
        np.testing.assert_array_equal(values, numbers)
        share = 1 / len(numbers)
        assert np.abs(counts / 4000 - share).max() < 4 * np.sqrt(share / 4000)
    assert abs(np.corrcoef(found.T)[0, 1]) < 0.07  # down and right are drawn apart


@pytest.mark.quick
def test_every_second_view_is_flipped():
    whole = shared.whole((1, 4, 4, 1), 4)
    keys = jax.random.split(jax.random.key(2), 2000)
    columns = np.asarray(jax.jit(jax.vmap(lambda key: shared.flip(key, whole).columns))(keys))
    turned = (columns == np.eye(4)[::-1]).all((1, 2))
    assert (turned | (columns == np.eye(4)).all((1, 2))).all()
    assert abs(turned.mean() - 0.5) < 0.05
