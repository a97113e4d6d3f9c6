"""A set as a folder of image files, laid out as the large-scale methods publish theirs, and read back.

    new{class:03d}/class{class:03d}_id{ipc:03d}.jpg          of more than 1000 classes with five digits for the class

Read are also folders that other code made, if file names say class and number (`class00012_id00003.jpg`): those of
SRe2L, CDA and RDED. What is read is what a JPEG decodes to: relabelling and students see nothing else.
"""

from __future__ import annotations

import concurrent.futures
import os
import pathlib
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxdd.core.errors import DataError
from jaxdd.data.readers import images as decoding
from jaxdd.data.readers.encoding import QUALITY, Store, encode, truncate

FEW_CLASSES = 1000  # up to which three digits are written
_NAME = re.compile(r"class(\d+)_id(\d+)\.(?:jpe?g|png)", re.ASCII | re.IGNORECASE)


class Images(NamedTuple):
    """Images of a folder, by class and then by number.

    Arguments:
        images: `[n, side, side, channels]` uint8.
        labels: `[n]` int32, the classes.
        ipc_indices: `[n]` int32, the numbers within the class.
    """

    images: np.ndarray
    labels: np.ndarray
    ipc_indices: np.ndarray


def path_of(label: int, ipc_index: int, classes: int, store: Store = "jpg") -> pathlib.PurePath:
    """Returns the published name of one image, relative to the folder."""
    digits = 3 if classes <= FEW_CLASSES else 5
    return pathlib.PurePath(f"new{label:0{digits}d}", f"class{label:0{digits}d}_id{ipc_index:03d}.{store}")


def write(
    folder: str | os.PathLike,
    images: np.ndarray,
    labels: np.ndarray,
    ipc_indices: np.ndarray,
    *,
    classes: int,
    store: Store = "jpg",
    quality: int = QUALITY,
    encoded: Sequence[bytes] | None = None,
) -> pathlib.Path:
    """Adds images to a folder; one that is there already with other bytes is replaced.

    Arguments:
        folder: made if it is not there.
        images: `[n, side, side, channels]` uint8, or floats in [0, 1], which are cut off to uint8, not rounded.
        labels: `[n]` classes.
        ipc_indices: `[n]` numbers within the class.
        classes: how many there are, which decides the digits.
        store: `jpg` or `png`.
        quality: of a JPEG.
        encoded: the bytes of the files, where they are known: a JPEG must not be encoded twice.

    Raises:
        UsageError: another kind of file.
    """
    folder = pathlib.Path(folder)
    pixels = images if images.dtype == np.uint8 else truncate(images)

    def one(index: int) -> None:
        content = encode(pixels[index], store, quality) if encoded is None else encoded[index]
        path = folder / path_of(int(labels[index]), int(ipc_indices[index]), classes, store)
        if path.is_file() and path.read_bytes() == content:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        partial.write_bytes(content)  # not synced: what a crash loses is written again from the recovered chunks
        os.replace(partial, path)

    folder.mkdir(parents=True, exist_ok=True)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(one, range(len(labels))))
    return folder


def read(folder: str | os.PathLike) -> Images:
    """Reads all images of a folder.

    Raises:
        DataError: there are none, an image is damaged or stands twice, or they differ in size.
    """
    folder = pathlib.Path(folder)
    paths: dict[tuple[int, int], pathlib.Path] = {}
    for path in sorted(folder.glob("*/*")):
        if (match := _NAME.fullmatch(path.name)) is None:
            continue
        place = int(match[1]), int(match[2])
        if place in paths:
            raise DataError(
                f"class {place[0]} has two images with the number {place[1]}",
                where=f"{paths[place]} and {path}",
                remedy="remove the one that does not belong to the set",
            )
        paths[place] = path
    if not paths:
        raise DataError(
            "no images of a distilled set",
            where=str(folder),
            expected="files like new000/class000_id000.jpg",
            remedy="name the folder that holds the folders of the classes",
        )
    places = sorted(paths)
    files = [paths[place] for place in places]
    encoded = decoding.Encoded(len(files), lambda i: decoding.read_file(files[i]), lambda i: str(files[i]))
    pixels = decoding.decode_all(encoded, None, None)
    labels, ipc_indices = np.asarray(places, np.int32).T
    return Images(pixels, labels.copy(), ipc_indices.copy())
