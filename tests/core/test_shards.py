"""Pieces on disk: what is written comes back, some rows of it alone too, and every damage of file or entry is found."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from jaxdd.core import io, shards
from jaxdd.core.errors import CheckpointError
from jaxdd.core.shards import Pieces

pytestmark = pytest.mark.quick

ARRAYS = {
    "images": np.arange(5 * 12, dtype=np.uint8).reshape(5, 2, 2, 3),
    "labels": np.arange(5, dtype=np.int32),
    "logits": np.linspace(-1, 1, 20, dtype=np.float16).reshape(4, 5).T,  # not contiguous
}
REMEDY = "make it again"


@pytest.fixture
def written(tmp_path):
    """The folder and the entry of a piece, in a folder of its own."""
    return tmp_path / "a", shards.write(tmp_path / "a", "piece", ARRAYS)


def refused(folder, entry) -> CheckpointError:
    """What `read` and `verify` say, which is the same."""
    errors = []
    for look in (shards.read, shards.verify):
        with pytest.raises(CheckpointError) as refusal:
            look(folder, entry, "a network", REMEDY)
        errors.append(refusal.value)
    assert str(errors[0]) == str(errors[1]) and not shards.intact(folder, entry)
    assert errors[0].where and errors[0].remedy == REMEDY
    return errors[0]


def test_what_is_written_comes_back_to_the_bit(written):
    folder, entry = written
    found = shards.read(folder, entry)
    assert set(found) == set(ARRAYS)
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
    assert shards.intact(folder, entry)


def test_an_entry_says_what_the_file_is(written):
    folder, entry = written
    path = shards.verify(folder, entry)
    payload = path.read_bytes()
    assert entry == {"file": path.name, "sha256": io.sha256(payload), "bytes": len(payload)}
    assert path == folder / f"piece-{entry['sha256'][:12]}.safetensors" and list(folder.iterdir()) == [path]
    assert shards.write(folder, "piece", ARRAYS) == entry  # equal arrays, an equal file
    assert shards.write(folder, "epoch", ARRAYS, by_content=False) == {**entry, "file": "epoch.safetensors"}


@pytest.mark.parametrize("which", [slice(1, 3), slice(None), slice(4, 5), 3], ids=str)
def test_mapped_rows_are_those_of_the_whole(written, which):
    folder, entry = written
    found, whole = shards.rows(shards.verify(folder, entry), which, "rows", REMEDY), shards.read(folder, entry)
    assert set(found) == set(whole)
    for name, array in whole.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array[which])


def test_rows_of_a_file_that_is_gone_or_none_are_refused(written):
    folder, entry = written
    path = shards.verify(folder, entry)
    for harm in (lambda: path.write_bytes(b"{}"), path.unlink):
        harm()
        with pytest.raises(CheckpointError, match="rows cannot be read") as refusal:
            shards.rows(path, slice(None), "rows", REMEDY)
        assert (refusal.value.where, refusal.value.remedy) == (str(path), REMEDY) and refusal.value.expected


def test_every_flipped_bit_is_found(written):
    folder, entry = written
    path = shards.verify(folder, entry)
    whole = path.read_bytes()
    for position in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << (position % 8)
        path.write_bytes(damaged)
        error = refused(folder, entry)
        assert error.where == str(path) and entry["sha256"][:12] in error.expected
    path.write_bytes(whole)
    shards.read(folder, entry)


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_a_cut_file_is_found(written, keep):
    folder, entry = written
    path = shards.verify(folder, entry)
    path.write_bytes(path.read_bytes()[:keep])
    error = refused(folder, entry)
    assert "cut" in error.what and f"{entry['bytes']} bytes" in error.expected


def test_a_missing_and_an_exchanged_file_are_told_apart(written):
    folder, entry = written
    path = shards.verify(folder, entry)
    other = shards.write(folder, "other", {**ARRAYS, "labels": ARRAYS["labels"] + 1})
    assert other["bytes"] == entry["bytes"]
    path.unlink()
    assert "a network is missing" in refused(folder, entry).what
    shards.verify(folder, other).rename(path)
    assert "exchanged" in refused(folder, entry).what
    path.unlink()
    path.mkdir()
    assert "missing" in refused(folder, entry).what


@pytest.mark.parametrize("field", ["file", "sha256", "bytes"])
@pytest.mark.parametrize("value", [None, 7.5, True, ["a"], {}, "gone"], ids=str)
def test_a_garbled_entry_names_its_field(written, field, value):
    folder, entry = written
    garbled: dict[str, Any] = {**entry, field: value}
    if value == "gone":
        del garbled[field]
    error = refused(folder, garbled)
    assert f"'{field}'" in error.what and error.where == str(folder / "manifest.json")


@pytest.mark.parametrize("entry", [None, 7, "file", [], ["file", "sha256", "bytes"]], ids=str)
def test_what_is_no_entry_is_refused(tmp_path, entry):
    assert "garbles" in refused(tmp_path, entry).what


@pytest.mark.parametrize("name", ["{}", "../b/{}", "b/{}", "{0}/../../b/{0}"])
def test_a_file_is_looked_for_in_the_folder_alone(written, name):
    folder, entry = written
    given = {**entry, "file": name.format(entry["file"])}
    assert shards.verify(folder, given) == folder / entry["file"]
    (folder.parent / "b").mkdir()
    (folder / entry["file"]).rename(folder.parent / "b" / entry["file"])
    assert "missing" in refused(folder, given).what


@pytest.mark.parametrize("name", ["", "..", "/", "a\0b", "x" * 5000])
def test_a_name_that_no_file_has_is_refused(written, name):
    folder, entry = written
    refused(folder, {**entry, "file": name})


def test_a_file_that_is_as_it_was_but_no_safetensors_file_is_refused(tmp_path, monkeypatch):
    (tmp_path / "text").write_text("hello")
    entry = {"file": "text", "sha256": io.sha256(b"hello"), "bytes": 5}
    with pytest.raises(CheckpointError, match="a network cannot be read") as refusal:
        shards.read(tmp_path, entry, "a network", REMEDY)
    assert refusal.value.where == str(tmp_path / "text") and refusal.value.remedy == REMEDY
    large = shards.write(tmp_path, "large", ARRAYS)
    monkeypatch.setattr(shards, "MAX_BYTES", large["bytes"] - 1)
    with pytest.raises(CheckpointError, match="more than"):
        shards.read(tmp_path, large)


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(io.os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        shards.write(tmp_path, "piece", ARRAYS)
    assert not list(tmp_path.iterdir())


class TestPieces:
    """One manifest for several processes."""

    def test_they_are_kept_in_order_and_one_that_is_whole_stays(self, tmp_path):
        pieces = Pieces(tmp_path, ("number",))
        assert not pieces.entries()
        for number in (2, 1, 2):
            pieces.add(f"p{number}", {"x": np.full(3, len(pieces.entries()), np.int32)}, {"number": number})
        found = pieces.present()
        assert list(found) == [(1,), (2,)] and len(list(tmp_path.glob("*.safetensors"))) == 2
        np.testing.assert_array_equal(pieces.read(found[2,])["x"], [0, 0, 0])

    def test_one_that_was_cut_is_replaced(self, tmp_path):
        pieces = Pieces(tmp_path, ("number",))
        pieces.add("p", {"x": np.zeros(3)}, {"number": 0})
        path = pieces.path(pieces.entries()[0,])
        path.write_bytes(path.read_bytes()[:-1])
        assert not pieces.present() and not pieces.intact(pieces.entries()[0,])
        with pytest.raises(CheckpointError, match="cut"):
            pieces.read(pieces.entries()[0,])
        pieces.add("p", {"x": np.ones(3)}, {"number": 0})
        np.testing.assert_array_equal(pieces.read(pieces.present()[0,])["x"], np.ones(3))

    @pytest.mark.parametrize(
        "change",
        [{"jaxdd_pieces": 9}, {"pieces": None}, {"pieces": [7]}, {"pieces": [{}]}, {"pieces": [{"number": 0}]}],
        ids=str,
    )
    def test_a_garbled_manifest_is_refused(self, tmp_path, change):
        Pieces(tmp_path, ("number",)).add("p", {"x": np.zeros(3)}, {"number": 0})
        path = tmp_path / "manifest.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
        with pytest.raises(CheckpointError) as refusal:
            Pieces(tmp_path, ("number",)).entries()
        assert refusal.value.where == str(path) and refusal.value.remedy


def test_the_file_is_plain_safetensors(written):
    folder, entry = written
    found = safetensors.numpy.load_file(shards.verify(folder, entry))
    np.testing.assert_array_equal(found["logits"], ARRAYS["logits"])
