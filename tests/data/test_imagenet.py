"""Subsets of ImageNet: their names, their classes, and a tree of which no other folder is looked into."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from PIL import Image

from jaxdd.core.errors import DataError, UsageError
from jaxdd.data import canonical, check_available, describe, fit, load, real_images, registry
from jaxdd.data.readers import images as pixels

pytestmark = pytest.mark.quick


@pytest.fixture
def tree(tmp_path):
    """`<root>/train` and `<root>/val` of the first six classes of the list and a foreign one: flat 12 x 10 images,
    red tells the class, green the image, blue the split. Nothing in the foreign class can be decoded."""
    for blue, split in enumerate(("train", "val")):
        for red, name in enumerate((*registry.WNIDS[:6], "n00000000")):
            place = tmp_path / "imagenet" / split / name
            place.mkdir(parents=True)
            for index, green in enumerate((0, 0, 1, 2)):
                path = place / f"{name}_{index}.JPEG"
                Image.fromarray(np.full((12, 10, 3), (red, green, blue), np.uint8)).save(path, "PNG")
                if name not in registry.WNIDS:
                    path.write_bytes(b"")
    return tmp_path / "imagenet"


@pytest.mark.parametrize(
    ("typed", "name", "wnids"),
    [
        ("imagenet10", "imagenet10", registry.WNIDS[:10]),
        ("imagenet:10", "imagenet10", registry.WNIDS[:10]),
        ("imagenet:10:0", "imagenet10", registry.WNIDS[:10]),
        ("imagenet100", "imagenet100", registry.WNIDS),
        ("imagenet:20:3", "imagenet20:3", registry.WNIDS[60:80]),
        ("imagenet20:3:0", "imagenet20:3", registry.WNIDS[60:80]),
        ("imagenet:10:0:7", "imagenet10:0:7", ()),
        ("imagenet50:19:7", "imagenet50:19:7", ()),
    ],
)
def test_every_spelling_means_one_choice_of_classes(typed, name, wnids):
    assert canonical(typed) == name == canonical(name)
    found = describe(typed)
    assert (found.name, found.class_names, found.classes) == (name, wnids, len(wnids) or found.classes)
    assert found.image_shape == (224, 224, 3) and found.space == "standardised"


@pytest.mark.parametrize(
    "name", ["imagenet0", "imagenet101", "imagenet20:5", "imagenet:50:20:1", "imagenet10:0:4294967296"]
)
def test_classes_that_there_are_not_are_refused(name):
    for refuse in (canonical, describe, check_available):
        with pytest.raises(UsageError, match="classes") as caught:
            refuse(name)
        assert caught.value.expected and caught.value.remedy


def test_imagenet_alone_asks_for_the_classes():
    with pytest.raises(UsageError, match="not which") as caught:
        describe("imagenet")
    assert "imagenet10" in caught.value.remedy


def test_the_list_is_of_a_hundred_different_classes():
    assert len(set(registry.WNIDS)) == len(registry.WNIDS) == 100
    assert registry.WNIDS[0] == "n02869837" and registry.WNIDS[9:11] == ("n01773797", "n01735189")


def test_a_seed_shuffles_the_sorted_folders_as_the_authors_did():
    folders = [f"n{index:08d}" for index in range(1000)]
    np.random.seed(3)  # their very lines
    indices = np.random.permutation(len(folders))[20:40]
    expected = tuple(folders[index] for index in indices)
    assert registry.Subset(20, 1, 3).choose(folders[::-1], "tree") == expected
    with pytest.raises(DataError, match="999 classes"):
        registry.Subset(20, 1, 3).choose(folders[1:], "tree")


@pytest.mark.parametrize(("name", "first"), [("imagenet:3", 0), ("imagenet3:1", 3), ("imagenet6", 0)])
def test_only_the_chosen_folders_are_read_in_the_order_of_the_list(tree, name, first):
    for place in (tree.parent, tree):  # beside other sets, or the tree itself
        data = load(name, place, resolution=8)
        count = data.classes
        assert data.name == canonical(name) and data.class_names == registry.WNIDS[first : first + count]
        for blue, images, labels in (
            (0, data.train_images, data.train_labels),
            (1, data.test_images, data.test_labels),
        ):
            assert images.shape == (4 * count, 8, 8, 3)  # the file named broken is whole in these classes
            np.testing.assert_array_equal(images[:, 0, 0, 0], labels + first)
            np.testing.assert_array_equal(images[:, 0, 0, 1].reshape(count, 4), [[0, 0, 1, 2]] * count)
            assert (images[..., 2] == blue).all()


def test_a_tree_of_another_name_and_constants_by_family(tree):
    other = tree.rename(tree.parent / "ILSVRC")
    data = load("imagenet:3", other, resolution=16)
    assert fit(data, family="idc").std == (0.229, 0.224, 0.225)
    np.testing.assert_allclose(fit(data).mean, (data.train_images / 255).mean((0, 1, 2)), atol=1e-6)
    assert len(real_images(data, 2, jax.random.key(0))) == 6


def test_a_seeded_choice_is_named_by_its_folders(tmp_path):
    folders = sorted({*registry.WNIDS, *(f"n9{index:07d}" for index in range(900))})
    chosen = registry.Subset(2, 1, 5).choose(folders, "tree")
    for name in folders:
        (tmp_path / "train" / name).mkdir(parents=True)
    for split in ("train", "val"):
        for green, name in enumerate(chosen):
            (tmp_path / split / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((6, 6, 3), green, np.uint8)).save(tmp_path / split / name / "a.png")
    data = load("imagenet2:1:5", tmp_path, resolution=6)
    assert data.class_names == chosen and data.train_images[:, 0, 0, 0].tolist() == [0, 1]


def test_what_is_missing_in_a_tree_is_named_before_an_image_is_read(tree, tmp_path):
    for name in ("imagenet10", "imagenet:3"):
        with pytest.raises(DataError, match="registered users") as caught:
            check_available(name, tmp_path / "imagenet" / "train" / registry.WNIDS[0])
        assert "train/<class>" in caught.value.expected and "npz" not in caught.value.expected
    check_available("imagenet:6", tmp_path)
    with pytest.raises(DataError, match=f"4 of the 10 classes .* {registry.WNIDS[6]}") as caught:
        check_available("imagenet10", tmp_path)
    assert caught.value.where.endswith("train")
    for image in (tree / "val" / registry.WNIDS[2]).iterdir():
        image.rename(tree / "val" / image.name)  # as the archive unpacks
    (tree / "val" / registry.WNIDS[2]).rmdir()
    with pytest.raises(DataError, match="1 of the 3 classes") as caught:
        check_available("imagenet:3", tmp_path)
    assert caught.value.where.endswith("val") and "folder of its class" in caught.value.remedy


@pytest.mark.parametrize("shape", [(10, 15, 3), (15, 10, 3), (9, 9, 3), (7, 16, 1), (6, 11, 3)])
def test_the_shorter_side_is_resized_and_the_centre_cut(shape):
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    found = pixels.shorter_side(image, 6)
    height, width = shape[:2]
    across, down = int(6 * width / min(height, width)), int(6 * height / min(height, width))
    whole = _triangle(height, down) @ _columns(_triangle(width, across), image)
    top, left = round((down - 6) / 2), round((across - 6) / 2)
    assert found.shape == (6, 6, shape[2]) and found.dtype == np.uint8
    expected = whole.transpose(1, 2, 0)[top : top + 6, left : left + 6]
    np.testing.assert_allclose(found, expected, atol=1.01)  # PIL rounds to bytes after each of the two passes


def _columns(weights: np.ndarray, image: np.ndarray) -> np.ndarray:
    """`[channels, height, new width]`"""
    return np.einsum("nw,hwc->chn", weights, image.astype(np.float64))


def _triangle(old: int, new: int) -> np.ndarray:
    """`[new, old]` weights of an antialiased bilinear filter, as its definition has it."""
    scale = max(old / new, 1.0)
    centres = (np.arange(new)[:, None] + 0.5) * old / new
    weights = np.clip(1 - np.abs(np.arange(old)[None] + 0.5 - centres) / scale, 0, None)
    return weights / weights.sum(1, keepdims=True)
