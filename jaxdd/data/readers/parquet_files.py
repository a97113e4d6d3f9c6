"""Which parquet files of a folder are which split, as the Hugging Face Hub and its command line lay them out.

train-00000-of-00002.parquet, test.parquet     in the folder itself, in `data/` or in the folder of a configuration
train/0000.parquet, test/0000.parquet          the same, a folder per split
snapshots/<commit>/...                         in a cache folder of the Hub, `datasets--owner--name`
"""

from __future__ import annotations

import pathlib
import re

from jaxdd.core.errors import DataError

TEST_NAMES = ("test", "val", "validation", "valid")
_SHARD = re.compile(r"([-_.]?\d+[-_]of[-_]\d+)?([-_.][0-9a-f]{16,64})?$", re.IGNORECASE)
_NUMBER = re.compile(r"[-_.]?\d+$")  # a shard too, unless the split is there without one: train_100 beside train
Files = dict[str, list[pathlib.Path]]


def split_files(folder: pathlib.Path) -> Files:
    """Returns the train and test files of a folder; an empty list where there are none.

    Raises:
        DataError: several splits or configurations could be meant; names them.
    """
    folder = _snapshot(folder)
    for place in (folder, folder / "data"):
        files = _of_place(place)
        if files["train"] or files["test"]:
            return files
    if (folder / "train").is_dir():
        return {"train": [], "test": []}  # a folder of images
    inner = [entry for entry in sorted(folder.iterdir()) if entry.is_dir() and not entry.name.startswith(".")]
    folders = {entry: files for entry in inner if any((files := _of_place(entry)).values())}
    if len(folders) > 1:
        names = ", ".join(entry.name for entry in folders)
        raise DataError(
            f"{len(folders)} folders with parquet files: {names}",
            where=str(folder),
            expected="one configuration of a data set",
            remedy=f"name one of them: parquet:{next(iter(folders))}",
        )
    return next(iter(folders.values()), {"train": [], "test": []})


def _snapshot(folder: pathlib.Path) -> pathlib.Path:
    """Returns the newest snapshot if this is a folder of the Hub's cache, else the folder itself."""
    snapshots = folder / "snapshots"
    if not snapshots.is_dir():
        return folder
    places = sorted((entry for entry in snapshots.iterdir() if entry.is_dir()), key=lambda entry: entry.stat().st_mtime)
    return places[-1] if places else folder


def _of_place(place: pathlib.Path) -> Files:
    """Returns the files of both splits in one folder and its folders `train/`, `test/`."""
    splits: Files = {}
    if place.is_dir():
        for path in sorted(place.glob("*.parquet")):
            if not path.name.startswith("."):
                name = _SHARD.sub("", path.stem).lower()
                splits.setdefault(_NUMBER.sub("#", name), []).append(path)
        for name in ("train", *TEST_NAMES):
            inside = sorted(path for path in (place / name).glob("*.parquet") if not path.name.startswith("."))
            if inside:
                splits.setdefault(name, inside)
    return {"train": _choose(splits, ("train",), place), "test": _choose(splits, TEST_NAMES, place)}


def _choose(splits: Files, names: tuple[str, ...], place: pathlib.Path) -> list[pathlib.Path]:
    """Returns the split of the first name that is there; else the only one whose name begins with one of them."""
    for name in names:
        if name in splits or f"{name}#" in splits:
            return splits.get(name) or splits[f"{name}#"]
    like = [name for name in splits if name.startswith(names)]
    if len(like) > 1:
        raise DataError(
            f"{len(like)} splits could be the {'train' if 'train' in names else 'test'} split: {', '.join(like)}",
            where=str(place),
            expected=f"one of them, or one called {names[0]}",
            remedy=f"call the one that is meant {names[0]}.parquet, or move the others away",
        )
    return splits[like[0]] if like else []
