"""A dry run: what a procedure will need, from shapes alone. Nothing is computed and nothing is compiled."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np

from jaxdd.core import trees
from jaxdd.core.procedure import Procedure
from jaxdd.core.types import Examples
from jaxdd.run.checkpoint import KEPT
from jaxdd.run.programs import Programs, initial


@dataclasses.dataclass(frozen=True)
class Part:
    """One top-level part of the state: how many numbers it holds, and bytes."""

    name: str
    numbers: int
    bytes: int


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a run will need.

    Arguments:
        parts: the state's parts, in order.
        network_parameters: numbers in leaves below a key `params`, optimisers left out; all networks of a pool count.
        data_bytes: the resident examples.
        operations_per_step: floating-point operations of one step; loops of unknown length count once; nan if XLA
            does not tell.
    """

    parts: tuple[Part, ...]
    network_parameters: int
    data_bytes: int
    operations_per_step: float

    @property
    def state_bytes(self) -> int:
        """Bytes of the state on the device."""
        return sum(part.bytes for part in self.parts)

    @property
    def disk_bytes(self) -> int:
        """Room that the checkpoints need at most: those that are kept, and the one being written."""
        return (KEPT + 1) * self.state_bytes


def plan(procedure: Procedure, data: Examples, *, count_operations: bool = True) -> Plan:
    """Plans a run.

    Arguments:
        procedure: what would run.
        data: the resident examples, or `jax.ShapeDtypeStruct`s in their place.
        count_operations: trace one step to count its operations; seconds for a large procedure.
    """
    data = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), data)
    seed, step = np.uint32(0), np.int32(0)
    state = jax.eval_shape(lambda examples: initial(procedure, examples, seed), data)
    parts: dict[str, list] = {}
    parameters = 0
    for path, leaf in trees.paths(state):
        keys = path.split("/")
        parts.setdefault(keys[0], []).append(leaf)
        if "params" in keys and not any("opt" in key for key in keys):
            parameters += int(np.prod(leaf.shape))
    operations = float("nan")
    if count_operations:
        operations = Programs(procedure, 1).advance.cost(state, data, seed, step, step)
    return Plan(
        tuple(Part(name, _numbers(leaves), trees.byte_size(leaves)) for name, leaves in parts.items()),
        parameters,
        trees.byte_size(data),
        operations,
    )


def _numbers(leaves: list) -> int:
    return sum(int(np.prod(leaf.shape)) for leaf in leaves)
