"""One evaluation, from checked options to the result file: what all commands that evaluate share."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any

from jaxdd import data
from jaxdd.cli.command import Job, Session, data_line, require_one_device
from jaxdd.cli.flags.rcig import Eval
from jaxdd.cli.screen.progress import Trainings, table
from jaxdd.core import config as configs
from jaxdd.core import io
from jaxdd.core.config import Layer, Value
from jaxdd.core.distilled import DistilledSet
from jaxdd.core.errors import CheckpointError, UsageError
from jaxdd.data.registry import user_kind
from jaxdd.evaluation.base import BaseRecipe
from jaxdd.evaluation.protocol import BASELINES, Evaluation, planned
from jaxdd.evaluation.recipe import Recipe
from jaxdd.run.chain import students as soft
from jaxdd.run.control import Control
from jaxdd.run.evaluating import Evaluating
from jaxdd.run.settings import build, default_folder
from jaxdd.run.storage import sets
from jaxdd.run.storage.identity import require_writable


def job(
    options: Eval,
    changes: Layer,
    labels: soft.Labels | None = None,
    notices: Sequence[str] = (),
    *,
    maker: str = "distill",
    once: bool = False,
) -> Job:
    """Returns an evaluation, checked.

    Arguments:
        options: of `eval`.
        changes: settings of the recipe that replace the set's own.
        labels: where soft labels come from; None for what lies beside the set.
        notices: more that the user should be told.
        maker: the command that makes such sets, for advice.
        once: whether nothing is to be done where the very same evaluation is finished.

    Raises:
        JaxddError: anything a user can mend.
    """
    job = _Job(options, changes, labels or soft.Labels(), maker)

    def work(session: Session) -> None:
        if once and job.link.finished(job.folder):
            session.screen.say("this chain is finished already", "bold green")
            session.screen.facts(numbers=job.link.file(job.folder))
        else:
            job.conclude(session, job.evaluate(session))

    made = job.distilled.provenance
    origin = ", ".join(f"{key} {made[key]}" for key in ("method", "step") if key in made)
    where = f"{job.found.path}" + (f" ({origin})" if origin else "")
    what = f"evaluation of {len(job.distilled)} images of {job.name}, {job.distilled.ipc} per class"
    return Job(what, work, (*job.notices, *notices), {"set": where})


class _Job:
    """One evaluation at work; making it checks whatever needs no data."""

    def __init__(self, options: Eval, changes: Layer, labels: soft.Labels, maker: str):
        self.options, self.labels = options, labels
        config = None
        if options.config_path or not options.checkpoint_path:  # which say the recipe, or the usual folder
            named = {"dataset_name": Value(options.dataset_name, "`dataset_name`")} if options.dataset_name else {}
            config = build(options.config_path, named)
            usual = default_folder(config.run.dataset_name, config.ipc, config.run.method)
            config = config if options.config_path else None
        self.found = sets.find(io.absolute(options.checkpoint_path or usual), maker)
        told = options.dataset_name or (config.run.dataset_name if config else "")
        self.distilled = self.found.read(dataset=told, flip=bool(getattr(config and config.method, "use_flip", True)))
        self.name = self._dataset_name(told)
        if self.distilled.recipe.get("protocol") == "soft":
            self.labels = labels.beside(self.found.beside)
        of_set = {**self.distilled.recipe, **self.labels.recipe}
        stored = config.run.stored_recipe(config.method) if config else of_set
        self.recipes = Recipe.chosen(stored, changes, options.architectures, self.distilled)
        self.notices = config.notices if config else ()
        self.soft = self.recipes[0].protocol == "soft"
        self.folder = io.absolute(options.output_dir) if options.output_dir else self.found.beside
        self.rows: dict[str, Any] = {
            "baselines": BASELINES if options.baselines else (),
            "full_data": options.full_data,
        }
        about = {"checkpoint": str(self.found.path)} | ({"set": soft.shards(self.found.path)} if self.soft else {})
        how: dict[str, Any] = {"seed": options.random_seed, "name": options.save_name, "about": about}
        how |= {"options": {"zca_folder": options.zca_path, **self.rows}}
        self.link = Evaluating(self.distilled, None, self.recipes, **how)
        self._check()

    def _dataset_name(self, told: str) -> str:
        """Returns the data set's name: the set knows it best; a flag may only agree."""
        name = sets.dataset_of(self.distilled, self.options.dataset_name, self.found.path)
        if not name and not told:
            raise UsageError(
                "this file does not say which data set it was distilled from",
                where=str(self.found.path),
                remedy="name it: --dataset_name cifar10 (and --config_path for its recipe)",
            )
        return name or told

    def _check(self) -> None:
        """Refuses all that can be before a device is touched or an image is read."""
        require_one_device(self.options.devices)
        if self.soft:
            self.labels.require()
        shape = _shape(self.distilled)
        for recipe in self.recipes:
            recipe.network(shape, self.distilled.classes, self.name)
            recipe.check(shape[0])
        data.check_available(self.name, self.options.data_path, self.options.stream)
        spec, channels = data.describe(self.name, self.options.data_path), shape[-1]
        unsure = user_kind(self.name) and spec.channels == 1  # of the images that were looked at
        if spec.classes != self.distilled.classes or (spec.channels not in (None, channels) and not unsure):
            raise CheckpointError(
                f"the set has {channels} channel(s) and {self.distilled.classes} classes",
                where=str(self.found.path),
                expected=f"{spec.channels} and {spec.classes}, as in '{self.name}'",
                remedy="name the data set it was distilled from with --dataset_name",
            )
        for folder in filter(None, (self.folder, self.options.log_dir)):
            require_writable(folder)
        if not self.options.output_dir and not self.folder.is_dir():
            raise CheckpointError("no folder for the result", where=str(self.folder), remedy="give an --output_dir")

    def evaluate(self, session: Session) -> Evaluation:
        """Trains the networks, and writes the result file."""
        options, distilled, screen = self.options, self.distilled, session.screen
        how = {"resolution": options.resolution or _shape(distilled)[0], "stream": options.stream}
        read = partial(data.load, self.name, options.data_path, **how)
        _, device, dataset = session.begin(options.devices, read)
        screen.fact("data", data_line(dataset, distilled.space))
        for recipe in self.recipes:
            screen.fact("network", self._describe(recipe, dataset))
        screen.fact("device", device)
        link = dataclasses.replace(self.link, dataset=dataset)
        if self.soft:
            link, texts = self.labels.attach(link, dataset)
            for told in texts:
                screen.fact(*told)
        steps = [training.steps for training in planned(distilled, dataset, link.recipes, **self.rows)]
        line = Trainings(screen, session.should_stop, steps)
        line.kept = "finished networks are kept; the same command continues" if self.soft else "nothing was written"
        with line.shown():
            return link.make(self.folder, Control(line, session.should_stop))

    def _describe(self, recipe: BaseRecipe, dataset: data.Dataset) -> str:
        """Returns the network of a recipe, and how it is trained."""
        first, *_ = planned(self.distilled, dataset, [recipe], baselines=())
        module: Any = recipe.network(_shape(self.distilled), self.distilled.classes, self.name).module
        depth = f"depth {module.depth}, " if hasattr(module, "depth") else ""
        how = f"{recipe.models_to_test} networks per row, {recipe.summary(first)}"
        return f"{type(module).__name__}, {depth}width {recipe.width}; {how}"

    def conclude(self, session: Session, evaluation: Evaluation) -> None:
        """Shows the table, and says where the result file is."""
        screen, options = session.screen, self.options
        screen.show(table(evaluation.rows))
        method = str(self.distilled.provenance.get("method", "rcig"))
        reference = configs.reference(method, self.name, self.distilled.ipc)
        screen.facts(reference=reference, numbers=self.link.file(self.folder))
        screen.log_to((io.absolute(options.log_dir) if options.log_dir else self.folder) / "log.txt")
        if options.message and options.message != Eval.message:
            screen.record(f"message: {options.message}")


def _shape(distilled: DistilledSet) -> tuple[int, int, int]:
    height, width, channels = distilled.images.shape[1:]
    return height, width, channels
