"""A distilled set becomes accuracies: at the end, and on the way while it is being made.

Of an evaluation on the way, a run's folder holds

    evaluations.jsonl    step, accuracies, mean and standard deviation: one line per evaluation
    best/                the set whose mean was highest over all evaluations, not the newest alone

The best is chosen by the test images, as the papers' own scripts do: it flatters.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxdd import data as data_room
from jaxdd.core import backend, io
from jaxdd.core.config import as_dict
from jaxdd.core.distilled import DistilledSet
from jaxdd.core.errors import CheckpointError
from jaxdd.core.procedure import Procedure
from jaxdd.core.types import Examples
from jaxdd.data import Dataset
from jaxdd.data.streaming import Stream
from jaxdd.evaluation import protocol
from jaxdd.evaluation.base import BaseRecipe
from jaxdd.evaluation.protocol import Row
from jaxdd.evaluation.recipe import Recipe
from jaxdd.run import loop
from jaxdd.run.control import Control, Stopped, never
from jaxdd.run.distillation import Picture
from jaxdd.run.storage import identity as identities
from jaxdd.run.storage.checkpoint import Storage, discard
from jaxdd.run.storage.networks import digest


def evaluate(
    distilled: DistilledSet,
    dataset: data_room.Dataset,
    recipe: BaseRecipe | None = None,
    *,
    seed: int = 0,
    zca_folder: Any = None,
    control: Control = Control(),
    keep: Any = None,
    checkpoint_every: float = 5.0,
    **options: Any,
) -> protocol.Evaluation:
    """Trains fresh networks on a distilled set and on baselines, and measures them on the real test images.

    Arguments:
        distilled: the set.
        dataset: the real data it was distilled from.
        recipe: how networks are trained; default the set's own.
        seed: of networks and baselines.
        zca_folder: where fitted ZCA transforms are kept.
        control: of every training; its reporter hears `begins` of each and `ends` of each finished row, which is the
            piece.
        keep: folder where finished networks, and the state of the one in training, lie until all are finished: the same
            evaluation then continues with them; None keeps nothing.
        checkpoint_every: minutes between two of these states.
        options: `baselines`, `full_data`, `others`, `teachers`, `labels`, as in `evaluation.protocol.evaluate`.

    Raises:
        CheckpointError: the set is of another data set, shape, number of classes or preprocessing.
        Stopped: by a signal.
    """
    recipe = Recipe.of(distilled.recipe) if recipe is None else recipe
    numbers, places = itertools.count(), []

    def run(procedure: Procedure, data: Examples, *, steps: int, seed: int, stream: Stream | None = None) -> Any:
        number = next(numbers)
        control.reporter.begins("network", number, number + 1)
        with contextlib.ExitStack() as stack:
            if keep is not None:  # told apart by what it is trained on and how
                identity = {"procedure": identities.of_procedure(procedure), "data": _digest(data)}
                identity |= {"steps": steps, "seed": seed}
                identity |= {} if stream is None else {"stream": stream.digest}
                place = pathlib.Path(keep) / str(number) / identities.digest(identity)[:12]
                identities.refuse_older(place.parent)
                places.append(place)
                storage = stack.enter_context(Storage(place, identity, checkpoint_every=checkpoint_every))
            else:
                storage = None
            return loop.run(
                procedure,
                data,
                steps=steps,
                seed=seed,
                storage=storage,
                stream=stream,
                log_every=steps,
                steps_per_dispatch=backend.steps_per_dispatch(backend.TRAINING_STEPS_PER_DISPATCH),
                **control.options,
            )

    def told(row: Row) -> None:
        control.reporter.ends(row, {"mean": row.mean, "std": row.std})

    if tuple(distilled.images.shape[1:]) == dataset.image_shape:
        family = distilled.preprocessing.get("family", "rcig")  # a checkpoint of the original names none
        preprocessing = data_room.fit(dataset, family=family, kind=distilled.space, cache_folder=zca_folder)
    else:
        preprocessing = data_room.fit(dataset, kind="raw")  # which is never used: the protocol refuses the set
    evaluation = protocol.evaluate(
        distilled, dataset, preprocessing, recipe, run=run, seed=seed, report=told, **options
    )
    for place in places:  # and no other: another recipe or seed may have been stopped, or be under way
        discard(place)
        with contextlib.suppress(OSError):
            place.parent.rmdir()
            place.parent.parent.rmdir()
    return evaluation


def _digest(data: Examples) -> str:
    """Returns the digest of what a network is trained on, under the names that states on disk were made with."""
    return digest({"images": data.images, "labels": data.labels, "networks": data.teachers})


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluating:
    """An evaluation as the link of a chain: students are trained, and a file says how good they are.

    Arguments:
        distilled: the set.
        dataset: the real data; None while all that is asked is whether it is finished.
        recipes: how students are trained, with rows for each of them.
        seed: of students and baselines.
        name: of the file, without .json.
        about: what the file is to say beside the evaluation; `set` there tells two sets apart.
        options: more of `evaluate`.
    """

    distilled: DistilledSet
    dataset: Dataset | None
    recipes: Sequence[BaseRecipe]
    seed: int = 0
    name: str = "eval"
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def identity(self) -> dict[str, Any]:
        """The settings that the accuracies depend on."""
        recipe = self.recipes[0]
        how = {"seed": self.seed, "recipe": {"protocol": recipe.protocol, **as_dict(recipe)}}
        return {**how, "set": self.about.get("set")}

    def file(self, place: pathlib.Path) -> pathlib.Path:
        """Returns the file in the folder `place`."""
        return place / f"{self.name.removesuffix('.json')}.json"

    def finished(self, place: pathlib.Path) -> bool:
        """Returns whether the file in `place` is about this very set, recipe and seed."""
        path = self.file(place)
        content = io.read_json(path) if path.is_file() else None
        return isinstance(content, dict) and all(content.get(name) == value for name, value in self.identity.items())

    def make(self, place: pathlib.Path, control: Control = Control()) -> protocol.Evaluation:
        """Trains the students and writes the file; finished students are kept on the way where a teacher teaches them.

        Raises:
            As `evaluate`.
        """
        assert self.dataset is not None
        io.require_place(self.file(place))
        recipe, *others = self.recipes
        keep = place / "validation" if recipe.protocol == "soft" else None
        how = {"seed": self.seed, "control": control, "keep": keep, "others": others, **self.options}
        evaluation = evaluate(self.distilled, self.dataset, recipe, **how)
        io.write_json(self.file(place), {**self.about, **evaluation.as_dict()})
        return evaluation


@dataclasses.dataclass(frozen=True, eq=False)
class Validation:
    """An evaluation every so many steps of a run; pass it to `Distillation.drive`.

    Arguments:
        every: steps between two evaluations.
        folder: the run's output folder.
        dataset: the real images.
        recipe: how networks are trained on the set.
        seed: of these networks, the same every time.
        picture: draws a set into a file.
        begin: hears the step before its evaluation.
        report: hears `(step, row, whether it is the best so far)`.
        should_stop: asked while networks are trained; a signal ends the evaluation, of which nothing is kept then.
    """

    every: int
    folder: pathlib.Path
    dataset: Dataset
    recipe: BaseRecipe
    seed: int = 0
    picture: Picture | None = None
    begin: Callable[[int], Any] = lambda step: None
    report: Callable[[int, Row, bool], Any] = lambda step, row, best: None
    should_stop: Callable[[], int | None] = never

    def __call__(self, step: int, distilled: DistilledSet) -> None:
        """Evaluates the set of one step, once; of a recipe's several ways of training, the first counts."""
        if self.told() and self.told()[-1]["step"] == step:  # a run that goes on from here
            return
        self.begin(step)
        options: dict[str, Any] = {"seed": self.seed, "baselines": (), "control": Control(should_stop=self.should_stop)}
        try:
            row = evaluate(distilled, self.dataset, self.recipe, **options).rows[0]
        except Stopped:  # the run hears the same signal at its next step boundary, and saves
            return
        before = [told for told in self.told() if told["step"] < step]  # a resumed run makes the others again
        best = all(row.mean > told["mean"] for told in before)
        if best:
            distilled.save(self.folder / "best")
            if self.picture is not None:
                self.picture(distilled, self.folder / "best" / "grid.png")
        now = {"step": step, "runs": list(row.runs), "mean": row.mean, "std": row.std}
        io.write_atomically(self.folder / "evaluations.jsonl", "".join(map(io.to_line, (*before, now))))
        self.report(step, row, best)

    def told(self) -> list[dict[str, Any]]:
        """Returns the evaluations so far.

        Raises:
            CheckpointError: a line is damaged: the best set might not be the best.
        """
        path = self.folder / "evaluations.jsonl"
        lines = path.read_text(errors="replace").splitlines(keepends=True) if path.is_file() else []
        told = [each for each in map(io.of_line, lines) if each]
        if len(told) < len(lines):
            what, expected = "a damaged line", "lines as they were written, each with its checksum"
            remedy = "take the line out, or restore the file"
            raise CheckpointError(what, where=str(path), expected=expected, remedy=remedy)
        return told
