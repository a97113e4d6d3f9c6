"""`pretrain`: trains the networks that AccDD and GA-DD start from."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from jaxdd.cli.command import Job
from jaxdd.cli.flags.matching import Pretrain
from jaxdd.cli.jobs import pretraining
from jaxdd.core.io import absolute
from jaxdd.methods.condensation.early import published_epochs
from jaxdd.run.chain.pretrain import default_folder
from jaxdd.run.settings import Settings


def jobs(options: Pretrain, settings: Settings) -> Iterator[Job]:
    """Yields the training."""
    name = settings.run.dataset_name
    options = dataclasses.replace(options, data_path=options.where(name))
    folder = absolute(options.output_dir or default_folder(settings, options.random_seed))
    yield pretraining.job(options, settings, options.pt_from or published_epochs(name), folder)
