"""`squeeze`: the teacher of SRe2L, CDA and their successors, trained on the real images or imported."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

from jaxdd.cli.command import Job, Session
from jaxdd.cli.flags.chain import Squeeze
from jaxdd.cli.jobs.links import Links, tell_teachers
from jaxdd.core.io import absolute, shorter_path
from jaxdd.data import require_grain
from jaxdd.run.chain import teachers
from jaxdd.run.chain.settings import Decoupled
from jaxdd.run.chain.teachers import Teacher
from jaxdd.run.storage.identity import require_writable


def jobs(options: Squeeze, settings: Decoupled) -> Iterator[Job]:
    """Yields the training or the import."""
    folder = absolute(options.output_dir or teachers.default_folder(settings, options.random_seed))
    weights = absolute(options.arch_path) if options.arch_path else None
    if weights:
        teachers.require_weights(weights)
    elif options.stream == "always":
        require_grain()
    require_writable(folder)

    def work(session: Session) -> None:
        links = Links(session, settings, options, folder)
        links.begin()
        tell_teachers(links.screen, [_made(links, weights)], links.dataset, links.preprocessing)
        session.advise(
            "recover",
            preset=options.preset,
            dataset=None if options.preset else settings.dataset,
            data_path=options.data_path,
            resolution=options.resolution,
            stream=None if options.stream == "auto" else options.stream,
            **{"arch-path": shorter_path(folder)},
        )

    what = f"teacher for {settings.dataset}, {settings.chain.arch_name}"
    yield Job(what, work, settings.notices, {"output": folder})


def _made(links: Links, weights: pathlib.Path | None) -> Teacher:
    """Returns the teacher, trained or made of a file with weights."""
    folder, architecture = links.folder, links.settings.chain.architecture()
    if weights:
        return teachers.imported(weights, links.dataset, links.preprocessing, architecture, folder=folder)
    first, *_ = links.chain().links
    link = first.link({})
    with links(first.name, link, folder) as line:
        return link.make(folder, links.control(line))
