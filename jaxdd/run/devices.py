"""Which devices a run uses, how it lies on them (`Layout`), and several processes as one run.

| mode  | what is split                                             | numbers                                        |
|-------|-----------------------------------------------------------|------------------------------------------------|
| shard | the rows of every batch; all devices hold the whole state | those of one device, but for rounding          |
| pool  | the networks: each device steps on one of its own, with   | their own: the gradient is the mean of as many |
|       | its own real batch; what is distilled is shared           | independent ones as there are devices          |

Data are whole on every device. Neither the mode nor the number of devices belongs to what a run is: a state is written
whole, and another number of devices reads it.

A run over many machines is one process per machine (or per device), all of them with the same command. Each makes the
same calls in the same order; process 0 alone prints and writes, except that every process gives Orbax its part of a
state.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from jaxdd.core import errors, sharding
from jaxdd.core.errors import ConfigError, JaxddError, UsageError
from jaxdd.core.procedure import Procedure
from jaxdd.core.types import Array, PyTree

TIMEOUT = 300  # seconds that a process waits for the others at the start


def join_processes(coordinator: str | None = None, processes: int | None = None, process: int | None = None) -> None:
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


def several_processes() -> bool:
    """Returns whether this process is one of several."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def first_process() -> bool:
    """Returns whether this process is the one that prints and writes."""
    return not several_processes() or jax.process_index() == 0


def on_first(fn: Callable[[], Any]) -> Any:
    """Lets process 0 alone call `fn`; all get its result, a JSON value, or its error.

    Raises:
        JaxddError: what `fn` raised.
    """
    if not several_processes():
        return fn()
    outcome, failure = {}, None
    if first_process():
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
    text = text if first_process() else np.zeros(size, np.uint8)
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


ALL = ("all", "-1")  # either stands for all devices there are
WHOLE, SPLIT = PartitionSpec(), PartitionSpec(sharding.AXIS)


def choose(count: int | str | None = None) -> list[Any]:
    """Returns the first `count` devices; one of `ALL` takes all; None takes one, or all in a run of several processes.

    Raises:
        UsageError: fewer devices are there, or several processes are not to use all of theirs.
    """
    available = jax.devices()
    whole = len(available)
    wanted = (whole if several_processes() else 1) if count is None else whole if count in ALL else int(count)
    if not 1 <= wanted <= whole:
        kind = available[0].platform
        raise UsageError(
            f"`devices={wanted}` is out of range",
            where=f"{whole} {kind} device(s) available",
            expected=f"1 to {whole}",
            remedy="leave `devices` out, or ask for fewer",
        )
    if several_processes() and wanted != whole:
        raise UsageError(
            "several processes use all of their devices",
            where=f"`devices={wanted}`",
            expected=f"all {whole} devices of {jax.process_count()} processes",
            remedy="leave `devices` out, or start fewer processes",
        )
    return available[:wanted]


def mesh(devices: list[Any] | tuple[Any, ...]) -> jax.sharding.Mesh:
    """Returns a mesh of one axis, `data`, along which batches or networks are split."""
    auto = (jax.sharding.AxisType.Auto,)
    return jax.make_mesh((len(devices),), (sharding.AXIS,), axis_types=auto, devices=devices)


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a run lies on its devices.

    Arguments:
        devices: at least one.
        mode: see the module's table; one device runs the same program in both.
    """

    devices: tuple[Any, ...]
    mode: Literal["shard", "pool"] = "shard"

    @property
    def several(self) -> bool:
        """Whether there is anything to lay out."""
        return len(self.devices) > 1

    @functools.cached_property
    def mesh(self) -> jax.sharding.Mesh:
        """The mesh over its devices."""
        return mesh(self.devices)

    @property
    def everywhere(self) -> jax.sharding.Sharding:
        """Where what all devices share lies."""
        if self.several:
            return NamedSharding(self.mesh, WHOLE)
        return jax.sharding.SingleDeviceSharding(self.devices[0])

    def put(self, tree: PyTree) -> PyTree:
        """Puts the tree on every device; an explicit transfer, and none where it lies there already."""
        if several_processes():
            return jax.tree.map(lambda leaf: place(leaf, self.everywhere), tree)
        return jax.device_put(tree, self.everywhere)

    def of_state(self, procedure: Procedure, template: PyTree) -> PyTree:
        """Returns the sharding of each leaf of the state.

        Arguments:
            procedure: names the parts that lie on the devices one by one (`Procedure.per_device`).
            template: the state, or its shapes.

        Raises:
            UsageError: the mode is `pool` and the procedure names no such part.
            ConfigError: the devices do not divide such a part.
        """
        return jax.tree.map(self._placed, self._specs(procedure, template))

    def spread(self, fn: Callable, procedure: Procedure, template: PyTree) -> Callable:
        """Returns `fn(state, *others) -> (state, metrics)` in the form that is compiled for all devices.

        Arguments:
            fn: the program of one device.
            procedure, template: as in `of_state`.

        Raises:
            UsageError, ConfigError: as in `of_state`.
        """
        if not self.several:
            return fn
        inside = functools.partial(self.within, fn)
        if self.mode == "shard":
            return inside
        state = self._specs(procedure, template)

        def spread(held: PyTree, *others: Any) -> Any:
            specs = (state, *(WHOLE for _ in others))
            # What is whole is so by construction (equal inputs, means): jax's proof of it knows too few operations.
            run = jax.shard_map(inside, mesh=self.mesh, in_specs=specs, out_specs=(state, WHOLE), check_vma=False)
            return run(held, *others)

        return spread

    def within(self, fn: Callable, *args: Any) -> Any:
        """Calls `fn(*args)` as it is traced for these devices: `core.sharding` knows of them."""
        if not self.several:
            return fn(*args)
        context = sharding.split_over(self.mesh) if self.mode == "shard" else sharding.one_of(len(self.devices))
        with context:
            return fn(*args)

    def _placed(self, spec: PartitionSpec) -> jax.sharding.Sharding:
        return NamedSharding(self.mesh, spec) if self.several else self.everywhere

    def _specs(self, procedure: Procedure, template: PyTree) -> PyTree:
        split = self.several and self.mode == "pool"
        names = procedure.per_device if split else ()
        if split and not names:
            raise UsageError(
                f"{type(procedure).__name__} has no networks that could lie on the devices one by one",
                where="`devices_mode=pool`",
                remedy="use `devices_mode=shard`",
            )

        def spec(path: tuple, leaf: Any) -> PartitionSpec:
            name = jax.tree_util.keystr(path[:1], simple=True)
            if name not in names:
                return WHOLE
            self._require_divisible(name, leaf.shape[0])
            return SPLIT

        return jax.tree_util.tree_map_with_path(spec, template)

    def _require_divisible(self, name: str, held: int) -> None:
        count = len(self.devices)
        if held % count:
            raise ConfigError(
                f"{held} networks in '{name}' cannot be shared out evenly among {count} devices",
                where="`devices_mode=pool`",
                expected=f"a multiple of {count}",
                remedy=f"`pool_model_count={held + -held % count}`, another `devices`, or `devices_mode=shard`",
            )
