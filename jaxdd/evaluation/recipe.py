"""Evaluation recipes: how networks are trained on a distilled set.

A set stores the name of its protocol with the settings that differ from it (`Recipe.of`):

    rcig    `Recipe`, here: RCIG (arXiv 2302.06755), FRePo, KIP; Adam on squared differences from learned labels
    idc     `matching.IdcRecipe`: IDC (arXiv 2205.14959), AccDD, DREAM, GA-DD; SGD, CutMix
    dc      `matching.DcRecipe`: DC (arXiv 2006.05929), DSA, DM; SGD
    soft    `students.SoftRecipe`: SRe2L (arXiv 2306.13092), CDA, RDED, SRe2L++, FADRM; AdamW or SGD, a teacher's labels
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from jaxdd import augment, models
from jaxdd.core.config import Layer, build, check, layer, settings_of, values_of
from jaxdd.core.distilled import DistilledSet
from jaxdd.core.errors import choose
from jaxdd.core.types import Array
from jaxdd.evaluation.base import BaseRecipe, Subject, Training
from jaxdd.evaluation.matching import DcRecipe, IdcRecipe
from jaxdd.evaluation.settings import RcigSettings
from jaxdd.evaluation.students import SoftRecipe
from jaxdd.evaluation.students_published import for_student
from jaxdd.models.network import Network
from jaxdd.training.trainer import NetworkTraining


@dataclasses.dataclass(frozen=True)
class Recipe(RcigSettings, BaseRecipe):
    """RCIG's protocol: Adam, linear warm-up, cosine to 1 %, five networks, without and with augmentation."""

    @staticmethod
    def protocol_of(stored: Mapping[str, Any]) -> type[BaseRecipe]:
        """Returns the class of a stored recipe, by its `protocol`; RCIG's where it names none.

        Raises:
            UsageError: an unknown name.
        """
        name = str(stored.get("protocol", Recipe.protocol))
        return PROTOCOLS[choose(name, PROTOCOLS, kind="protocol", where="recipe, key 'protocol'")]

    @staticmethod
    def of(stored: Mapping[str, Any], **overrides: Any) -> BaseRecipe:
        """Returns the recipe stored with a set, changed by those overrides that are not None.

        Raises:
            ConfigError: an unknown name, a wrong type or a value out of range.
            UsageError: an unknown protocol.
        """
        settings = {**stored, **{name: value for name, value in overrides.items() if value is not None}}
        cls = Recipe.protocol_of(settings)
        settings.pop("protocol", None)
        return build([layer(settings, "recipe")], {"recipe": cls})["recipe"]

    @staticmethod
    def chosen(
        stored: Mapping[str, Any], changes: Layer, names: Sequence[str], distilled: DistilledSet
    ) -> tuple[BaseRecipe, ...]:
        """Returns one recipe per architecture.

        Arguments:
            stored: a recipe's settings; those that all protocols have are taken over by another protocol.
            changes: settings that replace them.
            names: of architectures; none: the stored one's.
            distilled: the set.

        Raises:
            ConfigError, UsageError: as in `of`.
        """
        said = values_of(changes)
        cls = Recipe.protocol_of({**stored, **said})
        if cls is not Recipe.protocol_of(stored):
            common = {field.name for field in settings_of(BaseRecipe)}
            stored = {name: value for name, value in stored.items() if name in common} | {"protocol": cls.protocol}
        check([{name: value for name, value in changes.items() if name != "protocol"}], {"recipe": cls})
        names = names or (str(said.get("eval_arch", stored.get("eval_arch", Recipe.eval_arch))),)
        if cls.protocol == "soft":
            return Recipe.for_students(stored, said, names, distilled)
        return tuple(Recipe.of({**Recipe.stored_for(stored, name), **said, "eval_arch": name}) for name in names)

    @staticmethod
    def stored_for(stored: Mapping[str, Any], architecture: str) -> dict[str, Any]:
        """Returns a stored recipe for an architecture; depth and normalisation of another one are left out."""
        architecture = models.ALIASES.get(architecture.lower(), architecture.lower())
        same = architecture == stored.get("eval_arch", Recipe.eval_arch)
        apart = () if same else ("depth", *(("normalization",) if "protocol" in stored else ()))
        return {**{name: value for name, value in stored.items() if name not in apart}, "eval_arch": architecture}

    @staticmethod
    def for_students(
        stored: Mapping[str, Any], changes: Mapping[str, Any], names: Sequence[str], distilled: DistilledSet
    ) -> tuple[SoftRecipe, ...]:
        """Returns one recipe for each student that learns from a teacher.

        Arguments:
            stored: the set's recipe.
            changes: settings that replace it.
            names: of students, e.g. resnet18 and resnet50, or as `models.build` knows them; none: the stored one's.
            distilled: the set; its method may have published other rates for other students.
        """
        of = (str(distilled.provenance.get("method", "sre2l")), distilled.dataset, distilled.ipc)
        sizes = {"resolution": distilled.images.shape[1], "classes": distilled.classes}
        usual = {"eval_arch": SoftRecipe.eval_arch, **stored}
        before = models.called(usual["eval_arch"], usual.get("depth"))
        recipes: list[Any] = []
        for name in names or (usual["eval_arch"],):
            built, depth = models.TEACHERS.get(name.lower(), (name, None))
            settings = Recipe.stored_for(stored, built)
            settings |= {"depth": depth} if name.lower() in models.TEACHERS and built != "conv" else {}
            student = models.called(settings["eval_arch"], settings.get("depth"))
            settings |= for_student(stored, *of, **sizes, before=before, student=student)
            recipes.append(Recipe.of({**settings, **changes, "eval_arch": settings["eval_arch"]}))
        return tuple(recipes)

    def network(self, image_shape: tuple[int, int, int], classes: int, dataset: str = "") -> Network:
        """Returns the architecture; always with ReLU, whatever the set was distilled with."""
        depth = self.depth if self.eval_arch == "conv" else None
        return self.built(image_shape, classes, depth=depth, normalization=self.normalization)

    def training(self, network: Network, subject: Subject, *, augmented: bool) -> Training:
        """Returns a training with `test_aug`, or one without, which goes on after the schedule's end.

        The published rules of steps and batches count images before mirroring.
        """
        schedule = self.steps or (1000 if subject.stored == 10 else 2000)
        procedure = NetworkTraining(
            network,
            learning_rate=self.eval_lr,
            warmup_steps=self.warmup_steps,
            schedule_steps=schedule,
            batch_size=self.batch_size if subject.stored > self.batch_size else None,
            augment=self.test_aug if augmented else None,
            resolution=network.image_shape[0],
        )
        return Training(procedure, schedule if augmented else self.plain_steps or schedule * 5 // 2)

    def ways(self, subject: Subject) -> tuple[bool, ...]:
        """Returns both ways of training, or the plain one where there is no augmentation."""
        return (False, True) if self.test_aug else (False,)

    def targets(self, labels: Array) -> Array:
        """Returns the labels as they were learned."""
        return labels

    def check(self, resolution: int) -> None:
        """Refuses an augmentation that does not exist."""
        augment.build(self.test_aug, resolution)

    def summary(self, training: Training) -> str:
        """Describes a training by its optimiser and normalisation."""
        return f"Adam {self.eval_lr:g}, {self.normalization} normalization"


PROTOCOLS: dict[str, type[BaseRecipe]] = {cls.protocol: cls for cls in (Recipe, IdcRecipe, DcRecipe, SoftRecipe)}
