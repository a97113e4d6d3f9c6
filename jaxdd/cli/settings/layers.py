"""From flags and a config file to settings: flags override the file, `--set` overrides both, everything is checked."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

from jaxdd.cli.flags.rcig import Distill
from jaxdd.core import config as configs
from jaxdd.core.config import ConfigFile
from jaxdd.core.errors import UsageError, choose
from jaxdd.data.registry import one_word
from jaxdd.run.chain.settings import NAMES as CHAINS
from jaxdd.run.settings import RunSettings, Settings

DEFAULT = "configs_final/digits.txt"  # what runs without a config, unless a method has a file of its own
MATCHING = "configs_final/matching/digits.txt"  # which the matching methods share
PUBLISHED = "published settings"  # in place of a file's path: nothing but what the method implies
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
        path, told = _nearest(str(overrides["dataset_name"][1]), overrides.get("method", ("", "rcig"))[1])
        notices += told
    return build(path, overrides, notices=notices)


def build(path: str | None, overrides: Mapping[str, tuple[str, Any]], *, notices: list[str]) -> Settings:
    """Settings from a config file and what overrides it.

    Arguments:
        path: of the file; None for the method's on the digits, PUBLISHED for what the method itself has.
        overrides: key -> (flag it came by, value).
        notices: what to tell beside what the settings tell.
    """
    plain = {key: value for key, (_, value) in overrides.items()}
    path = path or default_config(plain.get("method"))
    _require_known_data(_read(path).replace(plain))

    from jaxdd.methods import METHODS  # imports JAX: not before the first checks

    method = _read(path).replace(plain).values.get("method", "rcig")
    where = overrides.get("method", ("method",))[0]
    if str(method) in CHAINS:
        raise UsageError(
            f"'{method}' is a chain of its own",
            where=where if path == DEFAULT else str(path),
            expected="distill or recover for it",
            remedy="to evaluate, leave --config_path out: the set has its recipe with it",
        )
    cls = METHODS[choose(str(method), (*METHODS, *CHAINS), kind="method", where=where)]
    classes = {"method": cls, "run": RunSettings}
    file = _read(path, getattr(cls, "historical_names", None))
    _check_overrides(overrides, classes)
    file = _with_canonical_name(file.replace(plain))
    implied = cls.implied(file.values)
    file = file.replace(implied.values)
    built = configs.build(file, classes)
    told = (*file.notices, *notices, *implied.notices, *built["method"].notices())
    return Settings(file, built["run"], built["method"], told)


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


def default_folder(dataset: str, ipc: int, method: str = RunSettings.method) -> pathlib.Path:
    """`output_dir/cifar10_10`, or `frepo_cifar10_10` by another method; of nested names and paths, one word remains."""
    name = one_word(dataset) if method == RunSettings.method else f"{method}_{one_word(dataset)}"
    return pathlib.Path("output_dir", f"{name}_{ipc}").absolute()


def default_config(method: Any) -> str:
    """The packaged config that runs a method on the digits: `<method>/digits.txt`, or that of its family."""
    packaged = configs.packaged_configs()
    if f"{method}/digits.txt" in packaged:
        return f"configs_final/{method}/digits.txt"
    return MATCHING if any(name.startswith(f"matching/{method}_") for name in packaged) else DEFAULT


def _nearest(dataset: str, method: Any) -> tuple[str | None, list[str]]:
    """The file for a data set where none is named, and what to tell of it.

    What a matching method has published for a data set it knows itself; of other methods a file that was written for
    the data set is named, but not taken: it may need days.
    """
    from jaxdd.data.registry import canonical

    usual, wanted = default_config(method), canonical(dataset)
    if wanted == "digits":
        return None, []
    if usual == MATCHING:
        return PUBLISHED, []
    packaged = configs.packaged_configs()
    folder = str(method) if f"{method}/digits.txt" in packaged else ""
    packaged = {name: path for name, path in packaged.items() if name.rpartition("/")[0] == folder}
    for_it = [name for name, path in packaged.items() if configs.read_config(path).values.get("dataset_name") == wanted]
    others = [name for name in packaged if not name.endswith("digits.txt")]
    named = ", ".join(f"--config_path {name}" for name in (for_it or others)[:4])
    return None, [f"the settings are those of the quick example on the digits, not published ones: {named}"]


def _read(path: str, historical: Mapping[str, str] | None = None) -> ConfigFile:
    if path == PUBLISHED:
        return ConfigFile(PUBLISHED, {})
    return configs.read_config(configs.find_config(path), historical=historical)


def _require_known_data(config: ConfigFile) -> None:
    """The data set's name exists; light, so that a typo costs nothing."""
    from jaxdd.data.registry import spec, user_kind

    name = config.values.get("dataset_name", "cifar10")
    if isinstance(name, str) and not user_kind(name):
        spec(name)


def _with_canonical_name(file: ConfigFile) -> ConfigFile:
    from jaxdd.data import canonical

    name = file.values.get("dataset_name")
    return file.replace({"dataset_name": canonical(name)}) if isinstance(name, str) else file


def _check_overrides(overrides: Mapping[str, tuple[str, Any]], classes: Mapping[str, type]) -> None:
    """Refuses a bad override by the flag it came by, not by the file it replaces something in."""
    fields = {field.name: (cls, field) for cls in classes.values() for field in configs.settings_of(cls)}
    for key, (flag, value) in overrides.items():
        origin = ConfigFile(flag, {key: value})
        if key not in fields:
            configs.build(origin, classes)  # says that it is unknown, and what is near
        else:
            configs.check(*fields[key], origin)
