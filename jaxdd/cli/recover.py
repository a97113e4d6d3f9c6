"""`recover`: images from a teacher, by SRe2L or what descends from it, with the flags of SRe2L's and CDA's scripts."""

from __future__ import annotations

import pathlib
import shlex
from collections.abc import Mapping, Sequence

from jaxdd.cli import teachers
from jaxdd.cli.arguments import parse
from jaxdd.cli.decoupled_flags import Recover
from jaxdd.cli.decoupled_resolve import Decoupled, of_recover
from jaxdd.cli.links import How, Links, screen
from jaxdd.cli.screen import Screen, shorter_path
from jaxdd.core.errors import UsageError


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
    with screen() as shown:
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
    from jaxdd.run.precheck import require_writable

    for source in reversed(sources):  # the first one decides what students are
        settings = teachers.adopt(settings, source) if source.is_dir() else settings
    height, width, channels = settings.image_shape
    require_writable(folder, settings.spec.classes * len(indices) // shard[1] * height * width * channels)
    second = _verifier(flags)
    with signals.caught() as should_stop:
        links = Links(shown, settings, How.of(flags), folder, should_stop)
        links.header(
            f"{settings.method.upper()} on {settings.dataset}, images {indices.start} to {indices.stop - 1} per class"
        )
        links.begin()
        found = [links.teacher(source, teachers.place(folder, number)) for number, source in enumerate(sources)]
        for teacher in found:
            links.tell_teacher(teacher)
        recovering = links.recovering(*found)
        try:
            links.recover(recovering, shard=shard, ipc_indices=indices)
        except signals.Stopped as stop:
            shown.say("stopped: finished chunks and the state are kept; the same command continues", "bold")
            return stop.exit_code
        if shard != (0, 1) or not recovering.complete(folder / "recovered"):
            shown.fact(
                "finished", f"this part; when all parts are, the same command with --merge {shorter_path(folder)}"
            )
            return 0
        files = flags.store_best_images or flags.store_last_images
        made = links.merge([folder / "recovered"], files=files, ipc=settings.ipc)
        if second is not None:
            links.verify(second, flags.verifier_arch, made)
        _conclude(shown, flags, folder, programs["validate"])
    return 0


def _merge(shown: Screen, settings: Decoupled, flags: Recover, folder: pathlib.Path, validate: str) -> int:
    """Puts shards together."""
    given = [pathlib.Path(place).expanduser().absolute() for place in flags.merge]
    links = Links(shown, settings, How.of(flags), folder)
    links.header(f"merging {', '.join(map(shorter_path, given))}")
    places = [place / "recovered" if (place / "recovered").is_dir() else place for place in given]
    links.merge(places, files=flags.store_best_images or flags.store_last_images, ipc=flags.ipc_end)
    from jaxdd.run import teachers as trained

    found = next((own for place in given if (own := teachers.beside(place))), ())
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
    raise UsageError(f"'{text}' is no part of a whole", where="--shard", expected="I/N, 0 <= I < N, e.g. 0/4 to 3/4")


def _indices(flags: Recover, settings: Decoupled) -> range:
    """Which images of every class."""
    stop = settings.ipc if flags.ipc_end is None else min(flags.ipc_end, settings.ipc)
    if flags.ipc_start >= stop:
        raise UsageError(
            f"no images from {flags.ipc_start} to {stop}",
            where="--ipc-start",
            expected=f"less than --ipc-end, which is {stop}",
        )
    return range(flags.ipc_start, stop)


def _verifier(flags: Recover) -> pathlib.Path | None:
    """The folder or the file of the second network.

    Raises:
        UsageError: it is asked for and none is named, or its architecture is unknown.
        CheckpointError: what is named is none.
    """
    if not flags.verifier:
        return None
    if flags.verifier_arch_path is None:
        raise UsageError(
            "which second network?",
            where="--verifier",
            expected="--verifier-arch-path with a folder that squeeze.py wrote, or a safetensors file",
            remedy="squeeze one: squeeze.py --arch-name resnet50 ...; nothing is downloaded",
        )
    from jaxdd.run.decoupled_settings import architecture
    from jaxdd.run.teachers import read_manifest

    (source,) = teachers.named((flags.verifier_arch_path,))
    if source.is_dir():
        read_manifest(source)  # which refuses what is no network
    else:
        architecture(flags.verifier_arch, 1)
    return source
