"""`squeeze`: the teacher of SRe2L, CDA and their successors, trained on the real images or imported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jaxdd.cli.flags.chain import Squeeze
from jaxdd.cli.flags.words import parse
from jaxdd.cli.settings.chain import of_squeeze


def run(argv: Sequence[str], programs: Mapping[str, str]) -> None:
    """Parses, checks, trains or imports, and says how good the teacher is; see `cli.main`."""
    flags = parse(Squeeze, argv, programs["squeeze"])
    settings = of_squeeze(flags)

    from jaxdd.cli.jobs import squeezing

    squeezing.perform(flags, settings, programs)
