"""`relabel`: a teacher's logits for every epoch of a student, on disk (FKD), with the flags of SRe2L's script."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from jaxdd import data
from jaxdd.cli.command import Job, Session, require_one_device
from jaxdd.cli.flags.chain import Relabel
from jaxdd.cli.flags.dialect import Arguments
from jaxdd.cli.jobs.links import labelling, tell_teachers
from jaxdd.core.config import values_of
from jaxdd.core.errors import UsageError
from jaxdd.core.io import absolute, gigabytes, shorter_path
from jaxdd.evaluation.recipe import Recipe
from jaxdd.models import teacher_architecture
from jaxdd.run.chain import students as soft
from jaxdd.run.chain import teachers
from jaxdd.run.chain.relabel import Relabelling
from jaxdd.run.chain.settings import FULL
from jaxdd.run.control import Control
from jaxdd.run.storage import sets
from jaxdd.run.storage.identity import require_writable


def jobs(options: Relabel, asked: Arguments[Relabel]) -> Iterator[Job]:
    """Yields the labelling."""
    if options.max_scale_crops not in (None, 1.0):
        raise UsageError(
            "crops go up to the whole image",
            where="--max-scale-crops",
            expected="1, as published",
            remedy="leave --max-scale-crops out; --min-scale-crops sets the least share",
        )
    place = absolute(options.named or "")
    place_of_set = sets.find(place, "recover")
    distilled = place_of_set.read(dataset="", flip=False)
    name = sets.dataset_of(distilled, FULL.get(options.dataset or "", options.dataset), place_of_set.path)
    distilled = distilled.replace(dataset=name)
    results = absolute(options.output_dir) if options.output_dir else place_of_set.beside
    folder = absolute(options.fkd_path) if options.fkd_path else results / "labels"
    require_writable(folder)
    require_one_device(options.devices)
    sources = teachers.named(options.arch_path)
    if not sources:
        labels = soft.Labels(online=True).beside(place_of_set.beside)
        labels.require()
        sources = labels.teachers
    (recipe,) = Recipe.for_students(distilled.recipe, values_of(asked.layer), (), distilled)

    def work(session: Session) -> None:
        how = {"resolution": distilled.images.shape[1], "stream": options.stream}
        *_, dataset = session.begin(options.devices, partial(data.load, name, options.data_path, **how))
        preprocessing = data.fit(dataset, **soft.KIND)
        words = teacher_architecture(options.arch_name or "resnet18", options.width or 128)
        known = [teachers.read(source, dataset, preprocessing, words) for source in sources]
        for teacher in known:
            teachers.require_kind(teacher, options.arch_name, options.width)
        if not options.arch_path:
            soft.require_own(known, sources, distilled)
        tell_teachers(session.screen, known, dataset, preprocessing)
        relabelling = Relabelling.by(known, distilled, preprocessing, recipe, options.prune)
        relabelling.finished(folder)  # or it holds other labels
        if options.dry_run:
            size = gigabytes(relabelling.bytes)
            session.screen.fact("labels", f"{relabelling.epochs} epochs, at most {size}")
            return
        others = known if options.arch_path else []  # which validate will find beside the labels
        teachers.refuse_others(others, folder)
        session.screen.log_to(folder / "log.txt")
        with labelling(session, relabelling, folder).shown() as line:
            relabelling.make(folder, Control(line, session.should_stop))
        teachers.keep(others, folder)
        session.advise(
            "validate",
            checkpoint_path=shorter_path(place),
            data_path=options.data_path,
            fkd_path=shorter_path(folder) if options.fkd_path or options.output_dir else None,
            stream=None if options.stream == "auto" else options.stream,
        )

    yield Job(f"labels for {len(distilled)} images of {name}", work, asked.notices, {"output": folder})
