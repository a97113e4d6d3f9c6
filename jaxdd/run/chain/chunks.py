"""What is recovered together: chunks of consecutive classes, one image of each, and the files they become.

The published order: index within the class outside, classes inside. A chunk is a function of (seed, index, first class)
alone, whichever process makes it: its seed is that of the index, and its groups, which draw by their own numbers, are
counted from class 0 on.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd.core.errors import CheckpointError, UsageError
from jaxdd.core.random import key_for
from jaxdd.data.readers import images as decoding
from jaxdd.data.readers.encoding import encode

KEYS = ("ipc_index", "first")


class Chunk(NamedTuple):
    """One image of each of some classes.

    Arguments:
        ipc_index: which image of its class, from 0.
        first, stop: the classes, `first .. stop - 1`.
    """

    ipc_index: int
    first: int
    stop: int

    @property
    def name(self) -> str:
        """`chunk-003-00100`: index and first class."""
        return f"chunk-{self.ipc_index:03d}-{self.first:05d}"

    @property
    def labels(self) -> np.ndarray:
        """`[n]` int32."""
        return np.arange(self.first, self.stop, dtype=np.int32)

    def __len__(self) -> int:
        return self.stop - self.first

    def __str__(self) -> str:
        return f"image {self.ipc_index} of classes {self.first} to {self.stop - 1}"

    def seed(self, seed: int) -> int:
        """Of all chunks of this index in the run with seed `seed`."""
        return int(jax.random.bits(key_for(seed, "recover", self.ipc_index), (), jnp.uint32))

    def groups(self, group: int) -> np.ndarray:
        """`[groups]` int32: the numbers of its groups of `group` images, from class 0 on."""
        return self.first // group + np.arange(max(1, len(self) // group), dtype=np.int32)


def chunks(classes: int, ipc_indices: Iterable[int], size: int, group: int) -> tuple[Chunk, ...]:
    """All chunks of a run in the published order.

    Arguments:
        classes: how many there are.
        ipc_indices: of which images.
        size: classes of a chunk; the last ones may be smaller.
        group: images that belong together; a chunk holds whole groups, or is smaller than one.
    """
    size = min(size, classes)
    group = min(group, size)
    size -= size % group
    whole = classes - classes % group
    bounds = [*range(0, whole, size), *([whole] if 0 < whole < classes else []), classes]
    return tuple(Chunk(index, first, stop) for index in ipc_indices for first, stop in itertools.pairwise(bounds))


def share(all_chunks: tuple[Chunk, ...], shard: tuple[int, int]) -> tuple[Chunk, ...]:
    """Those of one of several processes: of shard (i, n), numbers i, i + n, i + 2 n, ...

    Raises:
        UsageError: no such shard.
    """
    index, count = shard
    if not 0 <= index < count:
        raise UsageError(
            f"there is no shard {index} of {count}",
            where="--shard",
            expected=f"0/{count} .. {count - 1}/{count}",
            remedy="number the shards from 0",
        )
    return all_chunks[index::count]


def published(pixels: np.ndarray, store: str, quality: int) -> tuple[np.ndarray, list[bytes]]:
    """Images as whoever reads the files will see them, and the files; none, and the images as they are, for `none`.

    Arguments:
        pixels: `[n, side, side, channels]` uint8.
        store, quality: as in `data.readers.encoding.encode`.
    """
    if store == "none":
        return pixels, []
    files = [encode(image, store, quality) for image in pixels]  # pyright: ignore[reportArgumentType]
    return np.stack([decoding.decode(file, "an image just encoded") for file in files]), files


def to_arrays(chunk: Chunk, images: np.ndarray, files: list[bytes]) -> dict[str, np.ndarray]:
    """What the file of a chunk holds: images, labels, index and, end to end, the image files."""
    return {
        "images": images,
        "labels": chunk.labels,
        "ipc_index": np.full(len(chunk), chunk.ipc_index, np.int32),
        "files": np.frombuffer(b"".join(files), np.uint8),
        "sizes": np.asarray([len(file) for file in files], np.int64),
    }


def files_of(arrays: Mapping[str, np.ndarray]) -> list[bytes]:
    """The image files in what `to_arrays` made."""
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
    """The chunk that an entry of a manifest is about."""
    return Chunk(int(entry["ipc_index"]), int(entry["first"]), int(entry["stop"]))
