"""`squeeze`: the teacher of SRe2L, CDA and their successors, trained on the real images or imported."""

from __future__ import annotations

import pathlib
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from jaxdd.cli.flags.chain import Squeeze
from jaxdd.cli.flags.words import parse
from jaxdd.cli.jobs.links import How, Links, opened
from jaxdd.cli.settings.chain import of_squeeze
from jaxdd.core.io import shorter_path
from jaxdd.run.chain import sources
from jaxdd.run.chain.settings import Decoupled

if TYPE_CHECKING:
    from jaxdd.run.chain.teacher import Teacher


def run(argv: Sequence[str], programs: Mapping[str, str]) -> int:
    """Parses, checks, trains or imports, and says how good the teacher is.

    Arguments:
        argv: the flags.
        programs: how each command is called, for help and advice.

    Returns:
        The exit code: 0, or 128 plus the number of the signal that stopped it.

    Raises:
        JaxddError: anything a user can mend.
    """
    from jaxdd.data import require_grain
    from jaxdd.run import signals
    from jaxdd.run.storage.precheck import require_writable

    flags = parse(Squeeze, argv, programs["squeeze"])
    settings = of_squeeze(flags)
    given = flags.output_dir and pathlib.Path(flags.output_dir).expanduser().absolute()
    folder = given or sources.default_folder(settings, flags.random_seed)
    weights = pathlib.Path(flags.arch_path).expanduser().absolute() if flags.arch_path else None
    if weights:
        sources.require_weights(weights)
    elif flags.stream == "always":
        require_grain()
    require_writable(folder)
    with opened() as shown, signals.caught() as should_stop:
        links = Links(shown, settings, How.of(flags), folder, should_stop)
        links.header(f"teacher for {settings.dataset}, {settings.chain.arch_name}")
        links.begin()
        try:
            teacher = _made(links, weights, folder)
        except signals.Stopped as stop:
            shown.say("stopped: the state is kept; the same command continues it", "bold")
            return stop.exit_code
        links.tell_teachers((teacher,))
        shown.fact("next", _next(settings, folder, flags, programs["recover"]))
    return 0


def _made(links: Links, weights: pathlib.Path | None, folder: pathlib.Path) -> Teacher:
    """The teacher, trained or made of a file with weights."""
    from jaxdd.run.chain import chain, teacher

    if weights:
        return teacher.take_in(weights, folder, links.dataset, links.preprocessing, links.settings.chain.architecture())
    options = {"seed": links.how.seed, "checkpoint_every": links.how.checkpoint_every}
    first, *_ = chain.of_recovery(links.settings, links.dataset, links.preprocessing, **options).links
    link = first.link({})
    with links(first.name, link, folder) as line:
        return link.make(folder, line, links.should_stop, links.layout)


def _next(settings: Decoupled, folder: pathlib.Path, flags: Squeeze, recover: str) -> str:
    """The command that uses it."""
    words = ["--preset", flags.preset] if flags.preset else ["--dataset", settings.dataset]
    words += ["--data_path", flags.data_path] if flags.data_path else []
    words += ["--resolution", str(flags.resolution)] if flags.resolution else []
    words += [] if flags.stream == "auto" else ["--stream", flags.stream]
    return f"{recover} {shlex.join([*words, '--arch-path', shorter_path(folder)])}"
