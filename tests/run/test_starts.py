"""Runs that start from a distilled set."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from jaxdd.core import formation
from jaxdd.core.distilled import Decode, DistilledSet
from jaxdd.core.errors import ConfigError
from jaxdd.data import Dataset
from jaxdd.methods import RCIG, Condensation
from jaxdd.run.distillation import Distillation, Start

CLASSES, SIDE = 3, 8


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (60, SIDE, SIDE, 1), np.uint8)
    return Dataset.of_arrays(images, np.arange(60) % CLASSES, images, np.arange(60) % CLASSES)


def set_of(ipc: int, factor: int = 1, classes: int = CLASSES) -> DistilledSet:
    """A set in true colours whose classes do not come in order."""
    labels = np.eye(classes, dtype=np.float32)[np.tile(np.arange(classes)[::-1], ipc)]
    pixels = np.random.default_rng(1).random((len(labels), SIDE, SIDE, 1)).astype(np.float32)
    return DistilledSet(pixels, labels, decode=Decode(factor=factor), pixels=pixels)


@pytest.mark.quick
def test_images_come_class_by_class(dataset):
    given = set_of(2)
    found = Start.of(given, RCIG(n_images=2), dataset).pixels
    assert given.pixels is not None
    np.testing.assert_array_equal(found, given.pixels[[2, 5, 1, 4, 0, 3]])


@pytest.mark.quick
def test_what_encodes_several_images_starts_their_like_or_their_training_images(dataset):
    given = set_of(1, factor=2)
    assert given.pixels is not None
    alike = Start.of(given, Condensation(n_images=1, factor=2), dataset).pixels
    np.testing.assert_array_equal(alike, given.pixels[::-1])
    decoded = Start.of(given, RCIG(n_images=4), dataset).pixels.reshape(CLASSES, 4, SIDE, SIDE, 1)
    np.testing.assert_allclose(decoded[0], formation.enlarge(given.pixels[2:3], 2), atol=1e-6)


@pytest.mark.quick
@pytest.mark.parametrize(
    ("given", "method"),
    [
        (set_of(2), RCIG(n_images=1)),
        (set_of(1, factor=2), RCIG(n_images=1)),
        (set_of(1), Condensation(n_images=1, factor=2)),
        (set_of(1, classes=4), RCIG(n_images=1)),
        (set_of(1).replace(pixels=None), RCIG(n_images=1)),
    ],
)
def test_what_does_not_fit_is_refused(dataset, given, method):
    with pytest.raises(ConfigError, match="set"):
        Start.of(given, method, dataset)


@pytest.mark.slow
@pytest.mark.quick
@pytest.mark.parametrize(
    "method",
    [
        RCIG(n_images=1, width=4, pool_model_count=1),
        RCIG(n_images=1, width=4, pool_model_count=1, init_random_noise=True),
        Condensation(n_images=1, width=4),
    ],
)
def test_a_run_starts_there_and_knows_it(dataset, method):
    from jaxdd import data

    preprocessing = data.fit(dataset, family=method.family, kind=method.kind)
    start = Start.of(set_of(1), method, dataset)
    run = Distillation("any", method, dataset, preprocessing, 1, start=start)
    assert run.identity["start"] == start.digest
    assert "start" not in Distillation("any", method, dataset, preprocessing, 1).identity
    state = method.init(jax.random.key(0), run._examples())
    images = np.asarray(getattr(state, "synthetic", state).images).reshape(start.pixels.shape)
    np.testing.assert_allclose(preprocessing.invert(images), start.pixels, atol=1e-6)
