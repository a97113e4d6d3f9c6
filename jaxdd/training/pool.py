"""A pool of networks of different ages, kept on device as one stacked tree.

The kernel methods meet the synthetic set at networks anywhere between initialisation and `limit` training steps. Only
base parameters, their two Adam moments and batch statistics are kept: three copies of the parameters per network.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Float, Int32, Shaped

from jaxdd.core import backend, trees
from jaxdd.core.types import Array, Key, PyTree
from jaxdd.models.network import Network


class Member(NamedTuple):
    """One network (or, with a leading axis on every leaf, the pool of all of them).

    Arguments:
        variables: `params` and perhaps `batch_stats`.
        optimizer: Adam's count and moments of `params`.
        age: training steps done.
    """

    variables: PyTree[Float[Array, "..."]]
    optimizer: PyTree[Shaped[Array, "..."]]
    age: Int32[Array, "*pool"]

    @property
    def params(self) -> PyTree:
        """The base parameters."""
        return self.variables["params"]


def fresh(network: Network, key: Key, dtype: Any = jnp.float32) -> Member:
    """Returns a newly initialised network of age 0."""
    variables = network.init(key, dtype)
    return Member(variables, optax.scale_by_adam().init(variables["params"]), jnp.zeros((), jnp.int32))


def fill(network: Network, key: Key, count: int, dtype: Any = jnp.float32) -> Member:
    """Returns a pool of `count` new networks, stacked along a leading axis."""
    return jax.vmap(lambda k: fresh(network, k, dtype))(jax.random.split(key, count))


def train(
    network: Network,
    member: Member,
    steps: int | Array,
    batches: Callable[[Array], tuple[Array, Array]],
    *,
    learning_rate: float,
    summed: bool = False,
    chunk: int | None = None,
) -> Member:
    """Trains one network by Adam on half the mean squared error; the number of steps may be known only on device.

    Arguments:
        steps: int32 scalar.
        batches: step number -> images `[n, H, W, C]` and labels `[n, k]`.
        learning_rate: constant.
        summed: squares are summed over classes (FRePo), not averaged over them too (RCIG).
        chunk: most images at once, to bound memory; batch statistics need the whole batch whatever it says.
    """
    adam = optax.scale_by_adam()

    def body(i, member: Member) -> Member:
        images, labels = batches(i)
        terms = len(labels) if summed else labels.size

        def gradient(batch):
            images, labels = batch

            def loss(params):
                outputs = network.apply({**member.variables, "params": params}, images, train=True)
                return jnp.sum((outputs.logits - labels) ** 2) / (2 * terms), outputs.variables

            return jax.grad(loss, has_aux=True)(member.params)

        if "batch_stats" in member.variables:  # which couple the images of a batch
            slope, variables = gradient((images, labels))
        else:
            slope = backend.accumulate(lambda batch: gradient(batch)[0], (images, labels), chunk)
            variables = member.variables
        update, optimizer = adam.update(slope, member.optimizer)
        params = trees.subtract(member.params, trees.scale(learning_rate, update))
        return Member({**variables, "params": params}, optimizer, member.age + 1)

    return backend.loop(steps, body, member)


def renew(network: Network, member: Member, key: Key, *, limit: int) -> Member:
    """Returns a fresh network in place of one that has reached `limit` training steps."""
    dtype = jax.tree.leaves(member.params)[0].dtype
    return backend.cond(member.age >= limit, lambda: fresh(network, key, dtype), lambda: member)
