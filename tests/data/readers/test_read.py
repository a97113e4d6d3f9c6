"""Every layout gives the same data set back, and every fault is refused by name."""

from __future__ import annotations

import contextlib
import shutil

import numpy as np
import pytest

from jaxdd.core.errors import DataError, UsageError
from jaxdd.data import describe, fit, load

NAMES = ("ant", "bee", "cat")


def _check(data, arrays, names=NAMES):
    """The set holds these images (in any order within a split) under these names."""
    assert data.class_names == names
    for images, labels, x, y in (
        (data.train_images, data.train_labels, *arrays[:2]),
        (data.test_images, data.test_labels, *arrays[2:]),
    ):
        found = sorted((int(label), image.tobytes()) for image, label in zip(images, labels, strict=True))
        assert found == sorted((int(label), image.tobytes()) for image, label in zip(x, y, strict=True))


@pytest.mark.quick
def test_digits_are_embedded_and_split_by_rule():
    data = load("digits")
    assert (len(data.train_images), len(data.test_images)) == (1438, 359)
    assert data.image_shape == (8, 8, 1) and data.classes == 10 and data.train_images.max() == 255
    assert np.bincount(data.test_labels).min() >= 35 and data.digest == load("digits").digest
    together = {image.tobytes() for image in data.train_images} & {image.tobytes() for image in data.test_images}
    assert not together
    assert load("digits", resolution=28).image_shape == (28, 28, 1)
    assert describe("digits").image_shape == (8, 8, 1)


@pytest.mark.quick
@pytest.mark.parametrize("test", ["test", "val", "validation"])
def test_image_folders(tmp_path, arrays, write_folder, test):
    root = write_folder(tmp_path / "my set", arrays, NAMES, test)
    _check(load(f"folder:{root}"), arrays)
    found = describe(f"folder:{root}")
    assert (found.image_shape, found.classes, found.class_names) == ((8, 8, 3), 3, NAMES)


@pytest.mark.quick
def test_class_folders_named_by_numbers_are_ordered_by_value(tmp_path, arrays, write_folder):
    root = write_folder(tmp_path / "numbers", arrays, ("9", "10", "100"))
    _check(load(f"folder:{root}"), arrays, ("9", "10", "100"))


@pytest.mark.quick
def test_tiny_imagenets_own_archive_layout(tmp_path, arrays, write_folder):
    root = write_folder(tmp_path / "set", arrays, NAMES, "val")
    for name in NAMES:
        (root / "train" / name / "images").mkdir()
        for image in list((root / "train" / name).glob("*.png")):
            image.rename(image.parent / "images" / image.name)
    rows = []
    (root / "val" / "images").mkdir()
    for name in NAMES:
        for image in sorted((root / "val" / name).glob("*.png")):
            image.rename(root / "val" / "images" / image.name)
            rows.append(f"{image.name}\t{name}\t0\t0\t7\t7")
        (root / "val" / name).rmdir()
    (root / "val" / "val_annotations.txt").write_text("\n".join(rows) + "\n")
    (root / "test" / "images").mkdir(parents=True)  # unlabelled images, as in the archive
    shutil.copy(next((root / "val" / "images").iterdir()), root / "test" / "images" / "x.png")
    _check(load(f"folder:{root}"), arrays)
    (root / "val" / "val_annotations.txt").write_text("../../etc/passwd\tant\n")
    with pytest.raises(DataError, match="cannot read an image") as caught:
        load(f"folder:{root}")
    assert "val/images/passwd" in caught.value.where


@pytest.mark.quick
@pytest.mark.parametrize("huggingface", [False, True])
@pytest.mark.parametrize("column", ["image", "img"])
def test_parquet(tmp_path, arrays, write_parquet, column, huggingface):
    root = write_parquet(tmp_path / "set", arrays, column, NAMES, huggingface, test="val")
    _check(load(f"parquet:{root}"), arrays)
    found = describe(f"parquet:{root}")
    assert (found.image_shape, found.classes, found.class_names) == ((8, 8, 3), 3, NAMES)
    hub = tmp_path / "hub"
    hub.mkdir()
    root.rename(hub / "data")  # as the Hub's own repositories are laid out
    _check(load(f"parquet:{hub}"), arrays)


@pytest.mark.quick
def test_parquet_without_names_uses_the_label_numbers(tmp_path, arrays, write_parquet):
    root = write_parquet(tmp_path / "set", arrays)
    _check(load(f"parquet:{root}"), arrays, ("0", "1", "2"))


@pytest.mark.quick
def test_a_known_name_is_found_under_the_data_path_and_as_the_data_path(tmp_path, write_npz):
    random = np.random.default_rng(0)
    x, y = random.integers(0, 256, (40, 32, 32, 3), np.uint8), np.arange(40)[:, None] % 10
    write_npz(tmp_path / "cifar10" / "any name.npz", (x, y, x[:10], y[:10]))
    for place in (tmp_path, tmp_path / "cifar10"):
        data = load("cifar10", place)
        assert data.class_names[3] == "cat" and data.image_shape == (32, 32, 3)
        np.testing.assert_array_equal(data.train_images, x)
    assert load("cifar10", tmp_path, resolution=16).resolution == 16
    write_npz(tmp_path / "mnist" / "m.npz", (x[:, :28, :28, 0], y[:, 0], x[:10, :28, :28, 0], y[:10, 0]))
    assert load("mnist", tmp_path).image_shape == (28, 28, 1)


@pytest.mark.quick
@pytest.mark.parametrize("folder", ["svhn", "svhn_cropped"])
def test_a_set_by_its_alias_is_stored_under_its_own_name(tmp_path, write_npz, folder):
    x, y = np.zeros((10, 32, 32, 3), np.uint8), np.arange(10)
    write_npz(tmp_path / folder / "x.npz", (x, y, x, y))
    for name in ("svhn", "svhn_cropped"):
        data = load(name, tmp_path)
        assert data.name == "svhn_cropped" == describe(name).name and data.class_names == tuple("0123456789")
        assert fit(data, family="idc", kind="raw").std == (0.1980, 0.2010, 0.1970)


@pytest.mark.quick
def test_a_known_set_takes_its_class_order_from_the_registry_not_from_the_alphabet(tmp_path, write_folder):
    from jaxdd.data import SPECS

    names = tuple(name.replace("/", "_") for name in SPECS["fashion_mnist"].class_names)
    random = np.random.default_rng(0)
    x, y = random.integers(0, 256, (20, 28, 28, 1), np.uint8), np.arange(20) % 10
    folder_names = tuple(str(label) for label in range(10))
    write_folder(tmp_path / "fashion_mnist", (x, y, x, y), folder_names)
    data = load("fashion_mnist", tmp_path)
    assert data.class_names[0] == "T-shirt/top" and names[0] == "T-shirt_top"
    _check(data, (x, y, x, y), SPECS["fashion_mnist"].class_names)


@pytest.mark.quick
def test_grey_images_become_colour_where_the_set_is_colour(tmp_path, arrays, write_folder):
    x, y, tx, ty = arrays
    root = write_folder(tmp_path / "set", (x, y, tx, ty))
    from PIL import Image

    target = sorted((root / "train" / "bee").iterdir())[0]
    Image.fromarray(x[0, ..., 0]).save(target)
    data = load(f"folder:{root}")
    expected = np.repeat(x[0, ..., :1], 3, -1)
    assert any((image == expected).all() for image in data.train_images[data.train_labels == 1])
    first = sorted((root / "train" / NAMES[0]).iterdir())[0]
    Image.fromarray(x[0, ..., 0]).save(first)  # which does not make the others grey
    assert describe(f"folder:{root}").image_shape == load(f"folder:{root}").image_shape == (8, 8, 3)
    grey = write_folder(tmp_path / "grey", (x[..., :1], y, tx[..., :1], ty))
    assert load(f"folder:{grey}").image_shape == (8, 8, 1)
    write_folder(tmp_path / "grey", (x[..., :1], y, tx, ty))
    with pytest.raises(DataError, match="colour image in a grey"):
        load(f"folder:{grey}")


@pytest.mark.quick
def test_faults_of_folders_are_refused_by_name(tmp_path, arrays, write_folder):
    root = write_folder(tmp_path / "set", arrays)
    broken = sorted((root / "train" / "bee").iterdir())[1]
    whole = broken.read_bytes()
    broken.write_bytes(whole[:50])
    with pytest.raises(DataError, match="cannot decode") as caught:
        load(f"folder:{root}", resolution=8)
    assert caught.value.where == str(broken) and caught.value.remedy
    broken.write_bytes(whole)
    (root / "test" / "dog").mkdir()
    shutil.copy(broken, root / "test" / "dog" / "a.png")
    with pytest.raises(DataError, match="class 'dog'"):
        load(f"folder:{root}")
    shutil.rmtree(root / "test" / "dog")
    for image in (root / "train" / "cat").iterdir():
        image.unlink()
    with pytest.raises(DataError, match="no train image: 2 \\(cat\\)"):
        load(f"folder:{root}")
    shutil.rmtree(root / "test")
    with pytest.raises(DataError, match="test split is missing"):
        load(f"folder:{root}")


@pytest.mark.quick
def test_faults_of_parquet_are_refused_by_name(tmp_path, arrays, write_parquet):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    root = write_parquet(tmp_path / "set", arrays)
    file = root / "train-00000-of-00001.parquet"
    whole = file.read_bytes()
    random = np.random.default_rng(0)
    for cut in (0, 3, 100, len(whole) // 2, len(whole) - 4):
        file.write_bytes(whole[:cut])
        with pytest.raises(DataError) as caught:
            load(f"parquet:{root}")
        assert str(file) in caught.value.where
    for _ in range(60):
        broken = bytearray(whole)
        broken[random.integers(len(broken))] ^= 1 << random.integers(8)
        file.write_bytes(broken)
        with contextlib.suppress(DataError):
            load(f"parquet:{root}")
    blobs = [{"bytes": b"x", "path": ""}]
    for table, message in [
        (pa.table({"image": pa.array(blobs)}), "columns"),
        (pa.table({"image": pa.array(blobs), "label": [0.5]}), "columns"),
        (pa.table({"image": pa.array([1]), "label": [0]}), "columns"),
        (pa.table({"image": pa.array(blobs), "label": pa.array([None], pa.int64())}), "null"),
        (
            pa.table(
                {"image": pa.array([{"bytes": None, "path": "a"}], pa.struct([("bytes", pa.binary())])), "label": [0]}
            ),
            "null",
        ),
        (pa.table({"image": pa.array(blobs), "label": [0]}), "cannot decode"),
        (pa.table({"image": pa.array(blobs), "label": [0]}).slice(0, 0), "no images|labels of shape"),
    ]:
        pq.write_table(table, file)
        with pytest.raises(DataError, match=message):
            load(f"parquet:{root}")


@pytest.mark.quick
def test_a_known_set_with_another_number_of_classes_is_refused(tmp_path, arrays, write_npz):
    write_npz(tmp_path / "cifar10" / "x.npz", arrays)
    with pytest.raises(DataError, match="3 classes") as caught:
        load("cifar10", tmp_path)
    assert "folder:DIR" in caught.value.remedy


@pytest.mark.quick
def test_a_resolution_out_of_range_is_refused():
    for resolution in (0, -1, 5000):
        with pytest.raises(UsageError, match="resolution"):
            load("digits", resolution=resolution)


def test_real_mnist(real_data):
    data = load("mnist", real_data("mnist/mnist.npz").parent)
    assert data.train_images.shape == (60000, 28, 28, 1) and len(data.test_images) == 10000
    from jaxdd.data.device.preprocess import channel_statistics

    mean, std = channel_statistics(data.train_images)
    assert mean[0] == pytest.approx(0.1307, abs=5e-5) and std[0] == pytest.approx(0.3081, abs=5e-5)


def test_real_tiny_imagenet_subset(real_data):
    pytest.importorskip("pyarrow")
    data = load(f"parquet:{real_data('tiny_imagenet_20')}")
    assert data.train_images.shape == (10000, 64, 64, 3) and data.class_names[0] == "goldfish"
