"""`validate`: students on a recovered set by its soft labels, with the flags of SRe2L's and CDA's scripts."""

from __future__ import annotations

import json
from typing import Any

from jaxdd.cli.flags.chain import NO_EFFECT, Validate
from jaxdd.cli.flags.rcig import Eval
from jaxdd.cli.settings.layers import no_effect
from jaxdd.cli.settings.students import named_set, of_students
from jaxdd.core.io import absolute
from jaxdd.run.presets import FULL

SAME = (  # flags of `eval` too
    *("data_path", "random_seed", "output_dir", "save_name", "full_data", "baselines", "resolution", "stream"),
    *("devices", "debug"),
)


FLAGS = Validate


def run(flags: Validate) -> None:
    """Checks, trains students, prints a table and writes the result file; see `cli.main`."""
    same, notices = as_eval(flags), no_effect(flags, NO_EFFECT)
    stored = absolute(flags.fkd_path) if flags.fkd_path else None

    from jaxdd.cli.jobs import evaluating
    from jaxdd.run.chain.students import Labels

    labels = Labels(tuple(map(absolute, flags.arch_path)), stored, flags.online, flags.checkpoint_every)
    evaluating.perform(same, labels, notices, maker="recover")


def as_eval(flags: Validate) -> Eval:
    """Returns these flags as those of `eval`.

    Raises:
        UsageError: no set is named.
    """
    assigned = [f"{name}={json.dumps(value)}" for name, value in settings(flags).items()]
    return Eval(
        dataset_name=FULL.get(flags.dataset or "", flags.dataset),
        checkpoint_path=named_set(flags),
        eval_arch=flags.model,
        set=(*assigned, *flags.set),
        **{name: getattr(flags, name) for name in SAME},
    )


def settings(flags: Validate) -> dict[str, Any]:
    """Returns the students' recipe as far as flags set it.

    Raises:
        UsageError: an unknown way of mixing.
    """
    recipe = of_students(flags) | ({} if flags.width is None else {"width": flags.width})
    if flags.cos is not None:
        recipe["schedule"] = "cosine" if flags.cos else "linear"
    of_adamw = flags.adamw_lr is not None or flags.adamw_weight_decay is not None
    sgd = flags.learning_rate is not None and not of_adamw if flags.sgd is None else flags.sgd
    said = flags.sgd is not None or sgd or of_adamw  # else it is the set's own optimiser that --weight-decay is for
    recipe |= {"optimizer": "sgd" if sgd else "adamw"} if said else {}
    rate = flags.learning_rate if sgd else flags.adamw_lr
    decay = flags.adamw_weight_decay if said and not sgd else flags.weight_decay
    recipe |= {"eval_lr": rate} if rate is not None else {}
    return recipe | ({"weight_decay": decay} if decay is not None else {})
