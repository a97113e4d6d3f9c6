"""One distillation, from the checked settings to the closing words: what all commands that distil share."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import time
from typing import Any

import jax

from jaxdd import data
from jaxdd.cli.command import Job, Session, data_line
from jaxdd.cli.flags.shared import Run
from jaxdd.cli.screen.screen import Line, Screen, percent
from jaxdd.cli.settings import is_one_of_several
from jaxdd.core import backend
from jaxdd.core.config import as_dict
from jaxdd.core.errors import UsageError
from jaxdd.core.io import absolute, duration, gigabytes, shorter_path
from jaxdd.evaluation.protocol import Row
from jaxdd.evaluation.recipe import Recipe
from jaxdd.run import devices
from jaxdd.run.chain import pretrain as pretrained
from jaxdd.run.control import Control, Stopped
from jaxdd.run.devices import Layout
from jaxdd.run.distillation import Distillation, Distilling, Picture
from jaxdd.run.evaluating import Validation
from jaxdd.run.plan import Plan, Trial
from jaxdd.run.settings import Settings
from jaxdd.run.storage import networks as stored
from jaxdd.run.storage import sets
from jaxdd.run.storage.identity import refuse_other_run, require_writable

SLOW_TO_PREPARE = 10**7  # numbers in the train split from which a pipe is told why nothing happens
FEW = 3  # networks of an evaluation that is made on the way
MOST_IMAGES = 10**7  # in a distilled set: more than any data set that is read into memory has
OTHER = ("message", "data_path", "devices", "devices_mode", "log_every", "checkpoint_every", "log_dir")


def job(
    options: Run,
    settings: Settings,
    folder: pathlib.Path,
    networks: tuple[pathlib.Path, ...] = (),
    evaluate_every: int | None = None,
) -> Job:
    """Returns the run, to be begun, continued or rehearsed; joins the other processes, if there are any.

    Arguments:
        options: how.
        settings: what.
        folder: the output folder.
        networks: folders of networks trained beforehand.
        evaluate_every: steps between two evaluations of the set; None for none.
    """
    shown = True
    if is_one_of_several(options) and not options.dry_run:
        devices.join_processes(options.coordinator_address, options.num_processes, options.process_id)
        shown = devices.first_process()

    def work(session: Session) -> None:
        job = _Job(session, options, settings, folder, networks, evaluate_every)
        run, layout = job.begin()
        if options.dry_run:
            rehearse(session.screen, run, layout, folder)
            return
        job.make(run, layout)
        made = folder / "distilled"
        session.screen.facts(pictures=made / "grid.png", set=made, numbers=folder / "metrics.jsonl")
        session.advise("eval", checkpoint_path=shorter_path(folder), data_path=options.data_path)

    run, ipc = settings.run, settings.ipc
    what = f"{run.method.upper()} on {run.dataset_name}, {ipc} image{'s' * (ipc > 1)} per class"
    what += f", {run.max_steps} steps ({pathlib.PurePath(settings.config.path).name})"
    told = {"output": folder, "message": options.message}
    return Job(what, work, settings.notices, told, interruptible=not options.dry_run, shown=shown)


def check(options: Run, settings: Settings, folder: pathlib.Path) -> None:
    """Refuses everything that can be before a device is touched or an image is read.

    Raises:
        JaxddError: anything a user can mend.
    """
    recipe = Recipe.of(settings.run.stored_recipe(settings.method))
    recipe.check(settings.run.img_size or 32)
    name = settings.run.dataset_name
    data.check_available(name, options.data_path)
    spec = data.describe(name, options.data_path, resolution=options.resolution)
    if spec.resolution and spec.channels:
        shape = (spec.resolution, spec.resolution, spec.channels)
        recipe.network(shape, spec.classes, name)
        settings.method.describe(shape, spec.classes)
    if spec.classes * settings.ipc > MOST_IMAGES:
        raise UsageError(
            f"{settings.ipc} images per class",
            where="n_images",
            expected=f"at most {MOST_IMAGES} images in all",
            remedy="ask for fewer images per class",
        )
    if not options.dry_run:
        for place in filter(None, (folder, options.log_dir)):
            require_writable(place)
    if not options.dry_run and not is_one_of_several(options):  # else another process may hold the folder already
        known = {"method": settings.run.method, "settings": as_dict(settings.method), "seed": options.random_seed}
        refuse_other_run(folder, {**known, "dataset": {"name": name}})


@dataclasses.dataclass(frozen=True)
class _Job:
    """One distillation at work; arguments as in `job`."""

    session: Session
    options: Run
    settings: Settings
    folder: pathlib.Path
    networks: tuple[pathlib.Path, ...]
    evaluate_every: int | None

    def begin(self) -> tuple[Distillation, Layout]:
        """Reads the data and says what is there; returns the run and its devices."""
        layout, device, run = self.session.begin(self.options.devices, self._read, self.options.devices_mode)
        screen, dataset = self.session.screen, run.dataset
        screen.fact("data", data_line(dataset, run.preprocessing.space))
        screen.fact("network", run.method.describe(dataset.image_shape, dataset.classes))
        for place in self.networks:
            screen.fact("start", pretrained.describe(place))
        screen.facts(device=device, memory=run.plan(layout).demand.note)
        asked, side = self.settings.run.img_size, dataset.resolution
        if asked and side and asked != side:
            text = f"img_size = {asked} of the config does not decide: the images have {side} pixels"
            screen.note(f"{text}; --resolution resizes them")
        return run, layout

    def make(self, run: Distillation, layout: Layout) -> None:
        """Distils, and says how long it took."""
        screen, should_stop, began = self.session.screen, self.session.should_stop, time.monotonic()
        line = Line(screen, should_stop, steps=run.steps)
        try:
            with line.shown():
                line.doing("preparing the images")
                if run.dataset.train_images.size > SLOW_TO_PREPARE:
                    screen.progress("preparing the images ...", last=True)
                self._link(run, line).make(self.folder, Control(line, should_stop, layout))
        except Stopped as stop:
            saved = f"saved in {self.folder}" if stop.step else "nothing to save yet"
            screen.say(f"stopped after step {stop.step}, {saved}: run the same command again to continue", "bold")
            raise
        if line.ended_at == line.begun_at:
            text = f"this run is finished already: {line.ended_at} steps; raise --max_steps to continue it"
        else:
            seconds, compiling = map(duration, (time.monotonic() - began, line.compiling_seconds))
            text = f"finished {line.ended_at} steps in {seconds}, {compiling} of it compiling"
        screen.say(text, "bold green")

    def _link(self, run: Distillation, line: Line) -> Distilling:
        """Returns the run as a link in its folder."""
        from jaxdd.publish.grid import grid  # with PIL and matplotlib: not before something is to be drawn

        options = self.options
        storage: dict[str, Any] = {"checkpoint_every": options.checkpoint_every}
        with contextlib.suppress(ImportError):
            import tensorboardX  # noqa: F401  (half a second, which would be taken for a slow second step)

            storage["tensorboard"] = True
        other = {"networks": list(map(str, self.networks))} if self.networks else {}
        log = (absolute(options.log_dir) if options.log_dir else self.folder) / "log.txt"
        return Distilling(
            run,
            picture=grid,
            validate=self._validation(run, line, grid),
            other={"config": self.settings.config.path, **other, **{name: getattr(options, name) for name in OTHER}},
            log_every=options.log_every or (1 if jax.default_backend() == "cpu" else 10),
            storage=storage,
            began=lambda: self.session.screen.log_to(log) if devices.first_process() else None,
        )

    def _read(self) -> Distillation:
        asked, start = self.options, None
        dataset = data.load(self.settings.run.dataset_name, asked.data_path, resolution=asked.resolution)
        if asked.init_from is not None:
            place = sets.find(absolute(asked.init_from), name="init_from")
            start = place.read(dataset=dataset.name, flip=False)
        networks = stored.load_all(self.networks) if self.networks else None
        options = {"networks": networks, "start": start, "zca_folder": asked.zca_path}
        return Distillation.of(self.settings, dataset, seed=asked.random_seed, **options)

    def _validation(self, run: Distillation, line: Line, picture: Picture) -> Validation | None:
        """Returns the evaluation of the set while it is being made."""
        if self.evaluate_every is None:
            return None
        recipe = Recipe.of(run.recipe)
        recipe = dataclasses.replace(recipe, models_to_test=min(recipe.models_to_test, FEW))

        def report(step: int, row: Row, best: bool) -> None:
            line.doing("running")
            self.session.screen.say(f"step {step}: test accuracy {percent(row)}" + ", the best so far" * best)

        return Validation(
            self.evaluate_every,
            self.folder,
            run.dataset,
            recipe,
            self.options.random_seed,
            picture=picture,
            begin=line.evaluating,
            report=report,
            should_stop=self.session.should_stop,
        )


def rehearse(screen: Screen, run: Distillation, layout: Layout, folder: pathlib.Path) -> None:
    """Says what the run needs; makes a few steps to know, and writes nothing.

    Arguments:
        screen: where to say it.
        run: complete but not begun.
        layout: the devices it would run on.
        folder: where it would be kept.

    Raises:
        ConfigError: it cannot fit into a device's memory.
        CheckpointError: its folder cannot be written, or has too little room.
    """
    needs = run.plan(layout, count_operations=True)
    _tell_sizes(screen, run, needs)
    require_writable(folder, needs.disk_bytes)
    run.require_memory(layout)
    screen.say("compiling the step and making a few on the real data ...")
    _tell_costs(screen, run, needs, run.trial(layout))
    screen.say("dry run: nothing was written", "bold")


def _tell_sizes(screen: Screen, run: Distillation, needs: Plan) -> None:
    shape = "x".join(map(str, run.dataset.image_shape))
    screen.fact("set", f"{run.dataset.classes * run.method.n_images} images of {shape}")
    each = needs.network_parameters // needs.networks
    screen.fact("networks", f"{needs.network_parameters:,} numbers in the pool's networks, {each:,} in each")
    parts = ", ".join(f"{part.name} {part.bytes / 1e6:,.1f}" for part in needs.parts)
    screen.fact("state", f"{needs.state_bytes / 1e6:,.1f} MB: {parts}; the data {needs.data_bytes / 1e6:,.1f} MB")
    screen.fact("disk", f"{needs.disk_bytes / 1e6:,.1f} MB at most for checkpoints")
    step = f", {gigabytes(needs.demand.bytes)} of it within a step" if needs.demand.bytes else ""
    device = gigabytes(backend.memory_bytes())
    screen.fact("estimate", f"{gigabytes(needs.peak_bytes)} from shapes alone{step}; the device has {device}")


def _tell_costs(screen: Screen, run: Distillation, needs: Plan, trial: Trial) -> None:
    if trial.peak_bytes is not None and trial.temporary_bytes is not None:
        inside = f"{gigabytes(trial.temporary_bytes)} of it within a step"
        screen.fact("memory", f"{gigabytes(trial.peak_bytes)} at the peak of the compiled step, {inside}")
    if needs.operations_per_step == needs.operations_per_step:
        screen.fact("work", f"{needs.operations_per_step / 1e9:,.1f} GFLOP per step (loops of unknown length once)")
    which = f"mean of {trial.steps - 1} after the first" if trial.steps > 1 else "the first, which warms up"
    screen.fact("step", f"{trial.seconds_per_step:,.3g} s ({which}), after {trial.compile_seconds:,.1f} s of compiling")
    screen.fact("total", f"about {duration(run.steps * trial.seconds_per_step)} for {run.steps} steps")
