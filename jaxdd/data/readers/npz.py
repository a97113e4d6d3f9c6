"""Keras-layout npz files, read without `numpy.load`: sizes are checked before anything is allocated, nothing runs.

`numpy.load` allocates what a header claims, unpacks zip bombs and lets the last of two equal names win. Here a member
must be stored or deflated, named once, of a plain type, and exactly as long as its header says.
"""

from __future__ import annotations

import math
import pathlib
import zipfile
from collections.abc import Iterable
from typing import IO

import numpy as np

from jaxdd.core.errors import DataError

MAX_BYTES = 64 * 2**30  # declared sizes of all members read
MAX_RATIO = 150  # unpacked to packed, beyond FREE_BYTES; photographs reach 2, blank-bordered digits 10, deflate 1032
FREE_BYTES = 32 * 2**20
SPLITS = {"train": ("x_train", "y_train"), "test": ("x_test", "y_test")}
LAYOUT = "x_train, y_train, x_test, y_test"
_REMEDY = "write it with numpy.savez(file, x_train=..., y_train=..., x_test=..., y_test=...)"


def members(path: pathlib.Path) -> list[str]:
    """Returns names of the arrays in an npz file, without `.npy`; reads the directory only."""
    return [info.filename.removesuffix(".npy") for info in _directory(path)]


def header(path: pathlib.Path, name: str) -> tuple[tuple[int, ...], np.dtype]:
    """Returns `(shape, dtype)` of one member, without its data."""
    return _each(path, [name], data=False)[name]


def read_npz(path: pathlib.Path, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Reads the named members of an npz file.

    Arguments:
        path: the file.
        names: members to read, without `.npy`; all others are left alone.

    Returns:
        Name -> array of integers, floats or text.

    Raises:
        DataError: the file is damaged or hostile, a member is missing, doubled, too large or holds Python objects.
    """
    return _each(path, list(names), data=True)


def _directory(path: pathlib.Path) -> list[zipfile.ZipInfo]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.infolist()
    except Exception as error:  # zipfile raises half a dozen kinds on hostile bytes
        raise _damaged(path, error) from None


def _each(path: pathlib.Path, names: list[str], data: bool) -> dict:
    infos = {name: _member(path, _directory(path), name) for name in names}
    declared = sum(info.file_size for info in infos.values())
    packed = sum(info.compress_size for info in infos.values())
    if declared > MAX_BYTES or declared > max(FREE_BYTES, MAX_RATIO * packed):
        raise DataError(
            f"the file claims to unpack from {packed} to {declared} bytes",
            where=str(path),
            expected=f"at most {MAX_BYTES} bytes, and at most {MAX_RATIO} times the packed size",
            remedy=_REMEDY + ", uncompressed if it is genuine",
        )
    arrays = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name, info in infos.items():
                with archive.open(info) as file:
                    arrays[name] = _array(file, info, f"{path}, member {name}", data)
    except DataError:
        raise
    except Exception as error:
        raise _damaged(path, error) from None
    return arrays


def _member(path: pathlib.Path, infos: list[zipfile.ZipInfo], name: str) -> zipfile.ZipInfo:
    matches = [info for info in infos if info.filename in (name, name + ".npy")]
    if len(matches) != 1:
        there = ", ".join(info.filename for info in infos[:8]) or "nothing"
        raise DataError(
            f"array '{name}' is {'missing' if not matches else 'there twice'}",
            where=str(path),
            expected=f"exactly one '{name}'; the file holds {there}",
            remedy=_REMEDY,
        )
    if matches[0].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or matches[0].flag_bits & 1:
        raise DataError(
            f"array '{name}' is encrypted or packed in an unusual way",
            where=str(path),
            expected="a stored or deflated member",
            remedy=_REMEDY,
        )
    return matches[0]


def _array(file: IO[bytes], info: zipfile.ZipInfo, where: str, data: bool):
    """Returns one array (or its shape and dtype) from an open member, its header checked against the declared size."""
    version = np.lib.format.read_magic(file)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"npy version {version}")
    shape, fortran, dtype = readers[version](file)
    if dtype.hasobject:
        raise DataError(
            "the array holds Python objects, which only unpickling could read; that runs any code in the file",
            where=where,
            expected="numbers",
            remedy="save plain numeric arrays (same shape for every image)",
        )
    size = math.prod(shape) * dtype.itemsize
    if dtype.kind not in "uifU" or min(shape, default=0) < 0 or size != info.file_size - file.tell():
        raise DataError(
            f"the header says {dtype} {shape}, the member has {info.file_size - file.tell()} bytes of data",
            where=where,
            expected="numbers or text, as many as the header says",
            remedy=_REMEDY,
        )
    if not data:
        return tuple(shape), dtype
    flat = np.empty(math.prod(shape), dtype)
    view = memoryview(flat.view(np.uint8)) if size else memoryview(b"")
    filled = 0
    while filled < size:
        count = file.readinto(view[filled : filled + 2**22])  # pyright: ignore[reportAttributeAccessIssue]
        if not count:
            raise EOFError("the data end early")
        filled += count
    file.read(1)  # at its end the member's CRC is compared
    return flat.reshape(shape, order="F" if fortran else "C")


def _damaged(path: pathlib.Path, error: Exception) -> DataError:
    if isinstance(error, FileNotFoundError):
        return DataError("file not found", where=str(path), remedy="check the path")
    reason = (str(error) or type(error).__name__).splitlines()[0]  # numpy's further lines advise unpickling
    return DataError(
        f"not a readable npz file: {reason}",
        where=str(path),
        expected=f"an npz file with {LAYOUT}",
        remedy="download or write the file again",
    )
