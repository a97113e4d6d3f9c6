"""Streams of images: every batch is a function of its number, whoever reads it; files that are broken are named."""

from __future__ import annotations

import importlib.util
import itertools

import jax
import numpy as np
import pytest

from jaxdd.augment.imagenet import draw_boxes
from jaxdd.core.errors import DataError, UsageError
from jaxdd.data import streaming
from jaxdd.data.readers.images import decode, shorter_side
from jaxdd.data.streaming import ImageStream
from tests.data.conftest import encode

pytest.importorskip("grain")
Image = pytest.importorskip("PIL.Image")

SIDES = ((20, 30), (40, 24), (33, 33), (16, 50), (48, 32))


@pytest.fixture
def folder(tmp_path):
    """ImageNet's layout: 2 classes of 5 JPEGs each, one of them grey; image i is of one grey level, 20 i."""
    for split in ("train", "val"):
        for index in range(10):
            place = tmp_path / split / ("n01", "n02")[index % 2]
            place.mkdir(parents=True, exist_ok=True)
            channels = 1 if index == 4 else 3
            image = np.full((*SIDES[index // 2], channels), 20 * index, np.uint8)
            (place / f"{place.name}_{index}.JPEG").write_bytes(encode(image, "JPEG"))
    return tmp_path


def stream(folder, split="train", **options) -> ImageStream:
    return ImageStream.of_folder(folder, split, **{"resolution": 8, "batch_size": 4, "seed": 3, **options})


def which(batch) -> list[int]:
    """The images of a batch, by their grey level."""
    return list(np.rint(batch["images"].mean((1, 2, 3)) / 20).astype(int))


@pytest.mark.parametrize("threads", [0, 1, 4])
def test_batches_are_those_of_their_numbers_with_any_number_of_threads(folder, threads):
    alone = stream(folder)
    for start in (0, 7):
        ahead = stream(folder, threads=threads).batches(start)
        for step in range(start, start + 4):
            found, wanted = next(ahead), alone.batch(step)
            assert {name: (leaf.shape, leaf.dtype) for name, leaf in found.items()} == {
                name: (leaf.shape, leaf.dtype) for name, leaf in alone.shapes.items()
            }
            for name in ("images", "labels"):
                np.testing.assert_array_equal(found[name], wanted[name])
        ahead.close()


def test_every_epoch_is_a_shuffle_of_its_own_and_labels_go_with_their_images(folder):
    made = stream(folder, batch_size=5)
    assert (len(made), made.steps_per_epoch, made.class_names) == (10, 2, ("n01", "n02"))
    batches = [made.batch(step) for step in range(6)]
    shown = [which(batch) for batch in batches]
    epochs = [shown[2 * e] + shown[2 * e + 1] for e in range(3)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len(set(map(tuple, epochs))) == 3
    assert which(stream(folder, batch_size=5, seed=4).batch(0)) != shown[0]
    for batch, images in zip(batches, shown, strict=True):
        assert [image % 2 for image in images] == list(batch["labels"])


def test_grey_images_become_rgb(folder):
    made = stream(folder, batch_size=10)
    grey = made.batch(0)["images"][which(made.batch(0)).index(4)]
    assert (grey == grey[..., :1]).all() and abs(int(grey[0, 0, 0]) - 80) <= 1


def test_test_images_are_central_squares_in_the_files_order(folder):
    made = stream(folder, "test", batch_size=5)
    shown = np.concatenate([made.batch(step)["images"] for step in range(2)])
    files = sorted((folder / "val").rglob("*.JPEG"))
    for image, file in zip(shown, files, strict=True):
        wanted = shorter_side(decode(file.read_bytes(), str(file)), 8)
        np.testing.assert_array_equal(image, np.broadcast_to(wanted, (8, 8, 3)))
    assert list(made.batch(0)["labels"]) == [0] * 5


def test_the_resident_part_has_shapes_and_constants_alone(folder):
    constants = ((0.5,) * 3, (0.25,) * 3)
    held = stream(folder).examples(constants)
    assert (held.image_shape, held.classes, len(held), held.largest) == ((8, 8, 3), 2, 0, 5)
    assert held.constants == constants and held.images.dtype == np.uint8


def test_a_crop_is_pils():
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    wanted = Image.fromarray(image).crop((7, 5, 7 + 30, 5 + 20)).resize((16, 16), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(streaming.resized(image, (5, 7, 20, 30), 16), np.asarray(wanted))
    grey = streaming.resized(image[..., :1], (5, 7, 20, 30), 16)
    np.testing.assert_array_equal(grey, np.asarray(wanted)[..., :1])


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(48, 64), (20, 100)])
def test_windows_are_distributed_as_those_of_images_on_the_device(shape):
    random, count = np.random.default_rng(0), 1500
    top, left, height, width = np.array([streaming.window(random, *shape, scale=(0.08, 1)) for _ in range(count)]).T
    assert (top >= 0).all() and (left >= 0).all() and (height > 0).all() and (width > 0).all()
    assert (top + height <= shape[0]).all() and (left + width <= shape[1]).all()
    boxes = draw_boxes(jax.random.key(0), (count, *shape, 3), (0.08, 1), (3 / 4, 4 / 3))
    for ours, theirs in zip((top, left, height, width), boxes, strict=True):
        theirs, extent = np.asarray(theirs), max(shape)
        assert abs(ours.mean() - theirs.mean()) < 0.03 * extent
        assert abs(ours.std() - theirs.std()) < 0.03 * extent


@pytest.mark.parametrize("damage", ["cut", "removed"])
@pytest.mark.parametrize("threads", [0, 2])
def test_a_broken_image_is_named_at_its_step(folder, damage, threads):
    made, file = stream(folder, batch_size=10, threads=threads), folder / "train" / "n02" / "n02_3.JPEG"
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-40])
    else:
        file.unlink()
    for read in (lambda: made.batch(0), lambda: next(made.batches(0))):
        with pytest.raises(DataError) as caught:
            read()
        assert caught.value.where == str(file)


def test_what_the_list_tells_is_refused_before_anything_is_read(folder):
    for file in (folder / "train" / "n02").iterdir():
        file.unlink()
    with pytest.raises(DataError, match="have no image") as caught:
        stream(folder)
    assert caught.value.where == str(folder / "train" / "n02")
    with pytest.raises(DataError, match="no folder of train images"):
        stream(folder / "train")
    with pytest.raises(DataError, match="no folder of test images"):
        stream(folder / "absent", "test")


def test_chosen_classes_are_those_asked_for(folder):
    made = stream(folder, classes=("n02",), batch_size=5)
    assert sorted(which(made.batch(0))) == [1, 3, 5, 7, 9] and set(made.batch(0)["labels"]) == {0}
    assert made.digest != stream(folder).digest == stream(folder, seed=9).digest


def test_without_grain_the_extra_is_named(folder, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "grain" else found(name))
    with pytest.raises(UsageError) as caught:
        stream(folder)
    assert "jaxdd[stream]" in caught.value.remedy


def test_a_stream_needs_its_batches_alone():
    class Numbers(streaming.Stream):
        def batch(self, step):
            return {"labels": np.full(3, step, np.int32)}

    numbers = Numbers()
    assert [int(batch["labels"][0]) for batch in itertools.islice(numbers.batches(5), 3)] == [5, 6, 7]
    assert numbers.shapes["labels"].shape == (3,) and numbers.shapes["labels"].dtype == np.int32
