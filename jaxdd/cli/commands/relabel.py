"""`relabel`: a teacher's logits for every epoch of a student, on disk (FKD), with the flags of SRe2L's script."""

from __future__ import annotations

from jaxdd.cli.flags.chain import Relabel
from jaxdd.cli.settings.students import named_set
from jaxdd.core.errors import UsageError
from jaxdd.core.io import absolute

FLAGS = Relabel


def run(flags: Relabel) -> None:
    """Checks, labels, and says where the labels are; see `cli.main`."""
    place = absolute(named_set(flags))
    if flags.max_scale_crops not in (None, 1.0):
        raise UsageError(
            "crops go up to the whole image",
            where="--max-scale-crops",
            expected="1, as published",
            remedy="leave --max-scale-crops out; --min-scale-crops sets the least share",
        )

    from jaxdd.cli.jobs import relabelling

    relabelling.perform(flags, place)
