"""`recover`: images from a teacher, by SRe2L or what descends from it, with the flags of SRe2L's and CDA's scripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jaxdd.cli.flags.chain import Recover
from jaxdd.cli.flags.words import parse
from jaxdd.cli.settings.chain import of_recover


def run(argv: Sequence[str], programs: Mapping[str, str]) -> None:
    """Parses, checks, recovers or merges, and says what came out; see `cli.main`."""
    flags = parse(Recover, argv, programs["recover"])
    settings = of_recover(flags)

    from jaxdd.cli.jobs import recovering

    recovering.perform(flags, settings, programs)
