"""From the matching commands' flags to settings: names as in the authors' scripts become those of the engine."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import shlex
from collections.abc import Sequence

from jaxdd.cli.devices import is_one_of_several
from jaxdd.cli.flags.matching import NO_EFFECT, OF_NETWORKS, OWN, Condense, Matching, Pretrain, flag_of
from jaxdd.cli.flags.shared import Run
from jaxdd.cli.settings.layers import Overrides, assigned, given, no_effect
from jaxdd.core import config as configs
from jaxdd.core.errors import UsageError, choose
from jaxdd.run.chain import networks
from jaxdd.run.presets import PUBLISHED, build
from jaxdd.run.settings import Settings

WIDTH = 128  # channels that --width counts in
MOST_WIDTH = 8  # above, channels are meant, as with the other commands
NETWORKS = {"resnetap": "resnet_ap"}  # as a README writes it
MOST_DEPTH = 4  # of a ConvNet: the scripts read a greater one, their default of 10 too, as the default
AS_THEY_ARE = ("accdd", "ga", "dc", "dsa", "dm")  # methods whose --niter counts outer iterations of any length
UNIT = 100  # inner iterations that --niter counts in for the others
CLASSES = 10  # of ImageNet, unless --nclass says otherwise


def resolve(flags: Condense) -> Settings:
    """Returns the settings of `condense`.

    Raises:
        ConfigError, UsageError: as in `cli.settings.layers.resolve`; or flags that contradict each other.
    """
    from jaxdd.methods import MATCHING
    from jaxdd.methods.condensation.settings import CondensationSettings

    if flags.method:
        choose(flags.method, MATCHING, kind="matching method", where="--method")
    names = [field.name for field in configs.settings_of(CondensationSettings)]
    overrides, notices = _common(flags, names)
    overrides |= given(flags, {"ipc": "n_images", "max_steps": "max_steps"})
    if flags.model_path:
        overrides["source"] = ("--model_path", "pretrained")
    elif (flags.pt_from or 0) > 0:
        overrides["source"] = ("--pt_from", "pretrained")
    if flags.method or not flags.config_path:
        overrides["method"] = ("--method", flags.method or ("accdd" if flags.model_path else "dream"))
        if not flags.method:
            why = "--model_path is given" if flags.model_path else "--model_path is not given"
            notices.append(f"the method is {overrides['method'][1]}, as {why}; --method names another")
    overrides |= assigned(flags)
    path = flags.config_path or (PUBLISHED if "dataset_name" in overrides else None)
    return _told_of_interval(_with_iterations(_built(path, overrides, notices), flags), flags)


def resolve_pretraining(flags: Pretrain) -> tuple[Settings, int]:
    """Returns the matching method whose networks `pretrain` is to train, and for how many epochs.

    Raises:
        ConfigError, UsageError: as in `resolve`.
    """
    overrides, notices = _common(flags, list(OF_NETWORKS))
    overrides["method"] = ("--method", "accdd")
    overrides |= assigned(flags)
    settings = _built(PUBLISHED if "dataset_name" in overrides else None, overrides, notices)
    if flags.pt_from is not None and flags.pt_from < 1:
        raise UsageError(
            f"{flags.pt_from} epochs",
            where="--pt_from",
            expected="at least 1",
            remedy="pretrain for an epoch or more, or leave --pt_from out",
        )
    from jaxdd.methods.condensation.early import published_epochs

    return settings, flags.pt_from or published_epochs(settings.run.dataset_name)


def networks_for(
    settings: Settings,
    flags: Run,
    *,
    epochs: int | None = None,
    named: Sequence[pathlib.Path | str] = (),
) -> tuple[pathlib.Path, ...]:
    """Returns the folders of networks that a run starts from, checked.

    Arguments:
        settings, flags: of the run.
        epochs: that such networks would be trained for; None for the published ones.
        named: as in `run.chain.networks.find`.

    Raises:
        UsageError, CheckpointError: there are none, or of another kind; says how `pretrain` trains such.
    """
    words = advised(settings, epochs=epochs, data_path=flags.data_path, resolution=flags.resolution)
    return networks.find(settings, flags.resolution, f"`pretrain` {shlex.join(words)}", named)


def advised(settings: Settings, *, epochs: int | None, data_path: str | None, resolution: int | None) -> list[str]:
    """Returns the flags by which `pretrain` trains the networks that a run needs."""
    rest = networks.wanted(settings)
    flags = {"dataset": settings.run.dataset_name, "data_path": data_path, "resolution": resolution}
    flags |= {name: rest.pop(name) for name in ("net_type", "norm_type") if name in rest} | {"pt_from": epochs}
    pairs = [(name, str(value)) for name, value in flags.items() if value is not None]
    pairs += [("set", f"{name}={json.dumps(value)}") for name, value in rest.items()]  # --depth has limits
    return [word for name, value in pairs for word in (f"--{name}", value)]


def data_path(flags: Condense | Pretrain, dataset: str) -> str | None:
    """Returns where local files are looked for."""
    return flags.imagenet_dir if flags.imagenet_dir and dataset.startswith("imagenet") else flags.data_path


def require_one_process(flags: Condense) -> None:
    """Refuses what several processes cannot do together.

    Raises:
        UsageError: names the flag.
    """
    if not is_one_of_several(flags):
        return
    if flags.val_interval is not None:
        raise UsageError("several processes cannot evaluate on the way", where="--val_interval", remedy="leave it out")
    if flags.pretrain:
        raise UsageError(
            "several processes cannot train networks first", where="--pretrain", remedy="run pretrain.py before them"
        )


def evaluate_every(flags: Condense, settings: Settings) -> int | None:
    """Returns the steps between two evaluations on the way; --val_interval counts outer iterations."""
    if flags.val_interval is None:
        return None
    return flags.val_interval * settings.method.inner_loop  # pyright: ignore[reportAttributeAccessIssue]


def _common(flags: Condense | Pretrain, names: list[str]) -> tuple[Overrides, list[str]]:
    """Returns what both commands take from their flags, and what to tell."""
    overrides = given(flags, {flag_of(name): name for name in names if name not in OWN})
    said = {name: value for name, (_, value) in overrides.items()}
    notices = no_effect(flags, {name: why for name, (_, why) in NO_EFFECT.items()})
    if flags.dataset is not None:
        overrides["dataset_name"] = ("--dataset", _dataset(flags))
    if flags.width is not None:
        if flags.width > MOST_WIDTH:
            raise UsageError(
                f"a network of {round(WIDTH * flags.width)} channels",
                where=f"--width {flags.width:g}",
                expected=f"a multiple of the published {WIDTH} channels, as in the scripts, up to {MOST_WIDTH}",
                remedy=f"--set width={round(flags.width)} for as many channels",
            )
        overrides["width"] = ("--width", round(WIDTH * flags.width))
    if (written := str(said.get("net_type"))) in NETWORKS:
        overrides["net_type"] = ("--net_type", NETWORKS[written])
    for name in ("aug_type", "net_aug"):
        if said.get(name) == "none":
            overrides[name] = (f"--{name}", None)
    if said.get("fix_iter") == -1:  # the scripts' default, which means 1
        del overrides["fix_iter"]
    if flags.reproduce:
        notices.append("--reproduce is accepted: published settings are the defaults")
    return overrides, notices


def _dataset(flags: Matching) -> str:
    """Returns the data set's name; of ImageNet, with the classes that several flags choose (`data.imagenet`)."""
    if flags.dataset == "imagenet":
        count = max(flags.nclass_sub or 0, 0) or flags.nclass or CLASSES
        return f"imagenet{count}:{max(flags.phase or 0, 0)}:{max(flags.dseed or 0, 0)}"
    for name in ("phase", "nclass_sub", "dseed"):
        if (getattr(flags, name) or 0) > 0:
            raise UsageError(
                f"{flags.dataset} comes as a whole",
                where=f"--{name}",
                expected="--dataset imagenet, of which it chooses classes",
                remedy="leave it out",
            )
    return str(flags.dataset)


def _built(path: str | None, overrides: Overrides, notices: list[str]) -> Settings:
    """Builds settings without a depth that the scripts ignore; only the built method shows whether it has ConvNets."""
    settings = build(path, overrides, notices=notices)
    flag, depth = overrides.get("depth", ("", None))
    if flag != "--depth" or depth <= MOST_DEPTH or settings.method.net_type != "convnet":  # pyright: ignore
        return settings
    others = {name: given for name, given in overrides.items() if name != "depth"}
    told = f"--depth {depth} is read as a ConvNet's default, as in the scripts; --set depth={depth} means it"
    return build(path, others, notices=[*notices, told])


def _with_iterations(settings: Settings, flags: Condense) -> Settings:
    """Returns settings with --niter as the number of steps."""
    if flags.niter is None:
        return settings
    if flags.max_steps is not None:
        raise UsageError("the length is given twice", where="--niter and --max_steps", remedy="keep one of the two")
    loop = settings.method.inner_loop  # pyright: ignore[reportAttributeAccessIssue] (a matching method)
    outer = flags.niter if settings.run.method in AS_THEY_ARE else max(1, flags.niter * UNIT // loop)
    run = dataclasses.replace(settings.run, max_steps=outer * loop)
    return dataclasses.replace(settings, run=run, config=settings.config.replace({"max_steps": outer * loop}))


def _told_of_interval(settings: Settings, flags: Condense) -> Settings:
    """Adds a notice where --val_interval is too long for any evaluation."""
    every, steps = evaluate_every(flags, settings), settings.run.max_steps
    if every is None or every <= steps:
        return settings
    told = f"--val_interval {flags.val_interval} is {every} steps, longer than the run of {steps}: nothing is evaluated"
    return dataclasses.replace(settings, notices=(*settings.notices, told))
