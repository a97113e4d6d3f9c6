"""From flags and a config file to settings: flags override the file, `--set` overrides both, everything is checked."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from jaxdd.cli.flags.rcig import Distill
from jaxdd.core import config as configs
from jaxdd.run.presets import build, for_dataset
from jaxdd.run.settings import Settings

KEYS = (
    *("dataset_name", "width", "n_images", "max_steps", "use_x64", "skip_tune", "naive_loss"),
    *("init_random_noise", "method"),
)
NO_EFFECT = {
    "train_log": "log.txt and metrics.jsonl are always written",
    "train_img": "pictures are written at checkpoint_iters",
    "max_cycles": "it has none in the original either",
}

Overrides = dict[str, tuple[str, Any]]  # setting -> the flag it came by, and its value


def resolve(flags: Distill) -> Settings:
    """Reads the config file, applies flags and `--set`, and checks all of it.

    Raises:
        ConfigError, UsageError: a file that is not there, an unknown key, method or data set, a bad value.
    """
    overrides = given(flags, KEYS) | assigned(flags)
    path, notices = flags.config_path, no_effect(flags)
    if not path and "dataset_name" in overrides:
        path, told = for_dataset(str(overrides["dataset_name"][1]), overrides.get("method", ("", "rcig"))[1])
        notices += told
    return build(path, overrides, notices=notices)


def given(flags: Any, names: Mapping[str, str] | Iterable[str]) -> Overrides:
    """Returns what flags say: setting -> the flag it came by, and its value.

    Arguments:
        flags: of a command.
        names: flag -> setting; or flags whose settings have their names.
    """
    names = names if isinstance(names, Mapping) else {name: name for name in names}
    values = {flag: getattr(flags, flag, None) for flag in names}
    return {names[flag]: (f"--{flag}", value) for flag, value in values.items() if value is not None}


def assigned(flags: Any) -> Overrides:
    """Returns what `--set` says, as `given`."""
    return {name: ("--set", value) for name, value in configs.parse_assignments(flags.set).items()}


def no_effect(flags: Any, reasons: Mapping[str, str] = NO_EFFECT) -> list[str]:
    """Returns one notice per flag that the originals have and that does nothing here.

    Arguments:
        flags: of a command.
        reasons: flag -> why.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(flags)}
    used = [name for name in reasons if name in defaults and getattr(flags, name) != defaults[name]]
    return [f"--{name} is accepted but has no effect: {reasons[name]}" for name in used]
