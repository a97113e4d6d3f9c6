"""A teacher in a folder, trained on the real images; killed and started again, it is bit-equal to one that was not.

OUT/teacher/manifest.json, network-0-<digest>.safetensors    as `storage.networks` writes them, once it is finished
OUT/teacher/training/                                        its state (`storage.checkpoint`) and tests.jsonl until then
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax

from jaxdd import data as data_room
from jaxdd.core import backend, io
from jaxdd.core.config import as_dict
from jaxdd.core.errors import CheckpointError, UsageError
from jaxdd.core.precision import Precision
from jaxdd.core.types import Examples, PyTree
from jaxdd.data.large import Parts
from jaxdd.data.streaming import ImageStream
from jaxdd.models.network import Network
from jaxdd.run import loop
from jaxdd.run.chain import teachers
from jaxdd.run.chain.teachers import Teacher
from jaxdd.run.control import Control, Reporter
from jaxdd.run.storage import networks
from jaxdd.run.storage.checkpoint import MetricsFile, Storage, discard
from jaxdd.training.recipe import TeacherRecipe
from jaxdd.training.teacher import Squeeze
from jaxdd.training.trainer import accuracy

STREAMED_BYTES = 256 << 20  # of the images of one dispatch


@dataclasses.dataclass(frozen=True, eq=False)
class Squeezing:
    """A teacher, complete but not begun; `Squeezing.of` makes one of a data set.

    Arguments:
        network: its architecture.
        train: the images to train on, raw; of a stream, none of them.
        test: those to test on.
        recipe: how it is trained.
        about: what else the teacher depends on, for its manifest: data set, preprocessing, architecture; JSON types.
        seed: the teacher is a function of it.
        stream: where the images to train on come from, if they are not in memory.
        precision: of the teacher's activations, where it is used.
        elsewhere: a folder that may hold the very same teacher, which is taken from there then.
        test_every: epochs between two tests; the last epoch is tested in any case.
        checkpoint_every: minutes between two saved states.
    """

    network: Network
    train: Examples
    test: Examples | Parts
    recipe: TeacherRecipe
    about: Mapping[str, Any]
    seed: int = 0
    stream: ImageStream | None = None
    precision: Precision = "float32"
    elsewhere: pathlib.Path | None = None
    test_every: int = 5
    checkpoint_every: float = 5.0

    @classmethod
    def of(
        cls,
        dataset: data_room.Dataset,
        preprocessing: data_room.Preprocessing,
        network: Network,
        recipe: TeacherRecipe,
        *,
        architecture: Mapping[str, Any],
        seed: int = 0,
        **options: Any,
    ) -> Squeezing:
        """Returns the squeezing of a teacher for a data set in memory or, as `load` may give it, in files.

        Arguments:
            dataset: the real images; those in files are cropped on the host, from their own size.
            preprocessing: fitted on them, of the space `raw`: augmentations work on pixels.
            network, recipe, seed: as in `Squeezing`.
            architecture: the words and numbers by which `models.build` makes the network; JSON types.
            options: `precision`, `elsewhere`, `test_every`, `checkpoint_every`, as in `Squeezing`.

        Raises:
            UsageError: the preprocessing is of another space, or a stream needs grain.
        """
        if preprocessing.space != "raw":
            raise UsageError(
                f"images of the space '{preprocessing.space}'",
                where="preprocessing of a teacher's images",
                expected="raw: they are augmented first and standardised then",
                remedy="fit it with kind='raw'",
            )
        stream = None
        if isinstance(dataset, data_room.LargeDataset):
            cropped = recipe.augmentation == "resized_crop"
            stream = dataset.stream(batch_size=recipe.batch_size, seed=seed, cropped=cropped)
            train = stream.examples((preprocessing.mean, preprocessing.std))
        else:
            train = data_room.examples(dataset, preprocessing, "train")
        test = data_room.test_examples(dataset, preprocessing)
        about = {
            "dataset": {"name": dataset.name, "digest": dataset.digest},
            "preprocessing": preprocessing.describe(),
            "architecture": dict(architecture),
        }
        return cls(network, train, test, recipe, about, seed, stream, **options)

    @property
    def identity(self) -> dict[str, Any]:
        """The settings and digests that the teacher depends on."""
        return {**self.about, "recipe": as_dict(self.recipe), "seed": self.seed}

    @property
    def procedure(self) -> Squeeze:
        """How it is trained."""
        recipe = self.recipe
        if self.stream is None:
            return Squeeze(self.network, recipe, math.ceil(len(self.train) / recipe.batch_size))
        if recipe.augmentation == "resized_crop":
            recipe = dataclasses.replace(recipe, augmentation="flip")  # the stream has cropped already
        return Squeeze(self.network, recipe, self.stream.steps_per_epoch, streamed=True)

    @property
    def steps(self) -> int:
        """Number of steps of the whole training."""
        return self.procedure.steps

    def finished(self, place: str | os.PathLike) -> bool:
        """Returns whether the teacher is there.

        Raises:
            CheckpointError: the place holds another one.
        """
        return bool(networks.finished(place, self.identity))

    def make(self, place: str | os.PathLike, control: Control = Control()) -> Teacher:
        """Trains the teacher, or continues, or finds it there or elsewhere.

        Arguments:
            place: the folder where it is and will be.
            control: its reporter hears the steps, and of every test `ends("epoch", {epoch, loss, accuracy})`: the
                number from 1, the mean loss over it, and the accuracy on the test images in [0, 1].

        Returns:
            The teacher, as it was read back.

        Raises:
            Stopped: by a signal; its state is saved.
            CheckpointError: the folder holds another teacher, is in use or cannot be written.
            DivergedError: the loss is not finite.
        """
        place, reporter = pathlib.Path(place), control.reporter
        under_way = place / "training"
        if not self.finished(place) and not self._taken(place, reporter):
            reporter.begins("teacher", 0, 1)
            with Storage(under_way, self.identity, checkpoint_every=self.checkpoint_every) as storage:
                tests = _Tests(self, under_way / "tests.jsonl", reporter)
                variables = self._train(storage, tests, control)
                networks.add(place, self.identity, variables, tests.accuracies, self.recipe.epochs)
        discard(under_way)
        return teachers.load(place, self.precision)

    def _taken(self, place: pathlib.Path, reporter: Reporter) -> bool:
        """Takes the very same teacher from elsewhere; whether it was there."""
        if self.elsewhere is None:
            return False
        with contextlib.suppress(CheckpointError):  # another one is there, or a damaged one: no concern of this run
            if self.finished(self.elsewhere):
                teachers.load(self.elsewhere).save(place)
                reporter.notice("teacher", f"the very one is in {io.shorter_path(self.elsewhere)}: taken from there")
                return True
        return False

    def _train(self, storage: Storage, tests: _Tests, control: Control) -> PyTree:
        procedure = self.procedure
        every = self.test_every * procedure.steps_per_epoch
        return loop.run(
            procedure,
            self.train,
            steps=self.steps,
            seed=self.seed,
            storage=storage,
            observers=(tests,),
            observe_at=range(every, self.steps, every),
            log_every=procedure.steps_per_epoch,
            steps_per_dispatch=backend.steps_per_dispatch(self._most_steps),
            stream=self.stream,
            **control.options,
        )

    @property
    def _most_steps(self) -> int:
        """Number of steps of one dispatch; its batches of a stream are on the device together."""
        if self.stream is None:
            return backend.TRAINING_STEPS_PER_DISPATCH
        batch = self.recipe.batch_size * math.prod(self.train.image_shape)
        return max(1, min(backend.TRAINING_STEPS_PER_DISPATCH, STREAMED_BYTES // batch))


class _Tests:
    """The observer that tests the network; what it found outlives the process, and is found again by the next."""

    def __init__(self, squeezing: Squeezing, path: pathlib.Path, reporter: Reporter):
        self._squeezing, self._path, self._reporter = squeezing, path, reporter

    def __call__(self, step: int, result: PyTree, metrics: Mapping[str, float]) -> None:
        """Tests the network once."""
        squeezing, file = self._squeezing, MetricsFile(self._path)
        epoch = step // squeezing.procedure.steps_per_epoch
        reached = accuracy(squeezing.network, jax.device_get(result), squeezing.test)  # from wherever it lies
        file.drop_after(step - 1)  # a run that was killed after this test makes it again
        loss = metrics.get("epoch_loss", math.nan)  # of an epoch whose line was lost with the machine
        file.write(step, {"epoch": epoch, **({"loss": loss} if math.isfinite(loss) else {}), "accuracy": reached})
        self._reporter.ends("epoch", {"epoch": epoch, "loss": loss, "accuracy": reached})

    @property
    def accuracies(self) -> list[float]:
        """Accuracies of all tests so far."""
        told = map(io.of_line, self._path.read_text(errors="replace").splitlines(keepends=True))
        return [each["accuracy"] for each in told if each]
