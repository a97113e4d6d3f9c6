"""`recover`: images from a teacher, by SRe2L and what descends from it, in one piece or in parts."""

from __future__ import annotations

import pathlib
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from jaxdd.cli.command import Job, Session
from jaxdd.cli.flags.chain import Recover
from jaxdd.cli.jobs.links import Links, tell_teachers, writers
from jaxdd.core.errors import UsageError
from jaxdd.core.io import absolute, shorter_path
from jaxdd.methods.recovery.chunks import share
from jaxdd.models import teacher_architecture
from jaxdd.run.chain import teachers
from jaxdd.run.chain.pieces import merge
from jaxdd.run.chain.recover import Recovering
from jaxdd.run.chain.settings import Decoupled
from jaxdd.run.chain.teachers import Teacher
from jaxdd.run.storage.identity import refuse_other_set, require_writable

WIDTH = 128  # of a network in a file of which nothing else is known: as published
NO_VERIFIER = "--verifier needs --verifier-arch-path, a folder or a safetensors file: nothing is downloaded"
DIGITS = "no --dataset and no --preset: these are the embedded digits"
_MERGE = "--merge with another --exp-name and --ipc-end N makes a set of N images of each class"


def jobs(options: Recover, settings: Decoupled) -> Iterator[Job]:
    """Yields the recovery, or the merging of parts."""
    folder = absolute(options.output_dir or pathlib.Path(options.syn_data_path, options.exp_name))
    shard, indices = _shard(options.shard), _indices(options, settings)
    if options.merge:
        folders = list(map(absolute, options.merge))

        def merging(session: Session) -> None:
            _merge(Links(session, settings, options, folder), folders)
            _conclude(session, options, folder)

        what = f"merging {', '.join(map(shorter_path, folders))}"
        yield Job(what, merging, settings.notices, {"output": folder}, interruptible=False)
        return
    made_by = ["--dataset", settings.dataset, "--arch-name", settings.chain.arch_name]
    made_by += [] if settings.chain.width == 128 else ["--width", str(settings.chain.width)]
    sources = teachers.find(
        settings, options.arch_path, folder, options.random_seed, f"`squeeze` {shlex.join(made_by)}"
    )
    words, verifiers = settings.chain.architecture(), _verifiers(options)
    if sources[0].is_dir():  # the first one decides what students are
        settings = teachers.adopt(settings, sources[0])
    height, width, channels = settings.image_shape
    require_writable(folder, settings.spec.classes * len(indices) // shard[1] * height * width * channels)
    identity = settings.recovery.identity
    refuse_other_set(folder, {"method": identity["method"], "settings": identity, "seed": options.random_seed})

    def work(session: Session) -> None:
        links = Links(session, settings, options, folder)
        links.begin()
        of = links.dataset, links.preprocessing
        known = tuple(teachers.read(source, *of, words, settings.recovery.precision) for source in sources)
        others = [teachers.read(source, *of, of_file) for source, of_file in verifiers.items()]
        if told := _recover(links, known, others, shard, indices):
            session.screen.fact("finished", told)
        else:
            _conclude(session, options, folder)

    which = f"images {indices.start} to {indices.stop - 1} per class"
    notices = [*settings.notices, NO_VERIFIER] if options.verifier and not verifiers else [*settings.notices]
    notices += [DIGITS] if "dataset_name" not in settings.typed and settings.dataset == "digits" else []
    yield Job(f"{settings.method.upper()} on {settings.dataset}, {which}", work, notices, {"output": folder})


def _conclude(session: Session, options: Recover, folder: pathlib.Path) -> None:
    """Says where the set is, and what goes on from here."""
    session.screen.facts(
        pictures=folder / "distilled" / "grid.png",
        images=folder / "images" if _publishes(options) else None,
        set=folder / "distilled",
    )
    session.advise(
        "validate",
        checkpoint_path=shorter_path(folder),
        data_path=options.data_path,
        stream=None if options.stream == "auto" else options.stream,
    )


def _recover(
    links: Links, known: tuple[Teacher, ...], others: Sequence[Teacher], shard: tuple[int, int], indices: range
) -> str:
    """Recovers what is asked for; returns why no set was put together of it, or the empty text.

    Arguments:
        links: of the chain, begun.
        known: the teachers.
        others: networks that verify the images.
        shard, indices: the part, and which images of every class.
    """
    folder = links.folder
    tell_teachers(links.screen, known, links.dataset, links.preprocessing)
    chain = links.chain(teachers=known, writers=writers(files=_publishes(links.options)))  # pyright: ignore[reportArgumentType]
    recovering: Any = chain.links[1].link({"teacher": known})
    teachers.refuse_others(known, folder)
    recovering.claim(folder / "recovered")
    teachers.keep(known, folder)
    links.sizes(sum(map(len, share(recovering.chunks(indices), shard))))
    with links.chunks(recovering, shard, indices).shown() as line:
        recovering.recover(folder / "recovered", links.control(line), shard=shard, ipc_indices=indices)
    if told := _unfinished(recovering, folder, shard):
        return told
    made = recovering.merge(folder)
    for other in others:
        links.tell_verifier(other, other.accuracy_on(made, links.preprocessing))
    return ""


def _unfinished(recovering: Recovering, folder: pathlib.Path, shard: tuple[int, int]) -> str:
    """Returns why no set is put together; the empty text otherwise."""
    if shard != (0, 1) or not recovering.complete(folder / "recovered"):
        return f"this part; when all parts are, the same command with --merge {shorter_path(folder)}"
    if recovering.exceeded(folder / "recovered"):
        return f"these images; the folder has those of a larger set, which stays. {_MERGE}"
    return ""


def _merge(links: Links, folders: list[pathlib.Path]) -> None:
    """Puts shards together."""
    settings, folder = links.settings, links.folder
    places = [place / "recovered" if (place / "recovered").is_dir() else place for place in folders]
    beside = next((there for place in folders if (there := teachers.beside(place))), ())
    known = [teachers.load(place) for place in beside]
    size: dict[str, Any] = {}
    if "n_images" in settings.typed:
        size = {"ipc": settings.ipc, "recipe": (teachers.adopt(settings, beside[0]) if beside else settings).recipe}
    teachers.refuse_others(known, folder)
    to = writers(files=_publishes(links.options))  # pyright: ignore[reportArgumentType]
    made = merge(places, folder, publish=to.publish, **size)
    to.picture(made, folder / "distilled" / "grid.png")  # pyright: ignore[reportOptionalCall]
    teachers.keep(known, folder)


def _publishes(options: Recover) -> bool:
    """Returns whether images are written into files too."""
    return options.store_best_images or options.store_last_images


def _shard(text: str | None) -> tuple[int, int]:
    """Reads `0/4` as (0, 4)."""
    if text is None:
        return 0, 1
    first, _, second = text.partition("/")
    if first.isdecimal() and second.isdecimal() and int(first) < int(second):
        return int(first), int(second)
    raise UsageError(
        f"'{text}' is no part of a whole",
        where="--shard",
        expected="I/N, 0 <= I < N, e.g. 0/4 to 3/4",
        remedy="number the parts from 0, one job for each",
    )


def _indices(options: Recover, settings: Decoupled) -> range:
    """Returns which images of every class are asked for."""
    stop = settings.ipc
    if options.ipc_start >= stop:
        raise UsageError(
            f"no images from {options.ipc_start} to {stop}",
            where="--ipc-start",
            expected=f"less than --ipc-end, which is {stop}",
            remedy="lower --ipc-start, or raise --ipc-end",
        )
    return range(options.ipc_start, stop)


def _verifiers(options: Recover) -> dict[pathlib.Path, dict[str, Any]]:
    """Returns the folder or the file of the second network, if there is one, and the architecture of what is in a file.

    Raises:
        UsageError: its architecture is unknown.
        CheckpointError: what is named is none.
    """
    sources = teachers.named([options.verifier_arch_path] if options.verifier and options.verifier_arch_path else [])
    for folder in filter(pathlib.Path.is_dir, sources):
        teachers.read_manifest(folder)  # which refuses what is no network
    files = {source: not source.is_dir() for source in sources}
    return {
        source: teacher_architecture(options.verifier_arch, WIDTH, "--verifier-arch") if is_file else {}
        for source, is_file in files.items()
    }
