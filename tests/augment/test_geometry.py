"""Both warps against SciPy where places are whole numbers, which rounding must not turn into other pixels."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jaxdd.augment import geometry, spline

SHAPE = (8, 7)
EITHER_WAY = (-1, 0, 1)  # by how many units in the last place a place is off
VIEWS = {
    "identity": ((1, 0, 0), (0, 1, 0)),
    "reflection": ((1, 0, 0), (0, -1, 0)),
    "zoom": ((0.5, 0, 0), (0, 0.5, 0)),
    "zoom, about a corner": ((0.5, 0, 1.75), (0, 0.5, -1.5)),
    "zoom out": ((2, 0, 0.5), (0, 2, 0)),
    "shift": ((1, 0, 2), (0, 1, -1)),
    "quarter turn": ((0, 1, 0.5), (-1, 0, 0.5)),
}
WARPS = {
    "bilinear": (geometry.warp, {"order": 1, "mode": "nearest"}),
    "spline": (functools.partial(spline.warp, outside=0.0), {"order": 3, "mode": "constant", "cval": 0.0}),
}


def dense(view, how):
    """`[pixels, pixels]`: what SciPy makes of an image with one pixel set, for each pixel."""
    centre = (np.array(SHAPE) - 1) / 2
    matrix = np.array(view, float)
    where = np.einsum("ij,jrc->irc", matrix[:, :2], np.mgrid[: SHAPE[0], : SHAPE[1]] - centre[:, None, None])
    where += (matrix[:, 2] + centre)[:, None, None]
    units = np.eye(np.prod(SHAPE)).reshape(-1, *SHAPE)
    return np.stack([ndimage.map_coordinates(unit, where, **how).ravel() for unit in units], 1)


@pytest.mark.quick
@pytest.mark.parametrize("name", WARPS)
def test_a_unit_in_the_last_place_moves_no_pixel(name):
    warp, how = WARPS[name]
    off = [(rows, columns) for rows in EITHER_WAY for columns in EITHER_WAY]
    least = np.spacing(np.float32(SHAPE[0]))
    matrices = np.array([view for view in VIEWS.values() for _ in off], np.float32)
    matrices[:, :, 2] += least * np.tile(off, (len(VIEWS), 1))
    images, weights = np.random.default_rng(0).normal(size=(2, len(matrices), *SHAPE, 2)).astype(np.float32)

    def both(x):
        return warp(x, jnp.asarray(matrices)), jax.grad(lambda x: (weights * warp(x, jnp.asarray(matrices))).sum())(x)

    value, slope = jax.jit(both)(images)
    oracle = np.repeat([dense(view, how) for view in VIEWS.values()], len(off), 0)
    flat = (len(matrices), -1, 2)
    expected = np.einsum("npq,nqc->npc", oracle, images.reshape(flat))
    np.testing.assert_allclose(value.reshape(flat), expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(jax.jit(warp)(images, matrices).reshape(flat), expected, rtol=0, atol=1e-5)
    expected = np.einsum("npq,npc->nqc", oracle, weights.reshape(flat))
    np.testing.assert_allclose(slope.reshape(flat), expected, rtol=0, atol=1e-5)


@pytest.mark.quick
@pytest.mark.parametrize("side", [1, 2, 7, 8])
def test_pixels_of_one_rounding_and_weights_of_another_agree(side):
    """What a compiler does that computes a place twice: pixels are taken at one, weights at the other."""
    whole = np.arange(-4, 2 * side + 5, dtype=np.float32) / 2
    places = [whole + off * np.spacing(np.float32(side + 2)) for off in EITHER_WAY]
    row = np.random.default_rng(side).normal(size=side).astype(np.float32)

    def bilinear(taken, weighed):
        (even, odd), _ = geometry.neighbours(taken - np.float32((side - 1) / 2), side)
        _, share = geometry.neighbours(weighed - np.float32((side - 1) / 2), side)
        return (1 - share[:, 0]) * row[even] + share[:, 0] * row[odd]

    def cubic(taken, weighed):
        taps = zip(spline._taps(jnp.asarray(taken), side), spline._taps(jnp.asarray(weighed), side), strict=True)
        return sum(weight * row[index] for (index, _), (_, weight) in taps)

    whole = np.clip(whole, 0, side - 1)
    mirrored = np.pad(row, 6, mode="reflect") if side > 1 else np.pad(row, 6, mode="edge")
    distance = np.abs(whole[:, None] - np.arange(-6, side + 6)[None])
    weights = np.where(distance < 1, 4 - 6 * distance**2 + 3 * distance**3, np.maximum(0, 2 - distance) ** 3) / 6
    for taken in places:
        for weighed in places:
            np.testing.assert_allclose(
                bilinear(taken, weighed), np.interp(whole, np.arange(side), row), rtol=0, atol=1e-5
            )
            np.testing.assert_allclose(cubic(taken, weighed), weights @ mirrored, rtol=0, atol=1e-5)


@pytest.mark.quick
@pytest.mark.parametrize("name", WARPS)
def test_slopes_in_the_matrices_are_those_of_small_steps(name, x64):
    warp, _ = WARPS[name]
    images = jnp.asarray(np.random.default_rng(0).normal(size=(3, *SHAPE, 1)))
    start = jnp.asarray(np.random.default_rng(1).normal(size=(3, 2, 3)) * 0.05 + np.eye(2, 3))
    step = jnp.asarray(np.random.default_rng(2).normal(size=start.shape))
    apply = jax.jit(lambda matrices: jax.jvp(lambda m: warp(images, m), (matrices,), (step,)))
    small = 1e-7
    difference = (apply(start + small * step)[0] - apply(start - small * step)[0]) / (2 * small)
    np.testing.assert_allclose(apply(start)[1], difference, rtol=0, atol=1e-5)


@pytest.mark.quick
def test_identities_and_reflections_are_exact():
    images = np.random.default_rng(0).normal(size=(2, *SHAPE, 3)).astype(np.float32)
    result = jax.jit(lambda x: geometry.warp(x, geometry.reflection(jnp.array([False, True]))))(images)
    np.testing.assert_array_equal(result, np.stack([images[0], images[1, :, ::-1]]))
