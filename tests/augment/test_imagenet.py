"""The ImageNet augmentation, piece by piece, against what the authors' libraries do to one image."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd import augment
from jaxdd.augment.imagenet import Boxes, draw_boxes, jitter, lighting, resized_crop
from jaxdd.core.random import purpose_key


def weights(start, length, side, size):
    """`[size, side]`: bilinear with pixels' middles aligned and a window's edges replicated, in rational numbers."""
    result = np.zeros((size, side))
    for i in range(size):
        place = min(max(Fraction((2 * i + 1) * length - size, 2 * size), Fraction(0)), Fraction(length - 1))
        before = math.floor(place)
        result[i, start + before] += float(1 - (place - before))
        result[i, start + min(before + 1, length - 1)] += float(place - before)
    return result


@pytest.mark.quick
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-14), (np.float32, 1e-6)])
def test_resized_crop_is_rational_and_sees_nothing_beside_its_window(x64, dtype, tolerance):
    boxes = np.array([[0, 0, 12, 15], [3, 5, 7, 9], [11, 14, 1, 1], [2, 0, 10, 4], [1, 2, 3, 6]])
    images = np.random.default_rng(0).random((len(boxes), 12, 15, 3)).astype(dtype)
    cotangent = np.random.default_rng(1).random((len(boxes), 12, 12, 3)).astype(dtype)
    down, right = (
        np.stack([weights(box[axis], box[axis + 2], side, 12) for box in boxes])
        for axis, side in enumerate(images.shape[1:3])
    )

    def crop(x, boxes):
        return resized_crop(x, Boxes(*boxes.T), 12)

    def both(x, boxes):  # in one program places may be computed twice, and not alike
        return crop(x, boxes), jax.grad(lambda x: (cotangent * crop(x, boxes)).sum())(x)

    value, slope = jax.jit(both)(images, boxes)
    assert value.dtype == dtype
    expected = np.einsum("nih,njw,nhwc->nijc", down, right, images)
    np.testing.assert_allclose(value, expected, rtol=0, atol=tolerance)
    np.testing.assert_allclose(jax.jit(crop)(images, boxes), expected, rtol=0, atol=tolerance)
    expected = np.einsum("nih,njw,nijc->nhwc", down, right, cotangent)
    np.testing.assert_allclose(slope, expected, rtol=0, atol=30 * tolerance)  # up to 144 pixels show one


@pytest.mark.quick
def test_the_whole_image_at_its_own_size_is_exact():
    images = np.random.default_rng(0).random((2, 9, 9, 3), np.float32)
    whole = Boxes(*np.array([[0, 0], [0, 0], [9, 9], [9, 9]], np.int32))
    np.testing.assert_array_equal(jax.jit(resized_crop, static_argnums=2)(images, whole, 9), images)


@pytest.mark.quick
def test_windows_have_their_distribution():
    n, side = 4000, 224
    draw = jax.jit(draw_boxes, static_argnums=(1, 2, 3))
    boxes = draw(jax.random.key(0), (n, side, side, 3), (0.5, 1.0), (3 / 4, 4 / 3))
    top, left, height, width = map(np.asarray, boxes)
    assert (top >= 0).all() and (left >= 0).all() and (top + height <= side).all() and (left + width <= side).all()
    # The same by the loop of the library that the authors use, with other random numbers.
    rng, literal = np.random.default_rng(0), []
    for _ in range(n):
        for _ in range(10):
            area, ratio = side**2 * rng.uniform(0.5, 1), np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
            w, h = round(np.sqrt(area * ratio)), round(np.sqrt(area / ratio))
            if w <= side and h <= side:
                literal.append((rng.integers(0, side - h + 1), rng.integers(0, side - w + 1), h, w))
                break
    quantiles = [0.05, 0.25, 0.5, 0.75, 0.95]
    for mine, theirs in zip((top, left, height, width), np.array(literal).T, strict=True):
        assert np.quantile(mine, quantiles) == pytest.approx(np.quantile(theirs, quantiles), abs=5)
    shares = height * width / side**2
    assert shares.min() > 0.49 and shares.max() < 1.01


@pytest.mark.quick
def test_the_first_attempt_that_fits_is_shown():
    n, height, width = 200, 20, 26
    key = jax.random.key(3)
    found = jax.jit(draw_boxes, static_argnums=(1, 2, 3))(key, (n, height, width, 3), (0.6, 1.0), (3 / 4, 4 / 3))
    share = jax.random.uniform(purpose_key(key, "area"), (n, 10), jnp.float32, 0.6, 1.0)
    log = jax.random.uniform(purpose_key(key, "ratio"), (n, 10), jnp.float32, math.log(3 / 4), math.log(4 / 3))
    area, ratio = height * width * np.asarray(share, np.float64), np.exp(np.asarray(log, np.float64))
    heights, widths = np.rint(np.sqrt(area / ratio)), np.rint(np.sqrt(area * ratio))
    fits = (heights <= height) & (widths <= width)
    first = fits.argmax(1)
    assert len(np.unique(first[fits.any(1)])) > 3
    for side, mine in ((heights, found.height), (widths, found.width)):
        np.testing.assert_array_equal(np.asarray(mine)[fits.any(1)], side[np.arange(n), first][fits.any(1)])


@pytest.mark.fast("10-100-box0")
@pytest.mark.quick
@pytest.mark.parametrize(("height", "width", "box"), [(10, 100, (0, 43, 10, 13)), (90, 30, (25, 0, 40, 30))])
def test_where_no_window_fits_the_middle_is_shown(height, width, box):
    found = jax.jit(draw_boxes, static_argnums=(1, 2, 3))(
        jax.random.key(0), (3, height, width, 3), (1.0, 1.0), (3 / 4, 4 / 3)
    )
    np.testing.assert_array_equal(np.stack(found, 1), [box] * 3)


@pytest.mark.quick
def test_jitter_is_the_authors_in_every_order(x64):
    images = np.asarray(jax.random.uniform(jax.random.key(0), (3, 5, 6, 3), jnp.float64))
    amounts = np.array([[0.4, -0.3, 0.2], [-0.4, 0.1, 0.35], [0.05, 0.4, -0.4]])

    def grey(x):
        return np.repeat((x @ np.array([0.299, 0.587, 0.114]))[..., None], 3, -1)

    steps = {
        "brightness": lambda x, a: x + a * (np.zeros_like(x) - x),
        "contrast": lambda x, a: x + a * (np.full_like(x, grey(x).mean()) - x),
        "saturation": lambda x, a: x + a * (grey(x) - x),
    }
    result = jax.jit(jitter)(jnp.asarray(images), *map(jnp.asarray, amounts.T))
    for order in itertools.permutations(range(3)):
        for image, amount, found in zip(images, amounts, result, strict=True):
            for index in order:
                image = list(steps.values())[index](image, amount[index])
            np.testing.assert_allclose(found, image, rtol=0, atol=1e-14)


@pytest.mark.quick
def test_lighting_adds_one_colour(x64):
    images = jax.random.uniform(jax.random.key(0), (2, 4, 4, 3), jnp.float64)
    moved = lighting(images, jnp.array([[1.0, 0.0, 0.0], [0.0, 0.5, -2.0]])) - images
    expected = [[-0.5675 * 0.2175, -0.5808 * 0.2175, -0.5836 * 0.2175]]
    expected += [
        [0.5 * 0.0188 * a - 2 * 0.0045 * b for a, b in ((0.7192, 0.4009), (-0.0045, -0.8140), (-0.6948, 0.4203))]
    ]
    np.testing.assert_allclose(moved, np.broadcast_to(np.array(expected)[:, None, None], moved.shape), atol=1e-15)


@pytest.mark.slow
@pytest.mark.quick
def test_the_whole(x64):
    images = jax.random.uniform(jax.random.key(0), (64, 20, 24, 3), jnp.float64)
    run = jax.jit(augment.imagenet(16))
    result = run(jax.random.key(1), images)
    assert result.shape == (64, 16, 16, 3)
    assert result.dtype == images.dtype
    np.testing.assert_array_equal(result, run(jax.random.key(1), images))
    columns = jnp.broadcast_to(jnp.arange(24.0)[None, None, :, None], images.shape)
    slopes = run(jax.random.key(1), columns)
    assert 16 < int((slopes[:, 0, 0, 0] > slopes[:, 0, -1, 0]).sum()) < 48  # mirrored
    # Affine in the image: a difference of any size is the derivative.
    _, tangent = jax.jvp(lambda x: run(jax.random.key(1), x), (images,), (columns,))
    np.testing.assert_allclose(run(jax.random.key(1), images + columns) - result, tangent, rtol=0, atol=1e-11)
