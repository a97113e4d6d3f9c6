"""Batches of a stream for each dispatch of a run, put on the devices while the dispatch before is under way."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any

import jax
import numpy as np

from jaxdd.core.errors import UsageError
from jaxdd.core.procedure import Procedure
from jaxdd.core.types import PyTree
from jaxdd.data.streaming import Batch, Stream
from jaxdd.run.devices import Layout


class Feed:
    """The batches of a run's steps, stacked by dispatch; nothing at all for a run without a stream.

    Arguments:
        stream: where they come from, or None.
        procedure: which asks for a stream, or for none.
        steps_per_dispatch: batches of a full dispatch.
        layout: how the run lies on its devices; each of them gets whole batches.

    Raises:
        UsageError: a stream is missing or not asked for, its batches are of another size, or the devices were each to
            read batches of their own.
    """

    def __init__(self, stream: Stream | None, procedure: Procedure, steps_per_dispatch: int, layout: Layout):
        self._stream, self._room, self._layout = stream, steps_per_dispatch, layout
        self._batches: Iterator[Batch] = iter(())
        self._next = -1  # the step whose batch comes next
        _check(stream, procedure, layout)
        self._shapes = {} if stream is None else stream.shapes
        for leaf in jax.tree.leaves(self._shapes):
            if leaf.shape[:1] != (procedure.batch_rule.size,):
                raise UsageError(
                    f"a stream whose batches hold arrays of shape {leaf.shape}",
                    where="stream",
                    expected=f"{procedure.batch_rule.size} rows, as the procedure's batch rule says",
                    remedy="let every array of a batch have that many rows",
                )

    @property
    def kind(self) -> Hashable:
        """Names, shapes and types of what comes: runs that differ in them need programs of their own. None: nothing."""
        if self._stream is None:
            return None
        leaves, tree = jax.tree.flatten(self._shapes)
        return tree, tuple((leaf.shape, str(leaf.dtype)) for leaf in leaves)

    def __call__(self, start: int, stop: int) -> dict[str, PyTree]:
        """Returns the batches of the steps `start` to `stop - 1` on the devices, each leaf `[steps_per_dispatch, ...]`.

        The rest of a dispatch that is cut short is zeros, which no step reads.

        Raises:
            TypeError: a batch is not of the shapes that the stream told.
        """
        if self._stream is None:
            return {}
        if start != self._next:
            self.close()
            self._batches = self._stream.batches(start)
        held = jax.tree.map(lambda leaf: np.zeros((self._room, *leaf.shape), leaf.dtype), self._shapes)
        for place in range(stop - start):
            batch = dict(next(self._batches))
            if jax.tree.map(_shape, batch) != jax.tree.map(_shape, self._shapes):
                raise TypeError(f"the stream's batch of step {start + place} has other shapes than it told")
            jax.tree.map(lambda room, leaf, place=place: room.__setitem__(place, leaf), held, batch)
        self._next = stop
        return self._layout.put(held)

    def close(self) -> None:
        """Ends what reads ahead."""
        close = getattr(self._batches, "close", None)  # any iterator will do; only some have threads to end
        if close is not None:
            close()
        self._batches, self._next = iter(()), -1


def _check(stream: Stream | None, procedure: Procedure, layout: Layout) -> None:
    name, kind = type(procedure).__name__, procedure.batch_rule.kind
    if (kind == "stream") != (stream is not None):
        raise UsageError(
            f"{name} reads {'a stream and was given none' if stream is None else 'resident data, but has a stream'}",
            where=f"batch rule '{kind}'",
            remedy="pass stream=..." if stream is None else "leave out stream=...",
        )
    if stream is not None and layout.several and layout.mode == "pool":
        raise UsageError(
            "devices that each step on a network of their own cannot share a stream",
            where="`devices_mode=pool`",
            remedy="use `devices_mode=shard`",
        )


def _shape(leaf: Any) -> tuple:
    return tuple(leaf.shape), np.dtype(leaf.dtype)
