"""`distill`: a data set becomes a distilled set in an output folder, by one long run or by a chain."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

from jaxdd.cli.command import Job, Session
from jaxdd.cli.flags.rcig import Distill, Eval
from jaxdd.cli.jobs import distilling, evaluating
from jaxdd.cli.jobs.links import Links, writers
from jaxdd.cli.jobs.pretraining import networks_for
from jaxdd.core import io
from jaxdd.core.errors import CheckpointError
from jaxdd.data import require_grain
from jaxdd.evaluation.recipe import Recipe
from jaxdd.run.chain import students, teachers
from jaxdd.run.chain.settings import Decoupled
from jaxdd.run.chain.teachers import network, words
from jaxdd.run.settings import Settings, default_folder
from jaxdd.run.storage.identity import refuse_other_run, refuse_other_set, require_writable


def jobs(options: Distill, settings: Settings | Decoupled) -> Iterator[Job]:
    """Yields the run, or the chain and the students at its end."""
    if isinstance(settings, Decoupled):
        yield from _chain(options, settings)
        return
    run = settings.run
    folder = io.absolute(options.output_dir or default_folder(run.dataset_name, settings.ipc, run.method))
    distilling.check(options, settings, folder)
    networks = networks_for(settings, options) if settings.starts_from_networks else ()
    yield distilling.job(options, settings, folder, networks)


def _chain(options: Distill, settings: Decoupled) -> Iterator[Job]:
    """Yields every link that is not finished as one job, and then the students."""
    method = settings.method
    folder = io.absolute(options.output_dir or default_folder(settings.dataset, settings.ipc, method))
    _check(options, settings, folder)

    def work(session: Session) -> None:
        links = Links(session, settings, options, folder)
        session.screen.facts(message=options.message)
        if options.dry_run:
            links.sizes(settings.ipc * settings.spec.classes)
            return
        links.begin()
        elsewhere = teachers.default_folder(settings, options.random_seed)
        chain = links.chain(writers=writers(files=True), elsewhere=elsewhere)
        chain.run(folder, links.control(), links)

    what = f"{method.upper()} on {settings.dataset}, {settings.ipc} per class: teacher, images, students"
    yield Job(what, work, settings.notices, {"output": folder})
    if options.dry_run:
        return
    same = {name: getattr(options, name) for name in ("data_path", "resolution", "random_seed", "stream")}
    labels = students.Labels(checkpoint_every=options.checkpoint_every)
    yield evaluating.job(Eval(checkpoint_path=str(folder), **same), {}, labels, once=True)


def _check(options: Distill, settings: Decoupled, folder: pathlib.Path) -> None:
    """Refuses all that can be before a device is touched or an image is read."""
    recipe = Recipe.of(settings.recipe)
    recipe.check(settings.image_shape[0])
    recipe.network(settings.image_shape, settings.spec.classes, settings.dataset)
    network(words(settings.chain.architecture(), settings.image_shape, settings.spec.classes))
    if options.stream == "always":
        require_grain()
    if options.dry_run:
        return
    _refuse_other_labels(folder / "labels" / "manifest.json", settings)
    height, width, channels = settings.image_shape
    require_writable(folder, settings.ipc * settings.spec.classes * height * width * channels)
    identity = settings.recovery.identity
    known = {"settings": identity, "seed": options.random_seed}
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
