"""`squeeze`: the teacher of SRe2L, CDA and their successors, trained on the real images or imported."""

from __future__ import annotations

from jaxdd.cli.flags.chain import Squeeze
from jaxdd.cli.settings.chain import of_squeeze

FLAGS = Squeeze


def run(flags: Squeeze) -> None:
    """Checks, trains or imports, and says how good the teacher is; see `cli.main`."""
    settings = of_squeeze(flags)

    from jaxdd.cli.jobs import squeezing

    squeezing.perform(flags, settings)
