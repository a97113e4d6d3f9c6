"""Chunks of a set: consecutive classes of which one image each is recovered together.

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


class Chunk(NamedTuple):
    """One image of each of some classes.

    Arguments:
        ipc_index: which image of its class, from 0.
        first, stop: the classes, `first .. stop - 1`.
    """

    ipc_index: int
    first: int
    stop: int

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Chunk:
        """Returns the chunk that an entry of a manifest is about."""
        return cls(int(entry["ipc_index"]), int(entry["first"]), int(entry["stop"]))

    @property
    def name(self) -> str:
        """Its name, of index and first class: `chunk-003-00100`."""
        return f"chunk-{self.ipc_index:03d}-{self.first:05d}"

    @property
    def labels(self) -> np.ndarray:
        """The classes of its images, `[n]` int32."""
        return np.arange(self.first, self.stop, dtype=np.int32)

    def __len__(self) -> int:
        return self.stop - self.first

    def __str__(self) -> str:
        return f"image {self.ipc_index} of classes {self.first} to {self.stop - 1}"

    def seed(self, seed: int) -> int:
        """Returns the seed of this chunk, which all chunks of one index share, in a run with seed `seed`."""
        return int(jax.random.bits(key_for(seed, "recover", self.ipc_index), (), jnp.uint32))

    def groups(self, group: int) -> np.ndarray:
        """Returns the numbers of its groups of `group` images, counted from class 0: `[groups]` int32."""
        return self.first // group + np.arange(max(1, len(self) // group), dtype=np.int32)


def chunks(classes: int, ipc_indices: Iterable[int], size: int, group: int) -> tuple[Chunk, ...]:
    """Returns all chunks of a run in the published order.

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
    """Returns the chunks that one of several processes makes: of shard (i, n) the numbers i, i + n, i + 2 n, ...

    Raises:
        UsageError: no such shard.
    """
    index, count = shard
    if not 0 <= index < count:
        raise UsageError(
            f"there is no shard {index} of {count}",
            where="`shard`",
            expected=f"0/{count} .. {count - 1}/{count}",
            remedy="number the shards from 0",
        )
    return all_chunks[index::count]


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
