"""How the step being traced is spread over devices, for the few places that have to know.

    one      (the default) one device: every function here gives back what it is given
    shard    one program, which XLA splits over the mesh axis `data` where `rows` asks for it
    pool     one program per device, with its own part of the networks and its own random choices; `mean` joins them

A method draws with the key it is given, chooses among `share(count)` things of which the devices hold a part each, and
takes the `mean` of its gradient before it changes what all devices share. Which mode it runs in, it does not ask.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import TypeVar

import jax
import jax.numpy as jnp

from jaxdd.core.types import Array, Key, PyTree

T = TypeVar("T")

AXIS = "data"
PADS_FLOAT64 = jax.__version_info__ >= (0, 10)  # XLA before (seen with jax 0.7) aborts where it has to pad it

_mesh: contextvars.ContextVar[jax.sharding.Mesh | None] = contextvars.ContextVar("jaxdd_mesh", default=None)
_devices: contextvars.ContextVar[int] = contextvars.ContextVar("jaxdd_devices", default=1)


@contextlib.contextmanager
def split_over(mesh: jax.sharding.Mesh) -> Iterator[None]:
    """Makes all that is traced inside one program that XLA splits over the mesh: mode `shard`."""
    token = _mesh.set(mesh)
    try:
        yield
    finally:
        _mesh.reset(token)


@contextlib.contextmanager
def one_of(devices: int) -> Iterator[None]:
    """Makes all that is traced inside the program of one device among `devices`, within `jax.shard_map`: mode
    `pool`."""
    token = _devices.set(devices)
    try:
        yield
    finally:
        _devices.reset(token)


def rows(batch: T) -> T:
    """Returns a batch whose rows lie on the devices in turn; what is computed from it row by row then does, too.

    A number of rows that the devices do not divide is padded by XLA, so some devices have one row less to compute.

    Arguments:
        batch: arrays `[n, ...]`; those of one row stay whole.
    """
    mesh = _mesh.get()
    if mesh is None:
        return batch
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(AXIS))
    pads = PADS_FLOAT64 or not jax.config.jax_enable_x64

    def lay(leaf: Array) -> Array:
        count = leaf.shape[0]
        whole = count == 1 or (count % mesh.size and not pads)
        return leaf if whole else jax.lax.with_sharding_constraint(leaf, split)

    return jax.tree.map(lay, batch)


def spread(fn: Callable[..., T], xs: PyTree, *shared: PyTree) -> T:
    """Returns `fn(xs, *shared)` for a function that works entry by entry: each device does its share of the entries.

    Arguments:
        fn: gives back arrays whose leading axis is that of `xs`.
        xs: arrays `[n, ...]`; padded where the devices do not divide n.
        shared: what every entry needs, whole on every device.
    """
    mesh = _mesh.get()
    if mesh is None:
        return fn(xs, *shared)
    count = jax.tree.leaves(xs)[0].shape[0]
    padded = jnp.arange(-(-count // mesh.size) * mesh.size) % count

    def alone(xs: PyTree, *shared: PyTree) -> T:
        token = _mesh.set(None)
        try:
            return fn(xs, *shared)
        finally:
            _mesh.reset(token)

    split, whole = jax.sharding.PartitionSpec(AXIS), jax.sharding.PartitionSpec()
    specs = (split, *(whole for _ in shared))
    run = jax.shard_map(alone, mesh=mesh, in_specs=specs, out_specs=split, check_vma=False)
    return jax.tree.map(lambda leaf: leaf[:count], run(jax.tree.map(lambda leaf: leaf[padded], xs), *shared))


def splits() -> bool:
    """Returns whether XLA splits what is traced over a mesh: then batches stay whole for it to cut."""
    return _mesh.get() is not None


def ways() -> int:
    """Returns over how many devices XLA splits the rows of what is traced."""
    mesh = _mesh.get()
    return 1 if mesh is None else mesh.size


def mean(tree: T) -> T:
    """Returns the mean over the devices' programs, leaf by leaf; integers and flags become float32."""
    if _devices.get() == 1:
        return tree

    def average(leaf: Array) -> Array:
        number = leaf if jnp.issubdtype(leaf.dtype, jnp.inexact) else leaf.astype(jnp.float32)
        return jax.lax.pmean(number, AXIS)

    return jax.tree.map(average, tree)


def share(count: int) -> int:
    """Returns how many of `count` things this device has, where each device holds a part of them."""
    return count // _devices.get()


def own(key: Key) -> Key:
    """Returns the key of this device's own random choices."""
    return key if _devices.get() == 1 else jax.random.fold_in(key, jax.lax.axis_index(AXIS))
