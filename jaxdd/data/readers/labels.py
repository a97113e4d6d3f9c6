"""Labels as names: text becomes class indices, and indices into one list of names become those of another."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np

from jaxdd.core.errors import DataError
from jaxdd.core.io import printable


def class_order(names: Iterable[str]) -> tuple[str, ...]:
    """Returns names in label order: numbers by value, else by name."""
    names = sorted(names)
    return tuple(sorted(names, key=int)) if names and all(name.isdecimal() for name in names) else tuple(names)


def is_text(labels: np.ndarray) -> bool:
    """Returns whether labels are names, one per image."""
    return labels.dtype.kind in "US" and (labels.ndim == 1 or (labels.ndim == 2 and labels.shape[1] == 1))


def of_text(labels: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Returns `[n]` int64 indices and the names that they point to, in label order.

    Arguments:
        labels: `[n]` or `[n, 1]` of text or of bytes that are UTF-8.
    """
    found, codes = np.unique(labels.ravel(), return_inverse=True)
    words = as_text(found)
    names = class_order(words)
    return align(codes, words, names, "labels"), names


def as_text(names: np.ndarray) -> tuple[str, ...]:
    """Returns an array's names, text or bytes, as text."""
    words = (
        name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else str(name) for name in names.ravel()
    )
    return tuple(map(printable, words))


def align(labels: np.ndarray, names: Sequence[str], base: Sequence[str], where: str) -> np.ndarray:
    """Returns the labels of the same classes in another list of names.

    Arguments:
        labels: `[n]` integers, indices into `names`.
        names: of the labels given.
        base: of the labels returned; what no label uses may be missing.
        where: for messages.

    Raises:
        DataError: a class that `base` lacks, a label without a name, or a name that stands twice.
    """
    if tuple(names) == tuple(base):
        return labels
    if labels.size and not 0 <= labels.min() <= labels.max() < len(names):
        raise DataError(
            f"labels run from {labels.min()} to {labels.max()}",
            where=where,
            expected=f"0 .. {len(names) - 1}, as {len(names)} classes are named",
            remedy="a negative label usually means an unlabelled split; otherwise check the class names",
        )
    index = {name: label for label, name in enumerate(base)}
    used = np.unique(labels)
    unknown = [names[label] for label in used if names[label] not in index]
    doubled = len(index) < len(base) or len(set(names)) < len(names)
    if unknown or doubled:
        what = f"classes {', '.join(map(repr, unknown[:4]))} are not" if unknown else "class names that stand twice are"
        raise DataError(
            f"{what} among those of the train split" if unknown else f"{what} in another order than elsewhere",
            where=where,
            expected="the same class names in all files, in any order: " + ", ".join(base[:8]),
            remedy="use the same class names in both splits",
        )
    table = np.array([index.get(name, -1) for name in names], np.int64)
    return table[labels]


def by_known_names(names: Sequence[str], known: Sequence[str], where: str) -> tuple[str, ...] | None:
    """Returns `names` as `known` spells them, if they are the same classes; `None` if they are others.

    Arguments:
        names: of a file's classes, in its order.
        known: in label order.
        where: for messages.

    Raises:
        DataError: they are others, but some have the same name and another label.
    """
    spelled = {_plain(name): name for name in known}
    found = [spelled.get(_plain(name)) for name in names]
    if None not in found and len(set(found)) == len(known):
        return tuple(name for name in found if name is not None)
    moved = [name for place, name in enumerate(found) if name and place < len(known) and known[place] != name]
    if moved:
        raise DataError(
            f"class '{moved[0]}' has another label here, and not all class names are those known",
            where=where,
            expected="the classes " + ", ".join(known[:10]),
            remedy="correct the class names of the file, or load it as your own set: folder:, npz: or parquet:",
        )
    return None


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).lower()
