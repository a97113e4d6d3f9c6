"""The smallest procedure that can run in every mode: it compiles in a moment."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd.core import sharding, trees
from jaxdd.core.procedure import BatchRule, Procedure
from jaxdd.core.types import Array


class CrowdState(NamedTuple):
    """What is learned, and linear maps of which each step moves one."""

    target: Array
    crowd: dict[str, Array]
    steps: Array


@dataclasses.dataclass(frozen=True)
class Crowd(Procedure[CrowdState]):
    """Moves what is shared by a gradient at one linear map, then that map."""

    members: int = 8
    per_device: ClassVar[tuple[str, ...]] = ("crowd",)

    @property
    def batch_rule(self) -> BatchRule:
        return BatchRule("uniform", 10)

    def init(self, key, data):
        crowd = {"map": jax.random.normal(key, (self.members, 64, 3)), "age": jnp.zeros(self.members, jnp.int32)}
        return CrowdState(jax.random.normal(key, (64,)), crowd, jnp.zeros((), jnp.int32))

    def step(self, state, batch, key):
        index = jax.random.randint(key, (), 0, sharding.share(self.members))
        member = trees.take(state.crowd, index)

        def loss(target, linear):
            images = sharding.rows(batch.images).reshape(len(batch), -1) + target[None]
            return jnp.mean(jnp.tanh(images @ linear) ** 2)

        value, gradient = jax.value_and_grad(loss)(state.target, member["map"])
        target = state.target - 0.1 * sharding.mean(gradient)
        moved = {"map": member["map"] - 0.1 * jax.grad(loss, 1)(target, member["map"]), "age": member["age"] + 1}
        return CrowdState(target, trees.put(state.crowd, index, moved), state.steps + 1), {"loss": value}

    def result(self, state):
        return np.asarray(state.target)
