"""Images from a teacher: a set, a part of one, or one set of the parts."""

from __future__ import annotations

import pathlib
import shlex
from collections.abc import Mapping
from typing import Any

from jaxdd.cli.flags.chain import Recover
from jaxdd.cli.jobs.links import Links, tell_teachers, writers
from jaxdd.cli.session import opened
from jaxdd.core.errors import UsageError
from jaxdd.core.io import absolute, shorter_path
from jaxdd.methods.recovery.chunks import share
from jaxdd.models import teacher_architecture
from jaxdd.run.chain import sources as teachers
from jaxdd.run.chain import teacher as trained
from jaxdd.run.chain.merge import merge
from jaxdd.run.chain.recover import Recovering
from jaxdd.run.chain.settings import Decoupled
from jaxdd.run.storage.precheck import refuse_other_set, require_writable

WIDTH = 128  # of a network in a file of which nothing else is known: as published
_MERGE = "--merge with another --exp-name and --ipc-end N makes a set of N images of each class"


def perform(flags: Recover, settings: Decoupled) -> None:
    """Checks, recovers or merges, and says what came out.

    Raises:
        JaxddError: anything a user can mend.
        Stopped: by a signal.
    """
    folder = absolute(flags.output_dir or pathlib.Path(flags.syn_data_path, flags.exp_name))
    shard, indices = _shard(flags.shard), _indices(flags, settings)
    with opened(interruptible=not flags.merge) as session:
        if flags.merge:
            _merge(Links(session, settings, flags, folder), flags)
        else:
            made_by = ["--dataset", settings.dataset, "--arch-name", settings.chain.arch_name]
            made_by += [] if settings.chain.width == 128 else ["--width", str(settings.chain.width)]
            remedy = f"`squeeze` {shlex.join(made_by)}"
            sources = teachers.find(settings, flags.arch_path, folder, flags.random_seed, remedy)
            words = settings.chain.architecture()  # of networks in files
            if sources[0].is_dir():  # the first one decides what students are
                settings = teachers.adopt(settings, sources[0])
            links = Links(session, settings, flags, folder)
            if told := _recover(links, flags, sources, words, shard, indices):
                session.screen.fact("finished", told)
                return
        session.screen.facts(
            pictures=folder / "distilled" / "grid.png",
            images=folder / "images" if _publishes(flags) else None,
            set=folder / "distilled",
        )
        session.advise(
            "validate",
            checkpoint_path=shorter_path(folder),
            data_path=flags.data_path,
            stream=None if flags.stream == "auto" else flags.stream,
        )


def _recover(
    links: Links,
    flags: Recover,
    sources: tuple[pathlib.Path, ...],
    words: Mapping[str, Any],
    shard: tuple[int, int],
    indices: range,
) -> str:
    """Recovers what is asked for; returns why no set was put together of it, or the empty text."""
    settings, folder = links.settings, links.folder
    height, width, channels = settings.image_shape
    require_writable(folder, settings.spec.classes * len(indices) // shard[1] * height * width * channels)
    identity = settings.recovery.identity
    refuse_other_set(folder, {"method": identity["method"], "settings": identity, "seed": flags.random_seed})
    verifiers, of_verifiers = _verifiers(flags)
    which = f"images {indices.start} to {indices.stop - 1} per class"
    links.header(f"{settings.method.upper()} on {settings.dataset}, {which}")
    if flags.verifier and not verifiers:
        links.screen.note(
            "--verifier needs --verifier-arch-path, a folder or a safetensors file: nothing is downloaded"
        )
    if flags.dataset is None and settings.dataset == "digits":
        links.screen.note("no --dataset and no --preset: these are the embedded digits")
    links.begin()
    of = links.dataset, links.preprocessing
    known = tuple(teachers.read(source, *of, words, settings.recovery.precision) for source in sources)
    others = [teachers.read(source, *of, of_verifiers) for source in verifiers]
    tell_teachers(links.screen, known, *of)
    chain = links.chain(teachers=known, writers=writers(files=_publishes(flags)))
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


def _merge(links: Links, flags: Recover) -> None:
    """Puts shards together."""
    folders, settings, folder = list(map(absolute, flags.merge)), links.settings, links.folder
    links.header(f"merging {', '.join(map(shorter_path, folders))}")
    places = [place / "recovered" if (place / "recovered").is_dir() else place for place in folders]
    beside = next((found for place in folders if (found := teachers.beside(place))), ())
    known = [trained.load(place) for place in beside]
    size: dict[str, Any] = {}
    if "n_images" in settings.typed:
        size = {"ipc": settings.ipc, "recipe": (teachers.adopt(settings, beside[0]) if beside else settings).recipe}
    teachers.refuse_others(known, folder)
    to = writers(files=_publishes(flags))
    made = merge(places, folder, publish=to.publish, **size)
    to.picture(made, folder / "distilled" / "grid.png")  # pyright: ignore[reportOptionalCall]
    teachers.keep(known, folder)


def _publishes(flags: Recover) -> bool:
    """Returns whether images are written into files too."""
    return flags.store_best_images or flags.store_last_images


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


def _indices(flags: Recover, settings: Decoupled) -> range:
    """Returns which images of every class are asked for."""
    stop = settings.ipc if flags.ipc_end is None else min(flags.ipc_end, settings.ipc)
    if flags.ipc_start >= stop:
        raise UsageError(
            f"no images from {flags.ipc_start} to {stop}",
            where="--ipc-start",
            expected=f"less than --ipc-end, which is {stop}",
            remedy="lower --ipc-start, or raise --ipc-end",
        )
    return range(flags.ipc_start, stop)


def _verifiers(flags: Recover) -> tuple[tuple[pathlib.Path, ...], dict[str, Any]]:
    """Returns the folder or the file of the second network, if there is one, and the architecture of what is in a file.

    Raises:
        UsageError: its architecture is unknown.
        CheckpointError: what is named is none.
    """
    sources = teachers.named([flags.verifier_arch_path] if flags.verifier and flags.verifier_arch_path else [])
    files = [source for source in sources if not source.is_dir()]
    for folder in set(sources) - set(files):
        trained.read_manifest(folder)  # which refuses what is no network
    return sources, teacher_architecture(flags.verifier_arch, WIDTH, "--verifier-arch") if files else {}
