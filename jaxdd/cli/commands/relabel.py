"""`relabel`: a teacher's logits for every epoch of a student, on disk (FKD), with the flags of SRe2L's script."""

from __future__ import annotations

import pathlib
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jaxdd.cli.devices import start_one
from jaxdd.cli.flags.chain import NO_EFFECT, Relabel
from jaxdd.cli.flags.words import parse
from jaxdd.cli.jobs.links import How, begun, labelling, opened
from jaxdd.cli.screen.screen import Screen
from jaxdd.cli.settings import students
from jaxdd.cli.settings.layers import no_effect
from jaxdd.core import config as configs
from jaxdd.core.distilled import DistilledSet
from jaxdd.core.errors import UsageError
from jaxdd.core.io import absolute, shorter_path
from jaxdd.run.chain import sources as teachers
from jaxdd.run.chain import students as soft
from jaxdd.run.presets import FULL
from jaxdd.run.storage import sets

if TYPE_CHECKING:
    from jaxdd.data import Dataset, Preprocessing

OF_OTHERS = {  # flags of the other links -> why
    "random_seed": "the labels' seed is --fkd-seed",
    "resolution": "the set's images say it",
    "checkpoint_every": "every epoch is kept as soon as it is labelled",
}
OF_RECIPE = {  # flag -> setting of the recipe
    "batch_size": "batch_size",
    "epochs": "epochs",
    "min_scale_crops": "min_scale",
    "fkd_seed": "label_seed",
    "keep_epochs": "pool",
}


def run(argv: Sequence[str], programs: Mapping[str, str]) -> int:
    """Parses, checks, labels, and says where the labels are.

    Arguments:
        argv: the flags.
        programs: how each command is called, for help and advice.

    Returns:
        The exit code: 0, or 128 plus the number of the signal that stopped it.

    Raises:
        JaxddError: anything a user can mend.
    """
    from jaxdd.run.storage.precheck import require_writable

    flags = parse(Relabel, argv, programs["relabel"])
    if flags.checkpoint_path is None:
        raise UsageError(
            "which set?",
            where="--checkpoint_path",
            expected="the output folder of recover",
            remedy="name it, e.g. --checkpoint_path syn-data/NAME",
        )
    if flags.preset or flags.config_path:
        where = "--preset" if flags.preset else "--config_path"
        raise UsageError("the set has its recipe with it", where=where, remedy="leave it out; --set changes a setting")
    if flags.max_scale_crops not in (None, 1.0):
        raise UsageError(
            "crops go up to the whole image",
            where="--max-scale-crops",
            expected="1, as published",
            remedy="leave --max-scale-crops out; --min-scale-crops sets the least share",
        )
    found = sets.find(absolute(flags.checkpoint_path), programs["recover"])
    distilled = found.read(dataset="", flip=False)
    name = sets.dataset_of(distilled, FULL.get(flags.dataset or "", flags.dataset), found.path)
    results = absolute(flags.output_dir) if flags.output_dir else found.beside
    folder = absolute(flags.fkd_path) if flags.fkd_path else results / "labels"
    require_writable(folder)
    sources = teachers.named(flags.arch_path)
    if not sources:
        labels = soft.Labels(online=True).beside(found.beside)
        labels.require()
        sources = labels.teachers
    with opened() as shown:
        return _label(shown, flags, distilled.replace(dataset=name), sources, folder, programs["validate"])


def _label(
    shown: Screen,
    flags: Relabel,
    distilled: DistilledSet,
    sources: tuple[pathlib.Path, ...],
    folder: pathlib.Path,
    validate: str,
) -> int:
    from jaxdd import __version__, data
    from jaxdd.evaluation.students import teacher_accuracies
    from jaxdd.run import signals
    from jaxdd.run.chain.relabel import Relabelling

    student = distilled.recipe.get("eval_arch", soft.USUAL)
    (recipe,) = soft.recipes(distilled.recipe, _settings(flags), [student], distilled)
    shown.fact("jaxdd", f"{__version__}   labels for {len(distilled)} images of {distilled.dataset}", "bold")
    shown.fact("output", str(folder))
    for notice in no_effect(flags, {**NO_EFFECT, **OF_OTHERS}):
        shown.note(notice)
    with signals.caught() as should_stop, tempfile.TemporaryDirectory() as scratch:
        how = How.of(flags)
        with begun(shown, should_stop) as line:
            start_one(how.devices)
            line.doing("reading the data")
            dataset = how.load(distilled.dataset, distilled.images.shape[1])
            preprocessing = data.fit(dataset, **soft.KIND)
        found = _teachers(flags, sources, pathlib.Path(scratch), dataset, preprocessing)
        own = [each.teacher for each in found]
        if not flags.arch_path:
            soft.require_own(own, sources, distilled)
        given = tuple(teacher.network for teacher in own), tuple(teacher.variables for teacher in own)
        reached = teacher_accuracies(*given, data.test_examples(dataset, preprocessing))
        for teacher, share in zip(own, reached, strict=True):
            shown.fact(*soft.telling(teacher, share))
        relabelling = Relabelling.by(own, distilled, preprocessing, recipe, flags.prune)  # pyright: ignore
        relabelling.refuse_others(folder)
        if flags.dry_run:
            shown.fact("labels", f"{relabelling.epochs} epochs, at most {soft.gigabytes(relabelling.bytes)}")
            return 0
        others = found if flags.arch_path else []  # which validate will find beside the labels
        teachers.refuse_others(others, folder)
        shown.log_to(folder / "log.txt")
        try:
            line = labelling(shown, relabelling, folder, should_stop)
            with line.shown():
                relabelling.make(folder, line, should_stop)
            teachers.keep(others, folder)
        except signals.Stopped as stop:
            shown.say("stopped: finished epochs are kept; the same command continues", "bold")
            return stop.exit_code
    words = ["--checkpoint_path", shorter_path(absolute(flags.checkpoint_path or "."))]
    words += ["--data_path", flags.data_path] if flags.data_path else []
    words += ["--fkd_path", shorter_path(folder)] if flags.fkd_path or flags.output_dir else []
    words += [] if flags.stream == "auto" else ["--stream", flags.stream]
    shown.fact("next", f"{validate} {shlex.join(words)}")
    return 0


def _teachers(
    flags: Relabel,
    sources: Sequence[pathlib.Path],
    scratch: pathlib.Path,
    dataset: Dataset,
    preprocessing: Preprocessing,
) -> list[teachers.Taken]:
    """Those that label."""
    from jaxdd.run.chain.settings import architecture

    found, words = [], architecture(flags.arch_name or "resnet18", flags.width or 128)
    for number, source in enumerate(sources):
        found.append(teachers.taken(source, scratch / str(number), dataset, preprocessing, words))
        teachers.require_kind(found[-1].teacher, flags.arch_name, flags.width)
    return found


def _settings(flags: Relabel) -> dict[str, Any]:
    """What the flags say of the students' recipe.

    Raises:
        UsageError: an unknown way of mixing, or no setting.
    """
    given = {OF_RECIPE[name]: value for name in OF_RECIPE if (value := getattr(flags, name)) is not None}
    return given | students.mixing(flags) | configs.parse_assignments(flags.set)
