"""Settings of a chain of squeeze, select, recover, relabel and validate, beside the settings of each link.

    squeeze     `training.recipe.TeacherRecipe`         the group "squeeze" of a config file
    recover     `methods.recovery.settings.Recovery`    keys of the file itself
    validate    `evaluation.students.SoftRecipe`        the group "recipe"

What a group leaves out is as published for the method and the data set.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from jaxdd.core.config import ConfigFile, setting

if TYPE_CHECKING:
    from jaxdd.data import DataSpec
    from jaxdd.methods.recovery.settings import Recovery
    from jaxdd.training.recipe import TeacherRecipe

NAMES = ("sre2l", "cda", "rded", "sre2l_pp", "fadrm")
GROUPS = ("squeeze", "recipe")


@dataclasses.dataclass(frozen=True)
class ChainSettings:
    """Which data and which teacher, and how teacher and students are trained."""

    dataset_name: str = setting("digits", "the data set, unless a flag says otherwise")
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


def merged(values: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Returns settings with others in their place; `squeeze.epochs` is the key `epochs` of the group `squeeze`."""
    settings = {**values, **{group: dict(values.get(group) or {}) for group in GROUPS if group in values}}
    for key, value in overrides.items():
        group, dot, inner = key.partition(".")
        if dot and group in GROUPS:
            settings[group] = {**settings.get(group, {}), inner: value}
        elif key in GROUPS and isinstance(value, dict):
            settings[key] = {**settings.get(key, {}), **value}
        else:
            settings[key] = value
    return settings


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

    def label_bytes(self, images: int) -> int:
        """Returns the bytes of the logits of so many images in every epoch of a student, in 16 bits."""
        recipe = self.recipe
        return images * (recipe.get("pool") or recipe.get("epochs", 300)) * self.spec.classes * 2
