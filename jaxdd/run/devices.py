"""Which devices a run uses, and the mesh over them."""

from __future__ import annotations

from typing import Any

import jax

from jaxdd.core.errors import UsageError

AXIS = "data"


def choose(count: int | None = None) -> list[Any]:
    """The first `count` devices; None takes the one that JAX takes by default.

    Raises:
        UsageError: fewer devices are there, or more than one is asked for, which no procedure shards over yet.
    """
    available = jax.devices()
    wanted = 1 if count is None else count
    if not 1 <= wanted <= len(available):
        kind = available[0].platform
        raise UsageError(f"--devices {wanted} is out of range", where=f"{len(available)} {kind} device(s) available")
    if wanted > 1:
        raise UsageError(
            "running over several devices is not implemented yet",
            where=f"--devices {wanted}",
            remedy="leave --devices out; start one run per device to use them all",
        )
    return available[:wanted]


def mesh(devices: list[Any]) -> jax.sharding.Mesh:
    """A mesh of one axis, `data`, along which batches are split."""
    auto = (jax.sharding.AxisType.Auto,)
    return jax.make_mesh((len(devices),), (AXIS,), axis_types=auto, devices=devices)
