"""The compiled programs of a run. Each is compiled once per process, ahead of its first call, and says so."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxdd.core import backend
from jaxdd.core.procedure import Procedure
from jaxdd.core.random import key_for
from jaxdd.core.types import Examples, PyTree
from jaxdd.data.sampling import sample
from jaxdd.run.leaves import describe, differences
from jaxdd.run.progress import Reporter


class Program:
    """A function compiled ahead of its first call, so that compile time is never taken for step time."""

    def __init__(self, name: str, fn: Callable, donate: tuple[int, ...] = ()):
        self.name = name
        self._fn = jax.jit(fn, donate_argnums=donate)
        self._compiled: Any = None

    def ready(self, reporter: Reporter, *args: Any) -> None:
        """Compiles for arguments like these unless that was done."""
        if self._compiled is not None:
            return
        reporter.compiling(self.name)
        start = time.perf_counter()
        self._compiled = self._fn.lower(*args).compile()
        reporter.compiled(self.name, time.perf_counter() - start)

    def cost(self, *args: Any) -> float:
        """Floating-point operations of one call as XLA counts them (nan if it does not); compiles nothing."""
        analysis = self._fn.lower(*args).cost_analysis()
        return float((analysis or {}).get("flops", float("nan")))

    def __call__(self, *args: Any) -> Any:
        return self._compiled(*args)


class Programs:
    """What a procedure becomes on the device: `init`, `advance` and one program per event.

    init(data, seed) -> state
    advance(state, data, seed, start, stop) -> state, metrics, stop     steps start..stop-1; metrics of the last one
    events[i](state, data, seed, step) -> state

    `state` is donated. `seed`, `start`, `stop` and `step` are scalars, so their values never cause a compilation.
    """

    def __init__(self, procedure: Procedure, steps_per_dispatch: int):
        self.steps_per_dispatch = steps_per_dispatch
        self.periods = tuple(event.period for event in procedure.events())
        self.init = Program("init", functools.partial(initial, procedure))
        body = functools.partial(_advance_one if steps_per_dispatch == 1 else _advance_many, procedure)
        self.advance = Program("step", body, donate=(0,))
        self.events = tuple(
            Program(event.name, functools.partial(_apply, event), donate=(0,)) for event in procedure.events()
        )


def programs_for(procedure: Procedure, data: Examples, steps_per_dispatch: int) -> Programs:
    """The programs for this procedure on data of this shape; shared between runs, so five seeds compile once."""
    shapes = tuple((leaf.shape, str(leaf.dtype), leaf.sharding) for leaf in jax.tree.leaves(data))
    precision = (jax.config.jax_enable_x64, jax.config.jax_default_matmul_precision)
    context = (jax.tree.structure(data), precision, jax.default_backend())
    try:
        return _cached(procedure, steps_per_dispatch, shapes, context)
    except TypeError:  # a setting that cannot be hashed, such as an array
        return Programs(procedure, steps_per_dispatch)


@functools.lru_cache(maxsize=16)
def _cached(procedure: Procedure, steps_per_dispatch: int, shapes: Any, context: Any) -> Programs:
    return Programs(procedure, steps_per_dispatch)


def initial(procedure: Procedure, data: Examples, seed: Any) -> PyTree:
    """The state before step 0, with the strong types that every later state has.

    Arguments:
        procedure: what will run.
        data: the resident examples.
        seed: the run's seed: an integer of any kind, traced or not.
    """
    state = procedure.init(key_for(seed, "init"), data)
    return jax.tree.map(lambda leaf: jax.lax.convert_element_type(leaf, jnp.result_type(leaf)), state)


def _step(procedure, state, data, seed, step):
    batch = sample(data, procedure.batch_rule, key_for(seed, "batch", step))
    new, metrics = procedure.step(state, batch, key_for(seed, "step", step))
    _require_same(f"{type(procedure).__name__}.step", state, new)
    return new, metrics


def _advance_one(procedure, state, data, seed, start, stop):
    state, metrics = _step(procedure, state, data, seed, start)
    return state, metrics, stop


def _advance_many(procedure, state, data, seed, start, stop):
    # The bound is traced: a dispatch cut short by an event or by the end runs the same program.
    def body(step, carry):
        with backend.looping():
            return _step(procedure, carry[0], data, seed, step)

    shapes = jax.eval_shape(functools.partial(body, start), (state, None))[1]
    metrics = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    state, metrics = jax.lax.fori_loop(start, stop, body, (state, metrics))
    return state, metrics, stop


def _apply(event, state, data, seed, step):
    new = event.apply(state, data, key_for(seed, f"event/{event.name}", step))
    _require_same(f"event '{event.name}'", state, new)
    return new


def _require_same(who: str, state: PyTree, new: PyTree) -> None:
    changed = differences(describe(state), describe(new))
    if changed or jax.tree.structure(state) != jax.tree.structure(new):
        raise TypeError(f"{who} changes the shape of the state: {'; '.join(changed) or 'another tree'}")
