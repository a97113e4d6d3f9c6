"""Training one network on labelled images, real or distilled, as a `Procedure`; and the accuracy of networks."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float, Int32, Shaped

from jaxdd.augment import build as build_augmentation
from jaxdd.core import backend, trees
from jaxdd.core.procedure import BatchRule, Procedure
from jaxdd.core.types import Array, Examples, Key, Metrics, PyTree
from jaxdd.models.network import Network
from jaxdd.training.schedules import warmup_cosine


class TrainingState(NamedTuple):
    """All that a training holds.

    Arguments:
        step: steps done.
        variables: of the network.
        optimizer: Adam's state.
    """

    step: Int32[Array, ""]
    variables: PyTree[Float[Array, "..."]]
    optimizer: PyTree[Shaped[Array, "..."]]


@dataclasses.dataclass(frozen=True)
class NetworkTraining(Procedure[TrainingState]):
    """Adam on half the mean squared error against soft labels; its result is the network's variables.

    Arguments:
        network: what is trained.
        learning_rate: at the end of the warm-up.
        warmup_steps, schedule_steps: linear warm-up, then cosine to 1 % at `schedule_steps`; constant after it.
        batch_size: examples per step; None for all.
        augment: strategy such as `flip_color_crop`, applied to every batch; None for none.
        resolution: side of the images in pixels, which some augmentations scale with.
    """

    network: Network
    learning_rate: float
    warmup_steps: int
    schedule_steps: int
    batch_size: int | None = None
    augment: str | None = None
    resolution: int = 32

    @property
    def batch_rule(self) -> BatchRule:
        """The whole set, or a uniform batch."""
        return BatchRule("all") if self.batch_size is None else BatchRule("uniform", self.batch_size)

    def init(self, key: Key, data: Examples) -> TrainingState:
        """Returns a fresh network."""
        variables = self.network.init(key, data.dtype)
        return TrainingState(jnp.zeros((), jnp.int32), variables, self._adam().init(variables["params"]))

    def step(self, state: TrainingState, batch: Examples, key: Key) -> tuple[TrainingState, Metrics]:
        """Trains for one step; `batch.labels` are soft labels `[n, classes]`."""
        images = build_augmentation(self.augment, self.resolution)(key, batch.standardise(batch.images))

        def loss(params: PyTree) -> tuple[Array, PyTree]:
            outputs = self.network.apply({**state.variables, "params": params}, images, train=True)
            return jnp.sum((outputs.logits - batch.labels) ** 2) / (2 * batch.labels.size), outputs.variables

        params = state.variables["params"]
        (value, variables), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        update, optimizer = self._adam().update(gradient, state.optimizer, params)
        variables = {**variables, "params": trees.add(params, update)}
        return TrainingState(state.step + 1, variables, optimizer), {"loss": value}

    def result(self, state: TrainingState) -> PyTree:
        """Returns the trained variables."""
        return state.variables

    def _adam(self) -> optax.GradientTransformation:
        schedule = warmup_cosine(self.learning_rate, warmup=self.warmup_steps, total=self.schedule_steps)
        return optax.adam(schedule)


def accuracy(
    network: Network, variables: PyTree, data: Examples | Iterable[Examples], *, batch_size: int | None = None
) -> float:
    """Returns the share of `data` that is classified correctly, in [0, 1].

    Arguments:
        data: labels are class indices `[n]`; what is too large for the device comes in parts (`data.large.Parts`).
        batch_size: images per forward pass; None for 1000 of 32x32, fewer of larger ones.
    """
    return accuracies(network, jax.tree.map(lambda leaf: leaf[None], variables), data, batch_size=batch_size)[0]


def accuracies(
    network: Network, variables: PyTree, data: Examples | Iterable[Examples], *, batch_size: int | None = None
) -> list[float]:
    """Returns the accuracy of each of several networks; the host reads once, at the end.

    Arguments:
        variables: of the networks, stacked.
        data, batch_size: as in `accuracy`.
    """
    hits, total = [], 0
    for part in (data,) if isinstance(data, Examples) else data:
        jax.block_until_ready(hits[-1:])  # the device has two parts at the most: the next is read while it computes
        height, width, _ = part.image_shape
        size = min(batch_size or min(1000, max(16, 1000 * 32**2 // (height * width))), len(part))
        hits += [_hits(network, variables, part, size, np.int32(start)) for start in range(0, len(part), size)]
        total += len(part)
    return [int(count) / total for count in np.sum(jax.device_get(hits), axis=0)]


@functools.partial(jax.jit, static_argnums=(0, 3))
def _hits(network: Network, variables: PyTree, data: Examples, size: int, start: Array) -> Array:
    """Returns how many of the images `start` to `start + size - 1` each network classifies correctly, `[networks]`."""
    first = jnp.minimum(start, len(data) - size)  # the last batch is as large as the others; what it repeats ...
    images, labels = (jax.lax.dynamic_slice_in_dim(leaf, first, size) for leaf in (data.images, data.labels))
    new = first + jnp.arange(size) >= start  # ... does not count

    def one(variables: PyTree) -> Array:
        logits = network.apply(variables, data.standardise(images)).logits
        return jnp.sum((jnp.argmax(logits, -1) == labels) & new)

    return backend.map(one, variables)
