"""`eval`: fresh networks are trained on a distilled set and on baselines; what they reach is printed and kept."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jaxdd.cli import checkpoints
from jaxdd.cli.arguments import parse
from jaxdd.cli.devices import start_one
from jaxdd.cli.distill import data_line
from jaxdd.cli.flags import Eval
from jaxdd.cli.resolve import Settings, build, default_config, default_folder, no_effect
from jaxdd.cli.screen import Screen
from jaxdd.core import config as configs
from jaxdd.core import io
from jaxdd.core.distilled import DistilledSet
from jaxdd.core.errors import CheckpointError, JaxddError, UsageError, choose

if TYPE_CHECKING:
    from jaxdd.data import Dataset
    from jaxdd.evaluation.protocol import Evaluation
    from jaxdd.evaluation.recipe import Recipe

RECIPE_FLAGS = ("eval_arch", "width", "depth", "normalization", "eval_lr", "models_to_test")


def run(argv: Sequence[str], program: str, distiller: str) -> int:
    """Parses, checks, evaluates, prints a table and writes the result file.

    Arguments:
        argv: the flags.
        program: how this command is called.
        distiller: how the other one is called, for advice.

    Returns:
        The exit code: 0, or 128 plus the number of the signal that stopped it.

    Raises:
        JaxddError: anything a user can mend.
    """
    flags = parse(Eval, argv, program)
    screen = Screen()
    try:
        return _Session(screen, flags, distiller).go()
    except JaxddError as error:
        screen.record(f"error: {error}")
        raise
    finally:
        screen.close()


class _Session:
    """One evaluation from the parsed flags to the result file; making it checks whatever needs no data."""

    def __init__(self, screen: Screen, flags: Eval, distiller: str):
        self.screen, self.flags = screen, flags
        _require_known_network(flags)
        named = {} if flags.dataset_name is None else {"dataset_name": ("--dataset_name", flags.dataset_name)}
        self.settings = build(flags.config_path, named, notices=no_effect(flags))
        self.found = checkpoints.find(self._checkpoint_path(), distiller)
        told = flags.dataset_name or (self.settings.run.dataset_name if flags.config_path else "")
        flip = bool(getattr(self.settings.method, "use_flip", True)) if flags.config_path else True
        self.distilled = self.found.read(dataset=told, flip=flip)
        if not flags.config_path:  # what is to be expected depends on the method
            made_by = default_config(self.distilled.provenance.get("method"))
            self.settings = build(made_by, named, notices=no_effect(flags))
        self.name = self._dataset_name(told)
        self.recipe = _recipe(flags, self.settings, self.distilled)
        self.folder = pathlib.Path(flags.output_dir).expanduser().absolute() if flags.output_dir else self.found.beside
        self._check()

    def go(self) -> int:
        """Returns the exit code."""
        from jaxdd.cli.progress import Line, Trainings
        from jaxdd.run import api, signals

        self._header()
        with signals.caught() as should_stop:
            begin = Line(self.screen, should_stop)
            with begin.shown():
                begin.doing("starting JAX")
                device = start_one(self.flags.devices)
                begin.doing("reading the data")
                dataset = self._read()
            self._facts(dataset, device)
            line = Trainings(self.screen, should_stop, self._planned(dataset))
            try:
                with line.shown():
                    evaluation = api.evaluate(
                        self.distilled,
                        dataset,
                        self.recipe,
                        seed=self.flags.random_seed,
                        zca_folder=self.flags.zca_path,
                        reporter=line,
                        should_stop=should_stop,
                        on_training=line.next,
                        baselines=("random", "kmeans") if self.flags.baselines else (),
                        full_data=self.flags.full_data,
                        report=line.row,
                    )
            except signals.Stopped as stop:
                self.screen.say("stopped: nothing was written", "bold")
                return stop.exit_code
        self._conclude(evaluation)
        return 0

    def _checkpoint_path(self) -> pathlib.Path:
        given = self.flags.checkpoint_path
        if given:
            return pathlib.Path(given).expanduser().absolute()
        return default_folder(self.settings.run.dataset_name, self.settings.ipc, self.settings.run.method)

    def _dataset_name(self, told: str) -> str:
        """The data set: the set knows it best; a flag may only agree."""
        own, asked = self.distilled.dataset, self.flags.dataset_name
        if own and asked and own != asked:
            raise CheckpointError(
                f"the set was distilled from '{own}', not from '{asked}'",
                where=str(self.found.path),
                expected=f"--dataset_name {own}, or a set of '{asked}'",
                remedy="leave --dataset_name out, or name another --checkpoint_path",
            )
        if not own and not told:
            raise UsageError(
                "this file does not say which data set it was distilled from",
                where=str(self.found.path),
                remedy="name it: --dataset_name cifar10 (and --config_path for its recipe)",
            )
        return own or told

    def _check(self) -> None:
        """What can be refused before a device is touched or an image is read."""
        from jaxdd import augment, data
        from jaxdd.run.precheck import require_writable

        self.recipe.network(_shape(self.distilled), self.distilled.classes)
        augment.build(self.recipe.test_aug, _shape(self.distilled)[0])
        data.check_available(self.name, self.flags.data_path)
        spec, (_, _, channels) = data.describe(self.name, self.flags.data_path), _shape(self.distilled)
        if spec.classes != self.distilled.classes or spec.channels not in (None, channels):
            raise CheckpointError(
                f"the set has {channels} channel(s) and {self.distilled.classes} classes",
                where=str(self.found.path),
                expected=f"{spec.channels} and {spec.classes}, as in '{self.name}'",
                remedy="name the data set it was distilled from with --dataset_name",
            )
        for folder in filter(None, (self.folder, self.flags.log_dir)):
            require_writable(folder)
        if not self.flags.output_dir and not self.folder.is_dir():
            raise CheckpointError("no folder for the result", where=str(self.folder), remedy="give an --output_dir")

    def _header(self) -> None:
        from jaxdd import __version__

        made = self.distilled.provenance
        origin = ", ".join(f"{key} {made[key]}" for key in ("method", "step") if key in made)
        images = f"{len(self.distilled)} images of {self.name}, {self.distilled.ipc} per class"
        self.screen.fact("jaxdd", f"{__version__}   evaluation of {images}", "bold")
        self.screen.fact("set", f"{self.found.path}" + (f" ({origin})" if origin else ""))
        for notice in self.settings.notices:
            self.screen.note(notice)

    def _read(self) -> Dataset:
        from jaxdd import data

        resolution = self.flags.resolution or self.distilled.images.shape[1]
        return data.load(self.name, self.flags.data_path, resolution=resolution)

    def _facts(self, dataset: Dataset, device: str) -> None:
        from jaxdd import data

        space = self.distilled.space
        self.screen.fact("data", data_line(dataset, data.fit(dataset, kind="raw")).rsplit(",", 1)[0] + f", {space}")
        recipe = self.recipe
        module: Any = recipe.network(_shape(self.distilled), self.distilled.classes).module
        size = f"depth {module.depth}, width {recipe.width}" if hasattr(module, "depth") else f"width {recipe.width}"
        how = f"{recipe.models_to_test} networks per row, Adam {recipe.eval_lr:g}, {recipe.normalization} normalization"
        self.screen.fact("network", f"{type(module).__name__}, {size}; {how}")
        self.screen.fact("device", device)

    def _planned(self, dataset: Dataset) -> list[int]:
        """Steps of every training to come, in order."""
        from jaxdd.evaluation.protocol import trainings_per_row

        network = self.recipe.network(_shape(self.distilled), self.distilled.classes)
        stored = [len(self.distilled)] * (3 if self.flags.baselines else 1)
        stored += [len(dataset.train_images)] * self.flags.full_data
        ways = (False, True) if self.recipe.test_aug else (False,)
        steps = [self.recipe.training(network, size, augmented=way)[1] for size in stored for way in ways]
        return [count for count in steps for _ in range(trainings_per_row(self.recipe))]

    def _conclude(self, evaluation: Evaluation) -> None:
        from jaxdd.cli.progress import table

        self.screen.show(table(evaluation.rows))
        if published := _published(self.settings, self.name):
            self.screen.fact("expected", published)
        name = self.flags.save_name
        path = self.folder / (name if name.endswith(".json") else f"{name}.json")
        log_dir = self.flags.log_dir
        io.write_json(path, {"checkpoint": str(self.found.path), **evaluation.as_dict()})
        self.screen.fact("numbers", str(path))
        self.screen.log_to((pathlib.Path(log_dir).expanduser().absolute() if log_dir else self.folder) / "log.txt")


def _require_known_network(flags: Eval) -> None:
    """A misspelt name is refused before anything is looked for on disk."""
    from jaxdd.models import ALIASES, NAMES, NORMALIZATIONS

    if flags.eval_arch is not None:
        choose(flags.eval_arch.lower(), (*NAMES, *ALIASES), kind="architecture", where="--eval_arch")
    if flags.normalization is not None:
        choose(flags.normalization, NORMALIZATIONS, kind="normalization", where="--normalization")


def _recipe(flags: Eval, settings: Settings, distilled: DistilledSet) -> Recipe:
    """The config's recipe if a config was named, else the set's own; flags and `--set` override."""
    from jaxdd.evaluation.recipe import Recipe

    stored = settings.run.stored_recipe(settings.method) if flags.config_path else distilled.recipe
    given = {name: getattr(flags, name) for name in RECIPE_FLAGS if getattr(flags, name) is not None}
    fields = {field.name: field for field in configs.settings_of(Recipe)}
    overrides = {name: (f"--{name}", value) for name, value in given.items()}
    overrides |= {name: ("--set", value) for name, value in configs.parse_assignments(flags.set).items()}
    for name, (flag, value) in overrides.items():
        origin = configs.ConfigFile(flag, {name: value})
        if name not in fields:
            configs.build(origin, {"recipe": Recipe})
        configs.check(Recipe, fields[name], origin)
    return Recipe.of({**stored, **{name: value for name, (_, value) in overrides.items()}})


def _shape(distilled: DistilledSet) -> tuple[int, int, int]:
    height, width, channels = distilled.images.shape[1:]
    return height, width, channels


def _published(settings: Settings, dataset: str) -> str:
    """What the config's header says about this data set's accuracy."""
    header = settings.config.header
    own = header.get("accuracy", "") if settings.run.dataset_name == dataset else ""
    return header.get(f"accuracy {dataset}".lower(), own)
