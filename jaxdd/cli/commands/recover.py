"""`recover`: images from a teacher, by SRe2L or what descends from it, with the flags of SRe2L's and CDA's scripts."""

from __future__ import annotations

import pathlib
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jaxdd.cli.flags.chain import Recover
from jaxdd.cli.flags.words import parse
from jaxdd.cli.jobs.links import How, Links, opened
from jaxdd.cli.screen.screen import Screen
from jaxdd.cli.settings.chain import of_recover
from jaxdd.core.errors import UsageError
from jaxdd.core.io import shorter_path
from jaxdd.run.chain import sources as teachers
from jaxdd.run.chain.settings import Decoupled

if TYPE_CHECKING:
    from jaxdd.run.chain.recover import Recovering
    from jaxdd.run.chain.teacher import Teacher

WIDTH = 128  # of a network in a file of which nothing else is known: as published
_MERGE = "--merge with another --exp-name and --ipc-end N makes a set of N images of each class"


def run(argv: Sequence[str], programs: Mapping[str, str]) -> int:
    """Parses, checks, recovers or merges, and says what came out.

    Arguments:
        argv: the flags.
        programs: how each command is called, for help and advice.

    Returns:
        The exit code: 0, or 128 plus the number of the signal that stopped it.

    Raises:
        JaxddError: anything a user can mend.
    """
    flags = parse(Recover, argv, programs["recover"])
    settings = of_recover(flags)
    folder = _folder(flags)
    shard, indices = _shard(flags.shard), _indices(flags, settings)
    with opened() as shown:
        if flags.merge:
            return _merge(shown, settings, flags, folder, programs["validate"])
        sources = teachers.find(settings, flags.arch_path, folder, flags.random_seed, programs["squeeze"])
        return _recover(shown, settings, flags, folder, sources, shard, indices, programs)


def _recover(
    shown: Screen,
    settings: Decoupled,
    flags: Recover,
    folder: pathlib.Path,
    sources: tuple[pathlib.Path, ...],
    shard: tuple[int, int],
    indices: range,
    programs: Mapping[str, str],
) -> int:
    from jaxdd.run import signals
    from jaxdd.run.chain.chunks import share
    from jaxdd.run.storage.precheck import refuse_other_set, require_writable

    words = settings.chain.architecture()  # of networks in files
    if sources[0].is_dir():  # the first one decides what students are
        settings = teachers.adopt(settings, sources[0])
    height, width, channels = settings.image_shape
    require_writable(folder, settings.spec.classes * len(indices) // shard[1] * height * width * channels)
    own = settings.recovery.identity
    refuse_other_set(folder, {"method": own["method"], "settings": own, "seed": flags.random_seed})
    verifier = _verifier(flags)
    with signals.caught() as should_stop, tempfile.TemporaryDirectory() as scratch:
        links = Links(shown, settings, How.of(flags), folder, should_stop)
        links.header(
            f"{settings.method.upper()} on {settings.dataset}, images {indices.start} to {indices.stop - 1} per class"
        )
        if flags.verifier and not verifier:
            shown.note("--verifier needs --verifier-arch-path, a folder or a safetensors file: nothing is downloaded")
        if flags.dataset is None and settings.dataset == "digits":
            shown.note("no --dataset and no --preset: these are the embedded digits")
        links.begin()
        of = (links.dataset, links.preprocessing)
        precision = settings.recovery.precision
        found = teachers.taken_all(sources, pathlib.Path(scratch), *of, words, precision)
        second = (
            teachers.taken_all(verifier[0], pathlib.Path(scratch, "verifier"), *of, verifier[1]) if verifier else []
        )
        own = tuple(each.teacher for each in found)
        links.tell_teachers(own)
        recovering = _recovering(links, own, files=flags.store_best_images or flags.store_last_images)
        teachers.refuse_others(found, folder)
        recovering.claim(folder / "recovered")
        teachers.keep(found, folder)
        links.sizes(sum(map(len, share(recovering.chunks(indices), shard))))
        line = links.chunks(recovering, shard, indices)
        try:
            with line.shown():
                options = {"reporter": line, "should_stop": should_stop, "layout": links.layout}
                recovering.recover(folder / "recovered", shard=shard, ipc_indices=indices, **options)
        except signals.Stopped as stop:
            shown.say("stopped: finished chunks and the state are kept; the same command continues", "bold")
            return stop.exit_code
        if told := _unfinished(recovering, folder, shard):
            shown.fact("finished", told)
            return 0
        made = recovering.merge(folder)
        for each in second:
            links.tell_verifier(each.teacher, each.teacher.accuracy_on(made, links.preprocessing))
        _conclude(shown, flags, folder, programs["validate"])
    return 0


def _unfinished(recovering: Recovering, folder: pathlib.Path, shard: tuple[int, int]) -> str:
    """What is said where no set is put together; the empty text otherwise."""
    if shard != (0, 1) or not recovering.complete(folder / "recovered"):
        return f"this part; when all parts are, the same command with --merge {shorter_path(folder)}"
    if recovering.exceeded(folder / "recovered"):
        return f"these images; the folder has those of a larger set, which stays. {_MERGE}"
    return ""


def _recovering(links: Links, own: tuple[Teacher, ...], *, files: bool) -> Recovering:
    """The recovery of the whole set."""
    from jaxdd.publish import image_folder
    from jaxdd.publish.grid import grid
    from jaxdd.run.chain.recover import Recovering

    return Recovering(
        links.settings.recovery,
        links.dataset,
        links.preprocessing,
        own,
        seed=links.how.seed,
        recipe=links.settings.recipe,
        picture=grid,
        publish=image_folder.write if files else None,
        checkpoint_every=links.how.checkpoint_every,
    )


def _merge(shown: Screen, settings: Decoupled, flags: Recover, folder: pathlib.Path, validate: str) -> int:
    """Puts shards together."""
    given = [pathlib.Path(place).expanduser().absolute() for place in flags.merge]
    links = Links(shown, settings, How.of(flags), folder)
    links.header(f"merging {', '.join(map(shorter_path, given))}")
    places = [place / "recovered" if (place / "recovered").is_dir() else place for place in given]
    found = next((own for place in given if (own := teachers.beside(place))), ())
    given_size: dict[str, Any] = {}
    if "n_images" in settings.typed:
        own = teachers.adopt(settings, found[0]) if found else settings
        given_size = {"ipc": settings.ipc, "recipe": own.recipe}
    from jaxdd.publish import image_folder
    from jaxdd.publish.grid import grid
    from jaxdd.run.chain import teacher as trained
    from jaxdd.run.chain.merge import merge

    for number, source in enumerate(found):
        trained.refuse_other(source, teachers.place(folder, number))
    publish = image_folder.write if flags.store_best_images or flags.store_last_images else None
    grid(merge(places, folder, publish=publish, **given_size), folder / "distilled" / "grid.png")
    for number, source in enumerate(found):
        trained.copy(source, teachers.place(folder, number))
    _conclude(shown, flags, folder, validate)
    return 0


def _conclude(shown: Screen, flags: Recover, folder: pathlib.Path, validate: str) -> None:
    shown.fact("pictures", str(folder / "distilled" / "grid.png"))
    if flags.store_best_images or flags.store_last_images:
        shown.fact("images", str(folder / "images"))
    shown.fact("set", str(folder / "distilled"))
    words = ["--checkpoint_path", shorter_path(folder)] + (["--data_path", flags.data_path] if flags.data_path else [])
    words += [] if flags.stream == "auto" else ["--stream", flags.stream]
    shown.fact("next", f"{validate} {shlex.join(words)}")


def _folder(flags: Recover) -> pathlib.Path:
    """`--output_dir`, or NAME in DIR."""
    given = flags.output_dir or pathlib.Path(flags.syn_data_path, flags.exp_name)
    return pathlib.Path(given).expanduser().absolute()


def _shard(text: str | None) -> tuple[int, int]:
    """`0/4` -> (0, 4)."""
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
    """Which images of every class."""
    stop = settings.ipc if flags.ipc_end is None else min(flags.ipc_end, settings.ipc)
    if flags.ipc_start >= stop:
        raise UsageError(
            f"no images from {flags.ipc_start} to {stop}",
            where="--ipc-start",
            expected=f"less than --ipc-end, which is {stop}",
            remedy="lower --ipc-start, or raise --ipc-end",
        )
    return range(flags.ipc_start, stop)


def _verifier(flags: Recover) -> tuple[tuple[pathlib.Path, ...], dict[str, Any]] | None:
    """The folder or the file of the second network, and the architecture of what is in a file.

    Raises:
        UsageError: its architecture is unknown.
        CheckpointError: what is named is none.
    """
    if not flags.verifier or flags.verifier_arch_path is None:
        return None
    from jaxdd.run.chain.settings import architecture
    from jaxdd.run.chain.teacher import read_manifest

    (source,) = teachers.named((flags.verifier_arch_path,))
    if source.is_dir():
        read_manifest(source)  # which refuses what is no network
        return (source,), {}
    return (source,), architecture(flags.verifier_arch, WIDTH, "--verifier-arch")
