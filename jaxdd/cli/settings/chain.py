"""From the flags of squeeze, recover, relabel, validate and `distill --method cda` to the settings of a chain."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from jaxdd.cli.devices import is_one_of_several
from jaxdd.cli.flags.chain import NO_EFFECT, SCRIPT, Recover, Shared, Squeeze
from jaxdd.cli.flags.rcig import Distill
from jaxdd.cli.settings.layers import NO_EFFECT as OF_ORIGINALS
from jaxdd.cli.settings.layers import Overrides, assigned, given, no_effect
from jaxdd.core import config as configs
from jaxdd.core.errors import UsageError, choose
from jaxdd.run import presets
from jaxdd.run.chain.settings import NAMES, Decoupled

if TYPE_CHECKING:
    from jaxdd.data import DataSpec

SAME_NAMES = ("jitter", "r_bn", "first_bn_multiplier", "tv_l2", "l2_scale", "easy2hard_mode", "milestone", "batch_size")
OF_RECOVERY = {name: name for name in (*SAME_NAMES, "arch_name", "width")}  # flag of recover -> setting
OF_RECOVERY |= {"iteration": "iterations", "lr": "lr_img", "ipc_end": "n_images"}
OF_TEACHER = {name: f"squeeze.{name}" for name in ("epochs", "batch_size", "momentum", "weight_decay")}
OF_TEACHER |= {"lr": "squeeze.learning_rate", "lr_warmup_epochs": "squeeze.warmup_epochs"}  # flag of squeeze -> setting
OF_TEACHER |= {"arch_name": "arch_name", "width": "width"}
OF_STEPS = {  # flags of distill that are about one long run -> why
    "log_dir": "log.txt of a chain lies in its output folder",
    "log_every": "the links of a chain tell their own progress",
    "zca_path": "images of this family are not whitened",
}
OF_DISTILL = {"n_images": "n_images", "max_steps": "iterations", "width": "width"}  # flag of distill -> setting


def of_squeeze(flags: Squeeze) -> Decoupled:
    """Returns the settings of `squeeze`."""
    return build(flags, given(flags, OF_TEACHER), None)


def of_recover(flags: Recover) -> Decoupled:
    """Returns the settings of `recover`.

    Raises:
        UsageError, ConfigError: as in `build`; or flags that contradict each other.
    """
    overrides = given(flags, OF_RECOVERY)
    if flags.method is not None:
        choose(flags.method, NAMES, kind="method", where="--method")
    if _preset(flags) is None and not flags.config_path and flags.method is None:
        overrides = {**{name: (presets.OF_SCRIPT, value) for name, value in SCRIPT.items()}, **overrides}
    return build(flags, overrides, flags.method)


def of_distill(flags: Distill, method: str) -> Decoupled:
    """Returns the settings of `distill` by a method of this family."""
    overrides = given(flags, OF_DISTILL)
    for name in ("use_x64", "skip_tune", "naive_loss", "init_random_noise", "init_from"):
        if getattr(flags, name) is not None:
            raise UsageError(f"{method} has no such setting", where=f"--{name}", remedy="leave it out")
    pool = flags.devices_mode != Distill.devices_mode
    if pool or is_one_of_several(flags):
        raise UsageError(
            f"{method} is a chain of one process, whose devices share every batch",
            where=f"--devices_mode {flags.devices_mode}" if pool else "--distributed, --num_processes",
            expected="--devices N in one process; or several processes that each recover a part of the images",
            remedy="squeeze.py once, then recover.py --shard I/N in every process, recover.py --merge, validate.py",
        )
    shared = Shared(
        dataset=flags.dataset_name,
        data_path=flags.data_path,
        config_path=flags.config_path,
        set=tuple(text for text in flags.set if not text.startswith("method=")),
        resolution=flags.resolution,
        stream=flags.stream,
    )
    settings = build(shared, overrides, method)
    return dataclasses.replace(settings, notices=(*settings.notices, *no_effect(flags, {**OF_ORIGINALS, **OF_STEPS})))


def method_of(flags: Distill) -> str | None:
    """Returns the method of this family that `distill` is asked for, by flag, by `--set` or in the config file."""
    named = configs.parse_assignments(flags.set).get("method", flags.method)
    if named is None and flags.config_path:
        named = configs.read_config(configs.find_config(flags.config_path)).values.get("method")
    return named if named in NAMES else None


def build(flags: Shared, overrides: Overrides, method: str | None) -> Decoupled:
    """Returns settings from preset, config file and what overrides them.

    Arguments:
        flags: of any of the commands.
        overrides: what its own flags say.
        method: that a flag names; None for the file's.

    Raises:
        ConfigError, UsageError: as `run.presets.build_chain`; or a data set that is not there or cannot be streamed.
    """
    from jaxdd import data

    def describe(name: str) -> DataSpec:
        data.check_available(name, flags.data_path, flags.stream)
        return data.describe(name, flags.data_path, resolution=flags.resolution)

    typed = {} if flags.dataset is None else {"dataset_name": ("--dataset", flags.dataset)}
    return presets.build_chain(
        method,
        {**overrides, **typed, **assigned(flags)},
        path=flags.config_path,
        preset=_preset(flags),
        describe=describe,
        notices=no_effect(flags, NO_EFFECT),
    )


def _preset(flags: Shared) -> str | None:
    """Returns the preset that is named; that of the digits where there are no others data."""
    if flags.preset is None:
        return "digits" if not flags.config_path and flags.dataset in (None, "digits") else None
    if flags.config_path:
        raise UsageError("two sources of settings", where="--preset and --config_path", remedy="keep one of them")
    return choose(flags.preset, presets.OF_CHAINS, kind="preset", where="--preset")
