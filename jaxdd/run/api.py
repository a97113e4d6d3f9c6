"""The two verbs on objects: a method and a data set become a distilled set; a distilled set becomes accuracies.

Everything that cli/ and `import jaxdd` do goes through here; nothing here prints, reads flags or draws pictures.
"""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import shutil
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import flax
import jax
import numpy as np

from jaxdd import __version__
from jaxdd import data as data_room
from jaxdd.core import io
from jaxdd.core.config import ConfigFile, as_dict, build
from jaxdd.core.distilled import DistilledSet
from jaxdd.core.errors import CheckpointError, ConfigError
from jaxdd.core.procedure import Procedure
from jaxdd.core.types import Examples, PyTree
from jaxdd.evaluation import protocol
from jaxdd.evaluation.recipe import Recipe
from jaxdd.methods import METHODS
from jaxdd.run import checkpoint, loop, manifest
from jaxdd.run import identity as identities
from jaxdd.run.checkpoint import Storage
from jaxdd.run.leaves import describe as describe_leaves
from jaxdd.run.leaves import differences
from jaxdd.run.plan import Plan, plan
from jaxdd.run.programs import initial
from jaxdd.run.progress import Reporter
from jaxdd.run.signals import Stopped

FAMILY = "rcig"  # whose normalisation constants

Picture = Callable[[DistilledSet, pathlib.Path], Any]


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

    Raises:
        ConfigError: more images per class are asked for than the smallest class has.
    """

    name: str
    method: Procedure
    dataset: data_room.Dataset
    preprocessing: data_room.Preprocessing
    steps: int
    seed: int = 0
    recipe: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    checkpoint_iters: tuple[int, ...] = ()

    def __post_init__(self):
        fewest = int(np.bincount(self.dataset.train_labels, minlength=self.dataset.classes).min())
        wanted = getattr(self.method, "n_images", 1)
        if wanted > fewest:
            raise ConfigError(
                f"{wanted} images per class, more than the data set has",
                where="n_images",
                expected=f"1 to {fewest}, the size of the smallest class of '{self.dataset.name}'",
                remedy="ask for fewer images per class",
            )

    @property
    def identity(self) -> dict[str, Any]:
        """What the run's numbers depend on, and what a state on disk needs to be read again."""
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

    def plan(self) -> Plan:
        """What the run needs, from shapes alone."""
        return plan(self.method, _shapes(self.dataset.train_images.shape, self.dataset.classes), count_operations=False)

    def storage(self, folder: Any, *, other: Mapping[str, Any] | None = None, **options: Any) -> Storage:
        """The run's output folder, not yet opened.

        Arguments:
            folder: where.
            other: more that `config.json` should remember.
            options: as in `Storage`.

        Raises:
            CheckpointError: the folder cannot be made, belongs to another run, or its disk is too full; nothing was
                written.
        """
        require_writable(folder, self.plan().disk_bytes)
        return Storage(folder, self.identity, {**self.other, **(other or {})}, **options)

    def describe(self, result: DistilledSet, step: int) -> DistilledSet:
        """The method's result with its meaning: true colours, data set, recipe and provenance."""
        versions = {"jaxdd": __version__, "jax": jax.__version__, "flax": flax.__version__}
        return _described(result, step, self.identity, self.other, versions).replace(
            pixels=data_room.clip(self.preprocessing.invert(result.images)).astype(np.float32)
        )

    def drive(self, storage: Storage | None = None, *, picture: Picture | None = None, **options: Any) -> DistilledSet:
        """Runs, or continues what `storage` holds.

        Arguments:
            storage: the opened output folder; the set is written there at `checkpoint_iters`, at the end and on stop.
            picture: draws a set into a file.
            options: `log_every`, `should_stop`, `reporter`, as in `loop.final_state`.

        Raises:
            Stopped: by a signal; state and set so far are saved.
            DivergedError, UsageError, CheckpointError: as in `loop.final_state`.
        """
        folder = None if storage is None else storage.folder / "distilled"

        def keep(step: int, result: DistilledSet, metrics: Mapping[str, float]) -> None:
            if folder is not None and step in self.checkpoint_iters:
                described = self.describe(result, step)
                _write(described, folder / f"step_{step}", picture)
                _write(described, folder, picture)

        with _precision(self.method):
            examples = data_room.examples(self.dataset, self.preprocessing)
            try:
                state, step = loop.final_state(
                    self.method,
                    examples,
                    steps=self.steps,
                    seed=self.seed,
                    storage=storage,
                    observers=(keep,),
                    observe_at=[step for step in self.checkpoint_iters if step <= self.steps],
                    **options,
                )
            except Stopped:
                if storage is not None and folder is not None and storage.saved_step:
                    template = jax.eval_shape(lambda real: initial(self.method, real, self.seed), examples)
                    found = storage.load(template)
                    assert found is not None  # it was just saved
                    _write(self.describe(self.method.result(found[1]), found[0]), folder, picture)
                raise
            distilled = self.describe(self.method.result(state), step)
        if folder is not None:
            _write(distilled, folder, picture)
        return distilled


def distill(
    method: Procedure,
    dataset: data_room.Dataset,
    preprocessing: data_room.Preprocessing | None = None,
    *,
    steps: int,
    seed: int = 0,
    name: str = "rcig",
    output_dir: Any = None,
    recipe: Mapping[str, Any] | None = None,
    picture: Picture | None = None,
    **options: Any,
) -> DistilledSet:
    """Distils a data set.

    Arguments:
        method: what to run.
        dataset: the real data.
        preprocessing: fitted on it; default as RCIG: ZCA for colour, standardised for grey.
        steps, seed, name, recipe: as in `Distillation`.
        output_dir: where to keep states, metrics and the set, and to resume from; None keeps everything in memory.
        picture, options: as in `Distillation.drive`.

    Returns:
        The distilled set with its meaning and true colours.

    Raises:
        JaxddError: see `Distillation`.
    """
    preprocessing = data_room.fit(dataset, family=FAMILY) if preprocessing is None else preprocessing
    run = Distillation(name, method, dataset, preprocessing, steps, seed, recipe or {})
    with contextlib.ExitStack() as stack:
        storage = None if output_dir is None else stack.enter_context(run.storage(output_dir))
        return run.drive(storage, picture=picture, **options)


def evaluate(
    distilled: DistilledSet,
    dataset: data_room.Dataset,
    recipe: Recipe | None = None,
    *,
    seed: int = 0,
    zca_folder: Any = None,
    reporter: Reporter | None = None,
    should_stop: Callable[[], int | None] | None = None,
    on_training: Callable[[], None] = lambda: None,
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
        options: `baselines`, `full_data`, `report`, as in `evaluation.protocol.evaluate`.

    Raises:
        CheckpointError: the set is of another data set, shape, number of classes or preprocessing.
        Stopped: by a signal.
    """
    recipe = Recipe.of(distilled.recipe) if recipe is None else recipe

    def run(procedure: Procedure, data: Examples, *, steps: int, seed: int) -> Any:
        on_training()
        return loop.run(
            procedure, data, steps=steps, seed=seed, reporter=reporter, should_stop=should_stop, log_every=steps
        )

    if tuple(distilled.images.shape[1:]) == dataset.image_shape:
        family = distilled.preprocessing.get("family", FAMILY)
        preprocessing = data_room.fit(dataset, family=family, kind=distilled.space, cache_folder=zca_folder)
    else:
        preprocessing = data_room.fit(dataset, kind="raw")  # which is never used: the protocol refuses the set
    return protocol.evaluate(distilled, dataset, preprocessing, recipe, run=run, seed=seed, **options)


def require_writable(folder: Any, needed: int = 0) -> None:
    """Refuses an output folder that cannot be, or whose disk has too little room; writes nothing.

    Raises:
        CheckpointError: see above.
    """
    path = pathlib.Path(folder).expanduser().absolute()
    problem = _unwritable(path)
    if problem:
        raise CheckpointError(
            f"the output folder cannot be written: {problem}",
            where=str(path),
            expected="a folder, or a name for a new one, that this user may write to",
            remedy="choose another --output_dir",
        )
    existing = next(place for place in (path, *path.parents) if place.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise CheckpointError(
            "too little free space for the checkpoints",
            where=f"{path}: {free / 1e9:.3g} GB free",
            expected=f"{needed / 1e9:.3g} GB",
            remedy="make room, or choose an --output_dir on another disk",
        )


def refuse_other_run(folder: Any, name: str, method: Procedure, seed: int, dataset: str) -> None:
    """Refuses a folder of a run with other settings before any data is read; `Storage` compares the rest later.

    Raises:
        CheckpointError: names every setting that differs; or another process holds the folder.
    """
    folder = pathlib.Path(folder).expanduser().absolute()
    config = folder / "config.json"
    if not config.is_file():
        return
    with io.folder_lock(folder):
        pass
    found = io.read_json(config)
    before = found.get("identity") if isinstance(found, dict) else None
    if not isinstance(before, dict) or not isinstance(before.get("dataset"), dict):
        return  # which `Storage` reports
    now = {"method": name, "settings": as_dict(method), "seed": seed, "dataset": {**before["dataset"], "name": dataset}}
    changed = identities.changes(before, identities.as_json({**before, **now}))
    if changed:
        raise CheckpointError(
            "the folder belongs to a run with other settings" + "".join(f"\n  {line}" for line in changed),
            where=str(config),
            remedy="choose another --output_dir, or use the settings this run was started with",
        )


def _unwritable(path: pathlib.Path) -> str:
    """Why a folder cannot be written, or the empty text."""
    import os

    try:
        existing = next(place for place in (path, *path.parents) if place.exists())
    except OSError as error:  # a name that is too long, a parent that may not be entered
        return error.strerror or str(error)
    if not existing.is_dir():
        return f"{existing} is a file"
    return "" if os.access(existing, os.W_OK | os.X_OK) else f"no permission to write into {existing}"


def _write(distilled: DistilledSet, folder: pathlib.Path, picture: Picture | None) -> None:
    """Writes a set and its picture, unless the very same set is there already."""
    drawing = folder / "grid.png"
    before = None
    with contextlib.suppress(CheckpointError):
        before = DistilledSet.load(folder)
    same = before is not None and before.provenance == distilled.provenance
    if not same or not np.array_equal(before.images, distilled.images):  # pyright: ignore[reportOptionalMemberAccess]
        distilled.save(folder)
        drawing.unlink(missing_ok=True)
    if picture is not None and not drawing.exists():
        picture(distilled, drawing)


def _described(
    result: DistilledSet,
    step: int,
    identity: Mapping[str, Any],
    other: Mapping[str, Any],
    versions: Mapping[str, str],
) -> DistilledSet:
    return result.replace(
        space=identity["preprocessing"]["space"],
        dataset=identity["dataset"]["name"],
        class_names=tuple(other["class_names"]),
        preprocessing=dict(identity["preprocessing"]),
        recipe=dict(other["recipe"]),
        provenance={
            "method": identity["method"],
            "settings": dict(identity["settings"]),
            "seed": identity["seed"],
            "step": step,
            "versions": dict(versions),
        },
    )


def _shapes(images: Iterable[int], classes: int) -> Examples:
    """A train split's shapes and types in place of its numbers."""
    shape: Any = tuple(images)
    pixels: Any = jax.ShapeDtypeStruct(shape, np.float32)
    labels: Any = jax.ShapeDtypeStruct(shape[:1], np.int32)
    return Examples(pixels, labels, classes)


@contextlib.contextmanager
def _precision(method: Procedure):
    """Float64 where a method asks for it: arrays stay float32 unless they are made otherwise."""
    if not getattr(method, "use_x64", False):
        yield
    elif hasattr(jax, "enable_x64"):
        with jax.enable_x64(True):
            yield
    else:  # jax 0.7
        from jax import experimental

        with getattr(experimental, "enable_x64")(True):
            yield


def restore(step_folder: pathlib.Path) -> DistilledSet:
    """The distilled set inside one saved state of a run; true colours are left out, they need the data set.

    Arguments:
        step_folder: `<output folder>/checkpoints/<step>`.

    Raises:
        CheckpointError: damaged, or of a run that `config.json` does not tell.
    """
    step_folder = pathlib.Path(step_folder).absolute()
    config = step_folder.parents[1] / "config.json"
    if not config.is_file():
        raise CheckpointError(
            "the run's config.json is missing, without which a state cannot be read",
            where=str(config),
            expected="the output folder as it was: <folder>/config.json beside <folder>/checkpoints/",
            remedy="copy config.json too, or evaluate <folder>/distilled instead",
        )
    told = io.read_json(config)
    try:
        identity, other, versions = told["identity"], told["other"], told["versions"]
        cls = METHODS[identity["method"]]
        method = build(ConfigFile(str(config), identity["settings"]), {"method": cls})["method"]
        examples = _shapes(identity["dataset"]["shape"], identity["dataset"]["classes"])
        name = identity["preprocessing"]["space"], other["class_names"], other["recipe"]
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"the run's config.json lacks or garbles {error}", where=str(config)) from None
    with _precision(method):
        template = jax.eval_shape(lambda real: initial(method, real, np.uint32(0)), examples)
        step, state = _read_state(step_folder, template, identity)
        return _described(method.result(state), step, identity, other, versions)


def _read_state(folder: pathlib.Path, template: PyTree, identity: Mapping[str, Any]) -> tuple[int, PyTree]:
    """One saved state, verified; unlike `Storage.load` it takes no lock and changes nothing, so a run may go on."""
    import orbax.checkpoint

    try:
        told = manifest.verify(folder, run=identities.digest(identity))
    except manifest.Damaged as finding:
        raise CheckpointError(
            f"the state is unusable: {finding}",
            where=str(folder),
            remedy="evaluate another state, or <folder>/distilled",
        ) from None
    leaves, tree = jax.tree.flatten(template)
    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    wanted = {
        name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place)
        for name, leaf in checkpoint._stored(template).items()
    }
    unlike = differences(describe_leaves(template), told["leaves"])
    if unlike:
        raise CheckpointError(f"the state is of another version of jaxdd: {unlike[0]}", where=str(folder))
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        found = checkpointer.restore(folder / "default", wanted)
    empty = {checkpoint._name(i): np.zeros(leaf.shape, leaf.dtype) for i, leaf in enumerate(leaves) if not leaf.size}
    return told["step"], tree.unflatten([{**found, **empty}[checkpoint._name(i)] for i in range(len(leaves))])
