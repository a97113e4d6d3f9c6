"""Soft labels in an evaluation: the teacher beside a set, or the labels stored there, and students by name."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from jaxdd import data
from jaxdd.core import io
from jaxdd.core.distilled import DistilledSet
from jaxdd.core.errors import CheckpointError
from jaxdd.core.io import gigabytes, shorter_path
from jaxdd.data import Dataset
from jaxdd.evaluation.students import teacher_accuracies
from jaxdd.run.chain import teachers as folders
from jaxdd.run.chain.relabel import Relabelling
from jaxdd.run.chain.teachers import Teacher
from jaxdd.run.evaluating import Evaluating

KIND: dict[str, Any] = {"family": "sre2l", "kind": "raw"}  # of the preprocessing


def shards(folder: pathlib.Path) -> list[str]:
    """Returns the sha256 of every shard of a set: equal for equal images and labels."""
    return [shard["sha256"] for shard in io.read_json(folder / "manifest.json")["shards"]]


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
        """Returns these labels with teachers and labels from a set's output folder, where none are named.

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
        others = self.teachers or (folders.beside(stored) if stored else ())
        known_teachers = {
            "teachers": others or folders.beside(folder) or (folders.place(folder, 0),),
            "own": not others,
        }
        return dataclasses.replace(self, stored=stored, **known_teachers, recipe=labelled(stored) if stored else {})

    def require(self) -> None:
        """Refuses to go on without a teacher: the baselines need one too.

        Raises:
            CheckpointError: see above.
        """
        for folder in () if self.loaded else self.teachers:
            if not (folder / "manifest.json").is_file():
                raise CheckpointError(
                    "the set's teacher is not beside it" if self.own else "no teacher",
                    where=str(folder),
                    expected="the folder of the teacher, which `recover` copies there",
                    remedy="copy it there, or name it by `teacher`",
                )
            folders.read_manifest(folder)

    def attach(self, link: Evaluating, dataset: Dataset) -> tuple[Evaluating, list[tuple[str, str]]]:
        """Returns an evaluation whose students have their teacher, and what to tell of it, names and texts.

        Arguments:
            link: the evaluation, without teachers.
            dataset: the real data.

        Raises:
            CheckpointError: the teacher is another one than the set was made with, or the labels are of another set.
            DataError: the teacher does not know the classes.
        """
        teachers = list(self.loaded) or [folders.load(folder) for folder in self.teachers]
        preprocessing = data.fit(dataset, **KIND)
        if self.own and not self.loaded:
            require_own(teachers, self.teachers, link.distilled)
        networks, variables = zip(*((teacher.network, teacher.variables) for teacher in teachers), strict=True)
        reached = teacher_accuracies(networks, variables, data.test_examples(dataset, preprocessing))
        told = [teacher.told(share) for teacher, share in zip(teachers, reached, strict=True)]
        recipes: Any = [dataclasses.replace(recipe, teachers=networks) for recipe in link.recipes]  # pyright: ignore
        options = {**link.options, "teachers": variables, "checkpoint_every": self.checkpoint_every}
        each = [{"digest": one.digest, "accuracy": share} for one, share in zip(teachers, reached, strict=True)]
        about = {**link.about, "teachers": each, "labels": "online"}
        if self.stored is not None:
            keep = io.read_json(self.stored / "manifest.json").get("keep")
            labels = Relabelling(recipes[0], link.distilled, preprocessing, variables, keep).read(self.stored)
            size = gigabytes(labels.nbytes)
            told.append(("labels", f"{shorter_path(self.stored)}, {size}; the baselines ask the teacher"))
            options["labels"], about["labels"] = labels, str(self.stored)
        return dataclasses.replace(link, dataset=dataset, recipes=recipes, options=options, about=about), told


def labelled(stored: pathlib.Path) -> dict[str, Any]:
    """Returns settings of a student's recipe that labels on disk were made for; none where there are no labels."""
    if not (stored / "manifest.json").is_file():
        return {}
    manifest, intended = io.read_json(stored / "manifest.json"), stored / "epochs.json"
    plan = io.read_json(intended) if intended.is_file() else {}
    return {**manifest.get("recipe", {}), **plan}


def require_own(teachers: Sequence[Teacher], folders: Sequence[pathlib.Path], distilled: DistilledSet) -> None:
    """Refuses other teachers than those that a set was made with, or only some of them.

    Raises:
        CheckpointError: see above.
    """
    digests = [teacher.digest for teacher in teachers]
    made_with = list(distilled.provenance.get("teachers") or digests)
    if digests != made_with:
        raise CheckpointError(
            "the teachers beside the set are not those that it was made with",
            where=", ".join(f"{folder}, digest {digest[:12]}" for folder, digest in zip(folders, digests, strict=True)),
            expected=" and ".join(digest[:12] for digest in made_with),
            remedy="copy the set's own teachers there, or name others on purpose by `teacher`",
        )
