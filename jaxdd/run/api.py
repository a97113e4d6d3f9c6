"""The two verbs on objects: a method and a data set become a distilled set; a distilled set becomes accuracies.

Everything that cli/ and `import jaxdd` do goes through here; nothing here prints, reads flags or draws pictures.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import pathlib
import shutil
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import flax
import jax
import numpy as np

from jaxdd import __version__
from jaxdd import data as data_room
from jaxdd.core import backend
from jaxdd.core.config import as_dict
from jaxdd.core.distilled import DistilledSet
from jaxdd.core.errors import CheckpointError, ConfigError
from jaxdd.core.procedure import Method, Procedure
from jaxdd.core.types import Examples
from jaxdd.data.device.resident import resident_type
from jaxdd.data.streaming import Stream
from jaxdd.evaluation import protocol
from jaxdd.evaluation.base import BaseRecipe
from jaxdd.evaluation.recipe import Recipe
from jaxdd.run import hosts, loop
from jaxdd.run.devices import Layout, choose
from jaxdd.run.plan import Plan, Trial, plan, require_memory, trial
from jaxdd.run.programs import template
from jaxdd.run.progress import Reporter
from jaxdd.run.signals import Stopped
from jaxdd.run.starts import Start
from jaxdd.run.storage import identity as identities
from jaxdd.run.storage.checkpoint import Storage
from jaxdd.run.storage.networks import Networks, digest
from jaxdd.run.storage.precheck import refuse_foreign_set, require_writable
from jaxdd.run.storage.restore import meaning, precision, shapes

Picture = Callable[[DistilledSet, pathlib.Path], Any]


class Validate(Protocol):
    """What looks at the set every so many steps (`run.validation`)."""

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
        """What the run's numbers depend on, and what a state on disk needs to be read again."""
        given: dict[str, Any] = {}
        if self.networks:
            given["networks"] = {"count": len(self.networks), "digest": self.networks.digest}
        if self.start:
            given["start"] = self.start.digest
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
            **given,
        }

    @property
    def other(self) -> dict[str, Any]:
        """What they do not depend on."""
        return {
            "max_steps": self.steps,
            "checkpoint_iters": list(self.checkpoint_iters),
            "recipe": dict(self.recipe),
            "class_names": list(self.dataset.class_names),
        }

    def plan(self, layout: Layout | None = None, *, count_operations: bool = False) -> Plan:
        """What the run needs, from shapes alone; `layout` and `count_operations` as in `run.plan.plan`."""
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
        given: dict[str, Any] = {}
        if self.networks is not None:
            given["networks"] = self.networks.variables
        if self.start is not None:
            given["start"] = self.preprocessing.apply(self.start.pixels)
        return dataclasses.replace(examples, **given)

    @property
    def _memory_limit(self) -> int | None:
        limit = self.method.memory_limit
        return None if limit is None else int(limit * 1e9)

    def storage(self, folder: Any, *, other: Mapping[str, Any] | None = None, **options: Any) -> Storage:
        """The run's output folder, not yet opened.

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
        """The method's result with its meaning: true colours, data set, recipe and provenance."""
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
                    found = storage.load(held, places=layout.of_state(self.method, held))
                    assert found is not None  # it was just saved
                    _write(self.describe(self.method.result(found[1]), found[0]), folder, picture)
                raise
            distilled = self.describe(self.method.result(state), step)
        if folder is not None:
            _write(distilled, folder, picture)
        return distilled


def distill(
    method: Method,
    dataset: data_room.Dataset,
    preprocessing: data_room.Preprocessing | None = None,
    *,
    steps: int,
    seed: int = 0,
    name: str = "rcig",
    output_dir: Any = None,
    recipe: Mapping[str, Any] | None = None,
    picture: Picture | None = None,
    networks: Networks | None = None,
    start: DistilledSet | None = None,
    **options: Any,
) -> DistilledSet:
    """Distils a data set.

    Arguments:
        method: what to run.
        dataset: the real data.
        preprocessing: fitted on it; default the method's own.
        steps, seed, name, recipe, networks: as in `Distillation`.
        start: a set to start from; None for what the method chooses.
        output_dir: where to keep states, metrics and the set, and to resume from; None keeps everything in memory.
        picture, options: as in `Distillation.drive`.

    Returns:
        The distilled set with its meaning and true colours.

    Raises:
        JaxddError: see `Distillation`.
    """
    if preprocessing is None:
        preprocessing = data_room.fit(dataset, family=method.family, kind=method.kind)
    begun = None if start is None else Start.of(start, method, dataset)
    supplied = {"networks": networks, "start": begun}
    run = Distillation(name, method, dataset, preprocessing, steps, seed, recipe or {}, **supplied)
    with contextlib.ExitStack() as stack:
        storage = None if output_dir is None else stack.enter_context(run.storage(output_dir))
        return run.drive(storage, picture=picture, **options)


def evaluate(
    distilled: DistilledSet,
    dataset: data_room.Dataset,
    recipe: BaseRecipe | None = None,
    *,
    seed: int = 0,
    zca_folder: Any = None,
    reporter: Reporter | None = None,
    should_stop: Callable[[], int | None] | None = None,
    on_training: Callable[[], None] = lambda: None,
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
        reporter, should_stop: of every training, as in `loop.final_state`.
        on_training: called before every training.
        keep: folder where finished networks, and the state of the one in training, lie until all are finished: the same
            evaluation then continues with them; None keeps nothing.
        checkpoint_every: minutes between two of these states.
        options: `baselines`, `full_data`, `others`, `networks`, `report`, as in `evaluation.protocol.evaluate`.

    Raises:
        CheckpointError: the set is of another data set, shape, number of classes or preprocessing.
        Stopped: by a signal.
    """
    recipe = Recipe.of(distilled.recipe) if recipe is None else recipe
    numbers, places = itertools.count(), []

    def run(procedure: Procedure, data: Examples, *, steps: int, seed: int, stream: Stream | None = None) -> Any:
        on_training()
        number = next(numbers)
        with contextlib.ExitStack() as stack:
            if keep is not None:  # told apart by what it is trained on and how
                identity = {"procedure": identities.of_procedure(procedure), "data": digest(data)}
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
                reporter=reporter,
                should_stop=should_stop,
                stream=stream,
                log_every=steps,
                steps_per_dispatch=backend.steps_per_dispatch(backend.TRAINING_STEPS_PER_DISPATCH),
            )

    if tuple(distilled.images.shape[1:]) == dataset.image_shape:
        family = distilled.preprocessing.get("family", "rcig")  # a checkpoint of the original names none
        preprocessing = data_room.fit(dataset, family=family, kind=distilled.space, cache_folder=zca_folder)
    else:
        preprocessing = data_room.fit(dataset, kind="raw")  # which is never used: the protocol refuses the set
    evaluation = protocol.evaluate(distilled, dataset, preprocessing, recipe, run=run, seed=seed, **options)
    for place in places:  # and no other: another recipe or seed may have been stopped, or be under way
        shutil.rmtree(place, ignore_errors=True)
        with contextlib.suppress(OSError):
            place.parent.rmdir()
            place.parent.parent.rmdir()
    return evaluation


def _write(distilled: DistilledSet, folder: pathlib.Path, picture: Picture | None) -> None:
    """Writes a set and its picture, unless the very same set is there already; of several processes, one does."""
    if not hosts.first():
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
