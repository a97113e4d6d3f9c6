"""`recover`: images from a teacher, by SRe2L or what descends from it, with the flags of SRe2L's and CDA's scripts."""

from __future__ import annotations

from jaxdd.cli.flags.chain import Recover
from jaxdd.cli.settings.chain import of_recover

FLAGS = Recover


def run(flags: Recover) -> None:
    """Checks, recovers or merges, and says what came out; see `cli.main`."""
    settings = of_recover(flags)

    from jaxdd.cli.jobs import recovering

    recovering.perform(flags, settings)
