"""`eval`: measures a distilled set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jaxdd.cli.flags.rcig import Eval
from jaxdd.cli.flags.words import parse
from jaxdd.cli.jobs.evaluating import perform


def run(argv: Sequence[str], programs: Mapping[str, str]) -> int:
    """Parses, checks, evaluates, prints a table and writes the result file.

    Arguments:
        argv: the flags.
        programs: how each command is called, for help and advice.

    Returns:
        The exit code: 0, or 128 plus the number of the signal that stopped it.

    Raises:
        JaxddError: anything a user can mend.
    """
    return perform(parse(Eval, argv, programs["eval"]), programs["distill"])
