"""npz files as Keras or MedMNIST name their arrays, read without `numpy.load`: sizes are checked before anything is
allocated, nothing runs.

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
from jaxdd.data.readers.files import require_memory, require_regular

MAX_BYTES = 64 * 2**30  # declared sizes of all members read
MAX_RATIO = 150  # unpacked to packed, beyond FREE_BYTES; photographs reach 2, blank-bordered digits 10, deflate 1032
FREE_BYTES = 32 * 2**20
Splits = dict[str, tuple[str, str]]  # split -> names of its images and labels
SPLITS: Splits = {"train": ("x_train", "y_train"), "test": ("x_test", "y_test")}
_MEDMNIST: Splits = {"train": ("train_images", "train_labels"), "test": ("test_images", "test_labels")}
NAMINGS: tuple[Splits, ...] = (SPLITS, _MEDMNIST, {**_MEDMNIST, "test": ("val_images", "val_labels")})
LAYOUT = "x_train, y_train, x_test, y_test; or train_images, train_labels, test_images, test_labels"
_REMEDY = "write it with numpy.savez(file, x_train=..., y_train=..., x_test=..., y_test=...)"


def members(path: pathlib.Path) -> list[str]:
    """Returns names of the arrays in an npz file, without `.npy`; reads the directory only."""
    return [info.filename.removesuffix(".npy") for info in _directory(path)]


def splits(path: pathlib.Path) -> Splits:
    """Returns how the arrays of a file are named; Keras's names where it is neither way."""
    there = set(members(path))
    fitting = (naming for naming in NAMINGS if {name for pair in naming.values() for name in pair} <= there)
    return next(fitting, NAMINGS[1] if "train_images" in there else SPLITS)


def header(path: pathlib.Path, name: str) -> tuple[tuple[int, ...], np.dtype]:
    """Returns `(shape, dtype)` of one member, without its data."""
    return _each(path, [name], data=False)[name]


def read_npz(path: pathlib.Path, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Reads the named members of an npz file.

    Arguments:
        path: the file.
        names: members to read, without `.npy`; all others are left alone.

    Returns:
        Name -> array of integers, booleans, floats or text.

    Raises:
        DataError: the file is damaged or hostile, a member is missing, doubled, too large or holds Python objects.
    """
    return _each(path, list(names), data=True)


def _directory(path: pathlib.Path) -> list[zipfile.ZipInfo]:
    require_regular(path, "an npz file")
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
    if data:
        remedy = "store fewer or smaller images, or as folders of files, which can be read while they are needed"
        require_memory(declared, f"the arrays {', '.join(infos)}", str(path), remedy)
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
    if dtype.kind not in "buifUS":
        raise DataError(
            f"an array of type {dtype}", where=where, expected="integers, floats or text", remedy="convert the array"
        )
    size = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or dtype.itemsize == 0 or size != info.file_size - file.tell():
        raise DataError(
            f"the header says {dtype} {shape}, the member has {info.file_size - file.tell()} bytes of data",
            where=where,
            expected="as many numbers or texts as the header says",
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
    reason = (str(error) or type(error).__name__).splitlines()[0]  # numpy's further lines advise unpickling
    return DataError(
        f"not a readable npz file: {reason}",
        where=str(path),
        expected=f"an npz file with {LAYOUT}",
        remedy="download or write the file again",
    )
