"""From flags and a config file to settings: flags override the file, `--set` overrides both, everything is checked."""

from __future__ import annotations

import dataclasses
import pathlib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jaxdd.cli.flags import Distill, Eval
from jaxdd.core import config as configs
from jaxdd.core.config import ConfigFile
from jaxdd.core.errors import choose
from jaxdd.run.settings import RunSettings

if TYPE_CHECKING:
    from jaxdd.core.procedure import Procedure

DEFAULT = "configs_final/digits.txt"
ORIGINAL = {"n_images": 10}  # defaults of the original's flags, for files that do not say (the others are RunSettings')
CHUNKED = ("inner_train_batch_size", "hinv_batch_size")
KEYS = (
    *("dataset_name", "width", "n_images", "max_steps", "use_x64", "skip_tune", "naive_loss"),
    *("init_random_noise", "method"),
)
NO_EFFECT = {
    "train_log": "log.txt and metrics.jsonl are always written",
    "train_img": "pictures are written at checkpoint_iters",
    "max_cycles": "it has none in the original either",
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a run is made of.

    Arguments:
        config: the file, with everything that overrides it.
        run: settings of the run.
        method: the procedure with its settings.
        notices: what the user should be told.
    """

    config: ConfigFile
    run: RunSettings
    method: Procedure
    notices: tuple[str, ...]

    @property
    def ipc(self) -> int:
        """Images per class."""
        return getattr(self.method, "n_images", 1)


def resolve(flags: Distill) -> Settings:
    """Reads the config file, applies flags and `--set`, and checks all of it.

    Raises:
        ConfigError, UsageError: a file that is not there, an unknown key, method or data set, a bad value.
    """
    given = {f"--{key}": (key, getattr(flags, key)) for key in KEYS if getattr(flags, key) is not None}
    overrides: dict[str, tuple[str, Any]] = {key: (flag, value) for flag, (key, value) in given.items()}
    overrides |= {key: ("--set", value) for key, value in configs.parse_assignments(flags.set).items()}
    return build(flags.config_path, overrides, notices=no_effect(flags))


def build(path: str | None, overrides: Mapping[str, tuple[str, Any]], *, notices: list[str]) -> Settings:
    """Settings from a config file and what overrides it: key -> (flag it came by, value)."""
    found = configs.find_config(path or DEFAULT)
    plain = {key: value for key, (_, value) in overrides.items()}
    _require_known_data(configs.read_config(found).replace(plain))

    from jaxdd.methods import METHODS  # imports JAX: not before the first checks

    method = configs.read_config(found).replace(plain).values.get("method", "rcig")
    cls = METHODS[choose(str(method), METHODS, kind="method", where=overrides.get("method", ("method",))[0])]
    classes = {"method": cls, "run": RunSettings}
    file = configs.read_config(found, historical=getattr(cls, "historical_names", {}))
    _check_overrides(overrides, classes)
    file = file.replace({**{key: value for key, value in ORIGINAL.items() if key not in file.values}, **plain})
    notices = [*file.notices, *notices]
    file = _select_solver(file, cls, notices)
    built = configs.build(file, classes)
    _note_chunks(built["method"], notices)
    return Settings(file, built["run"], built["method"], tuple(notices))


def no_effect(flags: Distill | Eval) -> list[str]:
    """One notice per flag that the original has and that does nothing here."""
    defaults = {field.name: field.default for field in dataclasses.fields(flags)}
    used = [name for name in NO_EFFECT if name in defaults and getattr(flags, name) != defaults[name]]
    return [f"--{name} is accepted but has no effect: {NO_EFFECT[name]}" for name in used]


def output_folder(given: str | None, dataset: str, ipc: int) -> pathlib.Path:
    """`--output_dir`, or `output_dir/<dataset>_<ipc>` in the working directory."""
    return pathlib.Path(given).expanduser().absolute() if given else default_folder(dataset, ipc)


def default_folder(dataset: str, ipc: int) -> pathlib.Path:
    """`output_dir/cifar10_10`; of nested names and paths, one word remains."""
    kind, colon, rest = dataset.partition(":")
    name = f"{kind}_{pathlib.PurePath(rest).stem}" if colon else dataset
    return pathlib.Path("output_dir", f"{re.sub(r'[^A-Za-z0-9_.-]+', '_', name)}_{ipc}").absolute()


def _require_known_data(config: ConfigFile) -> None:
    """The data set's name exists; light, so that a typo costs nothing."""
    from jaxdd.data.registry import spec, user_kind

    name = config.values.get("dataset_name", "cifar10")
    if isinstance(name, str) and not user_kind(name):
        spec(name)


def _check_overrides(overrides: Mapping[str, tuple[str, Any]], classes: Mapping[str, type]) -> None:
    """Refuses a bad override by the flag it came by, not by the file it replaces something in."""
    fields = {field.name: (cls, field) for cls in classes.values() for field in configs.settings_of(cls)}
    for key, (flag, value) in overrides.items():
        origin = ConfigFile(flag, {key: value})
        if key not in fields:
            configs.build(origin, classes)  # says that it is unknown, and what is near
        else:
            configs.check(*fields[key], origin)


def _select_solver(file: ConfigFile, cls: type, notices: list[str]) -> ConfigFile:
    """Three of RCIG's settings belong to one solver: it is selected, unless another one was named."""
    if not any(field.name == "inner_solver" for field in configs.settings_of(cls)) or "inner_solver" in file.values:
        return file

    from jaxdd.methods.rcig_settings import adam_only

    for name in adam_only(file.values):
        notices.append(f"'{name}' belongs to the adam solver: inner_solver = adam is selected")
        file = file.replace({"inner_solver": "adam"})
    return file


def _note_chunks(method: Any, notices: list[str]) -> None:
    """Says what two settings mean under the exact solvers."""
    used = [name for name in CHUNKED if getattr(method, name, None) is not None]
    solver = getattr(method, "inner_solver", None)
    if used and solver in ("pcg", "dense"):
        sizes = ", ".join(f"{name} = {getattr(method, name)}" for name in used)
        notices.append(f"{sizes}: chunk sizes of the full operator under inner_solver = {solver}, not sub-samples")
