"""A dry run: what a procedure will need. `plan` tells from shapes alone; `trial` compiles the step and makes a few.

    peak = arguments (state and data) + temporaries + results - results that take the place of arguments

as XLA's buffer assignment for the compiled step tells; an estimate of it from shapes refuses early what cannot fit.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time

import jax
import numpy as np

from jaxdd.core import backend, sharding, trees
from jaxdd.core.errors import ConfigError
from jaxdd.core.io import gigabytes
from jaxdd.core.procedure import Demand, Method, Procedure
from jaxdd.core.types import Examples
from jaxdd.run.control import Reporter
from jaxdd.run.devices import Layout, choose
from jaxdd.run.programs import Programs, programs_for, template
from jaxdd.run.storage.checkpoint import KEPT

TRIED = 3  # steps of a trial: the first pays for warming up
PATIENCE = 60.0  # seconds after which a trial begins no further step


@dataclasses.dataclass(frozen=True)
class Part:
    """One top-level part of the state: how many numbers it holds, and bytes."""

    name: str
    numbers: int
    bytes: int


@dataclasses.dataclass(frozen=True)
class Plan:
    """The needs of a run.

    Arguments:
        parts: the state's parts, in order.
        network_parameters: numbers in leaves below a key `params`, optimisers left out; all networks of a pool count.
        networks: in the pool; 1 where the procedure has none.
        data_bytes: the resident examples.
        operations_per_step: floating-point operations of one step; loops of unknown length count once; nan if XLA
            does not tell.
        demand: of one step on each device beside state and data, estimated.
    """

    parts: tuple[Part, ...]
    network_parameters: int
    networks: int
    data_bytes: int
    operations_per_step: float
    demand: Demand

    @property
    def state_bytes(self) -> int:
        """Bytes of the state on the device."""
        return sum(part.bytes for part in self.parts)

    @property
    def disk_bytes(self) -> int:
        """Room that the checkpoints need at most: those that are kept, and the one being written."""
        return (KEPT + 1) * self.state_bytes

    @property
    def peak_bytes(self) -> int:
        """Bytes of one device's memory while a step runs: an estimate from shapes."""
        return self.state_bytes + self.data_bytes + self.demand.bytes


@dataclasses.dataclass(frozen=True)
class Trial:
    """Measurements of the first steps of a run.

    Arguments:
        compile_seconds: of the step; little where the compilation cache held it.
        peak_bytes: on one device while a step runs, state and data included; None if XLA does not tell.
        temporary_bytes: of these, what only lives within a step.
        steps: how many were made.
        seconds_per_step: their mean without the first; the first if there is no other.
    """

    compile_seconds: float
    peak_bytes: int | None
    temporary_bytes: int | None
    steps: int
    seconds_per_step: float


def plan(procedure: Procedure, data: Examples, *, layout: Layout | None = None, count_operations: bool = True) -> Plan:
    """Plans a run; nothing is computed and nothing is compiled.

    Arguments:
        procedure: what would run.
        data: the resident examples, or `jax.ShapeDtypeStruct`s in their place.
        layout: how it would lie on the devices; None for one.
        count_operations: trace one step to count its operations; seconds for a large procedure.
    """
    data = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), data)
    seed, step = np.uint32(0), np.int32(0)
    state = template(procedure, data)
    parts: dict[str, list] = {}
    parameters, networks = 0, 1
    for path, leaf in trees.paths(state):
        keys = path.split("/")
        parts.setdefault(keys[0], []).append(leaf)
        networks = leaf.shape[0] if keys[0] in procedure.per_device else networks
        if "params" in keys and not any("opt" in key for key in keys):
            parameters += int(np.prod(leaf.shape))
    operations = float("nan")
    if count_operations:
        operations = Programs(procedure, data, 1).advance.cost(state, data, seed, step, step)
    return Plan(
        tuple(Part(name, _numbers(leaves), trees.byte_size(leaves)) for name, leaves in parts.items()),
        parameters,
        networks,
        trees.byte_size(data),
        operations,
        _demand(procedure, data, layout),
    )


def trial(
    procedure: Procedure,
    data: Examples,
    *,
    seed: int = 0,
    layout: Layout | None = None,
    limit: int | None = None,
    remedy: str = "",
) -> Trial:
    """Compiles a step and makes three, or fewer where they take minutes; keeps nothing.

    Arguments:
        procedure: what would run.
        data: the resident examples.
        seed: of the run.
        layout: how it lies on the devices; None for one.
        limit, remedy: as in `require_memory`, asked before the first step.

    Raises:
        ConfigError: the compiled step needs more memory than there is.
    """
    layout = layout or Layout(tuple(choose()))
    data, number = layout.put(data), layout.put(np.uint32(seed))
    programs = programs_for(procedure, data, backend.steps_per_dispatch(), layout)
    held = template(procedure, data)
    state = jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
        held,
        layout.of_state(procedure, held),
    )
    quiet, began = Reporter(), time.perf_counter()
    programs.advance.ready(quiet, state, data, number, *layout.put((np.int32(0), np.int32(1))))
    compiling = time.perf_counter() - began
    memory = programs.advance.memory()
    if memory is not None:
        require_memory(memory.peak, limit, remedy)
    programs.init.ready(quiet, data, number)
    state = programs.init(data, number)
    seconds: list[float] = []
    while len(seconds) < TRIED and sum(seconds) < PATIENCE:
        start, stop = layout.put((np.int32(len(seconds)), np.int32(len(seconds) + 1)))
        for period, program in zip(programs.periods, programs.events, strict=True):
            if len(seconds) % period == 0:
                program.ready(quiet, state, data, number, start)
                state = program(state, data, number, start)
        jax.block_until_ready(state)
        began = time.perf_counter()
        state, *_ = jax.block_until_ready(programs.advance(state, data, number, start, stop))
        seconds.append(time.perf_counter() - began)
    peak, temporary = (None, None) if memory is None else (memory.peak, memory.temporary)
    return Trial(compiling, peak, temporary, len(seconds), float(np.mean(seconds[1:] or seconds)))


def require_memory(needed: int, limit: int | None = None, remedy: str = "") -> None:
    """Refuses what cannot fit into a device's memory.

    Arguments:
        needed: bytes while a step runs.
        limit: bytes that may be used; None for the device's.
        remedy: which settings would lower the need.

    Raises:
        ConfigError: it does not fit.
    """
    available = backend.memory_bytes() if limit is None else limit
    if needed > available:
        raise ConfigError(
            f"a step needs about {gigabytes(needed)} of each device's memory",
            where=f"the device: {gigabytes(available)}" if limit is None else f"memory_limit: {limit / 1e9:.3g} GB",
            expected="state, data and what a step computes with fit into it",
            remedy=remedy or "use smaller settings, or a device with more memory",
        )


def _demand(procedure: Procedure, data: Examples, layout: Layout | None) -> Demand:
    if not isinstance(procedure, Method):
        return Demand()
    sharded = layout is not None and layout.several and layout.mode == "shard"
    with sharding.split_over(layout.mesh) if layout is not None and sharded else contextlib.nullcontext():
        return procedure.demand(data.image_shape, data.classes)


def _numbers(leaves: list) -> int:
    return sum(int(np.prod(leaf.shape)) for leaf in leaves)
