"""Steps in parts, and events that happen several times in a row: dispatched one by one, or as one program."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd.core import backend
from jaxdd.core.procedure import BatchRule, Event, Part, Procedure, in_parts
from jaxdd.core.random import key_for, purpose_key
from jaxdd.core.types import Array, Examples
from jaxdd.run import loop
from jaxdd.run.control import Reporter
from jaxdd.run.devices import Layout, choose
from jaxdd.run.programs import Programs, Turns, programs_for, template

SEED = 4


class Diary(NamedTuple):
    """What happened: `[n]` numbers, one for each happening, of which `count` are written."""

    pages: Array
    count: Array
    noise: Array


@dataclasses.dataclass(frozen=True)
class Writer(Procedure[Diary]):
    """Writes down which part runs, at which index, and a random number.

    Arguments:
        grows: whether its second part changes the state's type.
        owner: one that no other test has has programs of its own, which are compiled.
    """

    grows: bool = False
    owner: str = ""

    @property
    def batch_rule(self) -> BatchRule:
        return BatchRule("all")

    def init(self, key, data) -> Diary:
        return Diary(jnp.zeros(64), jnp.zeros((), jnp.int32), jnp.zeros(64))

    def events(self, data) -> tuple[Event, ...]:
        once = lambda state, data, key: write(state, 100, key)  # noqa: E731
        often = lambda state, data, key: write(state, 200, key)  # noqa: E731
        return Event("rare", 2, once), Event("often", 2, often, 3)

    def parts(self, data) -> tuple[Part, ...]:
        first = lambda state, data, key, index: write(state, 1 + index, key)  # noqa: E731
        second = lambda state, data, key, index: write(state, 10 + index, jax.random.fold_in(key, index))  # noqa: E731
        spoil = lambda state, data, key, index: state._replace(pages=state.pages.astype(jnp.float16))  # noqa: E731
        return Part("first", 2, first), Part("second", 30, spoil if self.grows else second)

    def step(self, state, batch, key):
        return in_parts(self, state, batch, key)

    def metrics(self, state):
        return {"count": state.count}

    def result(self, state):
        return np.asarray(state.pages)


def write(state: Diary, what: Array | int, key: Array) -> Diary:
    at = state.count % 64
    noise = jax.random.uniform(key, (), jnp.float32)
    return Diary(state.pages.at[at].set(what), state.count + 1, state.noise.at[at].set(noise))


def data() -> Examples:
    return Examples(jnp.zeros((3, 1, 1, 1)), jnp.arange(3, dtype=jnp.int32), 3)


def run(steps: int, **options) -> Diary:
    state, _ = loop.final_state(Writer(), data(), steps=steps, seed=SEED, **options)
    return jax.tree.map(np.asarray, state)


@pytest.mark.quick
def test_parts_and_events_happen_in_order_each_with_its_key():
    found = run(1)
    assert found.pages[:36].tolist() == [100, 200, 200, 200, 1, 2, *range(10, 40)] and found.count == 36
    often, step = key_for(SEED, "event/often"), key_for(SEED, "step")
    keys = [key_for(SEED, "event/rare"), *(jax.random.fold_in(often, i) for i in range(3))]
    keys += [purpose_key(step, "first")] * 2  # a part that wants others folds its index in
    keys += [jax.random.fold_in(purpose_key(step, "second"), i) for i in range(30)]
    np.testing.assert_array_equal(found.noise[:36], [jax.random.uniform(key, (), jnp.float32) for key in keys])


@pytest.mark.quick
def test_one_program_writes_the_same(monkeypatch):
    """As on accelerators: several steps in one dispatch, cut short by events."""
    wanted = run(5)
    monkeypatch.setattr(backend, "dispatches_parts", lambda: False)
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), data())
    monkeypatch.setattr(loop, "programs_for", lambda *arguments: Programs(Writer(), shapes, 3))
    found = run(5, steps_per_dispatch=3)
    jax.tree.map(np.testing.assert_array_equal, found, wanted)
    assert wanted.count == 5 * 32 + 3 * 4


@pytest.mark.quick
def test_what_a_step_in_parts_tells():
    heard: list[str] = []

    class Listener(Reporter):
        def compiling(self, name):
            heard.append(name)

    reported: list[dict[str, float]] = []
    observe = lambda step, result, metrics: reported.append(dict(metrics))  # noqa: E731
    procedure = Writer(owner="what a step in parts tells")
    loop.final_state(
        procedure, data(), steps=2, seed=SEED, reporter=Listener(), observers=(observe,), observe_at=(1,), log_every=7
    )
    assert reported == [{"count": 36}, {"count": 68}]
    programs = programs_for(procedure, Layout(tuple(choose())).put(data()), 1)  # those of the run
    assert isinstance(programs.advance, Turns) and programs.steps_per_dispatch == 1
    zeros = (np.uint32(0), np.int32(0))
    state = template(procedure, data())
    turns = programs.advance
    costs = [part.program.cost(state, data(), *zeros, np.int32(0)) for part in turns.parts]
    assert turns.cost(state, data(), *zeros) == pytest.approx(2 * costs[0] + 30 * costs[1]) and min(costs) > 0
    taken = turns.memory()
    assert taken is None or taken.peak >= 2 * 64 * 4
    assert heard == ["init", "rare", "often", "first", "second", "end of a step"]


@pytest.mark.quick
def test_a_part_that_changes_the_state_is_named():
    with pytest.raises(TypeError, match=r"part 'second' of a step.*pages.*float32.*float16"):
        loop.final_state(Writer(grows=True), data(), steps=1, seed=SEED)
