"""When what happens while images are recovered: learning rate, curriculum of crops, stages (SRe2L, CDA, FADRM).

With iteration i = 0 .. T-1 of all stages together and p = i / (milestone T):

    lr(i)    = lr (1 + cos(pi i / T)) / 2  =  lr sin^2(pi (T - i) / 2T)       the latter loses no digits as i nears T

| `easy2hard_mode` | s_min(i), least share of the image that a crop shows, while i < milestone T | afterwards |
|------------------|-----------------------------------------------------------------------------|------------|
| none             | s                                                                           | s          |
| step             | 1                                                                           | s          |
| linear           | s + (1 - s) (1 - p)                                                         | s          |
| cosine           | s + (1 - s) (1 + cos(pi p)) / 2                                             | s          |

s is `min_scale`, published 0.08. Milestone 0 means no curriculum (CDA, arXiv 2311.18838). Between stages FADRM
(arXiv 2506.24125) mixes the images with the patches P that they started from, which keeps them near real ones:

    x <- alpha resize(x) + (1 - alpha) resize(P)                              bilinear, pixels' middles aligned

Chunks of a set: consecutive classes of which one image each is recovered together.

The published order: index within the class outside, classes inside. A chunk is a function of (seed, index, first class)
alone, whichever process makes it: its seed is that of the index, and its groups, which draw by their own numbers, are
counted from class 0 on.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd.augment import shared
from jaxdd.core.errors import CheckpointError, ConfigError, UsageError
from jaxdd.core.random import key_for
from jaxdd.core.types import Array
from jaxdd.methods.recovery.settings import Recovery

Curriculum = Literal["none", "step", "linear", "cosine"]


@dataclasses.dataclass(frozen=True)
class Stage:
    """A stretch of the recovery at one resolution.

    Arguments:
        size: side of the images in pixels.
        first: its first iteration, counted over all stages.
        iterations: how many it makes.
        teachers: which networks the images are recovered from, one per iteration in turn.
        merge: alpha, the share of the images when they are mixed with their patches before it begins; 1: they are not.
        reset: whether Adam begins anew.
    """

    size: int
    first: int
    iterations: int
    teachers: tuple[int, ...] = (0,)
    merge: float = 1.0
    reset: bool = True

    @property
    def steps(self) -> int:
        """Number of steps: each is one iteration with every teacher."""
        return -(-self.iterations // len(self.teachers))


def plan(settings: Recovery, resolution: int, teachers: int = 1) -> tuple[Stage, ...]:
    """Returns the stages of a recovery; none where nothing is optimised (RDED).

    Arguments:
        resolution: side in pixels of the data set's images, and of the result.
        teachers: how many networks there are.

    Raises:
        ConfigError: the last stage has another size than the data set.
    """
    if settings.iterations == 0:
        return ()
    stages = settings.stages or ((resolution, settings.iterations),)
    if stages[-1][0] != resolution:
        raise ConfigError(
            f"images would be recovered at {stages[-1][0]} pixels, but those of the data set have {resolution}",
            where="stages",
            expected=f"a last stage of {resolution} pixels",
            remedy=f"end stages with {resolution}, or read the data at `resolution={stages[-1][0]}`",
        )
    found, first = [], 0
    for number, (size, iterations) in enumerate(stages):
        alpha = settings.merge if number else 1.0
        found.append(Stage(size, first, iterations, tuple(range(teachers)), alpha, settings.reset or number == 0))
        first += iterations
    return tuple(found)


def resize(images: Array, size: int) -> Array:
    """Resizes images `[n, height, width, channels]` to `size` pixels: bilinear, not smoothed first.

    Images of that size stay as they are.
    """
    if images.shape[1:3] == (size, size):
        return images
    return shared.see(shared.whole(images.shape, size, images.dtype), images)


def merge(images: Array, patches: Array, size: int, alpha: float) -> Array:
    """Mixes images with the patches that they started from: FADRM's data residual, of the module's header.

    Arguments:
        images: `[n, height, width, channels]`, as the stage before left them.
        patches: what they started from, of any size.
        size: side in pixels of the next stage.
        alpha: share of the images, 0 to 1.
    """
    if alpha == 1:
        return resize(images, size)
    return alpha * resize(images, size) + (1 - alpha) * resize(patches, size)


def learning_rate(iteration: Array | int, total: int, peak: float, dtype: Any = jnp.float32) -> Array:
    """Returns lr(i) of the module's header."""
    return peak * _falling(total - jnp.asarray(iteration), total, dtype)


def min_scale(
    iteration: Array | int, total: int, mode: str, milestone: float, least: float, dtype: Any = jnp.float32
) -> Array:
    """Returns s_min(i) of the module's header.

    Arguments:
        iteration, total: i and T.
        mode: a `Curriculum`.
        milestone: share of the iterations that it takes, 0 to 1.
        least: s.
    """
    span = milestone * total
    if mode == "none" or span == 0:
        return jnp.asarray(least, dtype)
    left = span - jnp.asarray(iteration, dtype)
    if mode == "step":
        share = jnp.ones((), dtype)
    else:
        share = left / span if mode == "linear" else _falling(left, span, dtype)
    return jnp.where(jnp.asarray(iteration) < math.ceil(span), least + (1 - least) * share, least).astype(dtype)


def _falling(left: Array, span: float, dtype: Any) -> Array:
    """Returns (1 + cos(pi i / span)) / 2 for `left = span - i`."""
    return jnp.square(jnp.sin(jnp.asarray(left, dtype) * (math.pi / (2 * span))))


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
