"""From flags and a config file to settings: flags override the file, `--set` overrides both, everything is checked."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

from jaxdd.cli.flags.rcig import Distill
from jaxdd.core import config as configs
from jaxdd.run.presets import build, default_folder, for_dataset
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


def resolve(flags: Distill) -> Settings:
    """Reads the config file, applies flags and `--set`, and checks all of it.

    Raises:
        ConfigError, UsageError: a file that is not there, an unknown key, method or data set, a bad value.
    """
    given = {f"--{key}": (key, getattr(flags, key)) for key in KEYS if getattr(flags, key) is not None}
    overrides: dict[str, tuple[str, Any]] = {key: (flag, value) for flag, (key, value) in given.items()}
    overrides |= {key: ("--set", value) for key, value in configs.parse_assignments(flags.set).items()}
    path, notices = flags.config_path, no_effect(flags)
    if not path and "dataset_name" in overrides:
        path, told = for_dataset(str(overrides["dataset_name"][1]), overrides.get("method", ("", "rcig"))[1])
        notices += told
    return build(path, overrides, notices=notices)


def no_effect(flags: Any, reasons: Mapping[str, str] = NO_EFFECT) -> list[str]:
    """One notice per flag that the originals have and that does nothing here.

    Arguments:
        flags: of a command.
        reasons: flag -> why.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(flags)}
    used = [name for name in reasons if name in defaults and getattr(flags, name) != defaults[name]]
    return [f"--{name} is accepted but has no effect: {reasons[name]}" for name in used]


def output_folder(given: str | None, settings: Settings) -> pathlib.Path:
    """`--output_dir`, or `output_dir/<dataset>_<ipc>` in the working directory."""
    if given:
        return pathlib.Path(given).expanduser().absolute()
    return default_folder(settings.run.dataset_name, settings.ipc, settings.run.method)
