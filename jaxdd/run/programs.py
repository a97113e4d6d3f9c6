"""The compiled programs of a run. Each is compiled once per process, ahead of its first call, and says so."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd.core import backend, sharding
from jaxdd.core.procedure import Event, Part, Procedure
from jaxdd.core.random import key_for
from jaxdd.core.trees import describe, differences
from jaxdd.core.types import Examples, PyTree
from jaxdd.data.device.sampling import sample
from jaxdd.run.control import Reporter
from jaxdd.run.devices import Layout


class Memory(NamedTuple):
    """Bytes on one device while a compiled program runs.

    Arguments:
        peak: all that is held, arguments and results included.
        temporary: of these, what lives only within one call.
    """

    peak: int
    temporary: int


class Program:
    """A function compiled ahead of its first call, so that compile time is never taken for step time."""

    def __init__(self, name: str, fn: Callable, donate: tuple[int, ...] = (), lies: Any = None):
        self.name = name
        self._fn = jax.jit(fn, donate_argnums=donate, out_shardings=lies)
        self._compiled: Any = None

    def ready(self, reporter: Reporter, *args: Any) -> None:
        """Compiles for arguments like these unless that was done."""
        if self._compiled is not None:
            return
        reporter.compiling(self.name)
        start = time.perf_counter()
        self._compiled = self.lower(*args).compile()
        reporter.compiled(self.name, time.perf_counter() - start)

    def cost(self, *args: Any) -> float:
        """Returns the floating-point operations of one call as XLA counts them (nan if it does not); compiles
        nothing."""
        analysis = self.lower(*args).cost_analysis()
        return float((analysis or {}).get("flops", float("nan")))

    def memory(self) -> Memory | None:
        """Returns the bytes of one call by XLA's buffer assignment (None if it does not tell); only once it is
        compiled."""
        told = self._compiled.memory_analysis()
        if told is None:
            return None
        results = told.output_size_in_bytes - told.alias_size_in_bytes
        return Memory(told.argument_size_in_bytes + told.temp_size_in_bytes + results, told.temp_size_in_bytes)

    def lower(self, *args: Any) -> jax.stages.Lowered:
        """Lowers the program for arguments like these; it is not compiled yet."""
        return self._fn.lower(*args)

    def __call__(self, *args: Any) -> Any:
        return self._compiled(*args)


class Repeated:
    """A program that is dispatched several times in a row, each time with the next index; it gives back the state."""

    def __init__(self, program: Program, times: int):
        self.program = program
        self._indices: list[Any] = [np.int32(i) for i in range(times)]

    def ready(self, reporter: Reporter, state: PyTree, data: Examples, seed: Any, step: Any) -> None:
        """Compiles the program and lays the indices where the step number lies."""
        self._indices = jax.device_put(self._indices, step.sharding)
        self.program.ready(reporter, state, data, seed, step, self._indices[0])

    def __call__(self, state: PyTree, data: Examples, seed: Any, step: Any) -> PyTree:
        for index in self._indices:
            state = self.program(state, data, seed, step, index)
        return state


class Turns:
    """`advance` of a procedure whose parts are programs of their own: all of one step, then its metrics."""

    def __init__(self, parts: list[Repeated], end: Program):
        self.parts, self.end = parts, end

    def ready(self, reporter: Reporter, state: PyTree, data: Examples, seed: Any, start: Any, *others: Any) -> None:
        """Compiles all of them."""
        for part in self.parts:
            part.ready(reporter, state, data, seed, start)
        self.end.ready(reporter, state, data, seed, start, *others)

    def cost(self, state: PyTree, data: Examples, seed: Any, start: Any, *others: Any) -> float:
        """Returns the operations of the whole step, as `Program.cost`."""
        index = np.int32(0)
        return sum(len(p._indices) * p.program.cost(state, data, seed, start, index) for p in self.parts)

    def memory(self) -> Memory | None:
        """Returns the most that one of the programs takes, as `Program.memory`."""
        told = [program.memory() for program in (*(part.program for part in self.parts), self.end)]
        return max((memory for memory in told if memory is not None), default=None)

    def __call__(self, state: PyTree, data: Examples, seed: Any, start: Any, *others: Any) -> Any:
        for part in self.parts:
            state = part(state, data, seed, start)
        return self.end(state, data, seed, start, *others)


class Programs:
    """The programs of a procedure on the devices: `init`, `advance` and one per event.

    init(data, seed) -> state
    advance(state, data, seed, start, stop, streamed, votes) -> state, metrics, end
                                          steps start..stop-1; metrics of the last
    events[i](state, data, seed, step) -> state
    finite(state) -> [leaves] bool: whether every number of each array is finite

    On CPU, `advance` of a step that has parts is several programs, dispatched in turn, and so is an event that happens
    several times in a row.

    `streamed` is what a stream has for these steps (`data.streaming.Feed`): fields of `Examples`, each leaf with a
    leading axis of `steps_per_dispatch`; nothing without a stream. `state` is donated. `seed`, `start`, `stop` and
    `step` are scalars, so their values never cause a compilation. `end` is `stop`, or the maximum over the devices
    where they vote
    (`devices.voted`).

    Arguments:
        procedure: what is run.
        data: what it reads, or its shapes.
        steps_per_dispatch: steps of one call of `advance`.
        layout: how it lies on the devices; None for one device.
        template: the state's shapes, which a layout over several devices needs.
    """

    def __init__(
        self,
        procedure: Procedure,
        data: Examples,
        steps_per_dispatch: int,
        layout: Layout | None = None,
        template: PyTree = None,
    ):
        events = procedure.events(data)
        parts: tuple[Part, ...] = ()
        if backend.dispatches_parts():
            parts = procedure.parts(data) if layout is None else layout.within(procedure.parts, data)
        if parts and procedure.batch_rule.kind == "stream":
            raise TypeError(f"the parts of {type(procedure).__name__} read resident data: they cannot have a stream")
        self.steps_per_dispatch = 1 if parts else steps_per_dispatch
        self.periods = tuple(event.period for event in events)
        spread, state, whole = lambda fn: fn, None, None
        if layout is not None and layout.several:
            spread = functools.partial(layout.spread, procedure=procedure, template=template)
            state, whole = layout.of_state(procedure, template), layout.everywhere
        lies = None if whole is None else (state, whole, whole)

        def repeated(name: str, apply: Callable, times: int) -> Repeated:
            return Repeated(Program(name, functools.partial(_first, spread(apply)), (0,), lies=state), times)

        def event_program(event: Event) -> Repeated:
            if backend.dispatches_parts():
                return repeated(event.name, functools.partial(_apply, event), event.times)
            return repeated(event.name, functools.partial(_apply_all, event), 1)

        self.init = Program("init", functools.partial(initial, procedure), lies=state)
        self.events = tuple(map(event_program, events))
        made = [repeated(part.name, functools.partial(_part, part), part.times) for part in parts]
        one = _end if parts else _advance_one if steps_per_dispatch == 1 else _advance_many
        body = spread(functools.partial(one, procedure))
        last = Program("end of a step" if parts else "step", functools.partial(_advance, body), (0,), lies=lies)
        self.advance = Turns(made, last) if parts else last
        self.finite = jax.jit(_finite, out_shardings=whole)


def programs_for(
    procedure: Procedure,
    data: Examples,
    steps_per_dispatch: int,
    layout: Layout | None = None,
    streamed: Hashable = None,
) -> Programs:
    """Returns the programs for this procedure on data of this shape; shared between runs, so five seeds compile once.

    Arguments:
        procedure, data, steps_per_dispatch, layout: as in `Programs`.
        streamed: the kind of what a stream adds to the data (`Feed.kind`).

    Raises:
        UsageError, ConfigError: the procedure cannot lie on the devices as the layout says.
    """
    layout = layout if layout is not None and layout.several else None  # one device runs one program in every mode
    leaves, tree = jax.tree.flatten(data)
    shapes = tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding) for leaf in leaves)
    precision = (jax.config.jax_enable_x64, jax.config.jax_default_matmul_precision)
    arguments = (procedure, steps_per_dispatch, layout, tree, shapes, (precision, jax.default_backend(), streamed))
    try:
        return _cached(*arguments)
    except TypeError:  # a setting that cannot be hashed, such as an array
        return _programs(*arguments)


def _programs(procedure, steps_per_dispatch, layout, tree, shapes, _):
    data = tree.unflatten(shapes)
    return Programs(procedure, data, steps_per_dispatch, layout, None if layout is None else template(procedure, data))


_cached = functools.lru_cache(maxsize=16)(_programs)


def template(procedure: Procedure, data: Examples) -> PyTree:
    """Returns the shapes and types of the state that `procedure` has for these data, or data of these shapes."""
    return jax.eval_shape(lambda examples: initial(procedure, examples, np.uint32(0)), data)


def initial(procedure: Procedure, data: Examples, seed: Any) -> PyTree:
    """Returns the state before step 0, with the strong types that every later state has.

    Arguments:
        procedure: what will run.
        data: the resident examples.
        seed: the run's seed: an integer of any kind, traced or not.
    """
    state = procedure.init(key_for(seed, "init"), data)
    return jax.tree.map(lambda leaf: jax.lax.convert_element_type(leaf, jnp.result_type(leaf)), state)


def _step(procedure, state, data, seed, step, streamed, place):
    batch = sample(data, procedure.batch_rule, sharding.own(key_for(seed, "batch", step)))
    of_step = jax.tree.map(lambda leaf: jax.lax.dynamic_index_in_dim(leaf, place, keepdims=False), streamed)
    batch = dataclasses.replace(batch, **of_step)
    new, metrics = procedure.step(state, batch, sharding.own(key_for(seed, "step", step)))
    _require_same(f"{type(procedure).__name__}.step", state, new)
    return new, sharding.mean(metrics)


def _advance(body, state, data, seed, start, stop, streamed=None, votes=None):
    state, metrics = body(state, data, seed, start, stop, streamed or {})
    return state, metrics, stop if votes is None else votes.max(0)


def _advance_one(procedure, state, data, seed, start, stop, streamed):
    return _step(procedure, state, data, seed, start, streamed, 0)


def _advance_many(procedure, state, data, seed, start, stop, streamed):
    # The bound is traced: a dispatch cut short by an event or by the end runs the same program.
    def body(step, carry):
        with backend.looping():
            return _step(procedure, carry[0], data, seed, step, streamed, step - start)

    shapes = jax.eval_shape(functools.partial(body, start), (state, None))[1]
    metrics = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    return jax.lax.fori_loop(start, stop, body, (state, metrics))


def _end(procedure, state, data, seed, start, stop, streamed):
    return state, sharding.mean(procedure.metrics(state))


def _first(body, state, data, seed, step, index):
    return body(state, data, seed, step, index)[0]


def _part(part, state, data, seed, step, index):
    new = part.apply(state, data, part.key(sharding.own(key_for(seed, "step", step))), index)
    _require_same(f"part '{part.name}' of a step", state, new)
    return new, ()


def _apply(event, state, data, seed, step, index):
    key = key_for(seed, f"event/{event.name}", step)
    new = event.apply(state, data, key if event.times == 1 else jax.random.fold_in(key, index))
    _require_same(f"event '{event.name}'", state, new)
    return new, ()


def _apply_all(event, state, data, seed, step, index):
    return backend.loop(event.times, lambda i, state: _apply(event, state, data, seed, step, i)[0], state), ()


def _finite(state):
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(state)])


def _require_same(who: str, state: PyTree, new: PyTree) -> None:
    changed = differences(describe(state), describe(new))
    if changed or jax.tree.structure(state) != jax.tree.structure(new):
        raise TypeError(f"{who} changes the shape of the state: {'; '.join(changed) or 'another tree'}")
