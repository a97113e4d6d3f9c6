"""A data set in files: the pixels, constants, choices and refusals of the same one in memory, without reading it."""

from __future__ import annotations

import itertools

import jax
import numpy as np
import pytest

from jaxdd import data, models
from jaxdd.core import backend
from jaxdd.core.distilled import DistilledSet
from jaxdd.core.errors import DataError, UsageError
from jaxdd.data import large
from jaxdd.data.readers import images
from jaxdd.evaluation.contenders import contenders
from jaxdd.training.trainer import accuracies
from tests.data.conftest import encode

SIDES = ((20, 30), (24, 16), (18, 18))


def write(root, count: int = 18, channels: int = 3):
    """ImageNet's layout: JPEGs of noise around a colour, three classes, several sizes; returns `folder:DIR`."""
    random = np.random.default_rng(0)
    for split, index in itertools.product(("train", "val"), range(count)):
        place = root / split / f"n0{index % 3}"
        place.mkdir(parents=True, exist_ok=True)
        shade = 90 * np.eye(3)[index % 3][:channels]
        image = np.clip(shade + random.integers(0, 150, (*SIDES[index % 2], channels)), 0, 255).astype(np.uint8)
        (place / f"{index:02d}.JPEG").write_bytes(encode(image, "JPEG"))
    return f"folder:{root}"


@pytest.fixture(scope="module")
def name(tmp_path_factory):
    return write(tmp_path_factory.mktemp("large"))


@pytest.fixture(scope="module")
def both(name):
    """The set in memory, and the same in files."""
    resident, files = (data.load(name, resolution=8, stream=stream) for stream in ("never", "always"))
    assert isinstance(files, data.LargeDataset) and not isinstance(resident, data.LargeDataset)
    return resident, files


@pytest.mark.quick
@pytest.mark.parametrize("rows", [slice(3, 11), np.array([5, 0, 5]), np.arange(18) % 3 == 1, slice(0, 0)])
def test_some_images_are_those_that_load_gives(rows, both):
    resident, files = both
    for split in ("train_images", "test_images"):
        found, wanted = getattr(files, split)[rows], getattr(resident, split)[rows]
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.quick
def test_everything_else_is_the_same_and_all_at_once_is_refused(both):
    resident, files = both
    for fact in ("name", "class_names", "classes", "image_shape", "resolution"):
        assert getattr(files, fact) == getattr(resident, fact)
    for split in ("train_labels", "test_labels"):
        np.testing.assert_array_equal(getattr(files, split), getattr(resident, split))
    constants = [data.fit(each, family="sre2l", kind="raw").describe() for each in both]
    assert constants[0] == constants[1] and constants[0]["std"] != [1.0] * 3
    with pytest.raises(UsageError, match="all 18 images") as refusal:
        np.asarray(files.train_images)
    assert "`stream=never`" in refusal.value.remedy


@pytest.mark.quick
def test_the_digest_is_of_names_labels_and_size(both, name, tmp_path):
    files, other = both[1], write(tmp_path)
    assert data.load(other, resolution=8, stream="always").digest == files.digest
    assert data.load(name, resolution=9, stream="always").digest != files.digest
    (tmp_path / "train" / "n00" / "00.JPEG").rename(tmp_path / "train" / "n00" / "99.JPEG")
    assert data.load(other, resolution=8, stream="always").digest != files.digest


@pytest.mark.quick
def test_auto_is_decided_by_counting_files(name, monkeypatch):
    def kind(memory: int) -> bool:
        monkeypatch.setattr(backend, "machine_bytes", lambda: memory)
        return isinstance(data.load(name, resolution=8, stream="auto"), data.LargeDataset)

    bytes_of_all = 18 * 8 * 8 * 3
    assert not kind(4 * bytes_of_all) and kind(4 * bytes_of_all - 1)
    monkeypatch.setattr(images, "decode", None)  # it would be called in vain
    assert kind(10) and not isinstance(data.load("digits", stream="auto"), data.LargeDataset)


@pytest.mark.quick
def test_test_images_are_kept_only_where_memory_has_room(both, name, monkeypatch):
    made = []
    for memory in (10, 10**9):
        monkeypatch.setattr(backend, "machine_bytes", lambda memory=memory: memory)
        made.append(data.load(name, resolution=8, stream="always"))
    read = []
    decode_all = large.decode_all
    monkeypatch.setattr(large, "decode_all", lambda some, *rest: read.append(some.count) or decode_all(some, *rest))
    monkeypatch.setattr(large, "PART", 7)
    for dataset, counts in zip(made, ([7, 7, 4, 7, 7, 4], [18]), strict=True):
        read.clear()
        test = data.test_examples(dataset, data.fit(both[0], family="sre2l", kind="raw"))
        assert isinstance(test, large.Parts)
        sizes = [[len(part) for part in test] for _ in range(2)]
        assert sizes == [[7, 7, 4]] * 2 and read == counts


@pytest.mark.slow
@pytest.mark.parametrize("space", ["raw", "standardised"])
def test_accuracy_in_parts_is_that_of_the_whole(space, both, monkeypatch):
    monkeypatch.setattr(large, "PART", 7)
    network = models.build("mlp", image_shape=(8, 8, 3), classes=3, width=8)
    variables = jax.vmap(network.init)(jax.random.split(jax.random.key(0), 2))
    fitted = data.fit(both[0], family="sre2l", kind=space)
    whole, parts = (data.test_examples(each, fitted) for each in both)
    assert isinstance(parts, large.Parts) and len(parts) == len(whole) == 18 and parts.classes == 3
    assert accuracies(network, variables, parts) == accuracies(network, variables, whole)


@pytest.mark.parametrize("space", ["raw", "standardised"])
def test_baselines_are_chosen_alike(space, both):
    fitted = data.fit(both[0], family="sre2l", kind=space)
    made = DistilledSet(
        images=np.zeros((6, 8, 8, 3), np.float32), labels=np.repeat(np.eye(3, dtype=np.float32), 2, 0), space=space
    )
    found = []
    for dataset in both:
        chosen = contenders(
            made, dataset, fitted, lambda labels: labels, baselines=("random", "kmeans"), full_data=False, seed=1
        )
        found.append([(each.name, each.of(1)) for each in chosen])
    for (name, one), (other, two) in zip(*found, strict=True):
        assert name == other
        np.testing.assert_allclose(one.take(slice(None)), two.take(slice(None)), atol=1e-6)
        np.testing.assert_array_equal(one.labels, two.labels)
    assert [name for name, _ in found[0]] == ["distilled", "random real", "k-means real"]
    with pytest.raises(UsageError, match="all 18 images"):
        next(contenders(made, both[1], fitted, lambda labels: labels, baselines=(), full_data=True, seed=1))


def test_a_stream_that_does_not_crop_shows_what_load_gives(both):
    pytest.importorskip("grain")
    resident, files = both
    batch = files.stream(batch_size=18, seed=3, cropped=False, threads=0).batch(0)
    wanted = {image.tobytes(): label for image, label in zip(resident.train_images, resident.train_labels, strict=True)}
    assert {image.tobytes(): label for image, label in zip(*batch.values(), strict=True)} == wanted
    cropped = files.stream(batch_size=18, seed=3, threads=0).batch(0)
    assert not {image.tobytes() for image in cropped["images"]} & set(wanted)


@pytest.mark.quick
def test_what_cannot_be_streamed_is_refused(name, tmp_path):
    with pytest.raises(UsageError, match="no folder of images"):
        data.load("digits", stream="always")
    with pytest.raises(UsageError, match="'digits'"):
        data.check_available("digits", None, "always")
    with pytest.raises(UsageError, match="sometimes"):
        data.load("digits", stream="sometimes")
    with pytest.raises(UsageError) as refusal:
        data.load(name, stream="always")
    assert "`resolution=16`" in refusal.value.remedy or "`resolution=20`" in refusal.value.remedy
    with pytest.raises(UsageError, match="grey"):
        data.load(write(tmp_path / "grey", channels=1), resolution=8, stream="always")
    broken = write(tmp_path / "broken")
    (tmp_path / "broken" / "train" / "n01" / "04.JPEG").write_bytes(b"no image")
    with pytest.raises(DataError, match="decode") as damaged:
        data.load(broken, resolution=8, stream="always").train_images[:]
    assert damaged.value.where.endswith("n01/04.JPEG")
