"""A procedure that keeps another one's results at several steps: for networks that are tested more than once."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Int32, Shaped

from jaxdd.core.procedure import BatchRule, Event, Procedure
from jaxdd.core.types import Array, Examples, Key, Metrics, PyTree


class SnapshotsState(NamedTuple):
    """All that a run holds.

    Arguments:
        step: steps done.
        inner: the procedure's own state.
        kept: its results so far, stacked; zeros where there are none yet.
    """

    step: Int32[Array, ""]
    inner: PyTree
    kept: PyTree[Shaped[Array, "count ..."]]


@dataclasses.dataclass(frozen=True)
class Snapshots(Procedure[SnapshotsState]):
    """A run of `procedure` whose result is that procedure's at several steps, stacked, the last one last.

    Arguments:
        procedure: whose results are kept; one without events.
        every: steps between two of them.
        count: how many are kept beside the last: those after `every`, `2 * every`, ... `count * every` steps. The run
            must be longer than that.
    """

    procedure: Procedure
    every: int
    count: int

    @property
    def batch_rule(self) -> BatchRule:
        """The batch rule of the procedure."""
        return self.procedure.batch_rule

    def init(self, key: Key, data: Examples) -> SnapshotsState:
        """Returns the procedure's own state, and room for `count` results."""
        inner = self.procedure.init(key, data)
        room = lambda leaf: jnp.zeros((self.count, *leaf.shape), leaf.dtype)  # noqa: E731
        return SnapshotsState(jnp.zeros((), jnp.int32), inner, jax.tree.map(room, self.procedure.result(inner)))

    def step(self, state: SnapshotsState, batch: Examples, key: Key) -> tuple[SnapshotsState, Metrics]:
        """Takes one step of the procedure."""
        inner, metrics = self.procedure.step(state.inner, batch, key)
        return SnapshotsState(state.step + 1, inner, state.kept), metrics

    def events(self, data: Examples) -> tuple[Event, ...]:
        """Returns the event that keeps the result so far, but for step 0 and where `count` are kept already."""

        def keep(state: SnapshotsState, data: Examples, key: Key) -> SnapshotsState:
            place = state.step // self.every - 1
            place = jnp.where(place < 0, self.count, place)  # a negative index would count from the end
            put = lambda room, new: room.at[place].set(new, mode="drop")  # noqa: E731
            return state._replace(kept=jax.tree.map(put, state.kept, self.procedure.result(state.inner)))

        return (Event("keep", self.every, keep),)

    def result(self, state: SnapshotsState) -> PyTree:
        """Returns the kept results and the last one, stacked: each leaf `[count + 1, ...]`."""
        last = self.procedure.result(state.inner)
        return jax.tree.map(lambda kept, new: jnp.concatenate([kept, new[None]]), state.kept, last)
