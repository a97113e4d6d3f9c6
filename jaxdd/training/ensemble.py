"""Several networks trained together in one program, each by its own random choices, as a `Procedure`.

Network i sees the same batches and draws as if the loop trained it alone with `seeds[i]`: the keys are those of
`run.loop`. An accelerator is idle most of the time while it trains one small network; five at once take hardly longer.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Int32, Shaped, UInt32

from jaxdd.core.procedure import BatchRule, Procedure
from jaxdd.core.random import key_for
from jaxdd.core.types import Array, Examples, Key, Metrics, PyTree
from jaxdd.data.device.sampling import sample


class EnsembleState(NamedTuple):
    """All that a training holds.

    Arguments:
        step: steps done by every network.
        seeds: of the networks.
        networks: the states of their trainings, stacked.
    """

    step: Int32[Array, ""]
    seeds: UInt32[Array, " networks"]
    networks: PyTree[Shaped[Array, "networks ..."]]


@dataclasses.dataclass(frozen=True)
class Ensemble(Procedure[EnsembleState]):
    """Training of `len(seeds)` networks; its result is their variables, stacked.

    The images and labels that it reads are for all networks; or they have one more axis in front, a set for each.

    Arguments:
        training: how each of them is trained: a procedure without events whose result is the network's variables.
        seeds: of the networks, 0 <= seed < 2**32.
    """

    training: Procedure
    seeds: tuple[int, ...]

    @property
    def batch_rule(self) -> BatchRule:
        """The whole set, from which each network draws its own batch; what a stream has is the same for all."""
        rule = self.training.batch_rule
        return rule if rule.kind == "stream" else BatchRule("all")

    def init(self, key: Key, data: Examples) -> EnsembleState:
        """Returns fresh networks; `key` is not used."""
        seeds = jnp.asarray(self.seeds, jnp.uint32)
        start = jax.vmap(lambda seed, own: self.training.init(key_for(seed, "init"), own), in_axes=(0, _axis(data)))
        return EnsembleState(jnp.zeros((), jnp.int32), seeds, start(seeds, data))

    def step(self, state: EnsembleState, batch: Examples, key: Key) -> tuple[EnsembleState, Metrics]:
        """Trains every network for one step; `key` is not used. Metrics are means over the networks."""

        def one(network: PyTree, seed: Array, data_here: Examples) -> tuple[PyTree, Metrics]:
            chosen = sample(data_here, self.training.batch_rule, key_for(seed, "batch", state.step))
            return self.training.step(network, chosen, key_for(seed, "step", state.step))

        networks, metrics = jax.vmap(one, in_axes=(0, 0, _axis(batch)))(state.networks, state.seeds, batch)
        return EnsembleState(state.step + 1, state.seeds, networks), jax.tree.map(jnp.mean, metrics)

    def result(self, state: EnsembleState) -> PyTree:
        """Returns the trained variables, stacked."""
        return jax.vmap(self.training.result)(state.networks)


def _axis(data: Examples) -> Any:
    """Returns the axis of the networks' own sets; all else they share."""
    if data.images.ndim < 5:
        return None
    shared = {field.name: None for field in dataclasses.fields(data) if not field.metadata.get("static")}
    return dataclasses.replace(data, **shared | {"images": 0, "labels": 0})
