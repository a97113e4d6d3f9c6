"""`pretrain`: trains the networks that AccDD and GA-DD start from."""

from __future__ import annotations

import dataclasses

from jaxdd.cli.flags import matching as matching_flags
from jaxdd.cli.settings import matching
from jaxdd.core.io import absolute
from jaxdd.run.chain.networks import default_folder

FLAGS = matching_flags.pretrain


def run(flags: matching_flags.Pretrain) -> None:
    """Checks, trains, and says how good the networks are; see `cli.main`."""
    settings, epochs = matching.resolve_pretraining(flags)
    flags = dataclasses.replace(flags, data_path=matching.data_path(flags, settings.run.dataset_name))
    folder = absolute(flags.output_dir or default_folder(settings, flags.random_seed))

    from jaxdd.cli.jobs import pretraining

    pretraining.perform(flags, settings, epochs, folder)
