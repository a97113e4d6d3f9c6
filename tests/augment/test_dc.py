"""The augmentation of DC's evaluation against the authors' way with one image, by NumPy and SciPy."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jaxdd import augment
from jaxdd.augment.dc import OPERATIONS, crop, draw_crop, draw_scale, rotate, scale
from jaxdd.core.random import purpose_key


@pytest.mark.quick
def test_crop_shows_the_channels_mean_outside(x64):
    images = 3 + jax.random.normal(jax.random.key(0), (3, 9, 11, 2), jnp.float64)
    shifts = np.array([[-4, 3], [0, 0], [3, -4]])
    result = jax.jit(crop)(images, *map(jnp.asarray, shifts.T))
    mean = np.asarray(images).mean((0, 1, 2))
    for image, found, (rows, columns) in zip(np.asarray(images), result, shifts, strict=True):
        framed = np.stack([np.pad(image[..., c], 4, constant_values=mean[c]) for c in range(2)], -1)
        expected = framed[rows + 4 : rows + 13, columns + 4 : columns + 15]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14)


def literal_scale(image, h, w):
    """Nearest resize, pasted into the middle of a canvas of zeros, whose middle is cut out."""
    height, width, channels = image.shape
    resized = np.stack([image[i * height // h] for i in range(h)])
    resized = np.stack([resized[:, j * width // w] for j in range(w)], 1)
    side = max(h, w, height, width)
    canvas = np.zeros((side, side, channels))
    r, c = (side - h) // 2, (side - w) // 2
    canvas[r : r + h, c : c + w] = resized
    r, c = (side - height) // 2, (side - width) // 2
    return canvas[r : r + height, c : c + width]


@pytest.mark.quick
def test_scale_is_the_authors():
    sizes = np.array([[28, 28], [22, 33], [33, 22], [30, 31], [27, 24], [25, 25]])
    images = jax.random.normal(jax.random.key(0), (len(sizes), 28, 28, 2))
    result = jax.jit(scale)(images, *map(jnp.asarray, sizes.T))
    for image, found, (h, w) in zip(np.asarray(images), result, sizes, strict=True):
        np.testing.assert_array_equal(found, literal_scale(image, h, w).astype(np.float32))


@pytest.mark.fast("shape0")
@pytest.mark.quick
@pytest.mark.parametrize("shape", [(28, 28), (13, 20)])
def test_rotate_is_scipys_cubic_spline(x64, shape):
    degrees = np.arange(-45, 45, 1 if shape == (28, 28) else 7)
    images = jax.random.normal(jax.random.key(0), (len(degrees), *shape, 2), jnp.float64)
    result = np.asarray(jax.jit(rotate)(images, jnp.asarray(degrees)))
    fill = float(images.mean())
    for image, found, angle in zip(np.asarray(images), result, degrees, strict=True):
        turned = ndimage.rotate(image, angle=angle, axes=(0, 1), cval=fill)
        r, c = ((turned.shape[axis] - shape[axis]) // 2 for axis in (0, 1))
        np.testing.assert_allclose(found, turned[r : r + shape[0], c : c + shape[1]], rtol=0, atol=1e-9)


@pytest.mark.quick
def test_a_row_of_pixels_can_be_turned():
    images = jax.random.normal(jax.random.key(0), (2, 1, 6, 1))
    result = jax.jit(rotate)(images, jnp.array([0, 30]))
    assert np.isfinite(result).all()
    np.testing.assert_allclose(result[0], images[0], rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.quick
def test_each_image_gets_exactly_one_operation():
    images = jax.random.normal(jax.random.key(0), (400, 8, 8, 1))
    names = ["crop", "scale", "rotate", "noise"]
    key = jax.random.key(1)
    result = np.asarray(jax.jit(augment.dc("_".join(names)))(key, images))
    each = np.stack(
        jax.jit(lambda key, images: [OPERATIONS[n](purpose_key(key, n), images) for n in names])(key, images)
    )
    match = np.abs(each - result).max((2, 3, 4)) < 1e-5
    assert match.any(0).all()
    # Besides, a crop by nothing, a scale to the same size and a turn by 0 degrees match all but the noise.
    counts = match.sum(1)
    assert ((counts > 70) & (counts < 135)).all()
    noise = each[3] - images
    assert noise.std() == pytest.approx(0.001, rel=0.05)


@pytest.mark.quick
def test_draws_have_their_distributions():
    ones = jnp.ones((4000, 28, 28, 1))
    ramp = ones * jnp.arange(28.0).reshape(1, 28, 1, 1)
    moved = np.asarray(jax.jit(draw_crop)(jax.random.key(0), ramp))[:, 14, 14, 0] - 14
    assert np.bincount(moved.astype(int) + 4, minlength=9) / 4000 == pytest.approx([1 / 8] * 8 + [0], abs=0.03)
    rows = np.asarray(jax.jit(draw_scale)(jax.random.key(0), ones))[:, :, 14, 0].sum(1)
    # Sides are 22.4 to 33.6 pixels, rounded down; only those below 28 show.
    expected = np.array([0.6, 1, 1, 1, 1, 1, 5.6]) / 11.2
    assert np.bincount(rows.astype(int), minlength=29)[22:] / 4000 == pytest.approx(expected, abs=0.03)


@pytest.mark.quick
@pytest.mark.parametrize("side", [15, 28])
def test_sides_are_the_uniform_factor_of_the_side_rounded_down(side):
    n, key = 300, jax.random.key(side)
    u = np.asarray(jax.random.uniform(purpose_key(key, "height"), (n, 1), jnp.float32), np.float64)[:, 0]
    whole = np.floor(side * (0.8 + 0.4 * u)).astype(int)
    assert set(whole) == set(range(math.floor(0.8 * side), math.ceil(1.2 * side)))
    found = jax.jit(draw_scale)(key, jnp.ones((n, side, side, 1)))
    np.testing.assert_array_equal(np.asarray(found).any((2, 3)).sum(1), np.where(whole < side, whole, side))


@pytest.mark.quick
def test_no_strategy_is_the_identity():
    images = jnp.ones((2, 8, 8, 3))
    assert augment.dc(None)(jax.random.key(0), images) is images
