"""ZCA against a dense formula; its inverse, its blocks, its rank control and its cache."""

from __future__ import annotations

import hashlib
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from jaxdd.core.errors import DataError
from jaxdd.data import Dataset, fit
from jaxdd.data.device import zca

pytestmark = pytest.mark.quick
ROOT = pathlib.Path(__file__).resolve().parents[3]


def _dataset(count=300, side=6, seed=0) -> Dataset:
    """Smooth noise, so that the covariance is far from the identity."""
    random = np.random.default_rng(seed)
    x = random.integers(0, 256, (count, side, side, 3)).astype(float)
    x = np.uint8((x + np.roll(x, 1, 1) + np.roll(x, 1, 2) + x[..., [1, 2, 0]]) / 4)
    y = np.arange(count) % 3
    return Dataset.of_arrays(x, y, x[:9], y[:9], name="noise")


def _dense(x: np.ndarray, count: int):
    """The published formula, literally, in float64: mean, W, W reversed, rho."""
    mu = x.mean(0)
    sigma = (x - mu).T @ (x - mu) / len(x)
    rho = 0.1 * np.trace(sigma) / len(sigma)
    u, s, _ = np.linalg.svd(sigma + rho * np.eye(len(sigma)))
    root, inverse = s**0.5, s**-0.5
    if count < len(sigma):
        root[count:], inverse[count:] = 1, 1
    return mu, u * inverse @ u.T, u * root @ u.T, rho


def _standardised(dataset, preprocessing) -> np.ndarray:
    return ((dataset.train_images / 255 - preprocessing.mean) / preprocessing.std).astype(np.float64)


def test_it_is_the_published_formula_and_its_inverse_is_exact(tmp_path):
    dataset = _dataset()
    made = fit(dataset, cache_folder=tmp_path)
    x = _standardised(dataset, made).reshape(300, -1)
    mu, whitening, reverse, rho = _dense(x, 300)
    assert made.space == "zca" and made.zca.regularisation == pytest.approx(rho, rel=1e-5)
    np.testing.assert_array_equal(made.zca.whitening, made.zca.whitening.T)
    np.testing.assert_allclose(made.zca.whitening, whitening, atol=2e-5 * np.abs(whitening).max())
    white = made.apply(dataset.train_images)
    assert white.dtype == np.float32
    np.testing.assert_allclose(white.reshape(300, -1), (x - mu) @ whitening, atol=1e-4)
    colour = (made.zca.colour(white).reshape(300, -1) - mu, white.reshape(300, -1) @ reverse)
    np.testing.assert_allclose(*colour, atol=1e-4)
    np.testing.assert_allclose(made.invert(white), dataset.train_images / 255, atol=1e-5)
    variances = (made.zca.values - made.zca.regularisation) / made.zca.values
    assert white.std() == pytest.approx(np.sqrt(variances.mean()), rel=1e-3)


def test_rank_control_leaves_the_directions_without_data_alone(tmp_path):
    dataset = _dataset(count=60)  # 60 images, 108 dimensions
    made = fit(dataset, cache_folder=tmp_path)
    x = _standardised(dataset, made).reshape(60, -1)
    mu, whitening, _, _ = _dense(x, 60)
    np.testing.assert_allclose(made.zca.values[60:], 1)
    np.testing.assert_allclose(made.apply(dataset.train_images).reshape(60, -1), (x - mu) @ whitening, atol=2e-4)
    np.testing.assert_allclose(made.invert(made.apply(dataset.test_images)), dataset.test_images / 255, atol=1e-4)


def test_large_images_are_whitened_in_checkerboard_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(zca, "BLOCK", 4)
    dataset = _dataset(side=8)
    made = fit(dataset, kind="zca", cache_folder=tmp_path)
    x = _standardised(dataset, made)
    x -= x.mean(0)
    corners = [(row, column) for row in (0, 1) for column in (0, 1)]
    blocks = [x[:, row::2, column::2].reshape(300, -1) for row, column in corners]
    sigma = sum(block.T @ block / 300 for block in blocks) / 4
    rho = 0.1 * np.trace(sigma) / 48
    u, s, _ = np.linalg.svd(sigma + rho * np.eye(48))
    expected = np.empty_like(x)
    for (row, column), block in zip(corners, blocks, strict=True):
        expected[:, row::2, column::2] = (block @ (u * s**-0.5 @ u.T)).reshape(300, 4, 4, 3)
    white = made.apply(dataset.train_images)
    np.testing.assert_allclose(white, expected, atol=1e-4)
    np.testing.assert_allclose(made.invert(white), dataset.train_images / 255, atol=1e-4)
    with pytest.raises(DataError, match="ZCA at 6 pixels"):
        fit(_dataset(), kind="zca", cache_folder=tmp_path)


def test_the_cache_is_used_verified_and_replaced(tmp_path, monkeypatch):
    dataset, calls = _dataset(), []
    original = zca.from_covariance
    monkeypatch.setattr(zca, "from_covariance", lambda *args: calls.append(1) or original(*args))
    first = fit(dataset, cache_folder=tmp_path).zca
    (path,) = tmp_path.glob("*")
    again = fit(dataset, cache_folder=tmp_path).zca
    assert len(calls) == 1
    np.testing.assert_array_equal(first.whitening, again.whitening)
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    for trial in range(8):
        broken = bytearray(whole)
        broken[len(whole) // 9 * trial + random.integers(100)] ^= 4
        path.write_bytes(broken if trial else whole[: len(whole) // 2])
        np.testing.assert_array_equal(fit(dataset, cache_folder=tmp_path).zca.whitening, first.whitening)
    assert len(calls) >= 8 and path.read_bytes() == whole
    fit(_dataset(seed=1), cache_folder=tmp_path)
    assert len(list(tmp_path.glob("*"))) == 2


def test_a_cache_that_cannot_be_written_costs_only_a_warning(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.warns(UserWarning, match="cannot cache"):
        fit(_dataset(), cache_folder=tmp_path / "file" / "x")


def test_the_default_cache_is_the_users(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    fit(_dataset())
    assert len(list((tmp_path / "jaxdd" / "zca").glob("*.npz"))) == 1


@pytest.mark.slow
def test_processes_share_one_valid_cache(tmp_path):
    dataset = _dataset()
    script = (
        "import sys, numpy, hashlib; from jaxdd.data import Dataset, fit\n"
        "x = numpy.load(sys.argv[1]); y = numpy.arange(len(x)) % 3\n"
        "made = fit(Dataset.of_arrays(x, y, x, y), cache_folder=sys.argv[2])\n"
        "print(hashlib.sha256(made.zca.whitening).hexdigest())\n"
    )
    np.save(tmp_path / "x.npy", dataset.train_images)
    command = [sys.executable, "-c", script, tmp_path / "x.npy", tmp_path / "cache"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    workers = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    found = {worker.communicate()[0] for worker in workers}
    assert len(found) == 1 and not any(worker.returncode for worker in workers)
    assert len(os.listdir(tmp_path / "cache")) == 1
    made = fit(dataset, cache_folder=tmp_path / "cache")
    assert made.zca is not None and hashlib.sha256(made.zca.whitening).hexdigest() == found.pop().strip()


def test_layernorm_zca_is_kips_formula_and_gives_back_what_it_can(tmp_path):
    dataset = _dataset()
    made = fit(dataset, family="kip", kind="layernorm_zca", cache_folder=tmp_path)
    x = _standardised(dataset, made).reshape(300, -1)
    centred = x - x.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(centred, axis=1, keepdims=True)
    directions = centred / norms
    sigma = directions.T @ directions / 300
    u, s, _ = np.linalg.svd(sigma + 0.1 * np.trace(sigma) / 108 * np.eye(108))
    white = made.apply(dataset.train_images)
    np.testing.assert_allclose(white.reshape(300, -1), directions @ (u * s**-0.5) @ u.T, atol=1e-4)
    typical = (directions * norms.mean()).reshape(-1, 6, 6, 3) * made.std + made.mean  # brightness 0, mean contrast
    np.testing.assert_allclose(made.invert(white), typical, atol=1e-4)
    assert made.zca is not None and made.zca.contrast == pytest.approx(norms.mean(), rel=1e-5)
    brighter = np.float32(made.apply(dataset.train_images[:5].astype(np.float32) / 255 * 0.5 + 0.1))
    plain = fit(dataset, family="kip", kind="zca", cache_folder=tmp_path)
    assert plain.digest != made.digest and plain.describe()["space"] != made.describe()["space"]
    assert np.abs(brighter - white[:5]).max() < np.abs(white[:5]).max() / 10  # which plain ZCA would not give
    again = fit(dataset, family="kip", kind="layernorm_zca", cache_folder=tmp_path)  # from the cache, contrast too
    np.testing.assert_array_equal(again.invert(white), made.invert(white))


def test_an_image_without_contrast_becomes_zero(tmp_path):
    grey = np.full((2, 6, 6, 1), [[[[3]]], [[[250]]]], np.uint8)
    dataset = _dataset()
    images = dataset.train_images[..., :1]
    single = Dataset.of_arrays(images, dataset.train_labels, images[:9], dataset.train_labels[:9], name="grey")
    made = fit(single, family="kip", kind="layernorm_zca", cache_folder=tmp_path)
    np.testing.assert_array_equal(made.apply(grey), 0)
