"""Multi-formation: what the published code makes of small images, and its inverse's choice of pixels."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd.core import formation
from tests.oracles import formation_literal

RAMP = jnp.arange(16.0).reshape(1, 4, 4, 1)


@pytest.mark.quick
def test_cells_are_enlarged_as_published():
    found = np.asarray(formation.decode(RAMP, 2))[..., 0]
    first = [[0, 0.25, 0.75, 1], [1, 1.25, 1.75, 2], [3, 3.25, 3.75, 4], [4, 4.25, 4.75, 5]]
    assert found.shape == (4, 4, 4)
    np.testing.assert_allclose(found[0], first, atol=1e-6)
    np.testing.assert_allclose(found[3, 0], [10, 10.25, 10.75, 11], atol=1e-6)


@pytest.mark.quick
def test_what_the_factor_does_not_divide_is_padded_with_grey_on_the_right_and_below():
    found = np.asarray(formation.decode(RAMP, 3))[..., 0]
    assert found.shape == (9, 4, 4)
    np.testing.assert_array_equal(found[8], np.full((4, 4), 0.5))
    np.testing.assert_allclose(found[0, 0, [0, 3]], [0, 1], atol=1e-6)  # a cell has two pixels a side
    assert found[2].max() == 0.5 and found[1].max() == 7


@pytest.mark.quick
@pytest.mark.parametrize(("side", "factor", "cell"), [(32, 2, 16), (28, 2, 14), (64, 2, 32), (224, 3, 75)])
def test_cells_have_their_published_size(side, factor, cell):
    image = np.zeros((1, side, side, 1), np.float32)
    image[0, :cell, :cell] = 1  # exactly the first cell
    decoded = np.asarray(formation.decode(jnp.asarray(image), factor))
    np.testing.assert_allclose(decoded[0], 1, atol=1e-6)
    assert decoded[1, :, :, 0].max() == 0 and len(decoded) == factor**2


@pytest.mark.quick
@pytest.mark.parametrize(
    ("count", "factor", "wanted", "total"),
    [
        (10, 3, [(3, 10)], 90),
        (20, 3, [(3, 12), (2, 3), (1, 5)], 125),
        (50, 3, [(3, 8), (2, 3), (1, 39)], 123),
        (50, 2, [(2, 19), (1, 31)], 107),
    ],
)
def test_a_bound_gives_the_first_images_the_most_cells(count, factor, wanted, total):
    found = formation.sources(count, factor, "bound")
    expected, start = [], 0
    for f, images in wanted:
        expected += list(range(start, start + images)) * f**2
        start += images
    assert found.tolist() == expected and len(found) == total
    shape = jax.eval_shape(lambda x: formation.decode(x, factor, "bound"), jnp.zeros((count, 6, 6, 1)))
    assert shape.shape == (total, 6, 6, 1)


@pytest.mark.quick
@pytest.mark.parametrize(("kind", "bound"), [("single", 128), ("multi", 128), ("bound", 30)])
@pytest.mark.parametrize(("side", "factor"), [(8, 3), (9, 2), (6, 1)])
def test_decoding_equals_the_literal_one(side, factor, kind, bound, x64):
    images = jnp.asarray(np.random.default_rng(0).uniform(size=(5, side, side, 3)))
    found = formation.decode(images, factor, kind, bound=bound)
    np.testing.assert_allclose(found, formation_literal.decode(images, factor, kind, bound), rtol=0, atol=1e-14)
    marked = jnp.broadcast_to(jnp.arange(5.0)[:, None, None, None], (5, 6, 6, 1))  # 6 is divided: nothing is padded
    told = formation.sources(5, factor, kind, bound=bound)
    np.testing.assert_allclose(formation.decode(marked, factor, kind, bound=bound)[:, 2, 2, 0], told, atol=1e-12)


@pytest.mark.slow
@pytest.mark.quick
def test_decoding_is_linear_in_the_images_so_its_derivative_is_its_transpose(x64):
    images, weights = (jnp.asarray(np.random.default_rng(i).normal(size=(2, 7, 7, 1))) for i in (0, 1))
    decode = lambda x: formation.decode(x, 3, "multi")  # noqa: E731
    found, pull = jax.vjp(decode, images)
    cotangent = jnp.sin(jnp.arange(found.size, dtype=found.dtype)).reshape(found.shape)
    along = jnp.sum(pull(cotangent)[0] * weights)
    np.testing.assert_allclose(along, jnp.sum(cotangent * (decode(weights) - decode(jnp.zeros_like(weights)))))


@pytest.mark.quick
def test_nearest_pixels_are_those_of_the_published_code():
    assert formation.nearest(4, 2).tolist() == [0, 2]
    assert formation.nearest(5, 3).tolist() == [0, 1, 3]
    large, small = formation.nearest(224, 75).tolist(), formation.nearest(224, 74).tolist()
    assert large[:3] + large[-2:] == [0, 2, 5, 218, 221] and len(large) == 75
    assert small[:3] + small[-2:] == [0, 3, 6, 217, 220] and len(small) == 74


@pytest.mark.quick
@pytest.mark.parametrize(("side", "factor"), [(8, 2), (8, 3), (7, 3), (5, 1)])
def test_pasting_equals_the_literal_one(side, factor):
    images = np.random.default_rng(0).uniform(size=(2 * factor**2, side, side, 3)).astype(np.float32)
    found = formation.paste(jnp.asarray(images), factor)
    np.testing.assert_array_equal(found, formation_literal.paste(images, factor, 2))


@pytest.mark.slow
@pytest.mark.quick
def test_what_was_pasted_is_found_where_it_is_decoded():
    flat = np.broadcast_to(np.linspace(0.1, 0.8, 8, dtype=np.float32)[:, None, None, None], (8, 6, 6, 1))
    pasted = formation.paste(jnp.asarray(flat), 2)
    np.testing.assert_allclose(formation.decode(pasted, 2), flat, atol=1e-6)
