"""A method and a data set become a distilled set: one run, in memory or in a folder where it can be continued."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import flax
import jax
import numpy as np

from jaxdd import __version__
from jaxdd import data as data_room
from jaxdd.core.config import as_dict
from jaxdd.core.distilled import DistilledSet
from jaxdd.core.errors import CheckpointError, ConfigError
from jaxdd.core.precision import float64
from jaxdd.core.procedure import Method
from jaxdd.core.types import Examples
from jaxdd.data.device.preprocess import resident_type
from jaxdd.methods.start import Start
from jaxdd.run import devices, loop
from jaxdd.run.control import Control, Stopped
from jaxdd.run.devices import Layout, choose
from jaxdd.run.plan import Plan, Trial, plan, require_memory, trial
from jaxdd.run.programs import template
from jaxdd.run.settings import Settings
from jaxdd.run.storage import identity as identities
from jaxdd.run.storage.checkpoint import Storage
from jaxdd.run.storage.identity import refuse_foreign_set, require_writable
from jaxdd.run.storage.networks import Networks

Picture = Callable[[DistilledSet, pathlib.Path], Any]


class Validate(Protocol):
    """An observer of the set every so many steps (`run.evaluating`)."""

    @property
    def every(self) -> int:
        """Steps between two looks."""
        ...

    def __call__(self, step: int, distilled: DistilledSet) -> None:
        """Looks at the set of one step, which has its meaning and true colours."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class Distillation:
    """One run, complete but not begun.

    Arguments:
        name: of the method, a key of `methods.METHODS`.
        method: the method with its settings.
        dataset: the data set.
        preprocessing: fitted on it.
        steps: in all.
        seed: of every random choice.
        recipe: how the result is to be evaluated, fields of `evaluation.recipe.Recipe`.
        checkpoint_iters: steps after which the set is also kept under its step.
        networks: trained beforehand, for methods that start from them.
        start: images that the set starts from; None for what the method chooses.

    Raises:
        ConfigError: more images per class are asked for than the smallest class has.
    """

    name: str
    method: Method
    dataset: data_room.Dataset
    preprocessing: data_room.Preprocessing
    steps: int
    seed: int = 0
    recipe: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    checkpoint_iters: tuple[int, ...] = ()
    networks: Networks | None = None
    start: Start | None = None

    @classmethod
    def of(
        cls,
        settings: Settings,
        dataset: data_room.Dataset,
        *,
        seed: int = 0,
        networks: Networks | None = None,
        start: DistilledSet | None = None,
        zca_folder: Any = None,
    ) -> Distillation:
        """Returns the run that settings ask for.

        Arguments:
            settings: of method and run.
            dataset, seed, networks: as in `Distillation`.
            start: a set to start from.
            zca_folder: where fitted ZCA transforms are kept; None for the user's cache folder.

        Raises:
            ConfigError: as `Distillation`, and as `Start.of`.
        """
        method, run = settings.method, settings.run
        return cls(
            run.method,
            method,
            dataset,
            data_room.fit(dataset, family=method.family, kind=method.kind, cache_folder=zca_folder),
            run.max_steps,
            seed,
            run.stored_recipe(method),
            run.checkpoint_iters,
            networks,
            None if start is None else Start.of(start, method, dataset),
        )

    def __post_init__(self):
        fewest = int(np.bincount(self.dataset.train_labels, minlength=self.dataset.classes).min())
        if self.method.n_images > fewest:
            raise ConfigError(
                f"{self.method.n_images} images per class, more than the data set has",
                where="n_images",
                expected=f"1 to {fewest}, the size of the smallest class of '{self.dataset.name}'",
                remedy="ask for fewer images per class",
            )

    @property
    def identity(self) -> dict[str, Any]:
        """The settings that the run's numbers depend on; a state on disk needs them to be read again."""
        more: dict[str, Any] = {}
        if self.networks:
            more["networks"] = {"count": len(self.networks), "digest": self.networks.digest}
        if self.start:
            more["start"] = self.start.digest
        return {
            "method": self.name,
            "settings": as_dict(self.method),
            "seed": self.seed,
            "dataset": {
                "name": self.dataset.name,
                "shape": list(self.dataset.train_images.shape),
                "classes": self.dataset.classes,
                "digest": self.dataset.digest,
            },
            "preprocessing": self.preprocessing.describe(),
            **more,
        }

    @property
    def other(self) -> dict[str, Any]:
        """The settings that the run's numbers do not depend on."""
        return {
            "max_steps": self.steps,
            "checkpoint_iters": list(self.checkpoint_iters),
            "recipe": dict(self.recipe),
            "class_names": list(self.dataset.class_names),
        }

    def plan(self, layout: Layout | None = None, *, count_operations: bool = False) -> Plan:
        """Returns the run's needs, from shapes alone; `layout` and `count_operations` as in `run.plan.plan`."""
        shape, labels = self.dataset.train_images.shape, self.dataset.train_labels
        how = {"dtype": resident_type(shape, self.preprocessing.space), "largest": int(np.bincount(labels).max())}
        examples = self._supplied(shapes(shape, self.dataset.classes, **how))
        with precision(self.method):
            return plan(self.method.outline(), examples, layout=layout, count_operations=count_operations)

    def require_memory(self, layout: Layout | None = None) -> None:
        """Refuses, from shapes alone, a run that no device's memory can hold.

        Raises:
            ConfigError: names the settings that would lower the need.
        """
        if layout is None or not layout.several or layout.mode == "shard":  # else each holds a part of the networks
            needs = self.plan(layout)
            require_memory(needs.peak_bytes, self._memory_limit, needs.demand.remedy)

    def trial(self, layout: Layout | None = None) -> Trial:
        """Compiles a step and makes a few on the real data; nothing is kept.

        Raises:
            ConfigError: as in `require_memory`, by the compiled program.
        """
        with precision(self.method):
            examples = self._examples()
            options = {"limit": self._memory_limit, "remedy": self.plan(layout).demand.remedy}
            return trial(self.method.outline(), examples, seed=self.seed, layout=layout, **options)

    def _examples(self) -> Examples:
        return self._supplied(data_room.examples(self.dataset, self.preprocessing))

    def _supplied(self, examples: Examples) -> Examples:
        more: dict[str, Any] = {}
        if self.networks is not None:
            more["early_networks"] = self.networks.variables
        if self.start is not None:
            more["first_images"] = self.preprocessing.apply(self.start.pixels)
        return dataclasses.replace(examples, **more)

    @property
    def _memory_limit(self) -> int | None:
        limit = self.method.memory_limit
        return None if limit is None else int(limit * 1e9)

    def storage(self, folder: Any, *, other: Mapping[str, Any] | None = None, **options: Any) -> Storage:
        """Returns the run's output folder, not yet opened.

        Arguments:
            folder: where.
            other: more that `config.json` should remember.
            options: as in `Storage`.

        Raises:
            CheckpointError: the folder cannot be made, belongs to another run or holds a set of one, or its disk is too
                full; nothing was written.
        """
        refuse_foreign_set(folder)
        require_writable(folder, self.plan().disk_bytes)
        return Storage(folder, self.identity, {**self.other, **(other or {})}, **options)

    def describe(self, result: DistilledSet, step: int) -> DistilledSet:
        """Returns the method's result with its meaning: true colours, data set, recipe and provenance."""
        versions = {"jaxdd": __version__, "jax": jax.__version__, "flax": flax.__version__}
        pixels = data_room.clip(self.preprocessing.invert(result.images)).astype(np.float32)
        return result.replace(pixels=pixels, **meaning(self.identity, self.other, versions, step))

    def drive(
        self,
        storage: Storage | None = None,
        *,
        picture: Picture | None = None,
        layout: Layout | None = None,
        validate: Validate | None = None,
        **options: Any,
    ) -> DistilledSet:
        """Runs, or continues what `storage` holds.

        Arguments:
            storage: the opened output folder; the set is written there at `checkpoint_iters`, at the end and on stop.
            picture: draws a set into a file.
            validate: sees the set every `validate.every` steps.
            layout, options: `log_every`, `should_stop`, `reporter`, as in `loop.final_state`.

        Raises:
            Stopped: by a signal; state and set so far are saved.
            DivergedError, UsageError, ConfigError, CheckpointError: as in `loop.final_state`.
        """
        layout = layout or Layout(tuple(choose()))
        self.require_memory(layout)
        folder = None if storage is None else storage.folder / "distilled"

        def keep(step: int, result: DistilledSet, metrics: Mapping[str, float]) -> None:
            if folder is not None and step in self.checkpoint_iters:
                described = self.describe(result, step)
                _write(described, folder / f"step_{step}", picture)
                _write(described, folder, picture)
            if validate is not None and step and step % validate.every == 0:
                validate(step, self.describe(result, step))

        seen = set() if validate is None else set(range(validate.every, self.steps + 1, validate.every))
        with precision(self.method):
            examples = self._examples()
            try:
                state, step = loop.final_state(
                    self.method,
                    examples,
                    steps=self.steps,
                    seed=self.seed,
                    storage=storage,
                    observers=(keep,),
                    observe_at=[step for step in {*self.checkpoint_iters, *seen} if step <= self.steps],
                    layout=layout,
                    **options,
                )
            except Stopped:
                if storage is not None and folder is not None and storage.saved_step:
                    held = template(self.method, examples)
                    saved = storage.load(held, places=layout.of_state(self.method, held))
                    assert saved is not None  # it was just saved
                    _write(self.describe(self.method.result(saved[1]), saved[0]), folder, picture)
                raise
            distilled = self.describe(self.method.result(state), step)
        if folder is not None:
            _write(distilled, folder, picture)
        return distilled


@dataclasses.dataclass(frozen=True, eq=False)
class Distilling:
    """A distillation as the link of a chain, in a folder.

    Arguments:
        run: the distillation.
        picture, validate: as in `Distillation.drive`.
        other: more that `config.json` should remember.
        log_every: steps between two lines of metrics.
        storage: `checkpoint_every` and `tensorboard`, as in `Storage`.
        began: called once the folder is this run's own.
    """

    run: Distillation
    picture: Picture | None = None
    validate: Validate | None = None
    other: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    log_every: int = 1
    storage: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    began: Callable[[], Any] = lambda: None

    @property
    def identity(self) -> dict[str, Any]:
        """The settings that the run's numbers depend on."""
        return self.run.identity

    def finished(self, place: pathlib.Path) -> bool:
        """Returns whether the run's set is in `place/distilled`, after all steps."""
        made, wanted = identities.origin(place) or {}, identities.as_json(self.identity)
        return made.get("step", -1) >= self.run.steps and all(
            made.get(name) == wanted[name] for name in ("method", "settings", "seed")
        )

    def make(self, place: pathlib.Path, control: Control = Control()) -> DistilledSet:
        """Runs it, or continues it; returns the set.

        Raises:
            As `Distillation.storage` and `Distillation.drive`.
        """
        with self.run.storage(place, other=self.other, **self.storage) as storage:
            self.began()
            observers = {"picture": self.picture, "validate": self.validate}
            return self.run.drive(storage, log_every=self.log_every, **observers, **control.options)


def _write(distilled: DistilledSet, folder: pathlib.Path, picture: Picture | None) -> None:
    """Writes a set and its picture, unless the very same set is there already; of several processes, one does."""
    if not devices.first_process():
        return
    drawing = folder / "grid.png"
    before = None
    with contextlib.suppress(CheckpointError):
        before = DistilledSet.load(folder)
    meanings = ("provenance", "recipe", "class_names")
    same = before is not None and all(getattr(before, name) == getattr(distilled, name) for name in meanings)
    if not same or not np.array_equal(before.images, distilled.images):  # pyright: ignore[reportOptionalMemberAccess]
        distilled.save(folder)
        drawing.unlink(missing_ok=True)
    if picture is not None and not drawing.exists():
        picture(distilled, drawing)


def meaning(
    identity: Mapping[str, Any], other: Mapping[str, Any], versions: Mapping[str, str], step: int
) -> dict[str, Any]:
    """Returns the fields of a `DistilledSet` that a method leaves open, from what `config.json` holds.

    Arguments:
        identity, other, versions: as in `config.json`.
        step: after which the set was taken.
    """
    return {
        "space": identity["preprocessing"]["space"],
        "dataset": identity["dataset"]["name"],
        "class_names": tuple(other["class_names"]),
        "preprocessing": dict(identity["preprocessing"]),
        "recipe": dict(other["recipe"]),
        "provenance": {
            "method": identity["method"],
            "settings": dict(identity["settings"]),
            "seed": identity["seed"],
            "step": step,
            "versions": dict(versions),
        },
    }


def shapes(images: Iterable[int], classes: int, *, dtype: Any = np.float32, largest: int = 0) -> Examples:
    """Returns a train split's shapes and types in place of its numbers.

    Arguments:
        images: shape of the train images.
        dtype: in which they lie on the device.
        largest: images of the largest class; 0 if that is not known.
    """
    shape: Any = tuple(images)
    pixels: Any = jax.ShapeDtypeStruct(shape, dtype)
    labels: Any = jax.ShapeDtypeStruct(shape[:1], np.int32)
    return Examples(pixels, labels, classes, largest=largest)


def precision(method: Method) -> contextlib.AbstractContextManager:
    """Returns a context of float64 where a method asks for it: arrays stay float32 unless they are made otherwise."""
    return float64(method.needs_float64)
