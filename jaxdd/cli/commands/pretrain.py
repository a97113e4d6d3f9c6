"""`pretrain`: trains the networks that AccDD and GA-DD start from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from jaxdd.cli.flags import matching as matching_flags
from jaxdd.cli.flags.words import parse
from jaxdd.cli.settings import matching
from jaxdd.core.io import absolute
from jaxdd.run.chain.networks import default_folder


def run(argv: Sequence[str], programs: Mapping[str, str]) -> None:
    """Parses, checks, trains, and says how good the networks are; see `cli.main`."""
    flags = parse(matching_flags.pretrain(), argv, programs["pretrain"])
    settings, epochs = matching.resolve_pretraining(flags)
    flags = dataclasses.replace(flags, data_path=matching.data_path(flags, settings.run.dataset_name))
    folder = absolute(flags.output_dir or default_folder(settings, flags.random_seed))

    from jaxdd.cli.jobs import pretraining

    pretraining.perform(flags, settings, epochs, folder, programs["condense"])
