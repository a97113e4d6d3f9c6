"""One evaluation, from the parsed flags to the result file: what all commands that evaluate share."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jaxdd.cli.devices import start_one
from jaxdd.cli.flags.rcig import Eval
from jaxdd.cli.jobs.links import data_line, opened
from jaxdd.cli.screen.screen import Screen
from jaxdd.cli.settings import students
from jaxdd.cli.settings.layers import no_effect
from jaxdd.core import config as configs
from jaxdd.core import io
from jaxdd.core.distilled import DistilledSet
from jaxdd.core.errors import CheckpointError, UsageError, choose
from jaxdd.run.chain import students as soft
from jaxdd.run.presets import build, default_config, default_folder
from jaxdd.run.settings import Settings
from jaxdd.run.storage import sets

if TYPE_CHECKING:
    from jaxdd.data import Dataset
    from jaxdd.evaluation.base import BaseRecipe, Training
    from jaxdd.evaluation.protocol import Evaluation

RECIPE_FLAGS = (
    *("width", "depth", "normalization", "eval_lr", "models_to_test"),
    *("epochs", "same_compute", "dsa_strategy", "mixup"),
)


def perform(flags: Eval, distiller: str, labels: soft.Labels | None = None, notices: Sequence[str] = ()) -> int:
    """Evaluates as the flags say.

    Arguments:
        flags: of `eval`.
        distiller: how the command that distils is called, for advice.
        labels: where soft labels come from; None for what lies beside the set.
        notices: more that the user should be told.

    Returns:
        The exit code: 0, or 128 plus the number of the signal that stopped it.

    Raises:
        JaxddError: anything a user can mend.
    """
    with opened() as screen:
        return _Session(screen, flags, distiller, labels or soft.Labels(), notices).go()


class _Session:
    """One evaluation from the parsed flags to the result file; making it checks whatever needs no data."""

    def __init__(self, screen: Screen, flags: Eval, distiller: str, labels: soft.Labels, notices: Sequence[str] = ()):
        self.screen, self.flags, self.labels, self.notices = screen, flags, labels, notices
        _require_known_network(flags)
        named = {} if flags.dataset_name is None else {"dataset_name": ("--dataset_name", flags.dataset_name)}
        self.settings = build(flags.config_path, named, notices=no_effect(flags))
        self.found = sets.find(self._checkpoint_path(), distiller)
        told = flags.dataset_name or (self.settings.run.dataset_name if flags.config_path else "")
        flip = bool(getattr(self.settings.method, "use_flip", True)) if flags.config_path else True
        self.distilled = self.found.read(dataset=told, flip=flip)
        if not flags.config_path:  # what is to be expected depends on the method
            made_by = default_config(self.distilled.provenance.get("method"))
            self.settings = build(made_by, named, notices=no_effect(flags))
        self.name = self._dataset_name(told)
        if self.distilled.recipe.get("protocol") == "soft":
            self.labels = labels.beside(self.found.beside)
        self.recipes = _recipes(flags, self.settings, self.distilled, self.labels.recipe)
        self.soft, self.about = soft.is_soft(self.recipes), {}
        self.folder = pathlib.Path(flags.output_dir).expanduser().absolute() if flags.output_dir else self.found.beside
        self._check()

    def go(self) -> int:
        """Returns the exit code."""
        from jaxdd.cli.screen.progress import Line, Trainings
        from jaxdd.run import evaluating, signals

        self._header()
        with signals.caught() as should_stop:
            begin = Line(self.screen, should_stop)
            with begin.shown():
                begin.doing("starting JAX")
                device = start_one(self.flags.devices)
                begin.doing("reading the data")
                dataset = self._read()
            self._facts(dataset, device)
            options = self._labelled(dataset) if self.soft else {}
            line = Trainings(self.screen, should_stop, [training.steps for training in self._planned(dataset)])
            try:
                with line.shown():
                    evaluation = evaluating.evaluate(
                        self.distilled,
                        dataset,
                        self.recipes[0],
                        others=self.recipes[1:],
                        seed=self.flags.random_seed,
                        zca_folder=self.flags.zca_path,
                        reporter=line,
                        should_stop=should_stop,
                        baselines=self._baselines,
                        full_data=self.flags.full_data,
                        **options,
                    )
            except signals.Stopped as stop:
                kept = "finished networks are kept; the same command continues" if self.soft else "nothing was written"
                self.screen.say(f"stopped: {kept}", "bold")
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
        own = sets.dataset_of(self.distilled, self.flags.dataset_name, self.found.path)
        if not own and not told:
            raise UsageError(
                "this file does not say which data set it was distilled from",
                where=str(self.found.path),
                remedy="name it: --dataset_name cifar10 (and --config_path for its recipe)",
            )
        return own or told

    def _check(self) -> None:
        """What can be refused before a device is touched or an image is read."""
        from jaxdd import data
        from jaxdd.data.registry import user_kind
        from jaxdd.run.storage.precheck import require_writable

        if self.soft:
            self.labels.require()
        for recipe in self.recipes:
            recipe.network(_shape(self.distilled), self.distilled.classes, self.name)
            recipe.check(_shape(self.distilled)[0])
        data.check_available(self.name, self.flags.data_path, self.flags.stream)
        spec, (_, _, channels) = data.describe(self.name, self.flags.data_path), _shape(self.distilled)
        unsure = user_kind(self.name) and spec.channels == 1  # of the images that were looked at
        if spec.classes != self.distilled.classes or (spec.channels not in (None, channels) and not unsure):
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
        for notice in (*self.settings.notices, *self.notices):
            self.screen.note(notice)

    def _read(self) -> Dataset:
        from jaxdd import data

        resolution = self.flags.resolution or self.distilled.images.shape[1]
        return data.load(self.name, self.flags.data_path, resolution=resolution, stream=self.flags.stream)

    def _facts(self, dataset: Dataset, device: str) -> None:
        self.screen.fact("data", data_line(dataset, self.distilled.space))
        for recipe, training in zip(self.recipes, self._first_trainings(dataset), strict=True):
            module: Any = recipe.network(_shape(self.distilled), self.distilled.classes, self.name).module
            depth = f"depth {module.depth}, " if hasattr(module, "depth") else ""
            how = f"{recipe.models_to_test} networks per row, {recipe.summary(training)}"
            self.screen.fact("network", f"{type(module).__name__}, {depth}width {recipe.width}; {how}")
        self.screen.fact("device", device)

    def _labelled(self, dataset: Dataset) -> dict[str, Any]:
        """Gives the recipes their teacher and says how good it is; returns more arguments of the evaluation."""
        attached = self.labels.attach(self.recipes, self.distilled, dataset)
        for name, text in attached.told:
            self.screen.fact(name, text)
        self.recipes, self.about = attached.recipes, {"set": soft.shards(self.found.path), **attached.about}
        return {**attached.options, "keep": self.folder / "validation"}

    def _planned(self, dataset: Dataset, **options: Any) -> list[Training]:
        """Every training to come, in order."""
        from jaxdd.evaluation.protocol import planned

        chosen = {"recipes": self.recipes, "baselines": self._baselines, "full_data": self.flags.full_data, **options}
        return planned(self.distilled, dataset, **chosen)

    def _first_trainings(self, dataset: Dataset) -> list[Training]:
        """One training on the set by each recipe."""
        chosen = {"baselines": (), "full_data": False}
        return [self._planned(dataset, recipes=(recipe,), **chosen)[0] for recipe in self.recipes]

    @property
    def _baselines(self) -> tuple[str, ...]:
        return ("random", "kmeans") if self.flags.baselines else ()

    def _conclude(self, evaluation: Evaluation) -> None:
        from jaxdd.cli.screen.progress import table

        self.screen.show(table(evaluation.rows))
        method = self.distilled.provenance.get("method")
        if published := students.expected(method, self.name) if self.soft else _published(self.settings, self.name):
            self.screen.fact("reference", published)
        name = self.flags.save_name
        path = self.folder / (name if name.endswith(".json") else f"{name}.json")
        log_dir = self.flags.log_dir
        io.write_json(path, {"checkpoint": str(self.found.path), **self.about, **evaluation.as_dict()})
        self.screen.fact("numbers", str(path))
        self.screen.log_to((pathlib.Path(log_dir).expanduser().absolute() if log_dir else self.folder) / "log.txt")
        if self.flags.message and self.flags.message != Eval.message:
            self.screen.record(f"message: {self.flags.message}")


def _require_known_network(flags: Eval) -> None:
    """A misspelt name is refused before anything is looked for on disk."""
    from jaxdd.models import ALIASES, NAMES, NORMALIZATIONS

    for name in _architectures(flags):
        choose(
            name.lower(), dict.fromkeys((*NAMES, *ALIASES, *soft.STUDENTS)), kind="architecture", where="--eval_arch"
        )
    if flags.normalization is not None:
        choose(flags.normalization, NORMALIZATIONS, kind="normalization", where="--normalization")


def _architectures(flags: Eval) -> tuple[str, ...]:
    return tuple(name.strip() for name in (flags.eval_arch or "").split(",") if name.strip())


def _recipes(
    flags: Eval, settings: Settings, distilled: DistilledSet, labelled: Mapping[str, Any]
) -> tuple[BaseRecipe, ...]:
    """The config's recipe if a config was named, else the set's own; flags and `--set` override; one per architecture.

    Another protocol than the stored one takes over what all protocols have.

    Arguments:
        labelled: settings that stored labels are for.
    """
    from jaxdd.evaluation.base import BaseRecipe
    from jaxdd.evaluation.recipe import Recipe

    own = {**distilled.recipe, **labelled}
    stored = settings.run.stored_recipe(settings.method) if flags.config_path else own
    overrides = {name: (f"--{name}", value) for name in RECIPE_FLAGS if (value := getattr(flags, name)) is not None}
    overrides |= {name: ("--set", value) for name, value in configs.parse_assignments(flags.set).items()}
    given = {name: value for name, (_, value) in overrides.items()}
    cls = Recipe.protocol_of({**stored, **given})
    if cls is not Recipe.protocol_of(stored):
        common = {field.name for field in configs.settings_of(BaseRecipe)}
        stored = {name: value for name, value in stored.items() if name in common} | {"protocol": cls.protocol}
    fields = {field.name: field for field in configs.settings_of(cls)}
    for name, (flag, value) in overrides.items():
        if name == "protocol":
            continue
        origin = configs.ConfigFile(flag, {name: value})
        if name not in fields:
            configs.build(origin, {"recipe": cls})
        configs.check(cls, fields[name], origin)
    usual = str(given.get("eval_arch", stored.get("eval_arch", Recipe.eval_arch)))
    names = _architectures(flags) or (usual,)
    if cls.protocol == "soft":
        return soft.recipes(stored, given, names, distilled)
    return tuple(Recipe.of({**Recipe.stored_for(stored, name), **given, "eval_arch": name}) for name in names)


def _shape(distilled: DistilledSet) -> tuple[int, int, int]:
    height, width, channels = distilled.images.shape[1:]
    return height, width, channels


def _published(settings: Settings, dataset: str) -> str:
    """What the config's header says about this data set's accuracy."""
    header = settings.config.header
    own = header.get("accuracy", "") if settings.run.dataset_name == dataset else ""
    return header.get(f"accuracy {dataset}".lower(), own)
