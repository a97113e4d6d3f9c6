"""From the flags of squeeze, recover, relabel, validate and `distill --method cda` to the settings of a chain."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jaxdd.cli.devices import is_one_of_several
from jaxdd.cli.flags.chain import NO_EFFECT, PRESETS, SCRIPT, Recover, Shared, Squeeze
from jaxdd.cli.flags.rcig import Distill
from jaxdd.cli.settings.layers import NO_EFFECT as OF_ORIGINALS
from jaxdd.cli.settings.layers import PUBLISHED, no_effect
from jaxdd.core import config as configs
from jaxdd.core.config import ConfigFile
from jaxdd.core.errors import UsageError, choose
from jaxdd.run.chain.settings import GROUPS, NAMES, ChainSettings, Decoupled, architecture, merged

if TYPE_CHECKING:
    from jaxdd.data import DataSpec
    from jaxdd.training.teacher import Recipe

USUAL = "cda"  # the method where nothing is said
Overrides = dict[str, tuple[str, Any]]  # setting, perhaps of a group -> the flag it came by, and its value
SAME_NAMES = ("jitter", "r_bn", "first_bn_multiplier", "tv_l2", "l2_scale", "easy2hard_mode", "milestone", "batch_size")
OF_RECOVERY = {name: name for name in (*SAME_NAMES, "arch_name", "width")}  # flag of recover -> setting
OF_RECOVERY |= {"iteration": "iterations", "lr": "lr_img", "ipc_end": "n_images"}
OF_TEACHER = {name: f"squeeze.{name}" for name in ("epochs", "batch_size", "momentum", "weight_decay")}
OF_TEACHER |= {"lr": "squeeze.learning_rate", "lr_warmup_epochs": "squeeze.warmup_epochs"}  # flag of squeeze -> setting
OF_TEACHER |= {"arch_name": "arch_name", "width": "width"}
FULL = {"imagenet": "imagenet1k"}  # what this family means by a name
OF_STEPS = {  # flags of distill that are about one long run -> why
    "log_dir": "log.txt of a chain lies in its output folder",
    "log_every": "the links of a chain tell their own progress",
    "zca_path": "images of this family are not whitened",
}
OF_DISTILL = {"n_images": "n_images", "max_steps": "iterations", "width": "width"}  # flag of distill -> setting


def of_squeeze(flags: Squeeze) -> Decoupled:
    """What `squeeze` is to do."""
    return build(flags, _given(flags, OF_TEACHER), None)


def of_recover(flags: Recover) -> Decoupled:
    """What `recover` is to do.

    Raises:
        UsageError, ConfigError: as in `build`; or flags that contradict each other.
    """
    overrides = _given(flags, OF_RECOVERY)
    if flags.method is not None:
        choose(flags.method, NAMES, kind="method", where="--method")
    if _preset(flags) is None and not flags.config_path and flags.method is None:
        overrides = {name: ("the script's default", value) for name, value in SCRIPT.items()} | overrides
    return build(flags, overrides, flags.method)


def of_distill(flags: Distill, method: str) -> Decoupled:
    """What `distill` is to do by a method of this family."""
    overrides = _given(flags, OF_DISTILL)
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
    found = build(shared, overrides, method)
    return dataclasses.replace(found, notices=(*found.notices, *no_effect(flags, {**OF_ORIGINALS, **OF_STEPS})))


def method_of(flags: Distill) -> str | None:
    """The method of this family that `distill` is asked for, by flag, by `--set` or in the config file."""
    named = configs.parse_assignments(flags.set).get("method", flags.method)
    if named is None and flags.config_path:
        named = configs.read_config(configs.find_config(flags.config_path)).values.get("method")
    return named if named in NAMES else None


def build(flags: Shared, overrides: Overrides, method: str | None) -> Decoupled:
    """Settings from preset, config file and what overrides them.

    Arguments:
        flags: of any of the commands.
        overrides: what its own flags say.
        method: that a flag names; None for the file's.

    Raises:
        ConfigError, UsageError: a file that is not there, an unknown key, method or data set, a bad value, or a data
            set that cannot be streamed.
    """
    from jaxdd import data
    from jaxdd.evaluation.recipe import Recipe
    from jaxdd.methods.recovery import published
    from jaxdd.methods.recovery.settings import Recovery

    if flags.dataset is not None:
        overrides["dataset_name"] = ("--dataset", flags.dataset)
    if method is not None:
        overrides["method"] = ("--method", method)
    overrides |= {key: ("--set", value) for key, value in configs.parse_assignments(flags.set).items()}
    classes = {"chain": ChainSettings, "recovery": Recovery}
    file = _file(flags, method)
    configs.require_known(file, classes.values())
    if "iterations" in overrides:  # which stages then share as published
        file = dataclasses.replace(file, values={key: file.values[key] for key in file.values if key != "stages"})
    values = merged({"method": USUAL, **file.values}, {key: value for key, (_, value) in overrides.items()})
    choose(str(values["method"]), NAMES, kind="method", where=overrides.get("method", ("method",))[0])
    _check_overrides(overrides, classes)
    values["dataset_name"] = data.canonical(FULL.get(named := str(values.get("dataset_name", "digits")), named))
    data.check_available(values["dataset_name"], flags.data_path, flags.stream)
    spec = data.describe(values["dataset_name"], flags.data_path, resolution=flags.resolution)
    values, resized = _for_size(values, overrides, file, spec.resolution) if _preset(flags) else (values, [])
    implied = published.implied(values, resolution=spec.resolution, classes=spec.classes)
    file = dataclasses.replace(file, values={**values, **implied.values})
    built = configs.build(file, classes)
    chain: ChainSettings = built["chain"]
    architecture(chain.arch_name, chain.width)
    told = [*file.notices, *resized, *no_effect(flags, NO_EFFECT), *(implied.notices if file.path == PUBLISHED else ())]
    told += [] if "r_bn" in overrides else _of_architecture(chain.arch_name)
    typed = frozenset(key for key, (flag, _) in overrides.items() if flag.startswith("--"))
    found = Decoupled(file, chain, built["recovery"], _teacher(chain, spec), spec, tuple(told), typed)
    Recipe.of(found.recipe)  # hours before students need it
    return found


def _for_size(
    values: dict[str, Any], overrides: Overrides, preset: ConfigFile, side: int | None
) -> tuple[dict[str, Any], list[str]]:
    """A preset's settings for images of another size than those that it was written for, and what to tell of it.

    Arguments:
        values: the settings.
        overrides: what flags say, which stays.
        preset: the file.
        side: of the images, in pixels.
    """
    from jaxdd.methods.recovery.published import published_side

    own = published_side(str(preset.values.get("dataset_name")))
    dropped = [name for name in ("stages", "jitter", "mosaic") if name in values and name not in overrides]
    if own in (None, side) or side is None or not dropped:
        return values, []
    kept = {name: value for name, value in values.items() if name not in dropped}
    return kept, [f"the preset is for {own} pixels: {', '.join(dropped)} become those for {side}"]


def _of_architecture(name: str) -> list[str]:
    """What is to be told where settings were published for ResNet-18 alone."""
    if not name.startswith("resnet") or name == "resnet18":
        return []
    return [
        f"r_bn is that of ResNet-18; for {name} none is published, and its statistics weigh more (about 100 times for "
        "ResNet-50): watch 'ce' beside 'statistics', and set --r-bn"
    ]


def _preset(flags: Shared) -> str | None:
    """The preset that is named; that of the digits where there are no others data."""
    if flags.preset is None:
        return "digits" if not flags.config_path and flags.dataset in (None, "digits") else None
    if flags.config_path:
        raise UsageError("two sources of settings", where="--preset and --config_path", remedy="keep one of them")
    return choose(flags.preset, PRESETS, kind="preset", where="--preset")


def _file(flags: Shared, method: str | None) -> ConfigFile:
    """The config file that is named, or the preset's, or none.

    Raises:
        ConfigError, UsageError: there is none; or it is another method's than the one that a flag names.
    """
    path, preset = flags.config_path, _preset(flags)
    if preset:
        packaged = configs.packaged_configs()
        published = [name for name in NAMES if f"cda/{name}_{preset}.txt" in packaged]
        usual = USUAL if USUAL in published else published[0]  # CDA publishes nothing for CIFAR-100
        if method not in (None, *published):
            raise UsageError(
                f"{method} publishes no settings for '{preset}'",
                where=f"--preset {preset} --method {method}",
                expected=f"for this preset, {' or '.join(published)}",
                remedy="name the data set by --dataset instead: the settings of the nearest published one are taken",
            )
        path = f"cda/{method or usual}_{preset}.txt"
    if not path:
        return ConfigFile(PUBLISHED, {})
    file = configs.read_config(configs.find_config(path))
    if method not in (None, own := file.values.get("method", method)):
        raise UsageError(
            f"the config file is for {own}, not for {method}",
            where=f"--method {method}, --config_path {path}",
            expected="one method",
            remedy=f"take configs_final/cda/{method}_*.txt, or --preset with --method",
        )
    return file


def _teacher(chain: ChainSettings, spec: DataSpec) -> Recipe:
    """The teacher's recipe: as published, with what the group `squeeze` says."""
    from jaxdd.training import teacher

    usual = teacher.published(chain.dataset_name, spec.resolution or 32)
    file = ConfigFile("squeeze", {**configs.as_dict(usual), **chain.squeeze})
    return configs.build(file, {"recipe": teacher.Recipe})["recipe"]


def _given(flags: Any, names: Mapping[str, str]) -> Overrides:
    """What the flags say: setting -> flag and value."""
    given = {flag: getattr(flags, flag) for flag in names}
    return {names[flag]: (f"--{flag}", value) for flag, value in given.items() if value is not None}


def _check_overrides(overrides: Overrides, classes: Mapping[str, type]) -> None:
    """Refuses a bad override by the flag it came by."""
    fields = {field.name: (cls, field) for cls in classes.values() for field in configs.settings_of(cls)}
    for key, (flag, value) in overrides.items():
        group, dot, _ = key.partition(".")
        if dot and group in GROUPS:
            continue  # which is checked with its group
        origin = ConfigFile(flag, {key: value})
        if key not in fields:
            configs.build(origin, classes)  # says that it is unknown, and what is near
        else:
            configs.check(*fields[key], origin)
