"""`validate`: students on a recovered set by its soft labels, with the flags of SRe2L's and CDA's scripts."""

from __future__ import annotations

from collections.abc import Iterator

from jaxdd.cli.command import Job
from jaxdd.cli.flags.chain import Validate
from jaxdd.cli.flags.dialect import Arguments
from jaxdd.cli.flags.rcig import Eval
from jaxdd.cli.jobs import evaluating
from jaxdd.core.io import absolute
from jaxdd.run.chain.settings import FULL
from jaxdd.run.chain.students import Labels

SAME = (  # options of `eval` too
    *("data_path", "random_seed", "output_dir", "save_name", "full_data", "baselines", "resolution", "stream"),
    *("devices", "debug"),
)


def jobs(options: Validate, recipe: Arguments[Validate]) -> Iterator[Job]:
    """Yields the evaluation."""
    stored = absolute(options.fkd_path) if options.fkd_path else None
    labels = Labels(tuple(map(absolute, options.arch_path)), stored, options.online, options.checkpoint_every)
    how = Eval(
        dataset_name=FULL.get(options.dataset or "", options.dataset),
        checkpoint_path=options.named,
        eval_arch=options.model,
        **{name: getattr(options, name) for name in SAME},
    )
    yield evaluating.job(how, recipe.layer, labels, recipe.notices, maker="recover")
