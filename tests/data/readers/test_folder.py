"""What counts in a folder of images, what is left out and told, and what its refusals name."""

from __future__ import annotations

import os
import shutil
import socket

import numpy as np
import pytest
from PIL import Image

from jaxdd.core.errors import DataError, Notice
from jaxdd.data import check_available, describe, load
from jaxdd.data.streaming import ImageStream

pytestmark = pytest.mark.quick

NAMES = ("ant", "bee", "cat")


@pytest.fixture
def root(tmp_path, arrays, write_folder):
    return write_folder(tmp_path / "set", arrays, NAMES)


def counts(root, **options) -> list[int]:
    """Train and test images of every class."""
    data = load(f"folder:{root}", **options)
    return [*np.bincount(data.train_labels, minlength=3), *np.bincount(data.test_labels, minlength=3)]


@pytest.mark.parametrize("suffix", ["tif", "TIFF", "gif", "jp2", "ppm", "webp", "bmp"])
def test_a_class_of_another_lossless_type_is_read_with_the_same_pixels(root, suffix):
    before = load(f"folder:{root}")
    for path in (root / "train" / "bee").iterdir():
        image = Image.open(path)
        options = {"irreversible": False} if suffix == "jp2" else {"lossless": True} if suffix == "webp" else {}
        image = image.quantize(64) if suffix == "gif" else image  # 64 pixels, so none is changed
        image.save(path.with_suffix(f".{suffix}"), **options)
        path.unlink()
    np.testing.assert_array_equal(load(f"folder:{root}").train_images, before.train_images)


def test_jfif_is_jpeg(root):
    for path in sorted((root / "test" / "cat").iterdir()):
        Image.open(path).save(path.with_suffix(".jfif"), "JPEG")
        path.unlink()
    assert counts(root) == [4, 4, 4, 2, 2, 2]


def junk(root):
    """Copies images to where systems put theirs; returns nothing that counts."""
    image = next((root / "train" / "ant").iterdir())
    for place in (".thumbnails", ".ipynb_checkpoints", "@eaDir", "__MACOSX"):
        for parent in (root / "train" / "ant", root / "train", root / "test", root / "test" / "cat" / "inner"):
            (parent / place).mkdir(parents=True)
            shutil.copy(image, parent / place)
    (root / "train" / "bee" / "._0001.png").write_bytes(b"\x00\x05\x16\x07")
    (root / "test" / "bee" / ".DS_Store").write_bytes(b"Bud1")


def test_what_systems_leave_behind_is_no_class_and_no_image_and_is_told(root):
    junk(root)
    with pytest.warns(Notice) as told:
        assert counts(root) == [4, 4, 4, 2, 2, 2]
    assert describe(f"folder:{root}").class_names == NAMES
    assert len(told) == 1
    text = str(told[0].message)
    assert str(root) in text and "4 .thumbnails" in text and "1 more kind" in text and "\n" not in text


def test_resource_forks_beside_a_whole_archive_are_no_data_set(tmp_path, arrays, write_npz):
    write_npz(tmp_path / "own" / "a.npz", arrays)
    (tmp_path / "own" / "._a.npz").write_bytes(b"\x00\x05\x16\x07")
    assert load(f"npz:{tmp_path / 'own'}").classes == 3


def test_images_of_types_that_are_not_read_are_told_and_texts_are_not(root):
    for name in ("a.heic", "b.HEIC", "c.avif", "labels.txt", "Thumbs.db"):
        (root / "train" / "cat" / name).write_bytes(b"x")
    with pytest.warns(Notice, match=r"left out of .*: 2 \.heic, 1 \.avif \("):
        assert counts(root) == [4, 4, 4, 2, 2, 2]
    with pytest.warns(Notice, match=r"2 \.heic"):
        load(f"folder:{root}", stream="always", resolution=8)


def test_images_beside_class_folders_and_links_to_nowhere_are_told(root):
    image = next((root / "train" / "ant").iterdir())
    shutil.copy(image, root / "train" / "loose.png")
    os.symlink("nowhere", root / "test" / "dog")
    with pytest.warns(Notice, match="1 images outside the class folders, 1 links to nowhere"):
        assert counts(root) == [4, 4, 4, 2, 2, 2]


def test_linked_folders_are_read_once_and_lead_to_no_folder_above(root):
    for name in NAMES:
        (root / "store" / name).mkdir(parents=True)
        for path in sorted((root / "train" / name).iterdir())[1:]:
            path.rename(root / "store" / name / path.name)
        os.symlink(root / "store" / name, root / "train" / name / "more")
    assert counts(root) == [4, 4, 4, 2, 2, 2]
    os.symlink(root / "store" / "ant", root / "train" / "ant" / "again")
    os.symlink("..", root / "train" / "bee" / "up")
    os.symlink(".", root / "train" / "cat" / "here")
    with pytest.warns(Notice, match="3 links to folders that are read already"):
        assert counts(root) == [4, 4, 4, 2, 2, 2]


def test_a_link_to_another_class_does_not_give_its_images_two_labels(root):
    os.symlink("../bee", root / "train" / "ant" / "more")
    with pytest.warns(Notice, match="1 links to folders of other classes"):
        assert counts(root) == [4, 4, 4, 2, 2, 2]
    (root / "train" / "ant" / "more").unlink()
    (root / "train" / "cat").rename(root / "elsewhere")
    os.symlink(root / "elsewhere", root / "train" / "cat")  # a class folder may be a link itself
    assert counts(root) == [4, 4, 4, 2, 2, 2]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may list every folder")
def test_a_folder_that_may_not_be_listed_is_refused(root):
    closed = root / "train" / "ant" / "closed"
    closed.mkdir(mode=0)
    with pytest.raises(DataError, match="cannot list") as caught:
        counts(root)
    assert caught.value.where == str(closed)


def test_test_images_of_types_that_are_not_read_are_no_missing_split(root):
    for path in list((root / "test").rglob("*.png")):
        path.rename(path.with_suffix(".heic"))
    for call in (check_available, load):
        with pytest.raises(DataError, match=r"no image in the 3 class folders of test/ .*6 \.heic") as caught:
            call(f"folder:{root}")
        assert "PNG" in caught.value.remedy


@pytest.mark.parametrize("split", ["train", "val"])
def test_images_without_class_folders_are_named_so(tmp_path, arrays, write_folder, split):
    root = write_folder(tmp_path / "imagenet1k", arrays, NAMES, "val")
    for path in list((root / split).rglob("*.png")):
        path.rename(root / split / f"{path.parent.name}{path.name}")
    for name in NAMES:
        (root / split / name).rmdir()
    with pytest.raises(
        DataError, match=rf"{split}/ holds {12 if split == 'train' else 6} images but no class"
    ) as caught:
        load("imagenet1k", tmp_path)
    assert "class" in caught.value.remedy


def test_what_is_no_regular_file_is_refused_and_not_waited_for(root):
    bad = root / "train" / "ant" / "x.png"
    os.mkfifo(bad)
    with pytest.raises(DataError, match="a FIFO") as caught:
        counts(root)
    assert caught.value.where == str(bad)
    bad.unlink()
    os.symlink("/dev/zero", bad)
    with pytest.raises(DataError, match="a device"):
        counts(root)
    bad.unlink()
    with socket.socket(socket.AF_UNIX) as server, pytest.MonkeyPatch.context() as patch:
        patch.chdir(bad.parent)  # as its path may have 108 bytes only
        server.bind("x.png")
        with pytest.raises(DataError, match="a socket"):
            counts(root, resolution=4)
    bad.unlink()
    os.symlink("nowhere", bad)
    with pytest.raises(DataError, match="cannot read an image"):
        counts(root)


def test_a_list_of_validation_images_that_is_a_fifo_is_no_list(root):
    (root / "validation").mkdir()
    os.mkfifo(root / "validation" / "val_annotations.txt")
    assert counts(root) == [4, 4, 4, 2, 2, 2]


def test_one_class_is_refused(root):
    for split in ("train", "test"):
        (root / split).rename(root / "old")
        (root / split).mkdir()
        (root / "old").rename(root / split / "train")
    for call in (load, describe):
        with pytest.raises(DataError, match="one class, 'train'") as caught:
            call(f"folder:{root}")
        assert "train/train/" in caught.value.remedy
    with pytest.raises(DataError, match="one class"):
        load(f"folder:{root}", stream="always", resolution=8)
    with pytest.raises(DataError, match="one class"):
        ImageStream.of_folder(root, resolution=8, batch_size=2)


def test_names_that_are_not_utf8_become_text_that_can_be_written(root):
    name = os.fsdecode(b"\xca\xfd")
    for split in ("train", "test"):
        (root / split / "ant").rename(root / split / name)
        for path in list((root / split / name).iterdir()):
            path.rename(path.with_name(name + path.name))
    names = ("bee", "cat", r"\xca\xfd")
    moved = root.rename(root.with_name(name))
    assert describe(f"folder:{moved}").class_names == load(f"folder:{moved}").class_names == names
    large = load(f"folder:{moved}", stream="always", resolution=8)
    assert large.class_names == names and len(large.digest) == 64
    stream = ImageStream.of_folder(moved, resolution=8, batch_size=2)
    assert stream.class_names == names and len(stream.digest) == 64
    (moved / "train" / name / f"{name}.heic").write_bytes(b"x")
    with pytest.warns(Notice) as told:
        load(f"folder:{moved}")
    str(told[0].message).encode()
