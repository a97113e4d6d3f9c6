"""`load`: a name and a path -> a checked `Dataset`; `describe`: what is known of it without reading its images."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from jaxdd.core.errors import DataError, UsageError, choose
from jaxdd.core.io import printable
from jaxdd.data.dataset import Dataset, as_uint8, check_shape, label_remedy, require_two_classes
from jaxdd.data.readers import folder as folders
from jaxdd.data.readers import images as pixels
from jaxdd.data.readers import labels as naming
from jaxdd.data.readers import listing, npz, parquet, tfds
from jaxdd.data.readers.images import Losses
from jaxdd.data.readers.locate import STREAM, Source, locate, require_folder
from jaxdd.data.registry import DataSpec, canonical, user_kind
from jaxdd.data.registry import spec as entry_of

MAX_RESOLUTION = 1024
Splits = dict[str, tuple[Any, np.ndarray]]  # split -> (`Encoded` or array, labels)


def load(
    name: str,
    data_path: str | os.PathLike | None = None,
    *,
    resolution: int | None = None,
    stream: Literal["auto", "always", "never"] | str = "never",
) -> Dataset:
    """Reads a data set into host memory, or lists its files.

    Arguments:
        name: a name of the registry or an alias, a subset of ImageNet (`data.registry`), or a user's own set:
            `folder:DIR`, `npz:FILE`, `parquet:DIR` or `parquet:DIR?image_column=NAME&label_column=NAME` (two or more
            classes, 1 or 3 channels).
        data_path: folder with the local files, in `<data_path>/<name>/` or itself named so (`locate`); `None`: TFDS's
            folder.
        resolution: side in pixels to crop and resize to; `None`: the registry's, or the images' own.
        stream: `always`: the files of an image folder are listed, and read while they are needed; `auto`: so where the
            train images would take more than a quarter of the machine's memory.

    Returns:
        Both splits as uint8; grey images are RGB where the set is RGB. A `LargeDataset` of what is streamed.

    Raises:
        UsageError: unknown name or resolution out of range, or a set that cannot be streamed.
        DataError: the set is not there, unreadable, or not what it claims to be.
    """
    if resolution is not None and not 1 <= resolution <= MAX_RESOLUTION:
        raise UsageError(
            f"resolution {resolution}",
            where="resolution",
            expected=f"1 .. {MAX_RESOLUTION} pixels",
            remedy="choose a side in that range",
        )
    name = canonical(name)
    source = locate(name, data_path)
    if source.kind == "download":
        assert source.spec is not None and source.path is not None
        source = dataclasses.replace(source, kind="tfds", path=tfds.prepare(source.spec, source.path))
    splits, names = _READERS[source.kind](source)
    spec, where = source.spec, str(source.path or name)
    splits, names = _by_names(splits, names, spec, where)
    side = resolution or (spec.resolution if spec else None)
    channels = spec.channels if spec else None
    crop = pixels.shorter_side if spec and spec.subset else pixels.central_area
    if _streams(choose(stream, STREAM, kind="way of reading", where="stream"), source, name, splits["train"][0], side):
        from jaxdd.data.large import LargeDataset  # which needs JAX

        if spec is not None:
            names = _known_names(spec, names, splits["train"][1], where)
        arguments = {"name": name, "class_names": names or (), "resolution": side, "crop": crop, "where": where}
        return LargeDataset.of_files(splits["train"], splits["test"], **arguments)
    arrays, losses = {}, Losses()
    for split in ("train", "test"):  # the test split follows the train split's shape
        arrays[split] = _pixels(splits[split][0], side, channels, f"{where} ({split} images)", crop, losses)
        side, channels = arrays[split].shape[1], arrays[split].shape[-1]
    losses.tell(where)
    if spec is not None:
        names = _known_names(spec, names, splits["train"][1], where)
    return Dataset.of_arrays(
        arrays["train"],
        splits["train"][1],
        arrays["test"],
        splits["test"][1],
        name=name,
        class_names=names,
        where=where,
    )


def describe(name: str, data_path: str | os.PathLike | None = None, *, resolution: int | None = None) -> DataSpec:
    """Returns resolution, channels and classes without decoding images: from the registry, or from a user's file
    headers.

    Arguments and Raises: as `load`; a known set need not be there. `resolution` and `channels` of a user's folder
    or parquet set are those of its first image; of a folder, coloured if the first image of some class is.
    """
    if not user_kind(name):
        entry = entry_of(name)
        return dataclasses.replace(entry, resolution=resolution or entry.resolution)
    source = locate(name, data_path)
    assert source.path is not None
    where = str(source.path)
    if source.kind == "npz":
        stored, target = npz.splits(source.path)["train"]
        shape, _ = npz.header(source.path, stored)
        check_shape(shape, where, square=False)
        labels, names = npz.read_npz(source.path, [target])[target], _npz_names(source.path)
        if naming.is_text(labels):
            labels, named = naming.of_text(labels)
            names = names or named
        height, width, channels = (*shape[1:], 1)[:3]
    elif source.kind == "parquet":
        labels, names, blob = parquet.read_labels(parquet.split_files(source.path)["train"], source.columns)
        height, width, channels = pixels.header(blob, where)
    else:
        names, some = folders.class_order(source.path, ()), folders.some_images(source.path)
        if not some:
            raise folders.no_images(source.path / "train")
        headers = [pixels.header(pixels.read_file(image), str(image)) for image in some]
        labels, (height, width, _), channels = np.arange(0), headers[0], max(header[2] for header in headers)
    classes = len(names) if names else _count(labels, where)
    names = tuple(map(printable, names or ()))
    require_two_classes(names or tuple(map(str, range(classes))), where)
    space = "zca" if channels == 3 else "standardised"
    side = resolution or min(height, width)
    return DataSpec(name, side, channels, classes, class_names=names, space=space)


def _streams(stream: str, source: Source, name: str, train: Any, side: int | None) -> bool:
    """Returns whether images stay in their files."""
    if stream == "always":
        require_folder(source, name)
        return True
    if stream == "never" or source.kind != "folder":
        return False
    from jaxdd.data.large import exceeds_memory  # which needs JAX

    return exceeds_memory(train.count, side or min(pixels.header(train.read(0), train.where(0))[:2]))


def _pixels(
    stored: Any,
    resolution: int | None,
    channels: int | None,
    where: str,
    crop: Callable[[np.ndarray, int], np.ndarray],
    losses: Losses,
) -> np.ndarray:
    """Turns encoded images or an array into uint8 of the wanted shape."""
    if isinstance(stored, pixels.Encoded):
        if not stored.count:
            raise DataError(
                "no images",
                where=where,
                expected="at least one image per class",
                remedy="check `data_path`: it may be a level too high or too low",
            )
        return pixels.decode_all(stored, resolution, channels, crop, losses)
    return pixels.fit_arrays(as_uint8(stored, where, square=False), resolution, channels, where)


def _by_names(
    splits: Splits, names: tuple[str, ...] | None, spec: DataSpec | None, where: str
) -> tuple[Splits, tuple[str, ...] | None]:
    """Returns labels in the order of a known set's class names, where those of its files are the same in another."""
    known = naming.by_known_names(names, spec.class_names, where) if names and spec and spec.class_names else None
    if spec is None or known is None or known == spec.class_names:
        return splits, names
    named = {split: naming.align(labels, known, spec.class_names, where) for split, (_, labels) in splits.items()}
    return {split: (images, named[split]) for split, (images, _) in splits.items()}, spec.class_names


def _known_names(spec: DataSpec, names: tuple[str, ...] | None, labels: np.ndarray, where: str) -> tuple[str, ...]:
    """Returns the class names of a known set; the number of classes must be right."""
    count = len(names) if names else _count(labels, where)
    if count != spec.classes:
        raise DataError(
            f"{count} classes",
            where=where,
            expected=f"the {spec.classes} classes of '{spec.name}'",
            remedy="complete the download, or load a subset as your own set: folder:DIR, npz:FILE or parquet:DIR",
        )
    return spec.class_names or names or tuple(map(str, range(spec.classes)))


def _count(labels: np.ndarray, where: str) -> int:
    """Returns the number of classes that labels alone tell."""
    if labels.size and labels.dtype.kind in "iu":
        return int(labels.max()) + 1
    raise DataError(
        f"labels of shape {labels.shape} and type {labels.dtype}",
        where=where,
        expected="integers, one per image",
        remedy=label_remedy(labels, len(labels) if labels.ndim else 0),
    )


def _read_digits(source: Source) -> tuple[Splits, None]:
    """Reads scikit-learn's 1797 digits.

    Within each class, in file order, every fifth image from the third on is for test
    (1438 train, 359 test); values 0..16 are scaled to 0..255."""
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    labels = digits.target.astype(np.int32)
    test = np.zeros(len(labels), bool)
    for label in range(10):
        test[np.flatnonzero(labels == label)[2::5]] = True
    return {"train": (images[~test], labels[~test]), "test": (images[test], labels[test])}, None


def _npz_names(path: pathlib.Path) -> tuple[str, ...] | None:
    """Returns the optional member `class_names`, a text array."""
    if "class_names" not in npz.members(path):
        return None
    return naming.as_text(npz.read_npz(path, ["class_names"])["class_names"])


def _read_npz(source: Source) -> tuple[Splits, tuple[str, ...] | None]:
    assert source.path is not None
    naming_of = npz.splits(source.path)
    arrays = npz.read_npz(source.path, [name for pair in naming_of.values() for name in pair])
    splits: Splits = {split: (arrays[x], arrays[y]) for split, (x, y) in naming_of.items()}
    names = _npz_names(source.path)
    if all(naming.is_text(labels) for _, labels in splits.values()):
        named = {split: naming.of_text(labels) for split, (_, labels) in splits.items()}
        names = names or named["train"][1]
        for split, (labels, own) in named.items():
            splits[split] = splits[split][0], naming.align(labels, own, names, f"{source.path} ({split} labels)")
    return splits, names


def _read_folder(source: Source) -> tuple[Splits, tuple[str, ...]]:
    assert source.path is not None
    subset = source.spec.subset if source.spec else None
    if subset:
        order, test = folders.choose_classes(source.path, subset)
    else:
        order = folders.class_order(source.path, source.spec.class_names if source.spec else ())
        test = folders.test_folder(source.path)
    assert test is not None  # `locate` saw it
    places = {"train": source.path / "train", "test": test}
    left, part = listing.Left(), subset is not None
    splits: Splits = {split: folders.read_split(place, order, part=part, left=left) for split, place in places.items()}
    listing.tell(left, source.path)
    return splits, order


def _read_parquet(source: Source) -> tuple[Splits, tuple[str, ...] | None]:
    assert source.path is not None
    splits, names = {}, None
    for split, files in parquet.split_files(source.path).items():  # the train split comes first
        encoded, labels, named = parquet.read_split(files, source.columns)
        names = names or named
        if names and named:
            labels = naming.align(labels, named, names, str(files[0]))
        splits[split] = encoded, labels
    return splits, names


def _read_tfds(source: Source) -> tuple[Splits, tuple[str, ...] | None]:
    assert source.path is not None
    return tfds.read_splits(source.path, source.spec)


_READERS = {
    "digits": _read_digits,
    "npz": _read_npz,
    "folder": _read_folder,
    "parquet": _read_parquet,
    "tfds": _read_tfds,
}
