"""`eval`: measures a distilled set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jaxdd.cli.flags.rcig import Eval
from jaxdd.cli.flags.words import parse


def run(argv: Sequence[str], programs: Mapping[str, str]) -> None:
    """Parses, checks, evaluates, prints a table and writes the result file; see `cli.main`."""
    flags = parse(Eval, argv, programs["eval"])

    from jaxdd.cli.jobs import evaluating

    evaluating.perform(flags)
