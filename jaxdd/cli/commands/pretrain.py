"""`pretrain`: trains the networks that AccDD and GA-DD start from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from jaxdd.cli.flags import matching as matching_flags
from jaxdd.cli.flags.words import parse
from jaxdd.cli.jobs.pretraining import perform
from jaxdd.cli.settings import matching
from jaxdd.core.io import absolute
from jaxdd.run.chain.networks import default_folder


def run(argv: Sequence[str], programs: Mapping[str, str]) -> int:
    """Parses, checks, trains, and says how good the networks are.

    Arguments:
        argv: the flags.
        programs: how each command is called, for help and advice.

    Returns:
        The exit code: 0, or 128 plus the number of the signal that stopped it.

    Raises:
        JaxddError: anything a user can mend.
    """
    flags = parse(matching_flags.pretrain(), argv, programs["pretrain"])
    settings, epochs = matching.resolve_pretraining(flags)
    flags = dataclasses.replace(flags, data_path=matching.data_path(flags, settings.run.dataset_name))
    folder = absolute(flags.output_dir) if flags.output_dir else default_folder(settings, flags.random_seed)
    return perform(flags, settings, epochs, folder, programs["condense"])
