"""`eval`: measures a distilled set."""

from __future__ import annotations

from collections.abc import Iterator

from jaxdd.cli.command import Job
from jaxdd.cli.flags.dialect import Arguments
from jaxdd.cli.flags.rcig import Eval
from jaxdd.cli.jobs import evaluating


def jobs(options: Eval, recipe: Arguments[Eval]) -> Iterator[Job]:
    """Yields the evaluation."""
    yield evaluating.job(options, recipe.layer, notices=recipe.notices)
