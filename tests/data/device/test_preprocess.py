"""Preprocessing: spaces, constants, digests, descriptions; the published figures on real CIFAR-10."""

from __future__ import annotations

import json

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd.core.errors import DataError, UsageError
from jaxdd.data import Dataset, clip, examples, fit, load
from jaxdd.data.device import preprocess
from jaxdd.data.device.preprocess import channel_statistics
from jaxdd.data.registry import statistics


@pytest.fixture
def digits():
    return load("digits")


@pytest.mark.quick
def test_digits_are_standardised_with_their_stated_statistics(digits):
    made = fit(digits)
    assert made.space == "standardised" and (made.mean, made.std) == statistics("rcig", "digits")
    x = made.apply(digits.train_images)
    np.testing.assert_allclose(x, (digits.train_images / 255 - made.mean) / made.std, atol=1e-6)
    assert x.dtype == np.float32 and abs(x.mean()) < 2e-3 and x.std() == pytest.approx(1, abs=2e-3)
    np.testing.assert_allclose(made.invert(x), digits.train_images / 255, atol=1e-6)
    np.testing.assert_allclose(made.apply(digits.train_images[:5] / np.float32(255)), x[:5], atol=1e-6)
    np.testing.assert_allclose(channel_statistics(digits.train_images), statistics("rcig", "digits"), atol=5e-5)


@pytest.mark.quick
def test_raw_is_the_unit_interval_and_clip_cuts_to_it(digits):
    made = fit(digits, kind="raw")
    x = made.apply(digits.test_images)
    np.testing.assert_allclose(x, digits.test_images / np.float32(255), rtol=1e-6)
    np.testing.assert_array_equal(made.invert(x), x)
    np.testing.assert_array_equal(clip(np.array([-1.0, 0.5, 2.0])), [0, 0.5, 1])


@pytest.mark.quick
def test_examples_are_resident_float32(digits):
    made = fit(digits)
    train, test = examples(digits, made, "train"), examples(digits, made, "test")
    assert (len(train), len(test), train.classes) == (1438, 359, 10)
    assert train.images.dtype == jnp.float32 and train.labels.dtype == jnp.int32
    np.testing.assert_allclose(test.images, made.apply(digits.test_images), rtol=1e-6, atol=1e-6)
    with pytest.raises(UsageError, match="split"):
        examples(digits, made, "val")  # pyright: ignore[reportArgumentType]


@pytest.mark.quick
def test_raw_examples_carry_the_constants_that_standardise_them(digits):
    raw = examples(digits, fit(digits, kind="raw"))
    ready = examples(digits, fit(digits, kind="standardised"))
    assert raw.constants == statistics("rcig", "digits") and ready.constants is None
    np.testing.assert_allclose(raw.standardise(raw.images), ready.images, atol=1e-6)
    stacked = raw.images[:6].reshape(2, 3, 8, 8, 1)
    np.testing.assert_array_equal(raw.standardise(stacked).reshape(6, 8, 8, 1), raw.standardise(raw.images[:6]))
    np.testing.assert_array_equal(ready.standardise(ready.images), ready.images)


@pytest.mark.quick
def test_colour_is_standardised_by_channel_with_the_family_s_constants(arrays):
    x, y, tx, ty = arrays
    data = Dataset.of_arrays(x, y, tx, ty, name="cifar10")
    raw, ready = (examples(data, fit(data, family="idc", kind=kind), "test") for kind in ("raw", "standardised"))
    assert raw.constants == statistics("idc", "cifar10")
    np.testing.assert_allclose(raw.standardise(raw.images), ready.images, atol=1e-6)
    expected = (tx / 255 - np.array([0.4914, 0.4822, 0.4465])) / np.array([0.2023, 0.1994, 0.2010])
    np.testing.assert_allclose(raw.standardise(raw.images), expected, atol=1e-5)


@pytest.mark.quick
def test_examples_know_their_largest_class(arrays):
    x, _, tx, ty = arrays
    labels = np.array([0, 1, 1, 1, 2, 2, 0, 1, 1, 2, 2, 1])
    data = Dataset.of_arrays(x, labels, tx, ty)
    made = fit(data, kind="raw")
    assert examples(data, made).largest == 6 and examples(data, made, "test").largest == 2


@pytest.mark.quick
def test_defaults_follow_the_original(arrays, tmp_path):
    x, y, tx, ty = arrays
    colour = Dataset.of_arrays(x, y, tx, ty)
    assert fit(colour, cache_folder=tmp_path).space == "zca"
    assert fit(colour, family="idc").space == "standardised"
    assert fit(Dataset.of_arrays(x[..., :1], y, tx[..., :1], ty)).space == "standardised"
    odd = np.zeros((3, 96, 96, 3), np.uint8)
    assert fit(Dataset.of_arrays(odd, [0, 1, 2], odd, [0, 1, 2])).space == "standardised"  # no block form at 96
    named = Dataset.of_arrays(x, y, tx, ty, name="cifar10")
    assert fit(named, family="rcig", kind="standardised").std == (0.2470, 0.2435, 0.2616)
    assert fit(named, family="idc").std == (0.2023, 0.1994, 0.2010)


@pytest.mark.quick
def test_computed_statistics_are_those_of_the_train_pixels(arrays, monkeypatch):
    x, y, tx, ty = arrays
    made = fit(Dataset.of_arrays(x, y, tx, ty), kind="standardised")
    np.testing.assert_allclose(made.mean, (x / 255).mean((0, 1, 2)), atol=1e-6)
    np.testing.assert_allclose(made.std, (x / 255).std((0, 1, 2)), atol=1e-6)
    whole = channel_statistics(x)
    monkeypatch.setattr(preprocess, "_COUNTED", 5 * 64)  # in pieces of five images
    assert channel_statistics(x) == whole
    flat = np.full_like(x, 7)
    assert fit(Dataset.of_arrays(flat, y, flat, y)).std == (1.0, 1.0, 1.0)


@pytest.mark.quick
def test_the_description_is_json_and_its_digest_follows_data_and_constants(arrays, tmp_path):
    x, y, tx, ty = arrays
    data = Dataset.of_arrays(x, y, tx, ty, name="cifar10")
    other = Dataset.of_arrays(255 - x, y, tx, ty, name="cifar10")
    made = fit(data, cache_folder=tmp_path)
    described = json.loads(json.dumps(made.describe()))
    assert described["space"] == "zca" and described["zca_regularisation"] == 0.1
    assert described["digest"] == made.digest and len(json.dumps(described)) < 1000
    digests = [
        made.digest,
        fit(other, cache_folder=tmp_path).digest,
        fit(data, family="idc", kind="zca", cache_folder=tmp_path).digest,
        fit(data, kind="standardised").digest,
        fit(data, kind="raw").digest,
    ]
    assert len(set(digests)) == 5 and fit(data, cache_folder=tmp_path).digest == made.digest
    assert fit(other, kind="standardised").digest == digests[3]  # published constants do not depend on the data


@pytest.mark.quick
def test_wrong_images_and_kinds_are_refused(digits):
    made = fit(digits)
    with pytest.raises(DataError, match="shape"):
        made.apply(np.zeros((2, 8, 8, 3), np.uint8))
    with pytest.raises(DataError, match="scale"):
        made.apply(digits.test_images.astype(np.float32))
    with pytest.raises(DataError, match="type"):
        made.apply(digits.test_images.astype(np.int32))
    with pytest.raises(UsageError, match="did you mean 'zca'"):
        fit(digits, kind="zac")  # pyright: ignore[reportArgumentType]
    with pytest.raises(UsageError, match="family"):
        fit(digits, family="rcgi")


@pytest.mark.slow
def test_whitened_cifar10_has_the_published_figures(real_data):
    pytest.importorskip("pyarrow")
    data = load("cifar10", real_data("cifar10"))
    made = fit(data)  # in the user's cache: once per machine
    assert made.zca is not None
    assert made.zca.regularisation == pytest.approx(0.0976, rel=0.02)
    assert made.zca.values[[-1, 0]] == pytest.approx([0.0977, 870], rel=0.02)
    white = made.apply(data.train_images[::10])
    variances = (made.zca.values - made.zca.regularisation) / made.zca.values
    assert np.sqrt(variances.mean()) == pytest.approx(0.4508, rel=0.02)  # what these eigenvalues imply
    assert white.std() == pytest.approx(0.4508, rel=0.02)
    np.testing.assert_allclose(made.invert(white[:100]), data.train_images[:1000:10] / 255, atol=1e-4)
