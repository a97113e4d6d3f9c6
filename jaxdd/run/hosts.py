"""Several processes as one run: joining them, what one does for all, and what all must agree on.

A run over many machines is one process per machine (or per device), all of them with the same command. Each makes the
same calls in the same order; process 0 alone prints and writes, except that every process gives Orbax its part of a
state. Nothing here does anything in a run of one process.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxdd.core import errors
from jaxdd.core.errors import JaxddError, UsageError
from jaxdd.core.types import Array

TIMEOUT = 300  # seconds that a process waits for the others at the start


def join(coordinator: str | None = None, processes: int | None = None, process: int | None = None) -> None:
    """Makes this process one of several; to be called before anything else asks JAX for a device.

    Arguments:
        coordinator: `HOST:PORT` of process 0, which must be free there; with None all three are found out from Slurm,
            Kubernetes, Cloud TPU or Open MPI.
        processes: how many there are.
        process: which one this is, from 0.

    Raises:
        UsageError: the three contradict each other, nothing can be found out, or the others did not come.
    """
    named = [name for name, value in _named(coordinator, processes, process).items() if value is not None]
    if named and len(named) < 3:
        raise UsageError(
            "several processes need all three flags",
            where=" ".join(named),
            expected="`coordinator_address=HOST:PORT` `num_processes=N` `process_id=I`",
            remedy="give all three, or `distributed` alone where Slurm, Kubernetes or Cloud TPU started the processes",
        )
    if processes is not None and process is not None and not 0 <= process < processes:
        raise UsageError(
            "the process is none of them",
            where=f"`process_id={process}`",
            expected=f"0 to {processes - 1}",
            remedy="number the processes from 0",
        )
    try:
        jax.distributed.initialize(coordinator, processes, process, initialization_timeout=TIMEOUT)
    except (RuntimeError, ValueError) as error:
        raise UsageError(
            f"the processes could not be joined: {' '.join(str(error).split())[:200]}",
            where=f"`coordinator_address={coordinator}`" if coordinator else "`distributed`",
            expected=f"all processes started within {TIMEOUT} s, with the same address",
            remedy="look whether that host and port can be reached, or give all three flags",
        ) from None


def _named(coordinator: str | None, processes: int | None, process: int | None) -> dict[str, Any]:
    return {"`coordinator_address`": coordinator, "`num_processes`": processes, "`process_id`": process}


def several() -> bool:
    """Returns whether this process is one of several."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def first() -> bool:
    """Returns whether this process is the one that prints and writes."""
    return not several() or jax.process_index() == 0


def on_first(fn: Callable[[], Any]) -> Any:
    """Lets process 0 alone call `fn`; all get its result, a JSON value, or its error.

    Raises:
        JaxddError: what `fn` raised.
    """
    if not several():
        return fn()
    outcome, failure = {}, None
    if first():
        try:
            outcome = {"result": fn()}
        except JaxddError as error:
            words = {name: getattr(error, name) for name in ("what", "where", "expected", "remedy")}
            failure, outcome = error, {"error": type(error).__name__, "words": words}
        except Exception as error:
            failure, outcome = error, {"error": "JaxddError", "words": {"what": f"process 0 failed: {error!r}"[:400]}}
    outcome = _told(outcome)
    if failure is not None:
        raise failure
    if "error" in outcome:
        raise getattr(errors, outcome["error"])(**outcome["words"])
    return outcome["result"]


def _told(message: dict[str, Any]) -> dict[str, Any]:
    """Sends the message of process 0 to all; returns it."""
    from jax.experimental import multihost_utils

    text = np.frombuffer(json.dumps(message).encode(), np.uint8)
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
    text = text if first() else np.zeros(size, np.uint8)
    return json.loads(np.asarray(multihost_utils.broadcast_one_to_all(text), np.uint8).tobytes())


def place(value: Any, sharding: jax.sharding.Sharding) -> Array:
    """Makes an array that lies on the devices of all processes; each of them holds the whole of it in its memory."""
    content = np.asarray(value)
    return jax.make_array_from_callback(content.shape, sharding, lambda part: content[part])


def voted(value: tuple[int, ...], mesh: jax.sharding.Mesh) -> Array:
    """Returns `[devices, len(value)]` int32 over the mesh; every process has written its `value` at its own devices.

    It goes into a step's program, which gives back the maximum: so all processes come to the same numbers at the same
    step without ever waiting for each other.
    """
    ballot = np.broadcast_to(np.asarray(value, np.int32), (mesh.size, len(value)))
    return place(ballot, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(mesh.axis_names)))
