"""`validate`: students on a recovered set by its soft labels, with the flags of SRe2L's and CDA's scripts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from jaxdd.cli.flags.chain import NO_EFFECT, Validate
from jaxdd.cli.flags.rcig import Eval
from jaxdd.cli.flags.words import parse
from jaxdd.cli.jobs import evaluating
from jaxdd.cli.settings import students
from jaxdd.cli.settings.layers import no_effect
from jaxdd.core.errors import UsageError
from jaxdd.core.io import absolute
from jaxdd.run.chain import students as soft
from jaxdd.run.presets import FULL

OF_RECIPE = {name: name for name in ("batch_size", "epochs", "temperature", "width", "momentum")}  # flag -> setting
OF_RECIPE |= {"min_scale_crops": "min_scale", "fkd_seed": "label_seed", "repeat": "models_to_test"}


def run(argv: Sequence[str], programs: Mapping[str, str]) -> int:
    """Parses, checks, trains students, prints a table and writes the result file.

    Arguments:
        argv: the flags.
        programs: how each command is called, for help and advice.

    Returns:
        The exit code: 0, or 128 plus the number of the signal that stopped it.

    Raises:
        JaxddError: anything a user can mend.
    """
    flags = parse(Validate, argv, programs["validate"])
    if flags.preset or flags.config_path:
        where = "--preset" if flags.preset else "--config_path"
        raise UsageError("the set has its recipe with it", where=where, remedy="leave it out; --set changes a setting")
    return evaluating.perform(as_eval(flags), programs["recover"], _labels(flags), no_effect(flags, NO_EFFECT))


def as_eval(flags: Validate) -> Eval:
    """The same as flags of `eval`.

    Raises:
        UsageError: no set is named.
    """
    place = flags.checkpoint_path or flags.train_dir
    if place is None:
        raise UsageError(
            "which set?",
            where="--checkpoint_path, or --train-dir",
            expected="the output folder of recover",
            remedy="name it, e.g. --checkpoint_path syn-data/NAME",
        )
    assigned = [f"{name}={json.dumps(value)}" for name, value in settings(flags).items()]
    return Eval(
        dataset_name=FULL.get(flags.dataset or "", flags.dataset),
        data_path=flags.data_path,
        random_seed=flags.random_seed,
        output_dir=flags.output_dir,
        checkpoint_path=place,
        save_name=flags.save_name,
        eval_arch=flags.model,
        full_data=flags.full_data,
        baselines=flags.baselines,
        set=(*assigned, *flags.set),
        resolution=flags.resolution,
        stream=flags.stream,
        devices=flags.devices,
        debug=flags.debug,
    )


def settings(flags: Validate) -> dict[str, Any]:
    """What the flags say of the students' recipe.

    Raises:
        UsageError: an unknown way of mixing.
    """
    given = {OF_RECIPE[name]: value for name in OF_RECIPE if (value := getattr(flags, name)) is not None}
    given |= students.mixing(flags)
    if flags.cos is not None:
        given["schedule"] = "cosine" if flags.cos else "linear"
    of_adamw = flags.adamw_lr is not None or flags.adamw_weight_decay is not None
    sgd = flags.learning_rate is not None and not of_adamw if flags.sgd is None else flags.sgd
    said = flags.sgd is not None or sgd or of_adamw  # else it is the set's own optimiser that --weight-decay is for
    given |= {"optimizer": "sgd" if sgd else "adamw"} if said else {}
    rate = flags.learning_rate if sgd else flags.adamw_lr
    decay = flags.adamw_weight_decay if said and not sgd else flags.weight_decay
    given |= {"eval_lr": rate} if rate is not None else {}
    return given | ({"weight_decay": decay} if decay is not None else {})


def _labels(flags: Validate) -> soft.Labels:
    """Where the labels come from."""
    stored = absolute(flags.fkd_path) if flags.fkd_path else None
    return soft.Labels(tuple(map(absolute, flags.arch_path)), stored, flags.online, flags.checkpoint_every)
