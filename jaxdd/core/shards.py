"""`Pieces`: a folder of safetensors files under one manifest, to which several processes add at once.

manifest.json                    of every piece: file, sha256, bytes, and what it is
<name>-<digest>.safetensors      named by content; the manifest follows it, so a piece counts whole or not at all
.manifest.lock                   held while the manifest is read, extended and written
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from jaxdd.core import io
from jaxdd.core.errors import CheckpointError, garbled

FORMAT = 1
ANEW = "copy the whole folder again, or recover into another one"


@contextlib.contextmanager
def alone(folder: pathlib.Path, name: str) -> Iterator[None]:
    """Waits until no other process is inside; the kernel frees the lock of one that died."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f".{name}.lock", "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class Pieces:
    """See the module's header.

    Arguments:
        folder: made by the first piece.
        keys: names of the fields of an entry that say which piece it is.
    """

    def __init__(self, folder: str | os.PathLike, keys: tuple[str, ...]):
        self.folder, self._keys = pathlib.Path(folder), keys

    def entries(self) -> dict[tuple[int, ...], dict[str, Any]]:
        """What the manifest says of every piece, in order.

        Raises:
            CheckpointError: it is damaged.
        """
        path = self.folder / "manifest.json"
        if not path.exists():
            return {}
        found = io.read_manifest(path, "jaxdd_pieces", (FORMAT,), "recovered pieces", ANEW)
        try:
            named = {tuple(int(entry[key]) for key in self._keys): dict(entry) for entry in found["pieces"]}
            if any(not {"file", "sha256", "bytes"} <= set(entry) for entry in named.values()):
                raise ValueError("a piece")
        except (KeyError, TypeError, ValueError) as error:
            raise garbled(error, path, ANEW) from None
        return dict(sorted(named.items()))

    def present(self) -> dict[tuple[int, ...], dict[str, Any]]:
        """The entries whose files are there and as long as they should be; contents are looked at by `read`."""
        return {key: entry for key, entry in self.entries().items() if self._whole(entry)}

    def add(self, name: str, arrays: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> None:
        """Adds a piece; one with the same keys that is there and whole stays."""
        payload = safetensors.numpy.save({key: np.ascontiguousarray(array) for key, array in arrays.items()})
        digest = io.sha256(payload)
        entry = {"file": f"{name}-{digest[:12]}.safetensors", "sha256": digest, "bytes": len(payload), **about}
        key = tuple(int(entry[field]) for field in self._keys)
        io.write_atomically(self.folder / entry["file"], payload)
        with alone(self.folder, "manifest"):
            kept = self.present()
            pieces = dict(sorted({key: entry, **kept}.items()))
            io.write_json(self.folder / "manifest.json", {"jaxdd_pieces": FORMAT, "pieces": list(pieces.values())})
        if pieces[key]["file"] != entry["file"]:
            (self.folder / entry["file"]).unlink()

    def read(self, entry: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The arrays of a piece, verified.

        Raises:
            CheckpointError: its file is missing, cut, damaged or exchanged.
        """
        path = self.path(entry)
        try:
            payload = path.read_bytes()
            if len(payload) == entry["bytes"] and io.sha256(payload) == entry["sha256"]:
                return safetensors.numpy.load(payload)
            found = "a piece is not what the manifest says (cut, damaged or exchanged)"
        except (OSError, safetensors.SafetensorError) as error:
            found = f"a piece cannot be read: {error}"
        raise CheckpointError(
            found,
            where=str(path),
            expected=f"{entry['bytes']} bytes with sha256 {entry['sha256'][:12]}...",
            remedy="copy it again from its source; or delete it and run the same command again, which makes it anew",
        )

    def intact(self, entry: Mapping[str, Any]) -> bool:
        """Whether the file of a piece holds what was written: its size and its digest."""
        return self._whole(entry) and io.sha256(self.path(entry)) == entry["sha256"]

    def path(self, entry: Mapping[str, Any]) -> pathlib.Path:
        """Where a piece lies."""
        return self.folder / pathlib.PurePath(entry["file"]).name

    def _whole(self, entry: Mapping[str, Any]) -> bool:
        path = self.path(entry)
        return path.is_file() and path.stat().st_size == entry["bytes"]
