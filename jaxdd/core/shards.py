"""Checksummed pieces: safetensors files, of each of which an entry in a manifest says what it must be.

    {"file": its name, "sha256": hex digest, "bytes": length, and what the owner of the manifest adds}

`write` makes a file and its entry. `verify`, `intact` and `read` compare the two; `rows` maps some rows of a file that
was verified. The owner of the manifest writes it after the files, so a piece counts whole or not at all.

`Pieces` is an owner of its own: a folder to which several processes add at once.

    manifest.json                    of every piece: its entry, and what it is
    <name>-<digest>.safetensors      named by content
    .manifest.lock                   held while the manifest is read, extended and written

`seal` is for a folder that something else has written: `manifest.json` with size and sha256 of every file in it, and
its own digest; `verify_seal` reads all of them again.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from jaxdd.core import io
from jaxdd.core.errors import CheckpointError, garbled

MANIFEST = "manifest.json"  # of a sealed folder
FIELDS = {"file": str, "sha256": str, "bytes": int}
FORMAT = 1  # of the manifest of `Pieces`
MAX_BYTES = 16 << 30  # that are read into memory at once
AGAIN = "copy the whole folder again from its source"
ANEW = "copy the whole folder again, or recover into another one"
UNREADABLE = (OSError, ValueError, KeyError, safetensors.SafetensorError)


def write(
    folder: pathlib.Path, name: str, arrays: Mapping[str, np.ndarray], *, by_content: bool = True
) -> dict[str, Any]:
    """Writes a piece atomically; returns its entry.

    Arguments:
        folder: made if it is not there.
        name: of the file, without the ending.
        arrays: by name.
        by_content: whether the name goes on with 12 digits of the sha256.
    """
    payload = safetensors.numpy.save({key: np.ascontiguousarray(array) for key, array in arrays.items()})
    digest = io.sha256(payload)
    entry = {"file": f"{name}{f'-{digest[:12]}' if by_content else ''}.safetensors", "sha256": digest}
    io.write_atomically(folder / entry["file"], payload)
    return {**entry, "bytes": len(payload)}


def path_of(folder: pathlib.Path, entry: Any, remedy: str = AGAIN) -> pathlib.Path:
    """Returns where a piece lies: in the folder, whatever its entry says.

    Raises:
        CheckpointError: a field of the entry is missing or of another type.
    """
    for key, kind in FIELDS.items():
        if not isinstance(entry, Mapping) or type(entry.get(key)) is not kind:
            raise garbled(f"'{key}' of a file", folder / "manifest.json", remedy)
    return folder / pathlib.PurePath(entry["file"]).name


def fault(path: pathlib.Path, size: int, digest: str) -> str:
    """Returns what is wrong with a file that should have this size and sha256; the empty text if nothing is."""
    if not path.is_file():
        return "is missing"
    whole = path.stat().st_size == size and io.sha256(path) == digest
    return "" if whole else "is not what the manifest says (cut, damaged or exchanged)"


def verify(folder: pathlib.Path, entry: Any, what: str = "a piece", remedy: str = AGAIN) -> pathlib.Path:
    """Returns the path of a piece whose file is what its entry says.

    Arguments:
        folder, entry: where it should lie, and what its owner's manifest says of it.
        what, remedy: what it is and what the user can do, for the message.

    Raises:
        CheckpointError: the file is missing, cut, damaged, exchanged or cannot be read; or the entry is garbled.
    """
    path = path_of(folder, entry, remedy)
    try:
        problem = fault(path, entry["bytes"], entry["sha256"])
    except OSError as error:
        problem = f"cannot be read: {error}"
    if problem:
        wanted = f"{entry['bytes']} bytes with sha256 {entry['sha256'][:12]}..."
        raise CheckpointError(f"{what} {problem}", where=str(path), expected=wanted, remedy=remedy)
    return path


def intact(folder: pathlib.Path, entry: Any) -> bool:
    """Returns whether the file of a piece is what its entry says."""
    try:
        verify(folder, entry)
    except CheckpointError:
        return False
    return True


def read(folder: pathlib.Path, entry: Any, what: str = "a piece", remedy: str = AGAIN) -> dict[str, np.ndarray]:
    """Returns the arrays of a piece, verified.

    Raises:
        CheckpointError: as `verify`; or the file is no safetensors file, or larger than `MAX_BYTES`.
    """
    path = verify(folder, entry, what, remedy)
    try:
        if entry["bytes"] > MAX_BYTES:
            raise ValueError(f"more than {MAX_BYTES} bytes")
        return safetensors.numpy.load(path.read_bytes())
    except UNREADABLE as error:
        raise _unreadable(what, error, path, remedy) from None


def rows(path: pathlib.Path, which: slice | int, what: str, remedy: str) -> dict[str, np.ndarray]:
    """Returns some rows of every array of a verified piece; the file is mapped, and nothing else of it is read.

    Raises:
        CheckpointError: the file cannot be read any more.
    """
    try:
        with safetensors.safe_open(path, "numpy") as file:
            return {name: file.get_slice(name)[which] for name in file.keys()}  # noqa: SIM118
    except UNREADABLE as error:
        raise _unreadable(what, error, path, remedy) from None


def _unreadable(what: str, error: Exception, path: pathlib.Path, remedy: str) -> CheckpointError:
    """Returns the error of a file that was verified, but cannot be read: it is not safetensors, or has gone since."""
    expected = "a safetensors file, as it was written"
    return CheckpointError(f"{what} cannot be read: {error}", where=str(path), expected=expected, remedy=remedy)


@contextlib.contextmanager
def alone(folder: pathlib.Path, name: str) -> Iterator[None]:
    """Waits until no other process is inside; the kernel frees the lock of one that died.

    Raises:
        CheckpointError: as `io.locked`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f".{name}.lock", "a") as file:
        io.locked(file, wait=True)
        yield


class Pieces:
    """A folder of pieces to which several processes add at once; see the module's header.

    Arguments:
        folder: made by the first piece.
        keys: names of the fields of an entry that say which piece it is.
    """

    def __init__(self, folder: str | os.PathLike, keys: tuple[str, ...]):
        self.folder, self._keys = pathlib.Path(folder), keys

    def entries(self) -> dict[tuple[int, ...], dict[str, Any]]:
        """Returns the manifest's entry of every piece, in order.

        Raises:
            CheckpointError: it is damaged.
        """
        path = self.folder / "manifest.json"
        if not path.exists():
            return {}
        manifest = io.read_manifest(path, "jaxdd_pieces", (FORMAT,), "recovered pieces", ANEW)
        try:
            named = {tuple(int(entry[key]) for key in self._keys): dict(entry) for entry in manifest["pieces"]}
        except (KeyError, TypeError, ValueError) as error:
            raise garbled(error, path, ANEW) from None
        for entry in named.values():
            path_of(self.folder, entry, ANEW)
        return dict(sorted(named.items()))

    def present(self) -> dict[tuple[int, ...], dict[str, Any]]:
        """Returns the entries whose files are there and as long as they should be; contents are looked at by
        `intact`."""
        of = {key: (self.path(entry), entry) for key, entry in self.entries().items()}
        return {key: e for key, (path, e) in of.items() if path.is_file() and path.stat().st_size == e["bytes"]}

    def add(self, name: str, arrays: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> None:
        """Adds a piece; one with the same keys that is there and whole stays."""
        entry = {**write(self.folder, name, arrays), **about}
        key = tuple(int(entry[field]) for field in self._keys)
        with alone(self.folder, "manifest"):
            kept = self.present()
            pieces = dict(sorted({key: entry, **kept}.items()))
            io.write_json(self.folder / "manifest.json", {"jaxdd_pieces": FORMAT, "pieces": list(pieces.values())})
        if pieces[key]["file"] != entry["file"]:
            (self.folder / entry["file"]).unlink()

    def read(self, entry: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Returns the arrays of a piece, as `read`."""
        remedy = "copy it again from its source; or delete it and run the same command again, which makes it anew"
        return read(self.folder, entry, remedy=remedy)

    def intact(self, entry: Mapping[str, Any]) -> bool:
        """Returns whether the file of a piece is what its entry says."""
        return intact(self.folder, entry)

    def path(self, entry: Mapping[str, Any]) -> pathlib.Path:
        """Returns the path of a piece."""
        return path_of(self.folder, entry)


class Damaged(Exception):  # noqa: N818 (a finding, which the caller turns into a warning or an error)
    """A directory is not what its manifest says; the message says which file and why."""


def seal(folder: pathlib.Path, **facts: Any) -> None:
    """Writes the manifest over all files that are in `folder` now, together with `facts` (JSON values)."""
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    stamps = {name: [(folder / name).stat().st_size, io.sha256(folder / name)] for name in files}
    io.write_json(folder / MANIFEST, {**facts, "files": stamps})


def is_sealed(folder: pathlib.Path) -> bool:
    """Returns whether there is a manifest at all: without one, the directory was never finished."""
    return (folder / MANIFEST).is_file()


def verify_seal(folder: pathlib.Path, **facts: Any) -> dict[str, Any]:
    """Reads every file again and compares.

    Arguments:
        folder: the directory.
        facts: what the manifest must say.

    Returns:
        The manifest.

    Raises:
        Damaged: a byte, a file or a fact is not as it was.
    """
    if not is_sealed(folder):
        raise Damaged("its manifest is missing")
    try:
        content = io.read_json(folder / MANIFEST, sealed=True)
    except CheckpointError:
        raise Damaged("its manifest is damaged") from None
    for name, value in facts.items():
        if content.get(name) != value:
            raise Damaged(f"its {name} is {str(content.get(name))[:12]}, not {str(value)[:12]}")
    for name, stamp in content["files"].items():
        if why := fault(folder / name, *stamp):
            raise Damaged(f"{name} {why}")
    return content
