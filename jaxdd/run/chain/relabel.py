"""A teacher's answers on disk, for students that learn from them (FKD's role in SRe2L, arXiv 2306.13092).

    labels/manifest.json            what the labels depend on; of every finished epoch file, size and sha256
    labels/epochs.json              how many epochs they are meant for, and of how many there will be labels
    labels/epoch-007.safetensors    "logits" [N, C] float16, in the order in which the images are shown; raw: the
                                    temperature is the student's choice

Nothing of crops, flips and mixes is stored, the key gives them again (`training.soft_views`). The manifest is written
after every epoch, last: a run that was killed goes on with the first epoch that is missing, one that is there is never
made again, and a flipped bit is found. With `keep` only the k largest logits of an image are stored, and beside them
"classes" [N, k] int16: LPQLD's "MR-k" (arXiv 2410.15919 and its successor).

    bytes = epochs * N * C * 2             pruned: epochs * N * k * 4
"""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxdd import data as data_room
from jaxdd.core import backend, io, shards
from jaxdd.core.config import as_dict
from jaxdd.core.distilled import DistilledSet
from jaxdd.core.errors import CheckpointError, UsageError, garbled
from jaxdd.core.trees import require_same
from jaxdd.core.types import Examples, PyTree
from jaxdd.evaluation.base import Subject
from jaxdd.evaluation.contenders import placed
from jaxdd.evaluation.recipe import Recipe
from jaxdd.evaluation.students import SoftRecipe
from jaxdd.run import loop
from jaxdd.run.chain.teachers import Teacher
from jaxdd.run.control import Control, Reporter
from jaxdd.run.storage import identity as identities
from jaxdd.run.storage.identity import require_writable
from jaxdd.run.storage.networks import digest
from jaxdd.training.soft_labels import EpochExamples, Labelling
from jaxdd.training.soft_views import Views
from jaxdd.training.stored_labels import Labels, StoredLabels

FORMAT = 3  # 2 says what kind a teacher is in one text; it is read as well
ANEW = "let relabel write into another folder"
FKD_SEED = 42  # of labels where none is given, as in SRe2L's script
MADE_AGAIN = "run relabel again, which makes what is damaged anew"
OVERHEAD = 512  # bytes, at the most, of a shard's header and of what the manifest says of it
HEAD = 16384  # bytes, at the most, of what the manifest says of the labels as a whole
OF_LABELS = (  # settings of the recipe that decide what the teacher sees and says
    *("batch_size", "crop", "min_scale", "flip", "mix", "mix_alpha", "patches", "label_seed"),
    *("batch_statistics", "group", "teacher_weights", "precision"),
)


def store_bytes(images: int, epochs: int, classes: int, *, keep: int | None = None) -> int:
    """Returns the most bytes on disk that labels need, files' headers included, before anything is made.

    Arguments:
        images: that are labelled in each epoch.
        epochs, classes: how many.
        keep: how many logits of each image; None for all.
    """
    return epochs * (images * (classes * 2 if keep is None else keep * 4) + OVERHEAD) + HEAD


@dataclasses.dataclass(frozen=True, eq=False)
class Relabelling:
    """The labels of a set, complete but not begun.

    Arguments:
        recipe: the students', with its `teachers` and a `label_seed`; of `pool` epochs where it has a pool.
        distilled: the set.
        preprocessing: of the real data.
        networks: variables of the teachers.
        keep: how many logits of each image are stored; None for all.

    Raises:
        UsageError: no teacher, no seed, or fewer than 1 or more logits than there are classes.
    """

    recipe: SoftRecipe
    distilled: DistilledSet
    preprocessing: data_room.Preprocessing
    networks: tuple[PyTree, ...]
    keep: int | None = None

    def __post_init__(self):
        if self.recipe.label_seed is None or not self.recipe.teachers:
            raise UsageError(
                "labels are a function of teachers and of a seed",
                where="label_seed" if self.recipe.label_seed is None else "the teacher",
                expected="both",
                remedy="set label_seed, e.g. to 42, and name a teacher",
            )
        if self.keep is not None and not 1 <= self.keep <= min(self.distilled.classes, np.iinfo(np.int16).max):
            raise UsageError(
                f"{self.keep} logits of each image",
                where="keep",
                expected=f"1 .. {self.distilled.classes}",
                remedy="keep fewer, or leave keep out: then all are stored",
            )

    @property
    def epochs(self) -> int:
        """How many are labelled."""
        return self.recipe.pool or self.recipe.epochs

    @property
    def bytes(self) -> int:
        """On disk, at the most."""
        return store_bytes(len(self._examples), self.epochs, self.distilled.classes, keep=self.keep)

    @property
    def identity(self) -> dict[str, Any]:
        """The settings and digests that the labels depend on; JSON types."""
        return self._identity

    @functools.cached_property
    def _identity(self) -> dict[str, Any]:
        settings = as_dict(self.recipe)
        of_set, decode = (self.distilled.images, self.distilled.class_indices), self.distilled.decode
        return identities.as_json(
            {
                "teachers": [{"network": n.description, "digest": digest(v)} for n, v in self._each],
                "set": {"shape": self.distilled.images.shape, "digest": digest(of_set), **dataclasses.asdict(decode)},
                "preprocessing": self.preprocessing.describe(),
                "recipe": {name: settings[name] for name in OF_LABELS},
                "keep": self.keep,
            }
        )

    @classmethod
    def by(
        cls,
        teachers: Sequence[Teacher],
        distilled: DistilledSet,
        preprocessing: data_room.Preprocessing,
        recipe: SoftRecipe | None = None,
        keep: int | None = None,
    ) -> Relabelling:
        """Returns the labels that some teachers will give a set.

        Arguments:
            teachers: who label.
            distilled: the set.
            preprocessing: of the real data.
            recipe: the students'; None for the set's own, of soft labels. Where it has no `label_seed`, FKD's is taken.
            keep: as in `Relabelling`.
        """
        recipe = Recipe.of(distilled.recipe) if recipe is None else recipe  # pyright: ignore[reportAssignmentType]
        assert isinstance(recipe, SoftRecipe)
        seed = FKD_SEED if recipe.label_seed is None else recipe.label_seed
        recipe = dataclasses.replace(recipe, teachers=tuple(t.network for t in teachers), label_seed=seed)
        return cls(recipe, distilled, preprocessing, tuple(t.variables for t in teachers), keep)

    def finished(self, place: str | os.PathLike) -> bool:
        """Returns whether the labels of every epoch are there.

        Raises:
            CheckpointError: the place holds other labels.
        """
        return len(_entries(pathlib.Path(place), self.identity)) >= self.epochs

    def make(self, place: str | os.PathLike, control: Control = Control()) -> StoredLabels:
        """Labels the epochs that are not labelled yet.

        Arguments:
            place: the folder; it need not exist.
            control: its reporter hears `ends("epoch", {number, own_class})` of every new epoch: its number from 0, and
                the share of images whose largest logit is their own class.

        Returns:
            The labels, verified, as `read` gives them.

        Raises:
            CheckpointError: the folder holds labels by other teachers, of another set or recipe; or another process
                writes there; or the disk has no room; or a logit is not finite as a float16.
            Stopped: by a signal; finished epochs are kept.
        """
        folder, reporter = pathlib.Path(place), control.reporter
        procedure, examples = self._labelling, jax.device_put(self._examples)
        steps = procedure.views.steps_per_epoch(len(examples))
        run = {"steps": steps, "seed": self.recipe.label_seed, "log_every": steps, **control.options}
        run |= {"steps_per_dispatch": backend.steps_per_dispatch(backend.TRAINING_STEPS_PER_DISPATCH)}
        with io.folder_lock(folder):
            entries = self._intact(folder, reporter)
            if len(entries) < self.epochs:
                _require_format(folder)
                present = sum(entry["bytes"] for entry in entries.values())
                require_writable(folder, max(0, self.bytes - present))
            io.write_json(folder / "epochs.json", {"epochs": self.recipe.epochs, "pool": self.recipe.pool})
            for epoch in range(self.epochs):
                if str(epoch) in entries:
                    continue
                of_epoch = examples.extended(EpochExamples, epoch=np.int32(epoch))
                state, _ = loop.final_state(procedure, of_epoch, **run)
                logits = np.asarray(state.logits).reshape(-1, state.logits.shape[-1])[: len(examples)]
                entries[str(epoch)] = _write(folder, epoch, _pruned(logits, self.keep))
                self._write_manifest(folder, entries)
                reporter.ends("epoch", {"number": epoch, "own_class": float(state.own_class) / steps})
        return self.read(folder)

    def read(self, folder: str | os.PathLike) -> StoredLabels:
        """Returns the labels of all epochs, verified but not kept in memory, for `evaluation.protocol.evaluate`.

        Raises:
            CheckpointError: there are none, or not all; they are others; or a file is missing or damaged.
        """
        folder = pathlib.Path(folder)
        entries = _entries(folder, self.identity)
        missing = [epoch for epoch in range(self.epochs) if str(epoch) not in entries]
        if missing:
            raise CheckpointError(
                f"{len(missing)} of {self.epochs} epochs are not labelled yet, the first is {missing[0]}",
                where=str(folder),
                remedy="run relabel again, which goes on, or train with the teacher itself",
            )
        each = [entries[str(epoch)] for epoch in range(self.epochs)]
        files = tuple(shards.verify(folder, entry, "a file of labels", MADE_AGAIN) for entry in each)
        word = identities.digest({"epochs": [entry["sha256"] for entry in each]})
        return StoredLabels(files, len(self._examples), self._views, word)

    @property
    def _each(self) -> list[tuple[Any, PyTree]]:
        return list(zip(self.recipe.teachers, self.networks, strict=True))

    @functools.cached_property
    def _examples(self) -> Examples:
        examples = placed(self.distilled, self.preprocessing, self.recipe.targets, compact=True)
        return dataclasses.replace(examples, teachers=self.networks)

    @property
    def _labelling(self) -> Labelling:
        return Labelling(self.recipe.labeller(self._views.batch_size), dataclasses.replace(self._views, pool=0))

    @property
    def _views(self) -> Views:
        stored, side = len(self.distilled), self.distilled.images.shape[1]
        sizes = {"classes": self.distilled.classes, "resolution": side, "dataset": self.distilled.dataset}
        return self.recipe.views(Subject(stored, len(self._examples), **sizes))

    def _write_manifest(self, folder: pathlib.Path, entries: Mapping[str, Any]) -> None:
        ordered = dict(sorted(entries.items(), key=lambda item: int(item[0])))
        io.write_json(folder / "manifest.json", {"jaxdd_labels": FORMAT, **self.identity, "epochs": ordered})

    def _intact(self, folder: pathlib.Path, reporter: Reporter) -> dict[str, Any]:
        """Returns the entries of the epochs whose files are as they were written; the others are made again."""
        intact = {}
        for epoch, entry in _entries(folder, self.identity).items():
            if shards.intact(folder, entry):
                intact[epoch] = entry
            else:
                reporter.warning(f"the labels of epoch {epoch} are damaged or missing: they are made again")
        return intact


def _pruned(logits: np.ndarray, keep: int | None) -> Labels:
    if keep is None:
        return {"logits": logits}
    kept = np.sort(np.argpartition(logits, -keep, axis=-1)[..., -keep:], axis=-1)
    return {"logits": np.take_along_axis(logits, kept, -1), "classes": kept.astype(np.int16)}


def _write(folder: pathlib.Path, epoch: int, labels: Labels) -> dict[str, Any]:
    """Writes one shard; returns its entry in the manifest."""
    if not np.isfinite(labels["logits"]).all():
        raise CheckpointError(
            f"a logit of epoch {epoch} is not finite as a float16",
            where=str(folder),
            expected="numbers up to 65504",
            remedy="look at the teacher: its accuracy on the test images, and its variables",
        )
    return shards.write(folder, f"epoch-{epoch:03d}", labels, by_content=False)


def _entries(folder: pathlib.Path, identity: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the manifest's entry of every finished epoch; none where there is no manifest.

    Raises:
        CheckpointError: it is of other labels, or damaged.
    """
    path = folder / "manifest.json"
    if not path.exists():
        return {}
    manifest = io.read_manifest(path, "jaxdd_labels", (2, FORMAT), "labels", ANEW)
    if not isinstance(manifest.get("epochs"), dict):
        raise garbled("'epochs'", path, ANEW)
    stored = {name: value for name, value in manifest.items() if name not in ("jaxdd_labels", "epochs")}
    if manifest["jaxdd_labels"] == 2:
        try:
            stored["teachers"] = [
                {**each, "network": identities.network_of_text(each["network"])} for each in stored["teachers"]
            ]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise garbled(error, path, ANEW) from None
    remedy = "choose another folder, or the teachers, set and settings that these labels were made with"
    require_same(stored, identity, "the folder holds other labels", where=folder, remedy=remedy)
    return manifest["epochs"]


def _require_format(folder: pathlib.Path) -> None:
    """Refuses to go on with labels of the older format."""
    if (folder / "manifest.json").exists():
        io.read_manifest(folder / "manifest.json", "jaxdd_labels", (FORMAT,), "unfinished labels", ANEW)
