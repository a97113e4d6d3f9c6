"""Settings of a chain of squeeze, select, recover, relabel and validate, beside the settings of each link.

    squeeze     `training.recipe.TeacherRecipe`         the group "squeeze" of a config file
    recover     `methods.recovery.settings.Recovery`    keys of the file itself
    validate    `evaluation.students.SoftRecipe`        the group "recipe"

What a group leaves out is as published for the method and the data set.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import ml_collections

from jaxdd.core import config as configs
from jaxdd.core.config import ConfigFile, Layer, setting
from jaxdd.core.errors import UsageError, choose
from jaxdd.data.registry import canonical
from jaxdd.methods.recovery.settings import NAMES, Recovery
from jaxdd.run.settings import PUBLISHED, read
from jaxdd.training.recipe import TeacherRecipe, published_recipe

if TYPE_CHECKING:
    from jaxdd.data import DataSpec

GROUPS = ("squeeze", "recipe")
PRESETS = ("cifar100", "tiny", "in1k", "in21k", "digits")  # files configs_final/cda/<method>_<preset>.txt
USUAL = "cda"  # the chain where nothing is said
OF_SCRIPT = "the script's default"  # where a setting was given that nobody typed
FULL = {"imagenet": "imagenet1k"}  # what the chains mean by a name


@dataclasses.dataclass(frozen=True)
class ChainSettings:
    """Which data and which teacher, and how teacher and students are trained."""

    dataset_name: str = setting(
        "digits",
        "data set: cifar10, tiny_imagenet, imagenet1k, ..., or your own as folder:DIR, npz:FILE or parquet:DIR",
    )
    img_size: int | None = setting(None, "side of the images in pixels that the file was written for", low=1)
    arch_name: str = setting("resnet18", "the teacher: resnet18, resnet34, resnet50, resnet101, vit or conv")
    width: int = setting(128, "channels of the teacher; 128 stands for the published ones", low=1)
    labels: Literal["online", "stored"] = setting("online", "whether the soft labels are stored before they are used")
    squeeze: dict[str, Any] = dataclasses.field(  # a mutable default: `setting` cannot make it
        default_factory=dict,
        metadata={"help": "the teacher's training: what differs from the published recipe", "low": None, "high": None},
    )
    recipe: dict[str, Any] = dataclasses.field(
        default_factory=dict,
        metadata={"help": "the students' training: what differs from the published recipe", "low": None, "high": None},
    )

    def architecture(self) -> dict[str, Any]:
        """Returns the teacher's architecture as arguments of `models.build`."""
        from jaxdd import models

        return models.teacher_architecture(self.arch_name, self.width)


@dataclasses.dataclass(frozen=True)
class Decoupled:
    """All settings of a chain: the teacher's, the images' and the students' are decoupled, each link has its own.

    Arguments:
        config: the file, with everything that overrides it.
        chain: data, teacher and labels.
        recovery: how images are recovered.
        teacher: how the teacher is trained.
        spec: what is known of the data set before an image is read.
        notices: what the user should be told.
        typed: names of settings that flags gave.
    """

    config: ConfigFile
    chain: ChainSettings
    recovery: Recovery
    teacher: TeacherRecipe
    spec: DataSpec
    notices: tuple[str, ...]
    typed: frozenset[str] = frozenset()

    @property
    def method(self) -> str:
        """`cda`, ..."""
        return self.recovery.method

    @property
    def ipc(self) -> int:
        """Images per class."""
        return self.recovery.n_images

    @property
    def dataset(self) -> str:
        """The data set's name."""
        return self.chain.dataset_name

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """`(height, width, channels)`."""
        side = self.spec.resolution or 0
        return side, side, self.spec.channels or 0

    @property
    def recipe(self) -> dict[str, Any]:
        """The students' recipe as the set stores it."""
        from jaxdd import models
        from jaxdd.evaluation.students import published

        sizes = {"resolution": self.image_shape[0], "classes": self.spec.classes}
        teacher = self.chain.architecture()
        student = {"eval_arch": teacher["name"], "width": teacher["width"], "depth": teacher["depth"]}
        changed = {**student, **self.chain.recipe}
        name = models.called(changed["eval_arch"], changed["depth"])
        usual = published(self.method, self.dataset, self.ipc, **sizes, student=name)
        return {"protocol": "soft", **student, **usual, **self.chain.recipe}

    def as_config_dict(self) -> ml_collections.ConfigDict:
        """Returns every setting, those of teacher and students as the groups of a config file."""
        groups = {"squeeze": configs.as_dict(self.teacher), "recipe": self.recipe}
        return configs.as_config_dict(dataclasses.replace(self.chain, **groups), self.recovery)

    def label_bytes(self, images: int) -> int:
        """Returns the bytes of the logits of so many images in every epoch of a student, in 16 bits."""
        recipe = self.recipe
        return images * (recipe.get("pool") or recipe.get("epochs", 300)) * self.spec.classes * 2


def build_chain(
    layer: Layer,
    *,
    source: str | ConfigFile | None = None,
    preset: str | None = None,
    describe: Callable[[str], DataSpec],
    notices: Sequence[str] = (),
) -> Decoupled:
    """Returns the settings of a chain from a preset or config file and from what overrides them.

    Arguments:
        layer: what flags or arguments say, also `squeeze.epochs` for the key `epochs` of the group `squeeze`.
        source: the path of a config file, or the file.
        preset: one of `PRESETS`, in place of a file; without both, what the method published for the data set.
        describe: tells of a data set what is known before an image is read.
        notices: what to tell beside what the settings tell.

    Raises:
        ConfigError, UsageError: a file that is not there, an unknown key, method or data set, or a bad value.
    """
    from jaxdd.methods.recovery import published

    layer = _flat(layer)
    method, where = layer.get("method", configs.Value(None, ""))
    if method is not None:
        choose(str(method), NAMES, kind="method", where=where)
    file = _file_of_chain(method, source, preset)
    named = {"method": configs.Value(USUAL, ""), **_flat(file.layer), **layer}
    choose(str(named["method"].value), NAMES, kind="method", where=named["method"].origin)
    if "iterations" in layer and "stages" not in layer:  # which stages then share as published
        named.pop("stages", None)
    groups = {group: _inner(named, group) for group in GROUPS}
    named = {name: value for name, value in named.items() if not _is_inner(name)}
    classes = {"chain": ChainSettings, "recovery": Recovery}
    configs.check([named], classes)
    configs.check([groups["squeeze"]], {"teacher": TeacherRecipe})
    dataset = str(configs.values_of(named).get("dataset_name", ChainSettings.dataset_name))
    values = {**configs.values_of(named), "dataset_name": canonical(FULL.get(dataset, dataset))}
    spec = describe(values["dataset_name"])
    resized: list[str] = []
    if preset:
        values, resized = published.for_size(values, layer, str(file.values["dataset_name"]), spec.resolution)
    implied = published.implied(values, resolution=spec.resolution, classes=spec.classes)
    values |= {group: configs.values_of(inner) for group, inner in groups.items()}
    built = configs.build([configs.layer({**implied.values, **values}, str(file.path))], classes)
    usual = configs.layer(configs.as_dict(published_recipe(values["dataset_name"], spec.resolution or 32)), PUBLISHED)
    teacher = configs.build([usual, groups["squeeze"]], {"teacher": TeacherRecipe})["teacher"]
    chain: ChainSettings = built["chain"]

    from jaxdd.evaluation.recipe import Recipe  # imports JAX: not before these checks

    chain.architecture()
    told = [*file.notices, *resized, *notices, *(implied.notices if file.path == PUBLISHED else ())]
    told += [] if "r_bn" in layer else published.told_of_teacher(chain.arch_name)
    typed = frozenset(name for name, (_, origin) in layer.items() if origin != OF_SCRIPT)
    settings = Decoupled(file, chain, built["recovery"], teacher, spec, tuple(told), typed)
    Recipe.of(settings.recipe)  # hours before students need it
    return settings


def _flat(settings: Layer) -> dict[str, configs.Value]:
    """Returns a layer with `squeeze.epochs` in place of the key `epochs` of the object `squeeze`."""
    flat: dict[str, configs.Value] = {}
    for name, (value, origin) in settings.items():
        if name in GROUPS and isinstance(value, Mapping):
            flat |= {f"{name}.{inner}": configs.Value(each, origin) for inner, each in value.items()}
        else:
            flat[name] = configs.Value(value, origin)
    return flat


def _is_inner(name: str) -> bool:
    group, dot, _ = name.partition(".")
    return bool(dot) and group in GROUPS


def _inner(settings: Layer, group: str) -> dict[str, configs.Value]:
    """Returns the settings of one group of a flat layer, under their own names."""
    return {name.partition(".")[2]: value for name, value in settings.items() if name.startswith(f"{group}.")}


def _file_of_chain(method: str | None, source: str | ConfigFile | None, preset: str | None) -> ConfigFile:
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
        source = f"cda/{method or usual}_{preset}.txt"
    file = read(source or PUBLISHED)
    if method not in (None, method_of_file := file.values.get("method", method)):
        raise UsageError(
            f"the config file is for {method_of_file}, not for {method}",
            where=f"`method={method}`, `config_path={file.path}`",
            expected="one method",
            remedy=f"take configs_final/cda/{method}_*.txt, or `preset` with `method`",
        )
    return file
