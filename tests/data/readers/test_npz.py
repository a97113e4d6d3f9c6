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
from jaxdd.data import load
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
