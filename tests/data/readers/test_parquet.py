"""Parquet files as the Hub lays them out: which are which split, names before indices, and what is refused."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from jaxdd.core.errors import DataError, UsageError
from jaxdd.data import describe, load
from jaxdd.data.readers import parquet
from tests.data.conftest import encode

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
pytestmark = pytest.mark.quick

NAMES = ("ant", "bee", "cat")
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def table(images, labels, names=None, image="image", label="label", kind=IMAGE):
    """A table as the Hub has them; `names` describes the labels as `datasets` does."""
    blobs = [encode(array) for array in images]
    column = pa.array([{"bytes": blob, "path": None} for blob in blobs] if kind == IMAGE else blobs, kind)
    made = pa.table({image: column, label: labels})
    features = {label: {"names": list(names or ()), "_type": "ClassLabel"}}
    return made.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def write(path, *arguments, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table(*arguments, **options), path)


def same(root, arrays, names=NAMES, suffix=""):
    data = load(f"parquet:{root}{suffix}")
    for found, expected in zip((data.train_images, data.train_labels, data.test_images), arrays[:3], strict=True):
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(data.test_labels, arrays[3])
    described = describe(f"parquet:{root}{suffix}")
    assert data.class_names == names and described.class_names in (names, ()) and described.classes == len(names)


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train-00000-of-00001.parquet", "test-00000-of-00001.parquet"),
        ("data/train-00000-of-00001-0123456789abcdef.parquet", "data/validation-00000-of-00001.parquet"),
        ("plain_text/train-00000-of-00001.parquet", "plain_text/test-00000-of-00001.parquet"),
        ("default/train/0000.parquet", "default/test/0000.parquet"),
        ("train/0000.parquet", "val/0000.parquet"),
        ("train_01.parquet", "test10k.parquet"),
        ("snapshots/abc/data/train.parquet", "snapshots/abc/data/test.parquet"),
    ],
)
def test_where_the_hub_and_its_command_line_put_files(tmp_path, arrays, train, test):
    x, y, tx, ty = arrays
    write(tmp_path / train, x, y, NAMES)
    write(tmp_path / test, tx, ty, NAMES)
    (tmp_path / ".cache" / "huggingface").mkdir(parents=True)
    write(tmp_path / ".cache" / "train.parquet", tx, ty)
    same(tmp_path, arrays)


@pytest.mark.parametrize("other", ["train_small", "train_small-00000-of-00001", "train_100", "training", "trainer"])
def test_a_split_of_another_name_is_not_put_together_with_this_one(tmp_path, arrays, other):
    x, y, tx, ty = arrays
    write(tmp_path / "train-00000-of-00002.parquet", x[:5], y[:5], NAMES)
    write(tmp_path / "train-00001-of-00002.parquet", x[5:], y[5:], NAMES)
    write(tmp_path / "test.parquet", tx, ty, NAMES)
    write(tmp_path / f"{other}.parquet", x, y, NAMES)
    write(tmp_path / f"{other.replace('train', 'test')}.parquet", x, y, NAMES)
    same(tmp_path, arrays)


def test_splits_of_which_none_is_the_one_meant_are_refused(tmp_path, arrays):
    x, y, tx, ty = arrays
    for name in ("train_clean", "train_small"):
        write(tmp_path / f"{name}.parquet", x, y)
    write(tmp_path / "test.parquet", tx, ty)
    with pytest.raises(DataError, match="train_clean, train_small"):
        load(f"parquet:{tmp_path}")
    (tmp_path / "train_small.parquet").unlink()
    same(tmp_path, arrays, ("0", "1", "2"))


def test_of_several_configurations_one_has_to_be_named(tmp_path, arrays):
    for place in ("full", "small"):
        write(tmp_path / place / "train.parquet", *arrays[:2], NAMES)
        write(tmp_path / place / "test.parquet", *arrays[2:], NAMES)
    with pytest.raises(DataError, match="full, small") as caught:
        load(f"parquet:{tmp_path}")
    assert "full" in caught.value.remedy
    same(tmp_path / "small", arrays)


def test_names_in_another_order_give_labels_by_name(tmp_path, arrays):
    x, y, tx, ty = arrays
    write(tmp_path / "train-0.parquet", x[:6], y[:6], NAMES)
    write(tmp_path / "train-1.parquet", x[6:], 2 - y[6:], NAMES[::-1])
    write(tmp_path / "test.parquet", tx, (ty + 1) % 3, ("cat", "ant", "bee"))
    same(tmp_path, arrays)
    write(tmp_path / "test.parquet", tx, (ty + 1) % 3, ("cat", "ant", "dog"))
    with pytest.raises(DataError, match="'dog'") as caught:
        load(f"parquet:{tmp_path}")
    assert "test.parquet" in caught.value.where
    write(tmp_path / "test.parquet", tx, ty - 1, NAMES[::-1])
    with pytest.raises(DataError, match="run from -1"):
        load(f"parquet:{tmp_path}")


def test_a_known_set_has_its_own_order_of_the_same_names(tmp_path):
    from jaxdd.data import SPECS

    names = SPECS["fashion_mnist"].class_names
    x, y = np.random.default_rng(0).integers(0, 256, (20, 28, 28, 1), np.uint8), np.arange(20) % 10
    spelled = [name.replace("-", " - ").lower() for name in names[::-1]]
    for split in ("train", "test"):
        write(tmp_path / "fashion_mnist" / f"{split}.parquet", x, 9 - y, spelled)
    data = load("fashion_mnist", tmp_path)
    assert data.class_names == names and describe("fashion_mnist").class_names == names
    np.testing.assert_array_equal(data.train_labels, y)
    np.testing.assert_array_equal(data.test_labels, y)
    for split in ("train", "test"):
        write(tmp_path / "fashion_mnist" / f"{split}.parquet", x, 9 - y, ["shoe", *spelled[1:]])
    with pytest.raises(DataError, match="has another label here"):
        load("fashion_mnist", tmp_path)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())])
def test_labels_may_be_names(tmp_path, arrays, kind):
    x, y, tx, ty = arrays
    words = [np.array(NAMES)[labels].tolist() for labels in (y, ty)]
    write(tmp_path / "train-0.parquet", x[1:], pa.array(words[0][1:], pa.string()).cast(kind))
    write(tmp_path / "train-1.parquet", x[:1], pa.array(words[0][:1], pa.string()).cast(kind))
    write(tmp_path / "test.parquet", tx, pa.array(words[1], pa.string()).cast(kind))
    rolled = (np.roll(x, -1, 0), np.roll(y, -1), tx, ty)
    same(tmp_path, rolled)
    write(tmp_path / "train-1.parquet", x[:1], y[:1])
    with pytest.raises(DataError, match="names in some files"):
        load(f"parquet:{tmp_path}")
    write(tmp_path / "train-1.parquet", x[:1], pa.array([None], pa.string()).cast(kind))
    with pytest.raises(DataError, match="null"):
        load(f"parquet:{tmp_path}")


def test_names_that_are_numbers_are_ordered_by_value(tmp_path, arrays):
    words = [np.array(["9", "10", "100"])[labels].tolist() for labels in (arrays[1], arrays[3])]
    write(tmp_path / "train.parquet", arrays[0], words[0])
    write(tmp_path / "test.parquet", arrays[2], words[1])
    same(tmp_path, arrays, ("9", "10", "100"))


def test_columns_of_other_names_are_named_in_the_data_sets_name(tmp_path, arrays):
    x, y, tx, ty = arrays
    write(tmp_path / "train.parquet", x, y, NAMES, "photo", "species", pa.large_binary())
    write(tmp_path / "test.parquet", tx, ty, NAMES, "photo", "species", pa.large_binary())
    same(tmp_path, arrays, suffix="?image_column=photo&label_column=species")
    with pytest.raises(DataError, match="columns photo") as caught:
        load(f"parquet:{tmp_path}")
    assert "image_column=NAME" in caught.value.remedy
    with pytest.raises(DataError, match="columns photo"):
        load(f"parquet:{tmp_path}?image_column=foto&label_column=species")
    with pytest.raises(UsageError, match="did you mean 'label_column'"):
        load(f"parquet:{tmp_path}?image_column=photo&lable_column=species")
    marked = tmp_path.rename(tmp_path.with_name("is it?"))  # a folder that is there is taken as it is called
    with pytest.raises(DataError, match="columns photo"):
        load(f"parquet:{marked}")


def test_images_in_many_batches_and_row_groups(tmp_path, arrays, monkeypatch):
    x, y, tx, ty = arrays
    monkeypatch.setattr(parquet, "BATCH_BYTES", 3 * len(encode(x[0])))  # 2^27 in truth: Arrow's arrays hold 2^31
    for split, images, labels in (("train", x, y), ("test", tx, ty)):
        made = table(images, labels, NAMES)
        pq.write_table(made, tmp_path / f"{split}.parquet", row_group_size=5, use_dictionary=False)
    same(tmp_path, arrays)
    encoded, _, _ = parquet.read_split([tmp_path / "train.parquet"])
    assert encoded.where(11).endswith("train.parquet, row 11") and encoded.read(11) == encode(x[11])


def test_a_chunk_of_a_dictionary_and_plain_values(tmp_path, arrays):
    x, y, tx, ty = arrays
    pq.write_table(table(x, y, NAMES), tmp_path / "train.parquet", dictionary_pagesize_limit=600, data_page_size=300)
    write(tmp_path / "test.parquet", tx, ty, NAMES)
    same(tmp_path, arrays)


@pytest.mark.parametrize("struct", [True, False])
@pytest.mark.parametrize("told", [True, False])
def test_a_dictionary_that_unfolds_to_far_more_than_the_file_is_refused_before_it_does(
    tmp_path, arrays, monkeypatch, struct, told
):
    monkeypatch.setattr(parquet, "MAX_BYTES", 2**20)
    rows = 2000
    column = pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), pa.array([os.urandom(50_000)], pa.binary()))
    if struct:
        column = pa.StructArray.from_arrays([column, pa.nulls(rows, pa.string())], ["bytes", "path"])
    made = pa.table({"image": column, "label": np.arange(rows) % 3})
    pq.write_table(made, tmp_path / "train.parquet", store_schema=told)  # else only its pages say that it is one
    write(tmp_path / "test.parquet", *arrays[2:])
    before = pa.default_memory_pool().max_memory()
    with pytest.raises(DataError, match="unpacks to") as caught:
        load(f"parquet:{tmp_path}")
    assert str(tmp_path / "train.parquet") == caught.value.where
    assert pa.default_memory_pool().max_memory() - before < 20 * 10**6  # of 100


def test_an_image_that_stands_in_many_rows_is_read(tmp_path, arrays):
    x, _, tx, ty = arrays
    write(tmp_path / "train.parquet", x[np.zeros(300, int)], np.arange(300) % 3, NAMES)
    write(tmp_path / "test.parquet", tx, ty, NAMES)
    assert (load(f"parquet:{tmp_path}").train_images == x[0]).all()
    column = pa.DictionaryArray.from_arrays(
        np.arange(300, dtype=np.int32) % 3, pa.array([encode(each) for each in x[:3]])
    )
    pq.write_table(pa.table({"image": column, "label": np.arange(300) % 3}), tmp_path / "train.parquet")
    np.testing.assert_array_equal(load(f"parquet:{tmp_path}").train_images, x[np.arange(300) % 3])


def test_more_than_memory_is_refused_before_it_is_read(tmp_path, arrays, monkeypatch):
    from jaxdd.core import backend
    from jaxdd.data.readers import files

    monkeypatch.setattr(backend, "machine_bytes", lambda: 2000)
    monkeypatch.setattr(files, "SMALL", 1000)
    write(tmp_path / "train.parquet", *arrays[:2])
    write(tmp_path / "test.parquet", *arrays[2:])
    with pytest.raises(DataError, match="the images of these files take") as caught:
        load(f"parquet:{tmp_path}")
    assert caught.value.where == str(tmp_path)


def test_what_is_no_regular_file_is_refused_and_not_waited_for(tmp_path, arrays):
    write(tmp_path / "train.parquet", *arrays[:2])
    os.mkfifo(tmp_path / "test.parquet")
    with pytest.raises(DataError, match="a FIFO") as caught:
        load(f"parquet:{tmp_path}")
    assert caught.value.where == str(tmp_path / "test.parquet")


def test_a_path_that_is_not_utf8(tmp_path, arrays):
    root = tmp_path / os.fsdecode(b"\xca\xfd")
    write(tmp_path / "train.parquet", *arrays[:2], NAMES)
    write(tmp_path / "test.parquet", *arrays[2:], NAMES)
    root.mkdir()
    for path in list(tmp_path.glob("*.parquet")):
        path.rename(root / path.name)
    same(root, arrays)
