"""Which devices a run uses, and how it lies on them: `Layout`.

| mode  | what is split                                             | numbers                                        |
|-------|-----------------------------------------------------------|------------------------------------------------|
| shard | the rows of every batch; all devices hold the whole state | those of one device, but for rounding          |
| pool  | the networks: each device steps on one of its own, with   | their own: the gradient is the mean of as many |
|       | its own real batch; what is distilled is shared           | independent ones as there are devices          |

Data are whole on every device. Neither the mode nor the number of devices belongs to what a run is: a state is written
whole, and another number of devices reads it.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
from jax.sharding import NamedSharding, PartitionSpec

from jaxdd.core import sharding
from jaxdd.core.errors import ConfigError, UsageError
from jaxdd.core.procedure import Procedure
from jaxdd.core.types import PyTree
from jaxdd.run import hosts

ALL = ("all", "-1")  # either stands for all devices there are
WHOLE, SPLIT = PartitionSpec(), PartitionSpec(sharding.AXIS)


def choose(count: int | str | None = None) -> list[Any]:
    """Returns the first `count` devices; one of `ALL` takes all; None takes one, or all in a run of several processes.

    Raises:
        UsageError: fewer devices are there, or several processes are not to use all of theirs.
    """
    available = jax.devices()
    whole = len(available)
    wanted = (whole if hosts.several() else 1) if count is None else whole if count in ALL else int(count)
    if not 1 <= wanted <= whole:
        kind = available[0].platform
        raise UsageError(
            f"`devices={wanted}` is out of range",
            where=f"{whole} {kind} device(s) available",
            expected=f"1 to {whole}",
            remedy="leave `devices` out, or ask for fewer",
        )
    if hosts.several() and wanted != whole:
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
        if hosts.several():
            return jax.tree.map(lambda leaf: hosts.place(leaf, self.everywhere), tree)
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
