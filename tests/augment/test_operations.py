"""Every operation against its slow transcription, and against numbers that the authors' code produced."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd.augment import operations
from tests.augment import transcription

UNIFORM = {
    "flip": operations.flip,
    "brightness": operations.brightness,
    "saturation": operations.saturation,
    "contrast": operations.contrast,
    "color": operations.colour,
    "scale": operations.scale,
    "rotate": operations.rotate,
}
INTEGER = {"crop": operations.crop, "translate": operations.translate, "cutout": operations.cutout}
COUNTS = {"color": 3, "scale": 2, "crop": 2, "cutout": 2}  # of random numbers; the others take one
N = 5


def numbers(name, side, count, seed=3):
    rng = np.random.default_rng(seed)
    if name in UNIFORM:
        return list(rng.random((COUNTS.get(name, 1), count)))
    low, high = (0, side - operations.hole(side) % 2) if name == "cutout" else (-1, 1)
    reach = 1 if name == "cutout" else operations.reach(side)
    return [
        np.array([low, high, *rng.integers(low, high + 1, count)])[:count] * reach for _ in range(COUNTS.get(name, 1))
    ]


def expected(name, images, draws):
    draws = [np.broadcast_to(draw, len(images)) for draw in draws]
    return np.stack([getattr(transcription, name)(image, *u) for image, *u in zip(images, *draws, strict=True)])


@pytest.mark.quick
@pytest.mark.parametrize("name", [*UNIFORM, *INTEGER])
@pytest.mark.parametrize(("count", "side"), [(N, 12), (1, 9)])
def test_operation_is_its_transcription(x64, name, count, side):
    images = jax.random.normal(jax.random.key(side), (N, side, side, 3), jnp.float64)
    draws = numbers(name, side, count)
    result = jax.jit({**UNIFORM, **INTEGER}[name])(images, *map(jnp.asarray, draws))
    np.testing.assert_allclose(result, expected(name, np.asarray(images), draws), rtol=0, atol=1e-13)


@pytest.mark.quick
@pytest.mark.parametrize("name", ["rotate", "scale", "crop"])
def test_images_need_not_be_square(x64, name):
    images = jax.random.normal(jax.random.key(0), (N, 9, 14, 2), jnp.float64)
    draws = numbers(name, 9, N)
    result = jax.jit({**UNIFORM, **INTEGER}[name])(images, *map(jnp.asarray, draws))
    np.testing.assert_allclose(result, expected(name, np.asarray(images), draws), rtol=0, atol=1e-13)


RAMP = np.arange(16).reshape(1, 4, 4, 1) / 16
# Rows of the ramp after an operation, printed by the authors' code.
GOLDENS = [
    ("brightness", [0.8], {0: [0.3, 0.3625, 0.425, 0.4875]}),
    ("contrast", [0.25], {0: [0.1171875, 0.1640625, 0.2109375, 0.2578125]}),
    (
        "crop",
        [1, -1],
        {0: [0, 0.25, 0.3125, 0.375], 1: [0, 0.5, 0.5625, 0.625], 2: [0, 0.75, 0.8125, 0.875], 3: [0] * 4},
    ),
    ("cutout", [1, 3], {0: [0, 0.0625, 0, 0], 1: [0.25, 0.3125, 0, 0], 2: [0.5, 0.5625, 0.625, 0.6875]}),
    ("scale", [0.0, 1.0], {0: [0.04375, 0.11875, 0.19375, 0.175], 1: [0.189583, 0.327083, 0.402083, 0.320833]}),
    ("rotate", [1.0], {0: [0.018202, 0.080952, 0.193330, 0.197098], 3: [0.424354, 0.744170, 0.783143, 0.603251]}),
]


@pytest.mark.quick
@pytest.mark.parametrize(("name", "draws", "rows"), GOLDENS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 5.1e-7), (np.float32, 1e-5)])
def test_authors_numbers(x64, name, draws, rows, dtype, tolerance):
    whole = name in INTEGER
    result = jax.jit({**UNIFORM, **INTEGER}[name])(
        jnp.asarray(RAMP, dtype), *(jnp.asarray([draw], np.int32 if whole else dtype) for draw in draws)
    )
    assert result.dtype == dtype
    for row, values in rows.items():
        np.testing.assert_allclose(result[0, row, :, 0], values, rtol=0, atol=tolerance)


@pytest.mark.quick
def test_authors_saturation(x64):
    pixel = jnp.array([0.0625, 0.03125, 0.9375], jnp.float64).reshape(1, 1, 1, 3)
    result = operations.saturation(pixel, jnp.array([0.25], jnp.float64))
    np.testing.assert_allclose(result.ravel(), [0.203125, 0.1875, 0.640625], rtol=0, atol=1e-15)


@pytest.mark.quick
def test_sizes():
    assert [operations.reach(side) for side in (28, 32, 64, 224)] == [4, 4, 8, 28]
    assert [operations.hole(side) for side in (28, 32, 9)] == [14, 16, 5]


@pytest.mark.quick
@pytest.mark.parametrize("name", [*UNIFORM, *INTEGER])
@pytest.mark.parametrize("count", [N, 1])
def test_derivative_is_the_adjoint(x64, name, count):
    images, direction, cotangent = np.random.default_rng(0).normal(size=(3, N, 8, 8, 3))
    draws = [jnp.asarray(draw) for draw in numbers(name, 8, count)]

    @jax.jit
    def apply(images, cotangent):
        result, pull = jax.vjp(lambda images: {**UNIFORM, **INTEGER}[name](images, *draws), images)
        return result, pull(cotangent)[0]

    result, gradient = apply(images, cotangent)
    # Every operation is affine in the image, so a difference of any size is exact.
    change = apply(images + direction, cotangent)[0] - result
    assert np.vdot(change, cotangent) == pytest.approx(np.vdot(direction, gradient), rel=1e-10)


@pytest.mark.quick
@pytest.mark.parametrize("name", ["scale", "rotate"])
def test_bfloat16_images_are_sampled_at_exact_places(name):
    images = jax.random.normal(jax.random.key(1), (8, 32, 32, 3))
    draws = [jnp.asarray(draw, jnp.float32) for draw in numbers(name, 32, 8)]
    apply = jax.jit(UNIFORM[name])
    half = apply(images.astype(jnp.bfloat16), *draws)
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(jnp.float32), apply(images, *draws), atol=0.05)
