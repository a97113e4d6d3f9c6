"""Image folders: `train/<class>/*` beside `test/`, `val/` or `validation/`; Tiny-ImageNet's own archive as well.

Of ImageNet's tree only the class folders of a subset are looked into.
"""

from __future__ import annotations

import hashlib
import pathlib
from collections.abc import Sequence

import numpy as np

from jaxdd.core.errors import DataError
from jaxdd.core.io import as_bytes
from jaxdd.data.readers import labels as naming
from jaxdd.data.readers.files import read_text
from jaxdd.data.readers.images import SUFFIXES, Encoded, read_file
from jaxdd.data.readers.listing import Left, class_folders, images, is_junk, summary
from jaxdd.data.registry import Subset

TEST_NAMES = ("test", "val", "validation")
LAYOUT = "train/<class>/*.png|jpg|tif|... and test/<class>/ (or val/, validation/)"


def test_folder(folder: pathlib.Path) -> pathlib.Path | None:
    """Returns the folder of test images: the first of `test`, `val`, `validation` that holds classes or annotations."""
    for name in TEST_NAMES:
        place = folder / name
        if (place / "val_annotations.txt").is_file() or (place.is_dir() and _has_images(place)):
            return place
    return None


def _has_images(place: pathlib.Path) -> bool:
    """Returns whether some class folder holds an image; Tiny-ImageNet's own `test/` has images but no classes."""
    return any(images(entry) for entry in class_folders(place) if entry.name != "images")


def class_order(folder: pathlib.Path, known: Sequence[str]) -> tuple[str, ...]:
    """Returns class folders' names in label order: the known one if the names agree, numbers by value, else by name."""
    names = [entry.name for entry in class_folders(folder / "train")]
    return tuple(known) if set(names) == set(known) else naming.class_order(names)


def choose_classes(folder: pathlib.Path, subset: Subset) -> tuple[tuple[str, ...], pathlib.Path]:
    """Returns the class folders of a subset in label order, and the folder of test images that has them; reads no
    image.

    Raises:
        DataError: a class is missing; says which and where.
    """
    train = folder / "train"
    names = subset.choose([entry.name for entry in class_folders(train)] if subset.seed else (), str(train))
    tests = [folder / name for name in ("val", "validation", "test")]
    test = next((place for place in tests if any((place / name).is_dir() for name in names)), tests[0])
    for place in (train, test):
        missing = [name for name in names if not (place / name).is_dir()]
        if missing:
            raise DataError(
                f"{len(missing)} of the {len(names)} classes of '{subset.name}' are missing: {', '.join(missing[:5])}",
                where=str(place),
                expected="train/<wnid>/*.JPEG and val/<wnid>/*.JPEG of each class",
                remedy="complete the tree; ImageNet's validation images come unsorted, each has to be put into the "
                "folder of its class",
            )
    return names, test


def some_images(folder: pathlib.Path, count: int = 32) -> list[pathlib.Path]:
    """Returns the first train image of each of the first classes: enough to tell a set's shape without reading all of
    it."""
    entries = class_folders(folder / "train")[:count]
    return [image for entry in entries for image in images(entry)[:1]]


def read_split(
    place: pathlib.Path, names: Sequence[str], *, part: bool = False, left: Left | None = None
) -> tuple[Encoded, np.ndarray]:
    """Returns the encoded images and `[n]` labels of one split.

    Arguments:
        place: folder with one folder per class, or with Tiny-ImageNet's `val_annotations.txt`.
        names: class folder names in label order.
        part: other class folders than these are left alone.
        left: counts what else lies there and is left out.

    Raises:
        DataError: a class without a name, or no image at all.
    """
    files: list[pathlib.Path] = []
    labels: list[int] = []
    index = {name: label for label, name in enumerate(names)}
    if part:
        named = [(image, name) for name in names for image in images(place / name, left)]
    elif (place / "val_annotations.txt").is_file():
        named = _annotated(place)
    else:
        named = [(image, entry.name) for entry in class_folders(place, left) for image in images(entry, left)]
    for image, name in named:
        if name not in index:
            raise DataError(
                f"class '{name}' is in {place.name}/ but not in train/",
                where=str(image),
                expected=f"one of the {len(names)} classes of the train folder",
                remedy="use the same class folders in both splits",
            )
        files.append(image)
        labels.append(index[name])
    if not files:
        raise no_images(place)
    encoded = Encoded(len(files), lambda item: read_file(files[item]), lambda item: str(files[item]))
    return encoded, np.asarray(labels, np.int32)


def no_images(place: pathlib.Path) -> DataError:
    """Returns the refusal of a folder that should hold class folders with images, and what it holds instead."""
    left, entries = Left(), class_folders(place)
    pictures = [image for entry in entries for image in images(entry, left)]
    loose = [path for path in place.iterdir() if path.suffix.lower() in SUFFIXES and not is_junk(path.name)]
    remedy = "check the layout of the folder"
    if loose and (not entries or not pictures):
        what = f"{place.name}/ holds {len(loose)} images but no class folders, so nothing tells their classes"
        remedy = "put each image into the folder of its class; ImageNet's development kit lists those of val/"
    elif left:
        what = f"no image in the {len(entries)} class folders of {place.name}/ is of a type that is read"
        what += f"; there are {summary(left)}"
        remedy = "convert the images to PNG or JPEG"
    elif entries:
        what = f"no images in the {len(entries)} class folders of {place.name}/"
    else:
        what = f"no images and no class folders in {place.name}/"
    return DataError(what, where=str(place), expected=LAYOUT, remedy=remedy)


def digest(encoded: Encoded, labels: np.ndarray, names: Sequence[str]) -> str:
    """Returns sha256 of the files' names, in order, and their labels; reads no file.

    Arguments:
        encoded: the images.
        labels: `[n]` class indices.
        names: of the classes, in label order.
    """
    hasher = hashlib.sha256(as_bytes("\n".join(names)))
    for index, label in enumerate(labels):
        hasher.update(as_bytes(f"\n{pathlib.PurePath(encoded.where(index)).name} {label}"))
    return hasher.hexdigest()


def _annotated(place: pathlib.Path) -> list[tuple[pathlib.Path, str]]:
    """Returns Tiny-ImageNet's validation split: `images/` and one line `file<TAB>class<TAB>box` per image."""
    path = place / "val_annotations.txt"
    try:
        rows = [line.split("\t") for line in read_text(path).splitlines() if line]
        # only the last part of a name counts: a file list must not lead out of its folder
        return [(place / "images" / pathlib.PurePosixPath(row[0]).name, row[1]) for row in rows]
    except (UnicodeDecodeError, IndexError, OSError):
        raise DataError(
            "not a list of validation images",
            where=str(path),
            expected="lines: file<TAB>class",
            remedy="download again",
        ) from None
