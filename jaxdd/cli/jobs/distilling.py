"""One distillation, from the checked settings to the closing words: what all commands that distil share."""

from __future__ import annotations

import dataclasses
import io
import pathlib
import shlex
import time
from typing import TYPE_CHECKING, Any

from jaxdd.cli.devices import MODES, is_one_of_several, join, start
from jaxdd.cli.flags.shared import Run
from jaxdd.cli.jobs.links import data_line, opened
from jaxdd.cli.screen.screen import Screen, duration
from jaxdd.core.config import as_dict
from jaxdd.core.errors import UsageError, choose
from jaxdd.core.io import shorter_path
from jaxdd.run.chain import networks as pretrained
from jaxdd.run.settings import Settings
from jaxdd.run.storage import sets

if TYPE_CHECKING:
    from collections.abc import Callable

    from jaxdd.cli.screen.progress import Line
    from jaxdd.data import Dataset
    from jaxdd.evaluation.protocol import Row
    from jaxdd.run.devices import Layout
    from jaxdd.run.distillation import Distillation, Distilling
    from jaxdd.run.evaluating import Validation
    from jaxdd.run.starts import Start

SLOW_TO_PREPARE = 10**7  # numbers in the train split from which a pipe is told why nothing happens
FEW = 3  # networks of an evaluation that is made on the way
MOST_IMAGES = 10**7  # in a distilled set: more than any data set that is read into memory has


def perform(
    flags: Run,
    settings: Settings,
    folder: pathlib.Path,
    evaluator: str,
    networks: tuple[pathlib.Path, ...] = (),
    evaluate_every: int | None = None,
) -> int:
    """Runs, or continues, or rehearses.

    Arguments:
        flags: how.
        settings: what.
        folder: the output folder.
        evaluator: how the command that evaluates is called, for the closing line.
        networks: folders of networks trained beforehand.
        evaluate_every: steps between two evaluations of the set; None for none.

    Returns:
        The exit code: 0, or 128 plus the number of the signal that stopped the run.

    Raises:
        JaxddError: anything a user can mend.
    """
    with opened(None if join(flags) else Screen(io.StringIO())) as screen:
        session = _Session(screen, flags, settings, folder, evaluator, networks, evaluate_every)
        return session.rehearse() if flags.dry_run else session.go()


def check(flags: Run, settings: Settings, folder: pathlib.Path) -> None:
    """Refuses everything that can be before a device is touched or an image is read.

    Raises:
        JaxddError: anything a user can mend.
    """
    from jaxdd import augment, data
    from jaxdd.evaluation.recipe import Recipe
    from jaxdd.run.storage.precheck import refuse_other_run, require_writable

    choose(flags.devices_mode, MODES, kind="mode", where="--devices_mode")
    recipe = Recipe.of(settings.run.stored_recipe(settings.method))
    recipe.check(settings.run.img_size or 32)
    augment.build(getattr(settings.method, "aug", None), settings.run.img_size or 32)
    name = settings.run.dataset_name
    data.check_available(name, flags.data_path)
    spec = data.describe(name, flags.data_path, resolution=flags.resolution)
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
    if not flags.dry_run:
        for place in filter(None, (folder, flags.log_dir)):
            require_writable(place)
    if not flags.dry_run and not is_one_of_several(flags):  # else another process may hold the folder already
        known = {"method": settings.run.method, "settings": as_dict(settings.method), "seed": flags.random_seed}
        refuse_other_run(folder, {**known, "dataset": {"name": name}})


def _header(screen: Screen, settings: Settings, folder: pathlib.Path, message: str | None) -> None:
    from jaxdd import __version__

    ipc = settings.ipc
    what = f"{settings.run.method.upper()} on {settings.run.dataset_name}, {ipc} image{'s' * (ipc > 1)} per class"
    name = pathlib.PurePath(settings.config.path).name
    screen.fact("jaxdd", f"{__version__}   {what}, {settings.run.max_steps} steps ({name})", "bold")
    screen.fact("output", str(folder))
    if message:
        screen.fact("message", message)
    for notice in settings.notices:
        screen.note(notice)


def _note_size(screen: Screen, settings: Settings, resolution: int | None) -> None:
    asked = settings.run.img_size
    if asked and resolution and asked != resolution:
        screen.note(
            f"img_size = {asked} of the config does not decide: the images have {resolution} pixels; "
            "--resolution resizes them"
        )


class _Session:
    """One distillation from the checked flags to the closing words."""

    def __init__(
        self,
        screen: Screen,
        flags: Run,
        settings: Settings,
        folder: pathlib.Path,
        evaluator: str,
        networks: tuple[pathlib.Path, ...],
        evaluate_every: int | None,
    ):
        self.screen, self.flags, self.settings, self.folder = screen, flags, settings, folder
        self.evaluator, self.networks, self.evaluate_every = evaluator, networks, evaluate_every

    def go(self) -> int:
        """Returns the exit code."""
        _header(self.screen, self.settings, self.folder, self.flags.message)
        from jaxdd.cli.screen.progress import Line
        from jaxdd.run import signals

        with signals.caught() as should_stop:
            line = Line(self.screen, should_stop, steps=self.settings.run.max_steps)
            with line.shown():
                line.doing("starting JAX")
                layout, device = start(self.flags)
                line.doing("reading the data")
                run = self._read()
                self._facts(run, layout, device)
                line.doing("preparing the images")
                if run.dataset.train_images.size > SLOW_TO_PREPARE:
                    self.screen.progress("preparing the images ...", last=True)
                link = self._link(run, line, should_stop)
                began = time.monotonic()
                try:
                    link.make(self.folder, line, should_stop, layout)
                except signals.Stopped as stop:
                    return self._stopped(stop)
        self._finished(line.ended_at, line.begun_at, time.monotonic() - began, line.compiling_seconds)
        return 0

    def _link(self, run: Distillation, line: Line, should_stop: Callable[[], int | None]) -> Distilling:
        """The run in its folder."""
        import jax

        from jaxdd.publish.grid import grid
        from jaxdd.run import hosts
        from jaxdd.run.distillation import Distilling

        return Distilling(
            run,
            picture=grid,
            validate=self._validation(run, line, should_stop),
            other=self._other(),
            log_every=self.flags.log_every or (1 if jax.default_backend() == "cpu" else 10),
            storage=self._storage_options(),
            began=lambda: self.screen.log_to(self._log_file()) if hosts.first() else None,
        )

    def rehearse(self) -> int:
        """The dry run: says what the run would do and need; writes nothing. Returns the exit code."""
        from jaxdd.cli.screen import dry_run

        _header(self.screen, self.settings, self.folder, self.flags.message)
        layout, device = start(self.flags)
        run = self._read()
        self._facts(run, layout, device)
        dry_run.tell(self.screen, run, layout, self.folder)
        return 0

    def _read(self) -> Distillation:
        from jaxdd import data
        from jaxdd.run.distillation import Distillation
        from jaxdd.run.storage import networks

        flags, run, method = self.flags, self.settings.run, self.settings.method
        dataset = data.load(run.dataset_name, flags.data_path, resolution=flags.resolution)
        preprocessing = data.fit(dataset, family=method.family, kind=method.kind, cache_folder=flags.zca_path)
        return Distillation(
            name=run.method,
            method=method,
            dataset=dataset,
            preprocessing=preprocessing,
            steps=run.max_steps,
            seed=flags.random_seed,
            recipe=run.stored_recipe(method),
            checkpoint_iters=run.checkpoint_iters,
            networks=networks.load_all(self.networks) if self.networks else None,
            start=self._start(dataset),
        )

    def _start(self, dataset: Dataset) -> Start | None:
        """The images of the set that the run is to start from."""
        if self.flags.init_from is None:
            return None
        from jaxdd.run.starts import Start

        place = pathlib.Path(self.flags.init_from).expanduser().absolute()
        found = sets.find(place, "any method", flag="--init_from")
        return Start.of(found.read(dataset=dataset.name, flip=False), self.settings.method, dataset)

    def _validation(self, run: Distillation, line: Line, should_stop: Callable[[], int | None]) -> Validation | None:
        """What evaluates the set while it is being made."""
        from jaxdd.cli.screen.progress import percent
        from jaxdd.evaluation.recipe import Recipe
        from jaxdd.publish.grid import grid
        from jaxdd.run.evaluating import Validation

        if self.evaluate_every is None:
            return None
        recipe = Recipe.of(run.recipe)
        recipe = dataclasses.replace(recipe, models_to_test=min(recipe.models_to_test, FEW))

        def report(step: int, row: Row, best: bool) -> None:
            line.doing("running")
            self.screen.say(f"step {step}: test accuracy {percent(row)}" + (", the best so far" if best else ""))

        return Validation(
            self.evaluate_every,
            self.folder,
            run.dataset,
            recipe,
            self.flags.random_seed,
            picture=grid,
            begin=line.evaluating,
            report=report,
            should_stop=should_stop,
        )

    def _facts(self, run: Distillation, layout: Layout, device: str) -> None:
        self.screen.fact("data", data_line(run.dataset, run.preprocessing.space))
        self.screen.fact("network", run.method.describe(run.dataset.image_shape, run.dataset.classes))
        for place in self.networks:
            self.screen.fact("start", pretrained.describe(place))
        self.screen.fact("device", device)
        bounded = run.plan(layout).demand.note
        if bounded:
            self.screen.fact("memory", bounded)
        _note_size(self.screen, self.settings, run.dataset.resolution)

    def _other(self) -> dict[str, Any]:
        flags = self.flags
        paths = {"networks": list(map(str, self.networks))} if self.networks else {}
        kept = ("message", "data_path", "devices", "devices_mode", "log_every", "checkpoint_every", "log_dir")
        return {"config": self.settings.config.path, **paths, **{name: getattr(flags, name) for name in kept}}

    def _storage_options(self) -> dict[str, Any]:
        try:
            import tensorboardX  # noqa: F401  (half a second, which would be taken for a slow second step)
        except ImportError:
            return {"checkpoint_every": self.flags.checkpoint_every}
        return {"checkpoint_every": self.flags.checkpoint_every, "tensorboard": True}

    def _log_file(self) -> pathlib.Path:
        place = pathlib.Path(self.flags.log_dir).expanduser().absolute() if self.flags.log_dir else self.folder
        return place / "log.txt"

    def _stopped(self, stop: Any) -> int:
        saved = f"saved in {self.folder}" if stop.step else "nothing to save yet"
        self.screen.say(f"stopped after step {stop.step}, {saved}: run the same command again to continue", "bold")
        return stop.exit_code

    def _finished(self, step: int, begun_at: int, seconds: float, compiling: float) -> None:
        if step == begun_at:
            text = f"this run is finished already: {step} steps; raise --max_steps to continue it"
        else:
            text = f"finished {step} steps in {duration(seconds)}, {duration(compiling)} of it compiling"
        self.screen.say(text, "bold green")
        self.screen.fact("pictures", str(self.folder / "distilled" / "grid.png"))
        self.screen.fact("set", str(self.folder / "distilled"))
        self.screen.fact("numbers", str(self.folder / "metrics.jsonl"))
        self.screen.fact("next", self._next())

    def _next(self) -> str:
        """The command that evaluates what was made."""
        flags, parts = self.flags, [self.evaluator]
        words = {"checkpoint_path": shorter_path(self.folder), "data_path": flags.data_path}
        parts += [f"--{name} {shlex.quote(value)}" for name, value in words.items() if value]
        return " ".join(parts)
