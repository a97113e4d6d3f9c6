"""TensorFlow Datasets without TensorFlow: sets prepared as array_record are read through TFDS's data source.

TFDS itself prepares into tfrecord unless told otherwise; that format can only be read by TensorFlow and is refused
with the way out. Encoded images are taken as stored and decoded by `jaxdd.data.readers.images` like all others.
"""

from __future__ import annotations

import importlib.util
import json
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxdd.core import io
from jaxdd.core.errors import DataError
from jaxdd.data.readers.files import read_text, require_regular
from jaxdd.data.readers.images import Encoded
from jaxdd.data.registry import DataSpec

READABLE = ("array_record",)
INSTALL = "pip install 'jaxdd[tfds]'"
_TRAIN, _TEST = ("train",), ("test", "validation", "val")


def default_folder() -> pathlib.Path:
    """Returns the folder where TFDS keeps its sets: `TFDS_DATA_DIR`, else `~/tensorflow_datasets`."""
    return io.of_user("TFDS_DATA_DIR", "~/tensorflow_datasets")


def prepared_folder(roots: list[pathlib.Path], spec: DataSpec) -> tuple[pathlib.Path | None, pathlib.Path | None]:
    """Looks for a prepared set by name, reading only `dataset_info.json`.

    Returns:
        The newest readable version's folder (`None`: there is none), and a folder that only TensorFlow could read.
    """
    foreign = None
    for root in roots:
        for name in dict.fromkeys((spec.tfds or spec.name, spec.name)):
            for folder in _versions(root / name):
                if _file_format(folder) in READABLE:
                    return folder, None
                foreign = foreign or folder
    return None, foreign


def _versions(base: pathlib.Path) -> list[pathlib.Path]:
    """Returns version folders of one builder, newest first."""

    def number(folder: pathlib.Path) -> tuple[int, ...]:
        return tuple(int(part) if part.isdecimal() else -1 for part in folder.name.split("."))

    return sorted((path.parent for path in base.glob("[0-9]*/dataset_info.json")), key=number, reverse=True)


def _file_format(folder: pathlib.Path) -> str:
    try:
        return json.loads(read_text(folder / "dataset_info.json")).get("fileFormat") or "tfrecord"
    except (OSError, ValueError, AttributeError, RecursionError):
        return "unknown"


def missing_packages(spec: DataSpec, *, to_prepare: bool) -> list[str]:
    """Returns the packages that are not installed and that TFDS needs to read (or to prepare) this set."""
    needed = {"tensorflow_datasets": "tensorflow-datasets", "array_record": "array-record"}
    if to_prepare:  # TFDS 4.9 imports it without declaring it
        needed["importlib_resources"] = "importlib-resources"
    if to_prepare and spec.tensorflow:
        needed["tensorflow"] = "tensorflow"
    return [package for module, package in needed.items() if importlib.util.find_spec(module) is None]


def prepare(spec: DataSpec, root: pathlib.Path) -> pathlib.Path:
    """Downloads and prepares a set as array_record under `root`; returns its folder.

    Raises:
        DataError: no network, no room, or a package that this builder needs is missing.
    """
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(str(spec.tfds), data_dir=root, file_format="array_record")
        builder.download_and_prepare()
    except Exception as error:  # network, disk, checksum and import faults all arrive here
        raise DataError(
            f"TFDS could not prepare '{spec.tfds}': {type(error).__name__}: {_first_line(error)}",
            where=str(root),
            expected="a network connection, room on the disk, and what the builder imports",
            remedy=f"prepare it on another machine as array_record and copy it to {root}, or use local files",
        ) from None
    return pathlib.Path(str(builder.data_dir))


def read_splits(folder: pathlib.Path, spec: DataSpec | None) -> tuple[dict[str, Any], tuple[str, ...] | None]:
    """Opens both splits of a prepared set.

    Returns:
        split -> (`Encoded` or `[n, h, w, c]` array, `[n]` int labels), and the class names where TFDS has them.

    Raises:
        DataError: tensorflow_datasets is missing, the folder is damaged, or it has no image or label feature.
    """
    if spec is not None and (missing := missing_packages(spec, to_prepare=False)):
        raise DataError(f"a prepared TFDS set needs {', '.join(missing)}", where=str(folder), remedy=INSTALL)
    import tensorflow_datasets as tfds

    for path in folder.iterdir():
        if not path.is_dir():
            require_regular(path, "a file of a prepared set")
    try:
        builder: Any = tfds.builder_from_directory(folder)
        features = dict(builder.info.features.items())
        available = list(builder.info.splits)
        names = getattr(features.get("label"), "names", None)
        splits = {}
        for split, options in (("train", _TRAIN), ("test", _TEST)):
            name = next((option for option in options if option in available), None)
            if name is None or not {"image", "label"} <= set(features):
                raise DataError(
                    f"splits {available}, features {sorted(features)}",
                    where=str(folder),
                    expected=f"a split named {' or '.join(options)}, features image and label",
                    remedy="prepare the data set again with these names",
                )
            skip = {key: tfds.decode.SkipDecoding() for key in features}
            source = builder.as_data_source(split=name, decoders=skip)
            splits[split] = _read(source, f"{folder}, split {name}")
    except DataError:
        raise
    except Exception as error:
        raise DataError(
            f"TFDS cannot read this folder: {type(error).__name__}: {_first_line(error)}",
            where=str(folder),
            expected="a data set prepared as array_record",
            remedy="remove the folder and prepare it again",
        ) from None
    return splits, tuple(names) if names else None


def _read(source: Any, where: str) -> tuple[Encoded | np.ndarray, np.ndarray]:
    """Reads all records of one split: images as stored (encoded bytes, or arrays where the feature is a tensor)."""
    images, labels = [], []
    for record in source:
        images.append(record["image"])
        labels.append(int(np.asarray(record["label"])))
    label_array = np.asarray(labels, np.int64)
    if images and isinstance(images[0], np.ndarray):
        return np.stack(images), label_array
    read: Callable[[int], bytes] = images.__getitem__
    return Encoded(len(images), read, lambda index: f"{where}, record {index}"), label_array


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:300]
