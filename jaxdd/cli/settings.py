"""From what a user typed to checked settings; nothing here imports JAX before the first checks."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jaxdd.cli.flags.dialect import NO_EFFECT, Arguments
from jaxdd.core import config as configs
from jaxdd.core.config import Layer, Value
from jaxdd.core.errors import UsageError, choose
from jaxdd.data.registry import require_known
from jaxdd.methods import CHAINS
from jaxdd.models.names import ALIASES, NAMES, NORMALIZATIONS, TEACHERS
from jaxdd.run import settings as runs
from jaxdd.run.chain.settings import PRESETS, Decoupled, build_chain
from jaxdd.run.settings import PUBLISHED, Settings, build

if TYPE_CHECKING:
    from jaxdd.cli.flags.chain import Relabel, Shared, Validate
    from jaxdd.cli.flags.matching import Condense, Pretrain
    from jaxdd.cli.flags.rcig import Distill, Eval
    from jaxdd.cli.flags.shared import Run
    from jaxdd.data import DataSpec

MOST_DEPTH = (
    4  # of a ConvNet: the scripts of the matching methods read a greater one, their default too, as the default
)
AS_THEY_ARE = ("accdd", "ga", "dc", "dsa", "dm")  # methods whose --niter counts outer iterations of any length
UNIT = 100  # inner iterations that --niter counts in for the others
OF_LONG_RUNS = {  # options of `distill` that a chain does not need -> why
    "log_dir": "log.txt of a chain lies in its output folder",
    "log_every": "the links of a chain tell their own progress",
    "zca_path": "images of this family are not whitened",
}


def is_one_of_several(options: Run) -> bool:
    """Returns whether this process is one of several."""
    by_hand = (options.coordinator_address, options.num_processes, options.process_id)
    return options.distributed or any(value is not None for value in by_hand)


def of_distill(arguments: Arguments[Distill]) -> Settings | Decoupled:
    """Returns the settings of `distill`: of a run, or of a chain where the method is one.

    Raises:
        ConfigError, UsageError: a file that is not there, an unknown key, method or data set, a bad value, or flags
            that contradict each other.
    """
    options, layer, notices = arguments
    named = layer["method"].value if "method" in layer else None
    if named is None and options.config_path:
        named = runs.read(options.config_path).values.get("method")
    if named in CHAINS:
        return _chain_of_distill(options, layer, notices, str(named))
    if options.stream == "always":
        raise UsageError(
            "this method reads its images from memory",
            where="--stream always",
            expected=f"one of {', '.join(CHAINS)}, which need some images at a time",
            remedy="leave it out",
        )
    source, told = options.config_path, []
    if not source and "dataset_name" in layer:
        source, told = runs.for_dataset(str(layer["dataset_name"].value), named or "rcig")
    return build(source, layer, notices=(*notices, *told))


def _chain_of_distill(options: Distill, layer: Layer, notices: Sequence[str], method: str) -> Decoupled:
    """Returns the settings of `distill` by a method that is a chain."""
    if options.init_from:
        raise UsageError(f"{method} starts from no set", where="--init_from", remedy="leave it out")
    pool = options.devices_mode == "pool"
    if pool or is_one_of_several(options):
        raise UsageError(
            f"{method} is a chain of one process, whose devices share every batch",
            where="--devices_mode pool" if pool else "--distributed, --num_processes",
            expected="--devices N in one process; or several processes that each recover a part of the images",
            remedy="squeeze.py once, then recover.py --shard I/N in every process, recover.py --merge, validate.py",
        )
    steps = {"iterations": layer["max_steps"]} if "max_steps" in layer else {}
    layer = {**{name: value for name, value in layer.items() if name != "max_steps"}, **steps}
    told = [NO_EFFECT.format(f"--{name}", why) for name, why in OF_LONG_RUNS.items() if getattr(options, name)]
    layer = {**layer, "method": Value(method, "--method")}
    return _chain(options, layer, (*notices, *told), _preset_of_digits(options, layer))


def of_chain(arguments: Arguments[Any]) -> Decoupled:
    """Returns the settings of `squeeze` and of `recover`.

    Raises:
        ConfigError, UsageError: as in `of_distill`; or a data set that is not there or cannot be streamed.
    """
    options, layer, notices = arguments
    preset = options.preset
    if preset is None:
        return _chain(options, layer, notices, _preset_of_digits(options, layer))
    if options.config_path:
        raise UsageError("two sources of settings", where="--preset and --config_path", remedy="keep one of them")
    return _chain(options, layer, notices, choose(preset, PRESETS, kind="preset", where="--preset"))


def _preset_of_digits(options: Any, layer: Layer) -> str | None:
    """Returns the preset of the digits where no other data are named."""
    named = layer.get("dataset_name", Value("digits", "")).value
    return "digits" if not options.config_path and named == "digits" else None


def _chain(options: Shared | Distill, layer: Layer, notices: Sequence[str], preset: str | None) -> Decoupled:
    """Returns the settings of a chain, for a data set that is there."""
    from jaxdd import data

    def describe(name: str) -> DataSpec:
        data.check_available(name, options.data_path, options.stream)
        return data.describe(name, options.data_path, resolution=options.resolution)

    return build_chain(layer, source=options.config_path, preset=preset, describe=describe, notices=notices)


def of_condense(arguments: Arguments[Condense]) -> Settings:
    """Returns the settings of `condense`.

    Raises:
        ConfigError, UsageError: as in `of_distill`.
    """
    options, layer, notices = arguments
    source = options.config_path or (PUBLISHED if "dataset_name" in layer else None)
    settings = _with_depth(source, layer, notices)
    loop = settings.method.inner_loop  # pyright: ignore[reportAttributeAccessIssue] (a matching method)
    if options.niter is not None:
        outer = options.niter if settings.run.method in AS_THEY_ARE else max(1, options.niter * UNIT // loop)
        run = dataclasses.replace(settings.run, max_steps=outer * loop)
        settings = dataclasses.replace(settings, run=run)
    every, steps = (options.val_interval or 0) * loop, settings.run.max_steps
    if every <= steps:
        return settings
    told = (
        f"--val_interval {options.val_interval} is {every} steps, longer than the run of {steps}: nothing is evaluated"
    )
    return dataclasses.replace(settings, notices=(*settings.notices, told))


def of_pretrain(arguments: Arguments[Pretrain]) -> Settings:
    """Returns the matching method whose networks `pretrain` is to train.

    Raises:
        ConfigError, UsageError: as in `of_distill`.
    """
    _, layer, notices = arguments
    return _with_depth(PUBLISHED if "dataset_name" in layer else None, layer, notices)


def _with_depth(source: str | None, layer: Layer, notices: Sequence[str]) -> Settings:
    """Builds settings without a depth that the scripts ignore; only the built method shows whether it has ConvNets."""
    settings = build(source, layer, notices=notices)
    depth, flag = layer.get("depth", Value(0, ""))
    if flag != "--depth" or depth <= MOST_DEPTH or settings.method.net_type != "convnet":  # pyright: ignore
        return settings
    others = {name: value for name, value in layer.items() if name != "depth"}
    told = f"--depth {depth} is read as a ConvNet's default, as in the scripts; --set depth={depth} means it"
    return build(source, others, notices=[*notices, told])


def of_eval(arguments: Arguments[Eval]) -> Arguments[Any]:
    """Returns the arguments of an evaluation, whose settings must each be one of a recipe.

    Raises:
        ConfigError: an unknown key, or a value that no recipe takes.
        UsageError: an unknown data set.
    """
    from jaxdd.evaluation.settings import ALL

    if arguments.options.dataset_name:
        require_known(arguments.options.dataset_name)
    for name in arguments.options.architectures:
        choose(name.lower(), dict.fromkeys((*NAMES, *ALIASES, *TEACHERS)), kind="architecture", where="--eval_arch")
    if (name := arguments.layer.get("normalization")) and name.value is not None:
        choose(str(name.value), NORMALIZATIONS, kind="normalization", where=name.origin)
    layer = {name: value for name, value in arguments.layer.items() if name != "protocol"}
    configs.require_known(layer, ALL)
    for name, value in layer.items():
        home = next(cls for cls in ALL if name in {field.name for field in configs.settings_of(cls)})
        configs.check([{name: value}], {"recipe": home})
    return arguments


def of_set(arguments: Arguments[Relabel | Validate]) -> Arguments[Any]:
    """Returns the arguments of a command on a set that was recovered from a teacher; its settings are the students'.

    Raises:
        ConfigError: an unknown key, or a bad value.
        UsageError: no set is named; or settings, which the set has with it.
    """
    from jaxdd.evaluation.settings import SoftSettings

    options = arguments.options
    if options.preset or options.config_path:
        where = "--preset" if options.preset else "--config_path"
        raise UsageError("the set has its recipe with it", where=where, remedy="leave it out; --set changes a setting")
    configs.check([arguments.layer], {"recipe": SoftSettings})
    if options.named:
        return arguments
    raise UsageError(
        "which set?",
        where="`checkpoint_path`" + ", or `train_dir`" * hasattr(options, "train_dir"),
        expected="the output folder of recover",
        remedy="name it, e.g. --checkpoint_path syn-data/NAME",
    )
