"""The labels that teachers give a set, in a folder of their own."""

from __future__ import annotations

import pathlib
from functools import partial

from jaxdd import data
from jaxdd.cli.devices import start_one
from jaxdd.cli.flags.chain import NO_EFFECT, Relabel
from jaxdd.cli.jobs.links import labelling, tell_teachers
from jaxdd.cli.session import opened
from jaxdd.cli.settings import students
from jaxdd.cli.settings.layers import no_effect
from jaxdd.core import config as configs
from jaxdd.core.io import absolute, gigabytes, shorter_path
from jaxdd.evaluation.recipe import Recipe
from jaxdd.models import teacher_architecture
from jaxdd.run.chain import sources as teachers
from jaxdd.run.chain import students as soft
from jaxdd.run.chain.relabel import Relabelling
from jaxdd.run.control import Control
from jaxdd.run.presets import FULL
from jaxdd.run.storage import sets
from jaxdd.run.storage.precheck import require_writable

OF_OTHERS = {  # flags of the other links -> why
    "random_seed": "the labels' seed is --fkd-seed",
    "resolution": "the set's images say it",
    "checkpoint_every": "every epoch is kept as soon as it is labelled",
}


def perform(flags: Relabel, place: pathlib.Path) -> None:
    """Checks, labels, and says where the labels are.

    Arguments:
        flags: how.
        place: of the set.

    Raises:
        JaxddError: anything a user can mend.
        Stopped: by a signal.
    """
    place_of_set = sets.find(place, "recover")
    distilled = place_of_set.read(dataset="", flip=False)
    name = sets.dataset_of(distilled, FULL.get(flags.dataset or "", flags.dataset), place_of_set.path)
    distilled = distilled.replace(dataset=name)
    results = absolute(flags.output_dir) if flags.output_dir else place_of_set.beside
    folder = absolute(flags.fkd_path) if flags.fkd_path else results / "labels"
    require_writable(folder)
    sources = teachers.named(flags.arch_path)
    if not sources:
        labels = soft.Labels(online=True).beside(place_of_set.beside)
        labels.require()
        sources = labels.teachers
    changes = students.of_students(flags) | configs.parse_assignments(flags.set)
    (recipe,) = Recipe.for_students(distilled.recipe, changes, (), distilled)
    with opened() as session:
        notices = no_effect(flags, {**NO_EFFECT, **OF_OTHERS})
        session.header(f"labels for {len(distilled)} images of {name}", notices=notices, output=folder)
        how = {"resolution": distilled.images.shape[1], "stream": flags.stream}
        start, read = partial(start_one, flags.devices), partial(data.load, name, flags.data_path, **how)
        _, dataset = session.begin(start, read)
        preprocessing = data.fit(dataset, **soft.KIND)
        words = teacher_architecture(flags.arch_name or "resnet18", flags.width or 128)
        known = [teachers.read(source, dataset, preprocessing, words) for source in sources]
        for teacher in known:
            teachers.require_kind(teacher, flags.arch_name, flags.width)
        if not flags.arch_path:
            soft.require_own(known, sources, distilled)
        tell_teachers(session.screen, known, dataset, preprocessing)
        relabelling = Relabelling.by(known, distilled, preprocessing, recipe, flags.prune)
        relabelling.finished(folder)  # or it holds other labels
        if flags.dry_run:
            size = gigabytes(relabelling.bytes)
            session.screen.fact("labels", f"{relabelling.epochs} epochs, at most {size}")
            return
        others = known if flags.arch_path else []  # which validate will find beside the labels
        teachers.refuse_others(others, folder)
        session.screen.log_to(folder / "log.txt")
        with labelling(session, relabelling, folder).shown() as line:
            relabelling.make(folder, Control(line, session.should_stop))
        teachers.keep(others, folder)
        session.advise(
            "validate",
            checkpoint_path=shorter_path(place),
            data_path=flags.data_path,
            fkd_path=shorter_path(folder) if flags.fkd_path or flags.output_dir else None,
            stream=None if flags.stream == "auto" else flags.stream,
        )
