"""Every operation against a recomputation by NumPy and SciPy, image by image, from the same draws."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jaxdd import augment
from jaxdd.augment import geometry
from jaxdd.core.errors import UsageError
from jaxdd.core.random import purpose_key

ALL = "flip_color_crop_rotate_translate_cutout"
SHAPE = (12, 16, 16, 3)


@pytest.fixture
def images(x64):
    return 5 * jax.random.normal(jax.random.key(1), SHAPE, jnp.float64)


@pytest.fixture(scope="module")
def key():
    return jax.random.key(7)


def uniform(key, *shape):
    """The documented draw in [-1, 1]: always float32, whatever the images are."""
    return np.asarray(jax.random.uniform(key, shape, jnp.float32, -1, 1), np.float64)


def sample(image, source):
    """Bilinear sampling of one image where `source(row, column)`, relative to the centre, says; edges replicated."""
    height, width, channels = image.shape
    centre = np.array([(height - 1) / 2, (width - 1) / 2]).reshape(2, 1, 1)
    where = np.array(source(*(np.mgrid[:height, :width] - centre))) + centre
    planes = [ndimage.map_coordinates(image[..., c], where, order=1, mode="nearest") for c in range(channels)]
    return np.stack(planes, -1)


def flip(key, images):
    flipped = np.asarray(jax.random.bernoulli(key, 0.5, (len(images),)))
    assert 0 < flipped.sum() < len(images)
    return np.stack([image[:, ::-1] if mirrored else image for image, mirrored in zip(images, flipped, strict=True)])


def color(key, images):
    draws = [0.25 * uniform(purpose_key(key, name), len(images)) for name in ("add", "contrast", "saturation")]
    results = []
    for image, brightness, contrast, saturation in zip(images, *draws, strict=True):
        x = image + brightness
        x = (x - x.mean()) * np.exp(contrast) + x.mean()
        grey = x.mean(-1, keepdims=True)
        results.append((x - grey) * np.exp(saturation) + grey)
    return np.stack(results)


def crop(key, images):
    logarithm = np.asarray(
        jax.random.uniform(purpose_key(key, "zoom"), (len(images),), jnp.float32, np.log(0.8), np.log(1.25)), np.float64
    )
    zooms, centres = np.exp(logarithm), uniform(purpose_key(key, "centre"), len(images), 2)
    side = images.shape[1]
    results = []
    for image, zoom, centre in zip(images, zooms, centres, strict=True):
        y, x = centre * abs(side * zoom - side) / 2
        results.append(sample(image, lambda r, c, y=y, x=x, zoom=zoom: ((r + y) / zoom, (c + x) / zoom)))
    return np.stack(results)


def rotate(key, images):
    angles = np.deg2rad(15) * uniform(key, len(images))

    def turn(angle):
        return lambda r, c: (np.cos(angle) * r + np.sin(angle) * c, np.cos(angle) * c - np.sin(angle) * r)

    return np.stack([sample(image, turn(angle)) for image, angle in zip(images, angles, strict=True)])


def translate(key, images):
    shifts = 0.125 * images.shape[1] * uniform(key, len(images), 2)
    return np.stack([sample(i, lambda r, c, s=s: (r + s[0], c + s[1])) for i, s in zip(images, shifts, strict=True)])


def cutout(key, images):
    side = images.shape[1] // 4
    corners = [
        np.asarray(jax.random.randint(purpose_key(key, name), (len(images),), 0, images.shape[1] - side + 1))
        for name in ("top", "left")
    ]
    results = images.copy()
    for image, top, left in zip(results, *corners, strict=True):
        image[top : top + side, left : left + side] = 0
    return results


ORACLES = {"flip": flip, "color": color, "crop": crop, "rotate": rotate, "translate": translate, "cutout": cutout}


@pytest.mark.quick
@pytest.mark.parametrize("name", augment.OPERATIONS)
def test_operation_is_its_rule(name, images, key):
    result = jax.jit(augment.build(name, 16))(key, images)
    expected = ORACLES[name](purpose_key(key, name), np.asarray(images))
    # Zoom, angle and shift are computed in float32, whatever the images are: a ten-millionth of 16 pixels.
    exact = name in ("flip", "cutout")
    np.testing.assert_allclose(result, expected, rtol=0, atol=0 if exact else 3e-5)
    assert not np.array_equal(result, images)
    assert result.dtype == images.dtype


@pytest.mark.slow
@pytest.mark.quick
def test_each_image_gets_exactly_one_operation_of_the_strategy(images, key):
    names = ALL.split("_")
    result = np.asarray(augment.build(ALL, 16)(key, images))
    drawn = np.asarray(jax.random.randint(purpose_key(key, "operation"), SHAPE[:1], 0, len(names)))
    everything = {name: ORACLES[name](purpose_key(key, name), np.asarray(images)) for name in names}
    for i, index in enumerate(drawn):
        np.testing.assert_allclose(result[i], everything[names[index]][i], rtol=0, atol=3e-5)
    assert len(set(drawn.tolist())) > 3


@pytest.mark.quick
def test_operations_are_drawn_uniformly():
    # Constant images tell the operations apart: a cutout has zeros, colour moves the whole, a mirror changes nothing.
    images = jnp.ones((3000, 8, 8, 1))
    result = np.asarray(jax.jit(augment.build("cutout_color_flip", 8))(jax.random.key(0), images))
    cut = (result == 0).any((1, 2, 3))
    coloured = ~cut & (np.abs(result - 1) > 1e-6).any((1, 2, 3))
    counts = np.array([cut.sum(), coloured.sum(), 3000 - cut.sum() - coloured.sum()])
    assert ((counts - 1000) ** 2 / 1000).sum() < 13.8  # chi squared, two degrees of freedom, one in a thousand


@pytest.mark.quick
@pytest.mark.parametrize("resolution", [8, 28, 32])
def test_cutout_is_one_whole_square_anywhere_inside(resolution):
    images = jnp.ones((400, resolution, resolution, 1))
    holes = np.asarray(augment.build("cutout", resolution)(jax.random.key(0), images))[..., 0] == 0
    side = resolution // 4
    assert (holes.sum((1, 2)) == side**2).all()
    assert (holes.any(1).sum(1) == side).all()
    assert (holes.any(2).sum(1) == side).all()
    if resolution == 8:
        assert holes.any(0).all()  # the corners too


@pytest.mark.slow
@pytest.mark.quick
def test_same_key_same_images_and_independent_of_the_rest(key):
    images = jax.random.normal(jax.random.key(1), (6, 8, 8, 3))
    apply = jax.jit(augment.build(ALL, 8))
    np.testing.assert_array_equal(apply(key, images), apply(key, images))
    assert not np.array_equal(apply(key, images), apply(jax.random.key(8), images))
    changed = apply(key, images.at[3].set(0.0))
    np.testing.assert_array_equal(jnp.delete(changed, 3, 0), jnp.delete(apply(key, images), 3, 0))
    assert apply(key, images).dtype == jnp.float32


@pytest.mark.slow
@pytest.mark.quick
def test_values_are_not_clipped():
    images = 100 * jax.random.normal(jax.random.key(1), (64, 8, 8, 3)) - 50
    result = augment.build("color", 8)(jax.random.key(0), images)
    assert bool((result.max((1, 2, 3)) > images.max((1, 2, 3))).any())
    assert bool((result.min((1, 2, 3)) < images.min((1, 2, 3))).any())


@pytest.mark.slow
@pytest.mark.quick
def test_gradients_are_the_adjoint_and_finite(images, key):
    apply = jax.jit(augment.build(ALL, 16))
    result, pull = jax.vjp(lambda x: apply(key, x), images)
    cotangent = jax.random.normal(jax.random.key(2), SHAPE, jnp.float64)
    (gradient,) = pull(cotangent)
    assert np.isfinite(gradient).all()
    # Every operation is affine in the image, so differences of any size are exact.
    direction = jax.random.normal(jax.random.key(3), SHAPE, jnp.float64)
    change = apply(key, images + direction) - result
    assert float(jnp.vdot(change, cotangent)) == pytest.approx(float(jnp.vdot(direction, gradient)), rel=1e-9)


@pytest.mark.slow
@pytest.mark.quick
def test_the_identity_and_whole_shifts_are_exact():
    images = jax.random.normal(jax.random.key(1), (4, 7, 5, 2))
    still = geometry.translation(jnp.zeros((4, 2)))
    np.testing.assert_array_equal(geometry.warp(images, still), images)
    moved = geometry.warp(images, geometry.translation(jnp.tile(jnp.array([[2.0, -1.0]]), (4, 1))))
    np.testing.assert_array_equal(moved[:, :5, 1:], images[:, 2:, :4])
    np.testing.assert_array_equal(moved[:, 5:, 1:], jnp.repeat(images[:, 6:, :4], 2, 1))  # the edge, replicated


@pytest.mark.slow
@pytest.mark.quick
@pytest.mark.parametrize("shape", [(3, 1, 4, 1), (3, 4, 1, 2), (2, 1, 1, 3)])
def test_images_of_one_row_or_column(shape):
    images = jax.random.normal(jax.random.key(1), shape)
    result = augment.build("flip_rotate_translate_crop", 4)(jax.random.key(0), images)
    assert result.shape == shape
    assert np.isfinite(result).all()


@pytest.mark.slow
@pytest.mark.quick
def test_bfloat16_images_are_sampled_at_exact_places():
    images = jax.random.normal(jax.random.key(1), (8, 32, 32, 3))
    single = augment.build("rotate", 32)(jax.random.key(0), images)
    half = augment.build("rotate", 32)(jax.random.key(0), images.astype(jnp.bfloat16))
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(jnp.float32), single, atol=0.05)


@pytest.mark.quick
@pytest.mark.parametrize("strategy", [None, ""])
def test_no_strategy_is_the_identity(strategy):
    images = jnp.ones((2, 8, 8, 3))
    assert augment.build(strategy, 8)(jax.random.key(0), images) is images


@pytest.mark.quick
@pytest.mark.parametrize(
    ("strategy", "resolution", "message"),
    [
        ("flip_colour", 8, r"unknown operation 'colour'(.|\n)*did you mean 'color'"),
        ("flip__crop", 8, "unknown operation ''"),
        ("flip_crop_flip", 8, "repeats an operation"),
        ("flip", 0, "resolution is 0"),
    ],
)
def test_refusals(strategy, resolution, message):
    with pytest.raises(UsageError, match=message):
        augment.build(strategy, resolution)
