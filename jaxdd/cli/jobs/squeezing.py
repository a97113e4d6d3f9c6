"""A teacher, trained on the real images or imported, in a folder of its own."""

from __future__ import annotations

import pathlib

from jaxdd.cli.flags.chain import Squeeze
from jaxdd.cli.jobs.links import Links, tell_teachers
from jaxdd.cli.session import opened
from jaxdd.core.io import absolute, shorter_path
from jaxdd.data import require_grain
from jaxdd.run.chain import sources, teacher
from jaxdd.run.chain.settings import Decoupled
from jaxdd.run.chain.teacher import Teacher
from jaxdd.run.storage.precheck import require_writable


def perform(flags: Squeeze, settings: Decoupled) -> None:
    """Checks, trains or imports, and says how good the teacher is.

    Raises:
        JaxddError: anything a user can mend.
        Stopped: by a signal.
    """
    folder = absolute(flags.output_dir or sources.default_folder(settings, flags.random_seed))
    weights = absolute(flags.arch_path) if flags.arch_path else None
    if weights:
        sources.require_weights(weights)
    elif flags.stream == "always":
        require_grain()
    require_writable(folder)
    with opened() as session:
        links = Links(session, settings, flags, folder)
        links.header(f"teacher for {settings.dataset}, {settings.chain.arch_name}")
        links.begin()
        tell_teachers(links.screen, [_made(links, weights)], links.dataset, links.preprocessing)
        session.advise(
            "recover",
            preset=flags.preset,
            dataset=None if flags.preset else settings.dataset,
            data_path=flags.data_path,
            resolution=flags.resolution,
            stream=None if flags.stream == "auto" else flags.stream,
            **{"arch-path": shorter_path(folder)},
        )


def _made(links: Links, weights: pathlib.Path | None) -> Teacher:
    """Returns the teacher, trained or made of a file with weights."""
    folder, architecture = links.folder, links.settings.chain.architecture()
    if weights:
        return teacher.imported(weights, links.dataset, links.preprocessing, architecture, folder=folder)
    first, *_ = links.chain().links
    link = first.link({})
    with links(first.name, link, folder) as line:
        return link.make(folder, links.control(line))
