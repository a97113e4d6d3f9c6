"""`eval`: measures a distilled set."""

from __future__ import annotations

from jaxdd.cli.flags.rcig import Eval

FLAGS = Eval


def run(flags: Eval) -> None:
    """Checks, evaluates, prints a table and writes the result file; see `cli.main`."""

    from jaxdd.cli.jobs import evaluating

    evaluating.perform(flags)
