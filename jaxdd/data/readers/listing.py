"""The contents of a folder of images: class folders, their image files, and what is left out, which is counted.

Left out are hidden files and folders and those that systems leave behind (thumbnails, checkpoints of notebooks,
resource forks), and files of types that are not read. Linked folders are followed, each folder once per class.
"""

from __future__ import annotations

import collections
import os
import pathlib
import warnings

from jaxdd.core.errors import DataError, Notice
from jaxdd.core.io import printable
from jaxdd.data.readers.images import SUFFIXES

JUNK = {"__macosx", "@eadir", "@recycle", "#recycle", "$recycle.bin", "lost+found", "__pycache__"}  # beside hidden ones
QUIET = {  # files that nobody takes for images
    *(".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".md", ".html", ".yaml", ".yml", ".log", ".pdf"),
    *(".ini", ".db", ".lock", ".py", ".mat", ".npy", ".sha256", ".md5"),
}
QUIET_HIDDEN = {".ds_store", ".gitkeep", ".gitignore", ".directory", ".localized", ".keep", ".nomedia"}
SHOWN = 4

Left = collections.Counter  # reason -> number of files or folders


def is_junk(name: str) -> bool:
    """Returns whether a file or folder of this name is none of the data."""
    return name.startswith(".") or name.lower() in JUNK


def class_folders(place: pathlib.Path, left: Left | None = None) -> list[pathlib.Path]:
    """Returns the class folders of one split, by name; others are counted in `left`."""
    entries = sorted(place.iterdir())
    folders = [entry for entry in entries if entry.is_dir()]
    if left is not None:
        left.update(entry.name for entry in folders if is_junk(entry.name))
        others = [entry for entry in entries if not entry.is_dir() and not is_junk(entry.name)]
        left.update("images outside the class folders" for entry in others if entry.suffix.lower() in SUFFIXES)
        left.update("links to nowhere" for entry in others if not entry.suffix and not entry.exists())
    return [entry for entry in folders if not is_junk(entry.name)]


def images(place: pathlib.Path, left: Left | None = None) -> list[pathlib.Path]:
    """Returns the image files of one class, those of inner folders too (`<class>/images/*`), folder by folder, each in
    name order.

    Arguments:
        place: folder of the class.
        left: counts what is left out: a file's suffix, a folder's name.
    """
    left = Left() if left is None else left
    paths: list[pathlib.Path] = []
    above = {_identity(folder) for folder in place.resolve().parents}
    seen = {_identity(place)}
    for base, folders, files in os.walk(place, onerror=_refuse, followlinks=True):
        kept = []
        for name in sorted(folders):
            folder = pathlib.Path(base, name)
            identity = _identity(folder)
            if is_junk(name):
                left[name] += 1
            elif folder.is_symlink() and _is_of_another_class(folder, place):
                left["links to folders of other classes"] += 1
            elif identity in seen or identity in above:
                left["links to folders that are read already"] += 1
            else:
                seen.add(identity)
                kept.append(name)
        folders[:] = kept
        for name in sorted(files):
            suffix = pathlib.PurePath(name).suffix.lower()
            if is_junk(name):
                if name.lower() not in QUIET_HIDDEN:
                    left["hidden files"] += 1
            elif suffix in SUFFIXES:
                paths.append(pathlib.Path(base, name))
            elif suffix not in QUIET:
                left[suffix or "files without a suffix"] += 1
    return paths


def _refuse(error: OSError) -> None:
    raise DataError(
        f"cannot list a folder: {error.strerror}", where=str(error.filename), remedy="check its permissions"
    )


def _is_of_another_class(link: pathlib.Path, place: pathlib.Path) -> bool:
    """Returns whether a link in the class folder `place` leads into one beside it: its images would count twice."""
    target, split = link.resolve(), place.parent.resolve()
    return split in target.parents and target.relative_to(split).parts[0] != place.name


def _identity(folder: pathlib.Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def summary(left: Left) -> str:
    """Returns a clause: `7 .heic, 1 .thumbnails`; the most frequent first."""
    shown = [f"{count} {printable(reason)}" for reason, count in left.most_common(SHOWN)]
    return ", ".join(shown) + (f" and {len(left) - SHOWN} more kinds" if len(left) > SHOWN else "")


def tell(left: Left, where: object) -> None:
    """Says in one line what has been left out, if anything has."""
    if left:
        read = ", ".join(SUFFIXES)
        text = f"left out of {printable(str(where))}: {summary(left)} (images that are read: {read})"
        warnings.warn(text, Notice, stacklevel=2)
