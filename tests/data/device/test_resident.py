"""Preprocessing on the device: the numbers of the host, in bounded pieces, and no pixels left behind."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd.core import backend
from jaxdd.core.errors import DataError, UsageError
from jaxdd.core.procedure import BatchRule
from jaxdd.data import Dataset, examples, fit, load, resident_type, sample
from jaxdd.data.device import preprocess, zca

pytestmark = pytest.mark.quick

EPSILON = float(np.finfo(np.float32).eps)


def colour(count: int = 40, side: int = 8) -> Dataset:
    """Smooth coloured noise, so that whitening has something to do."""
    random = np.random.default_rng(0)
    rough = random.integers(0, 256, (count + 10, side // 2, side // 2, 3), np.uint8)
    images = rough.repeat(2, 1).repeat(2, 2)
    labels = np.arange(count + 10) % 3
    return Dataset.of_arrays(images[:count], labels[:count], images[count:], labels[count:])


@pytest.fixture
def small_chunks(monkeypatch):
    """Chunks of a few images, which do not divide the number of images."""
    monkeypatch.setattr(preprocess, "CHUNK_BYTES", 7 * 8 * 8 * 3 * 4)


@pytest.mark.parametrize("kind", ["raw", "standardised", "zca", "layernorm_zca"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_equals_the_host_to_rounding_in_pieces_of_any_size(kind, split, tmp_path, small_chunks):
    data = colour()
    made = fit(data, kind=kind, cache_folder=tmp_path)
    expected = made.apply(getattr(data, f"{split}_images"))
    found = examples(data, made, split).images
    assert isinstance(found, jax.Array) and found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, rtol=8 * EPSILON, atol=50 * EPSILON * np.abs(expected).max())
    assert len(np.unique(np.asarray(found).reshape(len(found), -1), axis=0)) == len(found)  # each chunk at its place


def test_digits_are_the_host_s():
    digits = load("digits")
    made = fit(digits)
    expected = made.apply(digits.train_images)
    np.testing.assert_allclose(examples(digits, made).images, expected, rtol=4 * EPSILON, atol=4 * EPSILON)


def test_large_images_are_whitened_in_blocks(monkeypatch):
    monkeypatch.setattr(zca, "BLOCK", 8)  # as 128 pixels are with blocks of 64, whose eigenvectors take half a minute
    pixels = np.random.default_rng(1).integers(0, 256, (30, 16, 16, 3), np.uint8)
    scale, shift = np.float32([1 / 255]), np.float32([-0.5])
    standardised = (pixels * scale + shift).astype(np.float32)
    whitening = zca.fit_zca(lambda start, stop: standardised[start:stop], 30, (16, 16, 3))
    assert whitening.whitening.shape == (192, 192)
    expected = whitening.whiten(standardised)
    found = preprocess.place(pixels, scale, shift, whitening)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_bfloat16_is_the_float32_result_rounded(tmp_path):
    data = colour()
    made = fit(data, kind="zca", cache_folder=tmp_path)
    half, single = (examples(data, made, dtype=dtype).images for dtype in (jnp.bfloat16, jnp.float32))
    assert half.dtype == jnp.bfloat16
    np.testing.assert_array_equal(half, single.astype(jnp.bfloat16))


def test_only_the_result_stays_on_the_device(tmp_path):
    data = colour(count=43)
    made = fit(data, kind="zca", cache_folder=tmp_path)
    before = {id(array) for array in jax.live_arrays()}
    held = examples(data, made)
    new = [array for array in jax.live_arrays() if id(array) not in before]
    assert sorted((array.shape, str(array.dtype)) for array in new) == [((43,), "int32"), ((43, 8, 8, 3), "float32")]
    assert len(held) == 43


def test_nothing_is_transferred_by_the_way(tmp_path):
    data = colour()
    made = fit(data, kind="zca", cache_folder=tmp_path)
    with jax.transfer_guard("disallow"):
        examples(data, made)


def test_bytes_on_the_device_are_the_same_numbers_to_the_bit():
    data = colour()
    made = fit(data, kind="raw")
    small, large = (examples(data, made, resident=kind) for kind in ("uint8", "float32"))
    assert small.images.dtype == jnp.uint8 and small.images.nbytes * 4 == large.images.nbytes
    assert small.dtype == large.dtype == jnp.float32 and small.constants == large.constants
    rows = jnp.array([[3, 0], [39, 3]])
    for chosen in (rows, 5, slice(None), slice(2, 9)):
        np.testing.assert_array_equal(small.take(chosen), large.take(chosen), strict=True)
        taken = jax.jit(lambda held, chosen=chosen: held.take(chosen))(small)  # fused, as in a step
        np.testing.assert_array_equal(taken, large.take(chosen), strict=True)
    np.testing.assert_array_equal(large.take(rows), large.images[rows])
    np.testing.assert_array_equal(small.standardise(small.images), large.standardise(large.images), strict=True)
    for rule in (BatchRule("uniform", 7), BatchRule("class", 2)):
        drawn = [
            jax.jit(lambda held, rule=rule: sample(held, rule, jax.random.key(1)))(held) for held in (small, large)
        ]
        np.testing.assert_array_equal(drawn[0].images, drawn[1].images, strict=True)
        np.testing.assert_array_equal(drawn[0].labels, drawn[1].labels)


def test_raw_images_stay_bytes_when_floats_would_fill_the_device(monkeypatch):
    data = colour()
    raw, ready = fit(data, kind="raw"), fit(data, kind="standardised")
    floats = 4 * data.train_images.size
    for memory, kept in ((floats, jnp.float32), (floats - 1, jnp.uint8)):
        monkeypatch.setattr(backend, "working_memory", lambda memory=memory: memory)
        assert examples(data, raw).images.dtype == kept == resident_type(data.train_images.shape, "raw")
        assert examples(data, ready).images.dtype == jnp.float32
        assert examples(data, raw, resident="float32").images.dtype == jnp.float32
        assert examples(data, raw, dtype=jnp.bfloat16).images.dtype == jnp.bfloat16


def test_only_raw_float32_images_may_stay_bytes():
    data = colour()
    raw, ready = fit(data, kind="raw"), fit(data, kind="standardised")
    for made, dtype in ((ready, jnp.float32), (raw, jnp.bfloat16)):
        with pytest.raises(UsageError, match="kept as uint8"):
            examples(data, made, dtype=dtype, resident="uint8")
    with pytest.raises(UsageError, match="did you mean 'uint8'"):
        examples(data, raw, resident="uint")  # pyright: ignore[reportArgumentType]
    with pytest.raises(DataError, match="shape"):
        examples(colour(side=4), raw, resident="uint8")
