"""`distill` by a method that is a chain: squeeze, select, recover, relabel, validate; what is finished is skipped."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from jaxdd.cli.flags.rcig import Distill, Eval
from jaxdd.cli.jobs import evaluating
from jaxdd.cli.jobs.links import How, Links, opened
from jaxdd.cli.settings.chain import of_distill
from jaxdd.core import io
from jaxdd.core.config import as_dict
from jaxdd.core.errors import CheckpointError
from jaxdd.run.chain import students
from jaxdd.run.chain.settings import Decoupled

if TYPE_CHECKING:
    from jaxdd.run.chain.chain import Chain
from jaxdd.run.presets import default_folder


def run(flags: Distill, method: str, programs: Mapping[str, str]) -> int:
    """Runs every link that is not finished, and trains students at the end.

    Arguments:
        flags: of `distill`.
        method: one of `run.chain.settings.NAMES`.
        programs: how each command is called, for advice.

    Returns:
        The exit code: 0, or 128 plus the number of the signal that stopped it.

    Raises:
        JaxddError: anything a user can mend.
    """
    from jaxdd.run import signals

    settings = of_distill(flags, method)
    given = flags.output_dir and pathlib.Path(flags.output_dir).expanduser().absolute()
    folder = given or default_folder(settings.dataset, settings.ipc, method)
    _check(flags, settings, folder)
    with opened() as shown, signals.caught() as should_stop:
        links = Links(shown, settings, How.of(flags), folder, should_stop)
        links.header(f"{method.upper()} on {settings.dataset}, {settings.ipc} per class: teacher, images, students")
        if flags.message:
            shown.fact("message", flags.message)
        if flags.dry_run:
            links.sizes(settings.ipc * settings.spec.classes)
            return 0
        try:
            links.begin()
            _chain(links).run(folder, links, should_stop, links.layout)
        except signals.Stopped as stop:
            shown.say("stopped: what is finished is kept; the same command continues", "bold")
            return stop.exit_code
        if _validated(folder, flags.random_seed):
            shown.say("this chain is finished already", "bold green")
            shown.fact("numbers", str(folder / "eval.json"))
            return 0
    return evaluating.perform(
        Eval(
            checkpoint_path=str(folder),
            data_path=flags.data_path,
            resolution=flags.resolution,
            random_seed=flags.random_seed,
            stream=flags.stream,
        ),
        programs["distill"],
        students.Labels(checkpoint_every=flags.checkpoint_every),
    )


def _check(flags: Distill, settings: Decoupled, folder: pathlib.Path) -> None:
    """What can be refused before a device is touched or an image is read."""
    from jaxdd.data import require_grain
    from jaxdd.evaluation.recipe import Recipe
    from jaxdd.run.chain.teacher import network, words
    from jaxdd.run.storage.precheck import refuse_other_run, refuse_other_set, require_writable

    recipe = Recipe.of(settings.recipe)
    recipe.check(settings.image_shape[0])
    recipe.network(settings.image_shape, settings.spec.classes, settings.dataset)
    network(words(settings.chain.architecture(), settings.image_shape, settings.spec.classes))
    if flags.stream == "always":
        require_grain()
    if flags.dry_run:
        return
    _refuse_other_labels(folder / "labels" / "manifest.json", settings)
    height, width, channels = settings.image_shape
    require_writable(folder, settings.ipc * settings.spec.classes * height * width * channels)
    own = settings.recovery.identity
    known = {"settings": own, "seed": flags.random_seed}
    refuse_other_set(folder, {**known, "method": own["method"], "settings": {**own, "n_images": settings.ipc}})
    refuse_other_run(folder / "recovered", {**known, "dataset": {"name": settings.dataset}})


def _refuse_other_labels(manifest: pathlib.Path, settings: Decoupled) -> None:
    """A set that grows leaves its labels behind: that is said before its images are made."""
    if settings.chain.labels != "stored" or not manifest.is_file():
        return
    shape = ((io.read_json(manifest) or {}).get("set") or {}).get("shape") or [0]
    wanted = settings.ipc * settings.spec.classes
    if shape[0] not in (0, wanted):
        raise CheckpointError(
            f"the labels are of {shape[0]} images, but the set will have {wanted}",
            where=str(manifest.parent),
            expected="labels of the same set, or none",
            remedy="move them away, or choose another --output_dir",
        )


def _chain(links: Links) -> Chain:
    """All that comes before the students."""
    from jaxdd.publish import image_folder
    from jaxdd.publish.grid import grid
    from jaxdd.run.chain import chain, sources

    return chain.of_recovery(
        links.settings,
        links.dataset,
        links.preprocessing,
        seed=links.how.seed,
        writers=chain.Writers(grid, image_folder.write),
        checkpoint_every=links.how.checkpoint_every,
        elsewhere=sources.default_folder(links.settings, links.how.seed),
    )


def _validated(folder: pathlib.Path, seed: int) -> bool:
    """Whether `eval.json` is about this very set, recipe and seed."""
    from jaxdd.evaluation.recipe import Recipe

    path, own = folder / "eval.json", io.read_json(folder / "distilled" / "manifest.json")
    if not path.is_file():
        return False
    found, recipe = io.read_json(path), Recipe.of({**own["recipe"], **students.labelled(folder / "labels")})
    how = {"seed": seed, "set": students.shards(folder / "distilled")}
    how |= {"recipe": {"protocol": recipe.protocol, **as_dict(recipe)}}
    return isinstance(found, dict) and all(found.get(name) == value for name, value in how.items())
