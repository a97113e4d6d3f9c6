"""The npz reader on whole, broken and hostile files."""

from __future__ import annotations

import io
import os
import pickle
import tracemalloc
import zipfile

import numpy as np
import pytest

from jaxdd.core.errors import DataError
from jaxdd.data import check_available, describe, load
from jaxdd.data.readers import npz

pytestmark = pytest.mark.quick


def _npy(array: np.ndarray, **options) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, **options)
    return buffer.getvalue()


def _zip(path, members: list[tuple[str, bytes]], compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


def test_it_reads_what_numpy_writes(tmp_path, arrays):
    members = {"a": arrays[0], "f": np.asfortranarray(arrays[0]), "t": np.array(["x", "yz"]), "s": np.float64(2.5)}
    members["e"] = np.zeros((0, 3), np.int16)
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "x.npz", **members)
        found = npz.read_npz(tmp_path / "x.npz", members)
        for name, array in members.items():
            np.testing.assert_array_equal(found[name], array)
            assert found[name].dtype == np.asarray(array).dtype
    assert npz.header(tmp_path / "x.npz", "a") == (arrays[0].shape, np.dtype(np.uint8))


def test_a_user_set_is_loaded_cropped_and_resized(tmp_path, arrays, write_npz):
    x, y, tx, ty = arrays
    path = write_npz(tmp_path / "own.npz", (x[:, 1:7], y, tx[:, 1:7], ty), class_names=np.array(["u", "v", "w"]))
    data = load(f"npz:{path}")
    np.testing.assert_array_equal(data.train_images, x[:, 1:7, 1:7])
    assert data.class_names == ("u", "v", "w") and data.name == f"npz:{path}"
    assert load(f"npz:{path}", resolution=3).image_shape == (3, 3, 3)


class _Canary:
    def __reduce__(self):
        return os.system, ("touch canary",)


def _hostile(tmp_path):
    """Name -> file."""
    ok = _npy(np.zeros(3, np.uint8))
    huge = ok.replace(b"(3,)", b"(4000000000000,)").replace(b" " * 12 + b"\n", b"\n", 1)
    bomb = _npy(np.zeros(2**28, np.uint8))
    objects = _npy(np.array([_Canary()], object), allow_pickle=True)
    negative = ok.replace(b"(3,)", b"(-3,)").replace(b"  \n", b" \n", 1)
    void = ok.replace(b"|u1", b"|V3").replace(b"(3,)", b"(1,)")
    yield "empty", tmp_path / "e.npz", (tmp_path / "e.npz").write_bytes(b"")
    yield "junk", tmp_path / "j.npz", (tmp_path / "j.npz").write_bytes(os.urandom(500))
    yield "pickle", tmp_path / "p.npz", (tmp_path / "p.npz").write_bytes(pickle.dumps(_Canary()))
    for name, members in {
        "objects": [("x.npy", objects)],
        "pickle member": [("x.npy", pickle.dumps(_Canary()))],
        "bomb": [("x.npy", bomb)],
        "4 TB claimed": [("x.npy", huge)],
        "negative": [("x.npy", negative)],
        "void": [("x.npy", void)],
        "cut": [("x.npy", ok[:-1])],
        "longer": [("x.npy", ok + b"1")],
        "missing": [("../x.npy", ok)],
        "long header": [("x.npy", b"\x93NUMPY\x02\x00" + (10**6).to_bytes(4, "little") + b" " * 10**6)],
        "version 9": [("x.npy", b"\x93NUMPY\x09\x00" + ok[8:])],
        "text": [("x.npy", b"hello")],
    }.items():
        yield name, _zip(tmp_path / f"{name}.npz", members), None
    with pytest.warns(UserWarning, match="Duplicate"):
        yield "double", _zip(tmp_path / "double.npz", [("x.npy", ok), ("x.npy", ok)]), None
    yield "lzma", _zip(tmp_path / "lzma.npz", [("x.npy", ok)], zipfile.ZIP_LZMA), None


@pytest.fixture
def unpacked(monkeypatch):
    """The sizes of all pieces that zip members were unpacked to, as they come."""
    sizes = []
    update = zipfile.ZipExtFile._update_crc  # which sees every byte

    def seen(member, data):
        sizes.append(len(data))
        update(member, data)

    monkeypatch.setattr(zipfile.ZipExtFile, "_update_crc", seen)
    return sizes


def test_hostile_files_are_refused_without_unpacking_or_running_anything(tmp_path, monkeypatch, unpacked):
    monkeypatch.chdir(tmp_path)
    for name, path, _ in _hostile(tmp_path):
        unpacked.clear()
        tracemalloc.start()
        try:
            with pytest.raises(DataError) as caught:
                npz.read_npz(path, ["x"])
            assert tracemalloc.get_traced_memory()[1] < 2**22, name  # a long header takes 2 MB, the bomb 256
        finally:
            tracemalloc.stop()
        assert str(path) in caught.value.where, name
        assert caught.value.expected and caught.value.remedy, name
        assert sum(unpacked) < 2**21, name
    assert not (tmp_path / "canary").exists()
    np.savez(tmp_path / "good.npz", x=np.zeros(2**17, np.uint8))
    npz.read_npz(tmp_path / "good.npz", ["x"])
    assert sum(unpacked) > 2**17  # what is read is counted


def test_fuzz_only_our_error_escapes(tmp_path, arrays):
    np.savez_compressed(tmp_path / "x.npz", x=arrays[0], y=arrays[1])
    whole = (tmp_path / "x.npz").read_bytes()
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        broken = bytearray(whole)
        for _ in range(random.integers(1, 4)):
            broken[random.integers(len(broken))] = random.integers(256)
        if random.random() < 0.2:
            broken = broken[: random.integers(len(broken))]
        (tmp_path / "b.npz").write_bytes(broken)
        try:
            found = npz.read_npz(tmp_path / "b.npz", ["x", "y"])
        except DataError:
            refused += 1
        else:  # the damage was in bytes that carry no data
            np.testing.assert_array_equal(found["x"], arrays[0])
            np.testing.assert_array_equal(found["y"], arrays[1])
    assert refused > 150


def test_medmnists_names_of_arrays(tmp_path, arrays):
    x, y, tx, ty = arrays
    parts = {"train_images": x, "train_labels": y[:, None], "val_images": tx[::-1], "val_labels": ty[::-1, None]}
    np.savez(tmp_path / "a.npz", **parts, test_images=tx, test_labels=ty[:, None])
    data = load(f"npz:{tmp_path / 'a.npz'}")
    np.testing.assert_array_equal(data.train_images, x)
    np.testing.assert_array_equal(data.train_labels, y)
    np.testing.assert_array_equal(data.test_images, tx)
    assert describe(f"npz:{tmp_path / 'a.npz'}").classes == 3
    np.savez(tmp_path / "b.npz", **parts)
    np.testing.assert_array_equal(load(f"npz:{tmp_path / 'b.npz'}").test_images, tx[::-1])
    np.savez(tmp_path / "c.npz", train_images=x, train_labels=y)
    with pytest.raises(DataError, match="'test_images' is missing"):
        load(f"npz:{tmp_path / 'c.npz'}")


@pytest.mark.parametrize("kind", ["U", "S"])
def test_labels_may_be_names(tmp_path, arrays, write_npz, kind):
    x, y, tx, ty = arrays
    words = np.array(["cow", "ant", "bee"]).astype(kind)
    path = write_npz(tmp_path / "a.npz", (x, words[y], tx[ty == 2], words[ty[ty == 2]][:, None]))
    data = load(f"npz:{path}")
    assert data.class_names == ("ant", "bee", "cow") == describe(f"npz:{path}").class_names
    np.testing.assert_array_equal(data.train_labels, np.array([2, 0, 1])[y])
    assert (data.test_labels == 1).all()
    path = write_npz(
        tmp_path / "b.npz", (x, words[y], tx, words[ty]), class_names=np.array(["cow", "ant", "bee"]).astype(kind)
    )
    np.testing.assert_array_equal(load(f"npz:{path}").train_labels, y)
    path = write_npz(tmp_path / "c.npz", (x, words[y], tx, np.array(["dog"] * 6).astype(kind)))
    with pytest.raises(DataError, match="'dog'"):
        load(f"npz:{path}")


def test_refusals_name_the_arrays_as_they_are_stored(tmp_path, arrays, write_npz):
    x, y, tx, ty = arrays
    path = write_npz(tmp_path / "a.npz", (x.transpose(0, 3, 1, 2), y, tx.transpose(0, 3, 1, 2), ty))
    for call in (load, describe):
        with pytest.raises(DataError, match=r"shape \(12, 3, 8, 8\)") as caught:
            call(f"npz:{path}")
        assert "transpose(0, 2, 3, 1)" in caught.value.remedy
    path = write_npz(tmp_path / "b.npz", (np.concatenate([x, x[..., :1]], -1), y, tx, ty))
    with pytest.raises(DataError, match=r"shape \(12, 8, 8, 4\)") as caught:
        load(f"npz:{path}")
    assert "transparency" in caught.value.remedy
    for labels, remedy in ((y > 0, "astype(int)"), (y.astype(float), "astype(int)"), (np.eye(3)[y], "argmax(1)")):
        path = write_npz(tmp_path / "c.npz", (x, labels, tx, labels[:6]))
        for call in (load, describe):
            with pytest.raises(DataError, match=f"type {labels.dtype}") as caught:
                call(f"npz:{path}")
            assert remedy in caught.value.remedy
    path = write_npz(tmp_path / "d.npz", (x * 1j, y, tx, ty))
    with pytest.raises(DataError, match="array of type complex128"):
        load(f"npz:{path}")
    path = write_npz(tmp_path / "e.npz", (x, y * 0, tx, ty * 0))
    for call in (load, describe):
        with pytest.raises(DataError, match="one class"):
            call(f"npz:{path}")


def test_what_is_no_regular_file_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.npz")
    for place in (tmp_path / "a.npz", tmp_path):
        for call in (load, describe, check_available):
            if (place, call) != (tmp_path, check_available):
                with pytest.raises(DataError, match="a FIFO"):
                    call(f"npz:{place}")


def test_more_than_memory_is_refused_before_it_is_allocated(tmp_path, monkeypatch, unpacked):
    """A sparse file: 3 GiB that take no room on the disk."""
    from jaxdd.core import backend

    shape = (3 * 2**20, 32, 32)
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        info = zipfile.ZipInfo("x.npy")
        with archive.open(info, "w", force_zip64=True) as member:
            member.write(buffer.getvalue())
            start = archive.fp.tell()
            archive.fp.seek(3 * 2**30, os.SEEK_CUR)
            member._file_size += 3 * 2**30  # pyright: ignore[reportAttributeAccessIssue]
        assert archive.fp.tell() > start
    monkeypatch.setattr(backend, "machine_bytes", lambda: 2**31)
    with pytest.raises(DataError, match=r"the arrays x take 3 GiB") as caught:
        npz.read_npz(tmp_path / "a.npz", ["x"])
    assert "2 GiB of memory" in caught.value.expected and not unpacked
    assert npz.header(tmp_path / "a.npz", "x")[0] == shape
