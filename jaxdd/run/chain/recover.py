"""Recovering a whole set, chunk by chunk, so that it can be killed, continued, shared out and put together again.

    recovered/config.json                     what the numbers depend on; a folder of another run is refused
    recovered/initial/                        what images start from (`initial`), unless that is noise
    recovered/manifest.json, chunk-*.safetensors      the finished chunks; none is ever made twice
    recovered/active/<chunk>/stage-<k>/       states of the chunks under way, gone when they are finished

A chunk goes through the stages of `methods.recovery.plan.plan`, each a `RecoverStage` that `loop` drives; with none
(RDED) it is what it starts from. Its images pass through the JPEG, as those who use them will see them, and are kept
with it. `merge` makes the distilled set and the image folder of what one or several processes have recovered.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import pathlib
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np

import jaxdd
from jaxdd import data as data_room
from jaxdd.core import backend, io
from jaxdd.core.distilled import DistilledSet
from jaxdd.core.errors import CheckpointError, ConfigError
from jaxdd.core.shards import Pieces, alone
from jaxdd.data.readers.encoding import as_published, truncate
from jaxdd.methods.recovery.plan import Chunk, Stage, chunks, plan, share
from jaxdd.methods.recovery.settings import Recovery
from jaxdd.methods.recovery.stage import ChunkExamples, RecoverStage
from jaxdd.run import loop
from jaxdd.run.chain.pieces import KEYS, Initial, Publish, merge, to_arrays
from jaxdd.run.chain.teachers import Teacher
from jaxdd.run.control import Control, Stopped
from jaxdd.run.storage import identity as identities
from jaxdd.run.storage.checkpoint import Storage, discard


def _nothing(*told: Any) -> None:
    pass


@dataclasses.dataclass(frozen=True, eq=False)
class Recovering:
    """The recovery of a set, complete but not begun.

    Arguments:
        settings: how.
        dataset: whose classes are recovered, and whose images are chosen from.
        preprocessing: its constants are those with which the teachers' images are standardised.
        teachers: what images are recovered from; the first one also chooses initial images.
        seed: chunk (index, first class) is a function of (seed, index, first class).
        recipe: of evaluation, to be stored with the set.
        images_of: class -> its real images `[n, side, side, channels]` uint8; None for those of `dataset`.
        picture: draws the set into a file (`publish.grid.grid`); None draws nothing.
        publish: writes image files (`publish.image_folder.write`); None writes none.
        checkpoint_every: minutes between two states of the chunk under way.

    Raises:
        ConfigError: noise that is not optimised; stages that do not fit the data set; or weights that are not as many
            as the teachers.
    """

    settings: Recovery
    dataset: data_room.Dataset
    preprocessing: data_room.Preprocessing
    teachers: tuple[Teacher, ...]
    seed: int = 0
    recipe: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    images_of: Callable[[int], np.ndarray] | None = None
    picture: Callable[[DistilledSet, pathlib.Path], Any] | None = None
    publish: Publish | None = None
    checkpoint_every: float = 5.0

    def __post_init__(self):
        weights = self.settings.r_bn
        if isinstance(weights, tuple) and len(weights) != len(self.teachers):
            raise ConfigError(
                f"{len(weights)} weights of the statistics for {len(self.teachers)} teachers",
                where="r_bn",
                expected="one number, or one for each teacher",
                remedy="give r_bn one number, or as many as there are teachers",
            )
        if not self.stages and self.settings.initialise == "noise":
            raise ConfigError(
                "noise that is not optimised",
                where="iterations = 0, initialise = noise",
                expected="iterations, or real images to start from",
                remedy="set iterations, or initialise = random",
            )

    @functools.cached_property
    def stages(self) -> tuple[Stage, ...]:
        """The stages of every chunk."""
        return plan(self.settings, self.dataset.resolution, len(self.teachers))

    @property
    def identity(self) -> dict[str, Any]:
        """The settings and digests that the numbers depend on, for `config.json`."""
        return {
            "settings": self.settings.identity,
            "dataset": {"name": self.dataset.name, "digest": self.dataset.digest},
            "constants": [list(row) for row in self.constants],
            "teachers": [teacher.digest for teacher in self.teachers],
            "seed": self.seed,
        }

    @property
    def meaning(self) -> dict[str, Any]:
        """Facts that the set will hold beside its identity."""
        return {
            "class_names": list(self.dataset.class_names),
            "image_shape": list(self.dataset.image_shape),
            "preprocessing": self.preprocessing.describe(),
            "recipe": dict(self.recipe),
            "n_images": self.settings.n_images,
        }

    @property
    def constants(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation per channel, on the [0, 1] scale."""
        return self.preprocessing.mean, self.preprocessing.std

    def chunks(self, ipc_indices: Iterable[int] | None = None) -> tuple[Chunk, ...]:
        """Returns all chunks, or those of some images of every class, in the published order."""
        indices = range(self.settings.n_images) if ipc_indices is None else ipc_indices
        return chunks(self.dataset.classes, indices, self.settings.batch_size, self.settings.statistics_group)

    def complete(self, folder: str | os.PathLike) -> bool:
        """Returns whether every chunk of the set is there."""
        present = Pieces(folder, KEYS).present()
        return all((chunk.ipc_index, chunk.first) in present for chunk in self.chunks())

    def exceeded(self, folder: str | os.PathLike) -> bool:
        """Returns whether there are chunks of a larger set."""
        return any(index >= self.settings.n_images for index, _ in Pieces(folder, KEYS).entries())

    def claim(self, folder: str | os.PathLike, warn: Callable[[str], None] = _nothing) -> None:
        """Makes the folder this run's, or makes sure that it is.

        Arguments:
            folder: `OUT/recovered`.
            warn: told of what may change the last bits.

        Raises:
            CheckpointError: it belongs to another run.
        """
        folder = pathlib.Path(folder)
        versions = {"jaxdd": jaxdd.__version__, "jax": jax.__version__}
        identity, meaning = identities.as_json(self.identity), identities.as_json(self.meaning)
        path = folder / "config.json"
        with alone(folder, "config"):
            before = (io.read_json(path) or {}).get("other") if path.is_file() else None
            if isinstance(before, dict) and before.get("n_images", 0) > self.settings.n_images:
                meaning = before  # that of the larger set
            for line in identities.claim(path, identity, meaning, versions):
                warn(f"begun with another version ({line}): the last bits of what follows may differ")

    def finished(self, place: pathlib.Path) -> bool:
        """Returns whether the set in `place/distilled` is the one that is meant."""
        return self.set_in(place) is not None

    def set_in(self, place: pathlib.Path) -> DistilledSet | None:
        """Returns the set in `place/distilled` if it is the one that is meant."""
        if not (place / "distilled" / "manifest.json").is_file():
            return None
        try:
            distilled, wanted = DistilledSet.load(place / "distilled"), identities.as_json(self.identity)
        except CheckpointError:  # damaged; the chunks that it was made of are verified when it is put together again
            return None
        wanted["settings"]["n_images"] = self.settings.n_images
        same = all(distilled.provenance.get(name) == wanted[name] for name in ("settings", "seed", "teachers"))
        return distilled if same and distilled.recipe == dict(self.recipe) else None

    def make(self, place: pathlib.Path, control: Control = Control()) -> DistilledSet:
        """Recovers what is not finished in `place/recovered`, and puts the set together in `place/distilled`.

        Arguments:
            place: the output folder.
            control: as in `recover`.

        Returns:
            The set, as it was read back.

        Raises:
            As `recover` and `merge`.
        """
        if (distilled := self.set_in(place)) is not None:
            return distilled
        self.recover(place / "recovered", control)
        return self.merge(place)

    def merge(self, place: pathlib.Path) -> DistilledSet:
        """Puts the set of all recovered chunks together, with its picture and its image files.

        Raises:
            CheckpointError: as in `run.chain.pieces.merge`.
        """
        made = merge([place / "recovered"], place, publish=self.publish, recipe=self.recipe, ipc=self.settings.n_images)
        if self.picture is not None:
            self.picture(made, place / "distilled" / "grid.png")
        return made

    def recover(
        self,
        folder: str | os.PathLike,
        control: Control = Control(),
        *,
        shard: tuple[int, int] = (0, 1),
        ipc_indices: Iterable[int] | None = None,
        **options: Any,
    ) -> None:
        """Makes the chunks that are not finished, or no longer intact; several processes may do so in one folder.

        Arguments:
            folder: `OUT/recovered`; made if it is not there.
            control: its reporter hears about the steps of a chunk's stages; `begins` of each class whose initial
                images are chosen and of each chunk, with its number among `shard`'s; `ends` of each chunk, with
                `seconds` and `losses`.
            shard: (i, n): chunks i, i + n, i + 2 n, ... alone.
            ipc_indices: of which images of every class; None for all.
            options: more of `loop.final_state`, such as `log_every`.

        Raises:
            Stopped: by a signal; the chunk under way is saved.
            CheckpointError: the folder belongs to another run, or another process makes the same chunk.
            UsageError: no such shard.
            DivergedError, ConfigError: as in `loop.final_state` and `methods.recovery.selection`.
        """
        folder, reporter = io.absolute(folder), control.reporter
        mine, pieces = share(self.chunks(ipc_indices), shard), Pieces(folder, KEYS)
        self.claim(folder, reporter.warning)
        initial = self._initial(folder)
        initial.prepare(reporter)
        options |= control.options
        finished = pieces.present()
        for number, chunk in enumerate(mine):
            active = folder / "active" / chunk.name
            entry = finished.get((chunk.ipc_index, chunk.first))
            if entry is not None and not pieces.intact(entry):
                pieces.path(entry).unlink(missing_ok=True)
                entry = None
            if entry is None:
                if (signal := control.should_stop()) is not None:
                    raise Stopped(signal, number)
                reporter.begins(chunk, number, len(mine))
                entry = self._make(chunk, pieces, initial, active, options)
                reporter.ends(chunk, entry)
            for stage in active.glob("stage-*"):
                discard(stage)
            with contextlib.suppress(OSError):  # there is none, or there is something else in it
                active.rmdir()

    def _make(
        self,
        chunk: Chunk,
        pieces: Pieces,
        initial: Initial,
        active: pathlib.Path,
        options: dict[str, Any],
    ) -> dict[str, Any]:
        """Makes one chunk and adds it to the finished ones; returns what its entry says beside the file."""
        start = time.perf_counter()
        noise = self.settings.initialise == "noise"
        pixels = np.zeros((len(chunk), 1, 1, self.dataset.image_shape[2]), np.uint8) if noise else initial.of(chunk)
        losses: dict[str, float] = {}
        if self.stages:
            images, losses = self._optimised(chunk, self._standardised(pixels), active, options)
            mean, std = (np.asarray(row, np.float32) for row in self.constants)
            pixels = truncate(images * std + mean)
        seen, files = as_published(pixels, self.settings.store, self.settings.quality)
        seconds = round(time.perf_counter() - start, 3)
        about = {**chunk._asdict(), "seconds": seconds, "losses": losses}
        pieces.add(chunk.name, to_arrays(chunk, seen, files), about)
        return about

    def _optimised(
        self, chunk: Chunk, patches: np.ndarray, active: pathlib.Path, options: dict[str, Any]
    ) -> tuple[np.ndarray, dict[str, float]]:
        """Returns the images of a chunk after all stages, in the networks' space, and the last losses."""
        group = min(self.settings.statistics_group, self.settings.batch_size, self.dataset.classes)
        images, adam, metrics = jax.device_put(patches), None, {}
        how = {"steps_per_dispatch": backend.steps_per_dispatch(backend.TRAINING_STEPS_PER_DISPATCH), **options}
        for number, stage in enumerate(self.stages):
            data = ChunkExamples(
                images,
                jax.device_put(chunk.labels),
                self.dataset.classes,
                teachers=self._variables,
                groups=jax.device_put(chunk.groups(group)),
                patches=None if stage.merge == 1 else jax.device_put(patches),
                adam=None if stage.reset else adam,
            )
            procedure = RecoverStage(self.settings, stage, tuple(t.network for t in self.teachers), self.constants)
            about = {**self.identity, "chunk": chunk.name, "stage": number}
            place, seed = active / f"stage-{number}", chunk.seed(self.seed)
            with Storage(place, about, checkpoint_every=self.checkpoint_every) as storage:
                how |= {"steps": procedure.steps, "seed": seed, "storage": storage}
                state, step = loop.final_state(procedure, data, **how)
            images, adam, metrics = procedure.result(state), state.adam, storage.metrics.at(step)
        return np.asarray(images), metrics

    @functools.cached_property
    def _variables(self) -> tuple[Any, ...]:
        """The teachers', on the device once for all chunks."""
        return tuple(jax.device_put(teacher.variables) for teacher in self.teachers)

    def _standardised(self, pixels: np.ndarray) -> np.ndarray:
        mean, std = (np.asarray(row, np.float32) for row in self.constants)
        return (pixels * np.float32(1 / 255) - mean) / std

    def _initial(self, folder: pathlib.Path) -> Initial:
        images_of = self.images_of or (lambda label: self.dataset.train_images[self.dataset.train_labels == label])
        chooser, variables = self.teachers[0].network, self._variables[0]
        size = self.dataset.classes
        return Initial(
            folder / "initial", self.settings, size, images_of, chooser, variables, self.constants, self.seed
        )
