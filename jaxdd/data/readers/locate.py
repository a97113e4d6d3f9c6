"""Where a data set is, found without reading an image or starting a device: what a command checks first.

Order for a known name: embedded (digits); local files in `<data_path>/<name>/`, or in `data_path` itself when that is
how its last folder is called; a TFDS set prepared as array_record under `data_path` or TFDS's default folder; else
TFDS downloads and prepares it. Nothing is ever put in the place of a set that is not found.

A subset of ImageNet (`data.registry`) is read from a tree of class folders alone, the whole of ImageNet or its own:
`<data_path>/<name>/`, `<data_path>/imagenet/` or `data_path` itself.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import pathlib
from typing import Literal

from jaxdd.core.errors import DataError, UsageError, choose
from jaxdd.core.io import expanded
from jaxdd.data.readers import folder as folders
from jaxdd.data.readers import npz, parquet, tfds
from jaxdd.data.readers.files import require_regular
from jaxdd.data.registry import ALIASES, DataSpec, spec, user_kind

STREAM = ("auto", "always", "never")  # whether images are read while they are needed
LAYOUTS = (
    f"one .npz file ({npz.LAYOUT})",
    f"Hugging Face parquet ({parquet.LAYOUT})",
    f"image folders ({folders.LAYOUT})",
)


@dataclasses.dataclass(frozen=True)
class Source:
    """Where and in which layout a data set is.

    Arguments:
        kind: how to read it; `download`: TFDS would fetch it.
        path: file or folder; `None` for the embedded set.
        spec: its registry entry; `None` for a user's own set.
        columns: of parquet files, where the name tells them.
    """

    kind: Literal["digits", "npz", "folder", "parquet", "tfds", "download"]
    path: pathlib.Path | None = None
    spec: DataSpec | None = None
    columns: parquet.Columns = parquet.USUAL


def locate(name: str, data_path: str | os.PathLike | None = None) -> Source:
    """Finds a data set; reads directory entries and at most a few kilobytes.

    Arguments:
        name: a name of the registry or an alias, or `folder:DIR`, `npz:FILE`, `parquet:DIR`, which may end in
            `?image_column=NAME&label_column=NAME`.
        data_path: folder of local files; `None`: TFDS's default folder only.

    Raises:
        UsageError: the name is unknown; names the nearest one.
        DataError: it is not there, or not in a known layout; says what to do.
    """
    if user_kind(name):
        return _user_source(name)
    entry = spec(name)
    if entry.name == "digits":
        if importlib.util.find_spec("sklearn") is None:
            raise DataError("the embedded digits need scikit-learn", where=name, remedy="pip install scikit-learn")
        return Source("digits", spec=entry)
    root = expanded(data_path) if data_path is not None else None
    if root is not None and not root.is_dir():
        raise DataError(
            "the data path is not a folder", where=str(root), expected="an existing folder", remedy="check `data_path`"
        )
    if entry.subset is not None:
        return _imagenet_tree(entry, root)
    for place in _places(entry, root):
        if source := layout(place, entry):
            return source
    return _through_tfds(entry, root)


def check_available(name: str, data_path: str | os.PathLike | None = None, stream: str = "never") -> None:
    """Refuses a set that `load` would not find; takes milliseconds.

    Arguments and Raises: as `load` and `locate`. A set that TFDS would have to download counts as available if TFDS and
    what it needs are installed.
    """
    choose(stream, STREAM, kind="way of reading", where="`stream`")
    source = locate(name, data_path)
    if stream == "always":
        require_folder(source, name)
    if source.kind == "parquet":
        parquet.import_pyarrow(str(source.path))


def require_folder(source: Source, name: str) -> None:
    """Refuses to stream what does not lie in one file per image.

    Raises:
        UsageError: see above.
    """
    if source.kind != "folder":
        raise UsageError(
            f"'{name}' cannot be streamed: it is no folder of images",
            where="`stream=always`",
            expected=folders.LAYOUT,
            remedy="unpack its images into such folders, or leave `stream` out",
        )


def require_grain() -> None:
    """Refuses to train on streamed images without the package that reads them ahead.

    Raises:
        UsageError: see above.
    """
    if importlib.util.find_spec("grain") is None:
        raise UsageError(
            "reading images while a run goes on needs grain",
            where="a stream of images",
            remedy="pip install 'jaxdd[stream]', or `stream=never` with a set that fits into memory",
        )


def _places(entry: DataSpec, root: pathlib.Path | None) -> list[pathlib.Path]:
    """Returns folders that may hold the local files of a known set."""
    if root is None:
        return []
    names = (entry.name, *entry.aliases, *(alias for alias, name in ALIASES.items() if name == entry.name))
    places = [root] if any(str(root.absolute()).endswith(os.sep + name) for name in names) else []
    return [*(root / name for name in names), *places]


def _imagenet_tree(entry: DataSpec, root: pathlib.Path | None) -> Source:
    """Returns the tree that holds the classes of a subset."""
    assert entry.subset is not None
    for place in [*_places(entry, root), *([root] if root else [])]:
        if (place / "train").is_dir():
            folders.choose_classes(place, entry.subset)  # refuses a tree without them
            return Source("folder", place, entry)
    raise not_found(entry, root)


def layout(place: pathlib.Path, entry: DataSpec | None) -> Source | None:
    """Recognises the layout of one folder; `None` if it holds nothing we read.

    Raises:
        DataError: files of a known layout with a split missing, or several npz files.
    """
    if not place.is_dir():
        return None
    archives = sorted(path for path in place.glob("*.npz") if not path.name.startswith("."))
    if len(archives) > 1:
        raise DataError(
            f"{len(archives)} npz files: {', '.join(path.name for path in archives[:4])}",
            where=str(place),
            expected="one npz file per data set folder",
            remedy="move the others away",
        )
    if archives:
        require_regular(archives[0], "an npz file")
        return Source("npz", archives[0], entry)
    files = parquet.split_files(place)
    for path in files["train"] + files["test"]:
        require_regular(path, "a parquet file")
    has_train, has_test = bool(files["train"]), bool(files["test"])
    if has_train or has_test:
        kind = "parquet"
    else:
        kind = "folder"
        has_train, has_test = (place / "train").is_dir(), folders.test_folder(place) is not None
    if has_train != has_test:
        there = [place / name for name in folders.TEST_NAMES if (place / name).is_dir()]
        if kind == "folder" and there:
            raise folders.no_images(there[0])
        raise DataError(
            f"the {'test' if has_train else 'train'} split is missing",
            where=str(place),
            expected=parquet.LAYOUT if kind == "parquet" else folders.LAYOUT,
            remedy="add the missing split; jaxdd never makes one out of the other",
        )
    return Source(kind, place, entry) if has_train else None


def _user_source(name: str) -> Source:
    """Returns the source of `folder:DIR`, `npz:FILE` or `parquet:DIR`."""
    kind, _, text = name.partition(":")
    path, columns = expanded(text), parquet.USUAL
    if kind == "parquet" and "?" in text and not path.exists():
        text, _, options = text.partition("?")
        path, columns = expanded(text), _named_columns(options)
    if not path.exists():
        raise DataError("the data set's path does not exist", where=str(path), remedy=f"check what follows '{kind}:'")
    if path.is_dir():
        source = layout(path, None)
        if source is not None and source.kind == kind:
            return dataclasses.replace(source, columns=columns)
    elif kind == "npz":
        require_regular(path, "an npz file")
        return Source("npz", path)
    wanted = {"npz": LAYOUTS[0], "parquet": LAYOUTS[1], "folder": LAYOUTS[2]}[kind]
    raise DataError(
        f"no data set in the layout '{kind}' here", where=str(path), expected=wanted, remedy="check the path"
    )


def _named_columns(options: str) -> parquet.Columns:
    """Returns the columns that a name's options tell: `image_column=NAME&label_column=NAME`."""
    columns = {}
    for option in options.split("&"):
        key, _, value = option.partition("=")
        choose(key, ("image_column", "label_column"), kind="option of a data set's name", where="`dataset_name`")
        columns[key.removesuffix("_column")] = value or None
    return parquet.Columns(**columns)


def _through_tfds(entry: DataSpec, root: pathlib.Path | None) -> Source:
    """Returns a prepared TFDS set, or the permission to download one; else the refusal."""
    roots = [*([root, root / "tensorflow_datasets"] if root else []), tfds.default_folder()]
    prepared, foreign = tfds.prepared_folder(roots, entry)
    if prepared is not None:
        missing = tfds.missing_packages(entry, to_prepare=False)
        if missing:
            raise DataError(
                f"'{entry.name}' is prepared, but reading it needs {', '.join(missing)}",
                where=str(prepared),
                remedy=tfds.INSTALL,
            )
        return Source("tfds", prepared, entry)
    if entry.tfds and not tfds.missing_packages(entry, to_prepare=True) and foreign is None:
        return Source("download", root or tfds.default_folder(), entry)
    raise not_found(entry, root, foreign)


def not_found(entry: DataSpec, root: pathlib.Path | None, foreign: pathlib.Path | None = None) -> DataError:
    """Returns the refusal: why the set cannot be had, and the three ways out."""
    if foreign is not None:
        reason = f"it is prepared there as {tfds._file_format(foreign)}, which only TensorFlow can read"
        first = f"prepare it again as array_record in another folder: {tfds.INSTALL}, then `data_path` names it"
    elif entry.subset is not None:
        reason = "ImageNet is given to registered users alone, so nothing can download it"
        first = "have ImageNet from image-net.org, and sort its validation images into class folders"
    elif entry.tfds is None:
        reason = "it is not in TensorFlow Datasets, so nothing can download it"
        first = f"download its archive by hand and unpack it there ({tfds.INSTALL} brings other sets, not this one)"
    else:
        missing = tfds.missing_packages(entry, to_prepare=True)
        reason = f"downloading it needs {', '.join(missing)}"
        beyond = [package for package in missing if package in ("importlib-resources", "tensorflow")]
        first = " ".join([tfds.INSTALL, *beyond]) + ", to download and prepare it once"
    folder = "imagenet" if entry.subset else entry.name
    place = root / folder if root else f"DIR/{folder}"
    layouts = LAYOUTS[2:] if entry.subset else LAYOUTS
    return DataError(
        f"data set '{entry.name}' not found: {reason}",
        where=str(foreign or root or f"{tfds.default_folder()} (no `data_path` given)"),
        expected=f"local files in {place}/: " + "; or ".join(layouts),
        remedy=f"(1) {first}  (2) point `data_path` to local files, kept in its folder {folder}/"
        "  (3) try the embedded set: `dataset_name=digits`",
    )
