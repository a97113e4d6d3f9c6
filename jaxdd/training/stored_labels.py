"""Labels on disk as a stream: while a student trains for one step, the labels of the next are read.

The labels of all epochs are never in memory together: those of ImageNet-1K at 50 images per class and 300 epochs are
28 GiB. A file is mapped, and only the rows that a step needs are read.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxdd.core import shards
from jaxdd.core.types import Answers
from jaxdd.data.streaming import Batch, Stream
from jaxdd.training.soft_views import Views

Labels = dict[str, np.ndarray]  # "logits", and "classes" where only some were kept


@dataclasses.dataclass(frozen=True, eq=False)
class StoredLabels(Stream):
    """Labels for a student with `SoftLabelTraining.streamed`, batch by batch; `run.chain.relabel` makes it.

    Its batches are `answers`: logits `[B, C]` float16, or of pruned labels `[B, k]` with `classes` int16.

    Arguments:
        files: of every epoch, in order; verified.
        images: N, labels of an epoch.
        views: the student's; with a seed.
        digest: one word for all labels.
    """

    files: tuple[pathlib.Path, ...]
    images: int
    views: Views
    digest: str = ""

    @property
    def folder(self) -> pathlib.Path:
        """The folder of the files and their manifest."""
        return self.files[0].parent

    @property
    def nbytes(self) -> int:
        """Number of bytes of the files."""
        return sum(path.stat().st_size for path in self.files)

    def batch(self, step: int) -> Batch:
        """Reads the labels of what the student sees at a step.

        Raises:
            CheckpointError: a file cannot be read any more.
        """
        per_epoch = self.views.steps_per_epoch(self.images)
        if self.views.pool:
            epoch, place = divmod(step, per_epoch)
            step = int(self._numbers(epoch)[place])
        epoch, place = divmod(step, per_epoch)
        size = self.views.batch_size
        part = self._read(epoch, slice(place * size, min((place + 1) * size, self.images)))
        full: dict[str, Any] = {name: array[np.arange(size) % len(array)] for name, array in part.items()}
        return {"answers": Answers(**full)}

    def _read(self, epoch: int, rows: slice) -> Labels:
        remedy = "run relabel again, which makes what is missing anew; the students then continue"
        return shards.rows(self.files[epoch], rows, "a file of labels that was there a while ago", remedy)

    @functools.cached_property
    def _numbers(self) -> Callable[[int], np.ndarray]:
        """A function from a student's epoch to the numbers of the pool's batches in it; it keeps the newest answer."""

        def of(epoch: int) -> np.ndarray:
            assert self.views.label_seed is not None  # without one there are no labels
            return jax.device_get(self.views.numbers(self.views.label_seed, epoch, self.images))

        return functools.lru_cache(maxsize=1)(of)
