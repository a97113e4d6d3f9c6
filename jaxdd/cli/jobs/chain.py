"""`distill` by a method that is a chain: squeeze, select, recover, relabel, validate; what is finished is skipped."""

from __future__ import annotations

import pathlib

from jaxdd.cli.flags.rcig import Distill, Eval
from jaxdd.cli.jobs import evaluating
from jaxdd.cli.jobs.links import Links, writers
from jaxdd.cli.session import opened
from jaxdd.core import io
from jaxdd.core.errors import CheckpointError
from jaxdd.data import require_grain
from jaxdd.evaluation.recipe import Recipe
from jaxdd.run.chain import sources, students
from jaxdd.run.chain.settings import Decoupled
from jaxdd.run.chain.teacher import network, words
from jaxdd.run.presets import default_folder
from jaxdd.run.storage.precheck import refuse_other_run, refuse_other_set, require_writable

SAME = ("data_path", "resolution", "random_seed", "stream")  # flags of the students too


def perform(flags: Distill, settings: Decoupled) -> None:
    """Runs every link that is not finished, and trains students at the end.

    Raises:
        JaxddError: anything a user can mend.
        Stopped: by a signal.
    """
    method = settings.method
    usual = default_folder(settings.dataset, settings.ipc, method)
    folder = io.absolute(flags.output_dir or usual)
    _check(flags, settings, folder)
    with opened() as session:
        links = Links(session, settings, flags, folder)
        links.header(f"{method.upper()} on {settings.dataset}, {settings.ipc} per class: teacher, images, students")
        session.screen.facts(message=flags.message)
        if flags.dry_run:
            links.sizes(settings.ipc * settings.spec.classes)
            return
        links.begin()
        elsewhere = sources.default_folder(settings, flags.random_seed)
        chain = links.chain(writers=writers(files=True), elsewhere=elsewhere)
        chain.run(folder, links.control(), links)
    same = {name: getattr(flags, name) for name in SAME}
    labels = students.Labels(checkpoint_every=flags.checkpoint_every)
    evaluating.perform(Eval(checkpoint_path=str(folder), **same), labels, once=True)


def _check(flags: Distill, settings: Decoupled, folder: pathlib.Path) -> None:
    """Refuses all that can be before a device is touched or an image is read."""
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
    identity = settings.recovery.identity
    known = {"settings": identity, "seed": flags.random_seed}
    known_of_set = {**known, "method": settings.method, "settings": {**identity, "n_images": settings.ipc}}
    refuse_other_set(folder, known_of_set)
    refuse_other_run(folder / "recovered", {**known, "dataset": {"name": settings.dataset}})


def _refuse_other_labels(manifest: pathlib.Path, settings: Decoupled) -> None:
    """Refuses a set that grows beside labels of a smaller one, before its images are made."""
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
