"""The files that recovered chunks become (`methods.recovery.chunks` says what a chunk is)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from jaxdd.core.errors import CheckpointError
from jaxdd.data.readers import images as decoding
from jaxdd.data.readers.encoding import encode
from jaxdd.methods.recovery.chunks import Chunk

KEYS = ("ipc_index", "first")


def published(pixels: np.ndarray, store: str, quality: int) -> tuple[np.ndarray, list[bytes]]:
    """Returns images as readers of the files will see them, and the files; for `none`, the images as they are and no
    files.

    Arguments:
        pixels: `[n, side, side, channels]` uint8.
        store, quality: as in `data.readers.encoding.encode`.
    """
    if store == "none":
        return pixels, []
    files = [encode(image, store, quality) for image in pixels]  # pyright: ignore[reportArgumentType]
    return np.stack([decoding.decode(file, "an image just encoded") for file in files]), files


def to_arrays(chunk: Chunk, images: np.ndarray, files: list[bytes]) -> dict[str, np.ndarray]:
    """Returns the arrays of a chunk's file: images, labels, index and, end to end, the image files."""
    return {
        "images": images,
        "labels": chunk.labels,
        "ipc_index": np.full(len(chunk), chunk.ipc_index, np.int32),
        "files": np.frombuffer(b"".join(files), np.uint8),
        "sizes": np.asarray([len(file) for file in files], np.int64),
    }


def files_of(arrays: Mapping[str, np.ndarray]) -> list[bytes]:
    """Returns the image files in what `to_arrays` made."""
    ends = np.cumsum(arrays["sizes"])
    return [arrays["files"][end - size : end].tobytes() for end, size in zip(ends, arrays["sizes"], strict=True)]


def require_complete(missing: Iterable[Chunk], where: str, why: str) -> None:
    """Refuses a set in which there are chunks missing, by naming them.

    Raises:
        CheckpointError: see above.
    """
    named: dict[int, list[list[int]]] = {}
    for chunk in sorted(missing):
        ranges = named.setdefault(chunk.ipc_index, [])
        if ranges and ranges[-1][1] == chunk.first:
            ranges[-1][1] = chunk.stop
        else:
            ranges.append([chunk.first, chunk.stop])
    if named:
        lines = [f"image {index} of classes {_listed(ranges)}" for index, ranges in named.items()]
        more = [f"... and {len(lines) - 10} more"] if len(lines) > 10 else []
        raise CheckpointError(
            f"{why}\n  " + "\n  ".join([*lines[:10], *more]),
            where=where,
            expected="every image of every class",
            remedy="run the same command, or the shards that are left, until they are finished",
        )


def _listed(ranges: list[list[int]]) -> str:
    return ", ".join(f"{first} to {stop - 1}" if stop - first > 1 else str(first) for first, stop in ranges)


def of_entry(entry: Mapping[str, Any]) -> Chunk:
    """Returns the chunk that an entry of a manifest is about."""
    return Chunk(int(entry["ipc_index"]), int(entry["first"]), int(entry["stop"]))
