"""Soft labels in an evaluation: the teacher beside a set, or the labels stored there, and students by name."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from jaxdd.core import io
from jaxdd.core.errors import CheckpointError
from jaxdd.core.io import gigabytes, shorter_path
from jaxdd.run.chain import sources as known

if TYPE_CHECKING:
    from jaxdd.core.distilled import DistilledSet
    from jaxdd.data import Dataset
    from jaxdd.evaluation.base import BaseRecipe
    from jaxdd.run.chain.teacher import Teacher


KIND: dict[str, Any] = {"family": "sre2l", "kind": "raw"}  # of the preprocessing


def shards(folder: pathlib.Path) -> list[str]:
    """sha256 of every shard of a set: the same of the same images and labels."""
    return [shard["sha256"] for shard in io.read_json(folder / "manifest.json")["shards"]]


class Attached(NamedTuple):
    """An evaluation whose students can be taught.

    Arguments:
        recipes: with their teacher.
        options: more arguments of `run.evaluating.evaluate`.
        told: what to tell, names and texts.
        about: what `eval.json` is to say of it.
    """

    recipes: tuple[BaseRecipe, ...]
    options: dict[str, Any]
    told: list[tuple[str, str]]
    about: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Labels:
    """Where an evaluation's soft labels come from.

    Arguments:
        teachers: folders of the teachers; none for those beside the labels or the set.
        stored: folder of stored labels; None for the one beside the set, if it is there.
        online: whether the teacher is asked even so.
        checkpoint_every: minutes between two states of a student in training.
        recipe: what stored labels say of the students' recipe.
        own: whether the teachers are those that the set was made with.
        loaded: teachers in memory, in place of folders.
    """

    teachers: tuple[pathlib.Path, ...] = ()
    stored: pathlib.Path | None = None
    online: bool = False
    checkpoint_every: float = 5.0
    recipe: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    own: bool = False
    loaded: tuple[Teacher, ...] = ()

    def beside(self, folder: pathlib.Path) -> Labels:
        """The same with what lies in a set's output folder, as far as nothing else is named.

        Raises:
            CheckpointError: the labels that are named are none.
        """
        named = self.stored is not None
        stored = None if self.online else self.stored or folder / "labels"
        if stored is not None and not (stored / "manifest.json").is_file():
            if named:
                raise CheckpointError(
                    "no labels",
                    where=str(stored),
                    expected="a folder that `relabel` wrote",
                    remedy="write them with `relabel`, or let the teacher answer: `online=true`",
                )
            stored = None
        others = self.teachers or (known.beside(stored) if stored else ())
        found = {"teachers": others or known.beside(folder) or (known.place(folder, 0),), "own": not others}
        return dataclasses.replace(self, stored=stored, **found, recipe=labelled(stored) if stored else {})

    def require(self) -> None:
        """Refuses to go on without a teacher: the baselines need one too.

        Raises:
            CheckpointError: see above.
        """
        from jaxdd.run.chain.teacher import read_manifest

        for folder in () if self.loaded else self.teachers:
            if not (folder / "manifest.json").is_file():
                raise CheckpointError(
                    "the set's teacher is not beside it" if self.own else "no teacher",
                    where=str(folder),
                    expected="the folder of the teacher, which `recover` copies there",
                    remedy="copy it there, or name it by `teacher`",
                )
            read_manifest(folder)

    def attach(self, recipes: Sequence[BaseRecipe], distilled: DistilledSet, dataset: Dataset) -> Attached:
        """The recipes with their teacher, and all that goes with it.

        Raises:
            CheckpointError: the teacher is another one than the set was made with, or the labels are of another set.
            DataError: the teacher does not know the classes.
        """
        from jaxdd import data
        from jaxdd.evaluation.students import teacher_accuracies
        from jaxdd.run.chain import teacher as trained
        from jaxdd.run.chain.relabel import Relabelling

        found = list(self.loaded) or [trained.load(folder) for folder in self.teachers]
        preprocessing = data.fit(dataset, **KIND)
        if self.own and not self.loaded:
            require_own(found, self.teachers, distilled)
        given = tuple(teacher.network for teacher in found), tuple(teacher.variables for teacher in found)
        reached = teacher_accuracies(*given, data.test_examples(dataset, preprocessing))
        told = list(map(telling, found, reached))
        taught: Any = tuple(dataclasses.replace(recipe, teachers=given[0]) for recipe in recipes)  # pyright: ignore
        options: dict[str, Any] = {"networks": given[1], "checkpoint_every": self.checkpoint_every}
        each = [{"digest": own.digest, "accuracy": share} for own, share in zip(found, reached, strict=True)]
        about: dict[str, Any] = {"teachers": each, "labels": "online"}
        if self.stored is not None:
            keep = io.read_json(self.stored / "manifest.json").get("keep")
            labels = Relabelling(taught[0], distilled, preprocessing, given[1], keep)
            options["labels"] = labels.read(self.stored)
            size = gigabytes(options["labels"].nbytes)
            told.append(("labels", f"{shorter_path(self.stored)}, {size}; the baselines ask the teacher"))
            about["labels"] = str(self.stored)
        return Attached(taught, options, told, about)


def telling(teacher: Teacher, reached: float) -> tuple[str, str]:
    """Returns what to tell of a teacher, name and text, with its accuracy on the real test images, in [0, 1]."""
    return "teacher", f"{teacher}; test accuracy {100 * reached:.1f} %"


def labelled(stored: pathlib.Path) -> dict[str, Any]:
    """Settings of a student's recipe that labels on disk are for; none where there are none."""
    if not (stored / "manifest.json").is_file():
        return {}
    found, intended = io.read_json(stored / "manifest.json"), stored / "epochs.json"
    plan = io.read_json(intended) if intended.is_file() else {}
    return {**found.get("recipe", {}), **plan}


def require_own(found: Sequence[Teacher], folders: Sequence[pathlib.Path], distilled: DistilledSet) -> None:
    """Refuses other teachers than those that a set was made with, or only some of them.

    Raises:
        CheckpointError: see above.
    """
    own = [teacher.digest for teacher in found]
    made_with = list(distilled.provenance.get("teachers") or own)
    if own != made_with:
        raise CheckpointError(
            "the teachers beside the set are not those that it was made with",
            where=", ".join(f"{folder}, digest {digest[:12]}" for folder, digest in zip(folders, own, strict=True)),
            expected=" and ".join(digest[:12] for digest in made_with),
            remedy="copy the set's own teachers there, or name others on purpose by `teacher`",
        )
