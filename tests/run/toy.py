"""A procedure that is as small as one can be and still has everything: batches, noise, an event, odd leaves."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdd.core.procedure import BatchRule, Event, Procedure
from jaxdd.core.types import Array, Examples
from jaxdd.run.control import Reporter

TRACES: list[str] = []  # one entry per tracing of a function of `Toy`


class State(NamedTuple):
    """Arrays of all sorts: matrices, a counter, half precision, a flag, an empty one, an optimiser's tree."""

    weights: dict[str, Array]
    optimizer: tuple
    visits: Array
    average: Array
    flag: Array
    nothing: Array


@dataclasses.dataclass(frozen=True)
class Toy(Procedure[State]):
    """A linear map trained on random examples by Adam with noise.

    Arguments:
        size: examples per step.
        rate: learning rate.
        period: steps between two events.
        width: columns of an idle matrix that makes the state large.
        poison: the step whose metric is NaN; negative: none.
        poison_state: whether that step's weights are NaN instead, and its metric is not.
    """

    size: int = 8
    rate: float = 0.01
    period: int = 5
    width: int = 1
    poison: int = -1
    poison_state: bool = False

    @property
    def batch_rule(self) -> BatchRule:
        return BatchRule("uniform", self.size)

    def init(self, key, data):
        TRACES.append("init")
        weights = {
            "map": jax.random.normal(key, (int(np.prod(data.image_shape)), data.classes)),
            "idle": jax.random.normal(key, (256, self.width)),
        }
        return State(
            weights,
            optax.adam(self.rate).init(weights),
            jnp.zeros((), jnp.int32),
            jnp.zeros(3, jnp.bfloat16),
            jnp.asarray(False),
            jnp.zeros((0, 4)),
        )

    def step(self, state, batch, key):
        TRACES.append("step")

        def loss(weights):
            inputs = batch.images.reshape(len(batch), -1)
            noise = 0.1 * jax.random.normal(key, inputs.shape)
            logits = (inputs + noise) @ weights["map"] + weights["idle"].mean()
            return optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels).mean()

        value, gradient = jax.value_and_grad(loss)(state.weights)
        updates, optimizer = optax.adam(self.rate).update(gradient, state.optimizer)
        poisoned = state.visits == self.poison
        bad = jnp.where(poisoned, jnp.nan, 0.0)
        weights = jax.tree.map(lambda w, u: w + u + (bad if self.poison_state else 0.0), state.weights, updates)
        average = (0.9 * state.average + 0.1 * value).astype(jnp.bfloat16)
        metrics = {"loss": value + (0.0 if self.poison_state else bad), "visits": state.visits}
        return State(weights, optimizer, state.visits + 1, average, ~state.flag, state.nothing), metrics

    def result(self, state):
        return np.asarray(state.weights["map"])

    def events(self, data):
        def shake(state, data, key):
            TRACES.append("event")
            weights = jax.tree.map(lambda w: w + 0.01 * jax.random.normal(key, w.shape), state.weights)
            return state._replace(weights=weights)

        return (Event("shake", self.period, shake),)


def examples(n: int = 64) -> Examples:
    """Random images of 4x4x1 in three classes."""
    random = np.random.default_rng(0)
    images = jnp.asarray(random.normal(size=(n, 4, 4, 1)), jnp.float32)
    return Examples(images, jnp.asarray(random.integers(0, 3, n), jnp.int32), 3)


class Notes(Reporter):
    """Writes down everything it hears, as `(method, arguments)`."""

    def __init__(self):
        self.heard: list[tuple] = []

    def __getattribute__(self, name):
        if name.startswith("__") or name in ("heard", "of"):
            return super().__getattribute__(name)
        return lambda *arguments: self.heard.append((name, *arguments))

    def of(self, name: str) -> list[tuple]:
        """The arguments of every call of one method."""
        return [arguments for method, *arguments in self.heard if method == name]


def bits(tree) -> list[bytes]:
    """Every leaf as bytes, for comparisons to the last bit."""
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]
