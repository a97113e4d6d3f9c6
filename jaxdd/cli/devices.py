"""The options that say on which devices, and in how many processes, a command runs."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

from jaxdd.cli.flags.shared import Run
from jaxdd.core.errors import UsageError

if TYPE_CHECKING:
    from jaxdd.run.devices import Layout


def is_one_of_several(options: Run) -> bool:
    """Returns whether the options make this process one of several."""
    by_hand = (options.coordinator_address, options.num_processes, options.process_id)
    return options.distributed or any(value is not None for value in by_hand)


def join(options: Run) -> bool:
    """Joins the other processes, if there are any; whether this is the one that prints and writes."""
    if not is_one_of_several(options) or options.dry_run:
        return True
    from jaxdd.run import hosts

    hosts.join(options.coordinator_address, options.num_processes, options.process_id)
    return hosts.first()


def start(options: Run) -> tuple[Layout, str]:
    """Starts the devices; returns how the run lies on them, and that in words.

    Raises:
        UsageError: fewer devices are there.
    """
    import jax

    layout, device = start_several(options.devices, options.devices_mode)
    return layout, device + (f", {jax.process_count()} processes" if is_one_of_several(options) else "")


def start_several(count: int | str | None, mode: str = "shard") -> tuple[Layout, str]:
    """Starts the devices of one process; returns as `start`.

    Arguments:
        count: of devices, or all; None for one.
        mode: shard or pool.

    Raises:
        UsageError: fewer devices are there.
    """
    from jaxdd.run.devices import Layout

    chosen, device = _begin(count)
    layout = Layout(tuple(chosen), mode)  # pyright: ignore[reportArgumentType] (checked before)
    return layout, f"{len(chosen)} x {device}, {layout.mode}" if layout.several else device


def start_one(count: int | str | None) -> str:
    """Starts one device; returns it in words.

    Raises:
        UsageError: more are asked for.
    """
    if count not in (None, 1):
        raise UsageError(
            "networks are evaluated on one device",
            where=f"--devices {count}",
            remedy="leave --devices out; start one command per device for different sets or seeds",
        )
    return _begin(count)[1]


def _begin(count: int | str | None) -> tuple[list[Any], str]:
    """Starts JAX's backend and turns the compilation cache on; the devices, and what they are."""
    import jax

    from jaxdd.core import backend
    from jaxdd.run import devices

    with contextlib.suppress(OSError):  # a home folder that cannot be written to: compile every time
        backend.use_compilation_cache()
    chosen = devices.choose(count)
    name = f"cpu ({os.cpu_count()} cores)" if chosen[0].platform == "cpu" else chosen[0].device_kind
    return chosen, f"{name}, jax {jax.__version__}"
