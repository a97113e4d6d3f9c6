"""The settings of a run: which method on which data, and for how long; and where all of them come from.

What a data set implies for the method lies below a config file, and that below flags and arguments (`core.config`).
The command line and Python come here alike. Nothing here imports JAX before the first checks.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jaxdd.core import config as configs
from jaxdd.core.config import ConfigFile, Layer, setting
from jaxdd.core.errors import UsageError, choose
from jaxdd.data.registry import canonical, one_word, require_known

if TYPE_CHECKING:
    from jaxdd.core.procedure import Method

DEFAULT = "configs_final/digits.txt"  # what runs without a config, unless a method has a file of its own
MATCHING = "configs_final/matching/digits.txt"  # which the matching methods share
PUBLISHED = "published settings"  # in place of a file's path: nothing but what the method implies


@dataclasses.dataclass(frozen=True)
class RunSettings:
    """Which method on which data, for how long, and how its result is to be evaluated."""

    method: str = setting("rcig", "method, e.g. rcig or frepo; an unknown name lists all of them")
    dataset_name: str = setting(
        "cifar10", "data set: digits, mnist, cifar10, ..., or your own as folder:DIR, npz:FILE or parquet:DIR"
    )
    max_steps: int = setting(10000, "steps in all; raising it continues a finished run", low=1)
    checkpoint_iters: tuple[int, ...] = setting((), "steps after which the set and its picture are also kept", low=0)
    img_size: int | None = setting(None, "side of the images in pixels that the file was written for", low=1)
    test_aug: str | None = setting(
        "flip_color_crop_rotate_translate_cutout", "augmentation of the augmented evaluation; null: none"
    )
    recipe: dict[str, Any] = dataclasses.field(  # a mutable default: `setting` cannot make it
        default_factory=dict,
        metadata={"help": "evaluation: what differs from the published recipe", "low": None, "high": None},
    )

    def stored_recipe(self, method: Method) -> dict[str, Any]:
        """Returns the evaluation recipe that goes into the artefact: the method's own, unless told otherwise."""
        protocol = self.recipe.get("protocol", method.protocol)
        how = {"test_aug": self.test_aug} if protocol == "rcig" else {"protocol": protocol}
        return {**how, **method.recipe(protocol), **self.recipe}


@dataclasses.dataclass(frozen=True)
class Settings:
    """All settings of a run.

    Arguments:
        config: the file, with everything that overrides it.
        run: settings of the run.
        method: the procedure with its settings.
        notices: what the user should be told.
    """

    config: ConfigFile
    run: RunSettings
    method: Method
    notices: tuple[str, ...]

    @property
    def starts_from_networks(self) -> bool:
        """Whether the method starts from networks trained beforehand."""
        return getattr(self.method, "source", "random") == "pretrained"

    @property
    def ipc(self) -> int:
        """Images per class."""
        return self.method.n_images


def build(
    source: str | ConfigFile | None, layer: Layer, *, notices: Sequence[str] = (), at_hand: bool = False
) -> Settings:
    """Returns settings from a config file and from what overrides it.

    Arguments:
        source: the path of the file, or the file; None for the method's on the digits, PUBLISHED for what the method
            itself has.
        layer: what flags or arguments say.
        notices: what to tell beside what the settings tell.
        at_hand: whether the data set is there already, whatever its name.

    Raises:
        ConfigError, UsageError: a file that is not there, an unknown key, method or data set, a bad value.
    """
    usual = default_config(layer["method"].value if "method" in layer else None)
    source = source or (ConfigFile(PUBLISHED, {"dataset_name": "digits"}) if usual == PUBLISHED else usual)
    file = read(source)
    named = {**file.layer, **layer}
    if not at_hand:
        dataset = named["dataset_name"].value if "dataset_name" in named else RunSettings.dataset_name
        require_known(str(dataset))

    from jaxdd.methods import METHODS

    method, where = named.get("method", configs.Value(RunSettings.method, "method"))
    entry = METHODS[choose(str(method), METHODS, kind="method", where=where)]
    if entry.is_chain:
        raise UsageError(
            f"'{method}' is a chain of its own",
            where=where,
            expected="`distill` or `recover` for it",
            remedy="to evaluate, leave `config_path` out: the set has its recipe with it",
        )
    file = read(source, getattr(entry.light, "historical_names", None))
    named = {**file.layer, **layer}
    configs.check([named], {"method": entry.light, "run": RunSettings})
    if "dataset_name" in named:
        name, origin = named["dataset_name"]
        named["dataset_name"] = configs.Value(canonical(name), origin)
    implied = entry.settings.implied(configs.values_of(named))  # imports JAX: not before these checks
    layers = [configs.layer(implied.values, PUBLISHED), named]
    built = configs.build(layers, {"method": entry.settings, "run": RunSettings})
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
    if any(name.startswith(f"matching/{method}_") for name in packaged):
        return MATCHING
    return DEFAULT if method in (None, RunSettings.method) else PUBLISHED


def for_dataset(dataset: str, method: Any) -> tuple[str | None, list[str]]:
    """Returns the file for a data set where none is named, and what to tell of it.

    What a matching method has published for a data set it knows itself; of other methods a file that was written for
    the data set is named, but not taken: it may need days.
    """
    usual, wanted = default_config(method), canonical(dataset)
    if wanted == "digits":
        return None, []
    if usual in (MATCHING, PUBLISHED):
        return PUBLISHED, []
    packaged = configs.packaged_configs()
    folder = str(method) if f"{method}/digits.txt" in packaged else ""
    packaged = {name: path for name, path in packaged.items() if name.rpartition("/")[0] == folder}
    for_it = [name for name, path in packaged.items() if configs.read_config(path).values.get("dataset_name") == wanted]
    others = [name for name in packaged if not name.endswith("digits.txt")]
    named = ", ".join(f"`config_path={name}`" for name in (for_it or others)[:4])
    return None, [f"the settings are those of the quick example on the digits, not published ones: {named}"]


def read(source: str | ConfigFile, historical: Mapping[str, str] | None = None) -> ConfigFile:
    """Returns the file of a path, that nothing is read for where it is PUBLISHED; a file itself stays as it is."""
    if isinstance(source, ConfigFile):
        return source
    if source == PUBLISHED:
        return ConfigFile(PUBLISHED, {})
    return configs.read_config(configs.find_config(source), historical=historical)
