"""Which settings a method runs with: a packaged config or what its paper published, and what overrides them.

The command line and Python come here alike. Nothing here imports JAX before the first checks.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jaxdd.core import config as configs
from jaxdd.core.config import ConfigFile
from jaxdd.core.errors import UsageError, choose
from jaxdd.data.registry import one_word, require_known
from jaxdd.run.chain.settings import GROUPS, NAMES, ChainSettings, Decoupled, merged
from jaxdd.run.settings import RunSettings, Settings

if TYPE_CHECKING:
    from jaxdd.data import DataSpec
    from jaxdd.training.recipe import TeacherRecipe

DEFAULT = "configs_final/digits.txt"  # what runs without a config, unless a method has a file of its own
MATCHING = "configs_final/matching/digits.txt"  # which the matching methods share
PUBLISHED = "published settings"  # in place of a file's path: nothing but what the method implies
OF_CHAINS = ("cifar100", "tiny", "in1k", "in21k", "digits")  # files configs_final/cda/<method>_<preset>.txt
USUAL = "cda"  # the chain where nothing is said
OF_SCRIPT = "the script's default"  # where a setting was given that nobody typed
FULL = {"imagenet": "imagenet1k"}  # what the chains mean by a name

Overrides = Mapping[str, tuple[str, Any]]  # setting -> where it was given (a flag, an argument), and its value


def build(path: str | None, overrides: Overrides, *, notices: Sequence[str] = (), at_hand: bool = False) -> Settings:
    """Returns settings from a config file and from what overrides it.

    Arguments:
        path: of the file; None for the method's on the digits, PUBLISHED for what the method itself has.
        overrides: what replaces the file's values.
        notices: what to tell beside what the settings tell.
        at_hand: whether the data set is there already, whatever its name.

    Raises:
        ConfigError, UsageError: a file that is not there, an unknown key, method or data set, a bad value.
    """
    plain = {key: value for key, (_, value) in overrides.items()}
    path = path or default_config(plain.get("method"))
    if not at_hand:
        named = _read(path).replace(plain).values.get("dataset_name", "cifar10")
        if isinstance(named, str):
            require_known(named)

    from jaxdd.methods import METHODS

    method = _read(path).replace(plain).values.get("method", "rcig")
    where = overrides.get("method", ("method",))[0]
    entry = METHODS[choose(str(method), METHODS, kind="method", where=where)]
    if entry.is_chain:
        raise UsageError(
            f"'{method}' is a chain of its own",
            where=where if path == DEFAULT else str(path),
            expected="distill or recover for it",
            remedy="to evaluate, leave `config_path` out: the set has its recipe with it",
        )
    check_overrides(overrides, {"method": entry.light, "run": RunSettings})
    cls = entry.settings  # imports JAX: not before these checks
    classes = {"method": cls, "run": RunSettings}
    file = _read(path, getattr(cls, "historical_names", None))
    check_overrides(overrides, classes)
    file = _with_canonical_name(file.replace(plain))
    implied = cls.implied(file.values)
    file = file.replace(implied.values)
    built = configs.build(file, classes)
    told = (*file.notices, *notices, *implied.notices, *built["method"].notices())
    return Settings(file, built["run"], built["method"], told)


def default_folder(dataset: str, ipc: int, method: str = RunSettings.method) -> pathlib.Path:
    """Returns `output_dir/cifar10_10`, or `frepo_cifar10_10` by another method; of nested names and paths, one word
    remains."""
    name = one_word(dataset) if method == RunSettings.method else f"{method}_{one_word(dataset)}"
    return pathlib.Path("output_dir", f"{name}_{ipc}").absolute()


def default_config(method: Any) -> str:
    """Returns the packaged config that runs a method on the digits: `<method>/digits.txt`, or that of its family."""
    packaged = configs.packaged_configs()
    if f"{method}/digits.txt" in packaged:
        return f"configs_final/{method}/digits.txt"
    return MATCHING if any(name.startswith(f"matching/{method}_") for name in packaged) else DEFAULT


def for_dataset(dataset: str, method: Any) -> tuple[str | None, list[str]]:
    """Returns the file for a data set where none is named, and what to tell of it.

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
    named = ", ".join(f"`config_path={name}`" for name in (for_it or others)[:4])
    return None, [f"the settings are those of the quick example on the digits, not published ones: {named}"]


def _read(path: str, historical: Mapping[str, str] | None = None) -> ConfigFile:
    if path == PUBLISHED:
        return ConfigFile(PUBLISHED, {})
    return configs.read_config(configs.find_config(path), historical=historical)


def _with_canonical_name(file: ConfigFile) -> ConfigFile:
    from jaxdd.data import canonical

    name = file.values.get("dataset_name")
    return file.replace({"dataset_name": canonical(name)}) if isinstance(name, str) else file


def build_chain(
    method: str | None,
    overrides: Overrides,
    *,
    path: str | None = None,
    preset: str | None = None,
    describe: Callable[[str], DataSpec],
    notices: Sequence[str] = (),
) -> Decoupled:
    """Returns the settings of a chain from a preset or config file and from what overrides them.

    Arguments:
        method: that is named; None for the file's.
        overrides: what replaces the file's values.
        path: of a config file.
        preset: one of `OF_CHAINS`, in place of a file; without both, what the method published for the data set.
        describe: tells of a data set what is known before an image is read.
        notices: what to tell beside what the settings tell.

    Raises:
        ConfigError, UsageError: a file that is not there, an unknown key, method or data set, or a bad value.
    """
    from jaxdd import data
    from jaxdd.methods.recovery import published
    from jaxdd.methods.recovery.settings import Recovery

    overrides = {**overrides} if method is None else {**overrides, "method": ("method", method)}
    classes = {"chain": ChainSettings, "recovery": Recovery}
    file = _file_of_chain(method, path, preset)
    configs.require_known(file, classes.values())
    if "iterations" in overrides:  # which stages then share as published
        file = dataclasses.replace(file, values={key: file.values[key] for key in file.values if key != "stages"})
    values = merged({"method": USUAL, **file.values}, {key: value for key, (_, value) in overrides.items()})
    choose(str(values["method"]), NAMES, kind="method", where=overrides.get("method", ("method",))[0])
    check_overrides(overrides, classes)
    values["dataset_name"] = data.canonical(FULL.get(named := str(values.get("dataset_name", "digits")), named))
    spec = describe(values["dataset_name"])
    resized: list[str] = []
    if preset:
        values, resized = published.for_size(values, overrides, str(file.values["dataset_name"]), spec.resolution)
    implied = published.implied(values, resolution=spec.resolution, classes=spec.classes)
    file = dataclasses.replace(file, values={**values, **implied.values})
    built = configs.build(file, classes)
    chain: ChainSettings = built["chain"]

    teacher = _teacher(chain, spec)

    from jaxdd.evaluation.recipe import Recipe  # imports JAX: not before these checks

    chain.architecture()
    told = [*file.notices, *resized, *notices, *(implied.notices if file.path == PUBLISHED else ())]
    told += [] if "r_bn" in overrides else published.told_of_teacher(chain.arch_name)
    typed = frozenset(key for key, (where, _) in overrides.items() if where != OF_SCRIPT)
    settings = Decoupled(file, chain, built["recovery"], teacher, spec, tuple(told), typed)
    Recipe.of(settings.recipe)  # hours before students need it
    return settings


def _file_of_chain(method: str | None, path: str | None, preset: str | None) -> ConfigFile:
    """Returns the config file that is named, or the preset's, or none.

    Raises:
        ConfigError, UsageError: there is none; or it is another method's than the one that is named.
    """
    if preset:
        packaged = configs.packaged_configs()
        published = [name for name in NAMES if f"cda/{name}_{preset}.txt" in packaged]
        usual = USUAL if USUAL in published else published[0]  # CDA publishes nothing for CIFAR-100
        if method not in (None, *published):
            raise UsageError(
                f"{method} publishes no settings for '{preset}'",
                where=f"`preset={preset}`, `method={method}`",
                expected=f"for this preset, {' or '.join(published)}",
                remedy="name the data set by `dataset_name`: the settings of the nearest published one are taken",
            )
        path = f"cda/{method or usual}_{preset}.txt"
    if not path:
        return ConfigFile(PUBLISHED, {})
    file = configs.read_config(configs.find_config(path))
    if method not in (None, method_of_file := file.values.get("method", method)):
        raise UsageError(
            f"the config file is for {method_of_file}, not for {method}",
            where=f"`method={method}`, `config_path={path}`",
            expected="one method",
            remedy=f"take configs_final/cda/{method}_*.txt, or `preset` with `method`",
        )
    return file


def _teacher(chain: ChainSettings, spec: DataSpec) -> TeacherRecipe:
    """Returns the teacher's recipe: as published, with what the group `squeeze` says."""
    from jaxdd.training.recipe import TeacherRecipe, published

    usual = published(chain.dataset_name, spec.resolution or 32)
    file = ConfigFile("squeeze", {**configs.as_dict(usual), **chain.squeeze})
    return configs.build(file, {"recipe": TeacherRecipe})["recipe"]


def check_overrides(overrides: Overrides, classes: Mapping[str, type]) -> None:
    """Refuses a bad override by the place where it was given, not by the file it replaces something in."""
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
