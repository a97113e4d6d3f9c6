"""`eval`: measures a distilled set."""

from __future__ import annotations

from jaxdd.cli.flags.rcig import Eval
from jaxdd.data.registry import require_known

FLAGS = Eval


def run(flags: Eval) -> None:
    """Checks, evaluates, prints a table and writes the result file; see `cli.main`."""

    if flags.dataset_name:
        require_known(flags.dataset_name)

    from jaxdd.cli.jobs import evaluating

    evaluating.perform(flags)
