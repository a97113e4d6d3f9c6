"""Flags of sets with soft labels and of their students as settings; and the accuracy that a packaged config expects."""

from __future__ import annotations

from typing import Any

from jaxdd.cli.flags.chain import Relabel, Validate
from jaxdd.cli.settings.layers import given
from jaxdd.core import config as configs
from jaxdd.core.errors import UsageError, choose

OF_RECIPE = {name: name for name in ("batch_size", "epochs", "temperature", "momentum")}  # flag -> setting
OF_RECIPE |= {
    "min_scale_crops": "min_scale",
    "fkd_seed": "label_seed",
    "keep_epochs": "pool",
    "repeat": "models_to_test",
}
MIXES = ("cutmix", "mixup", "none")


def named_set(flags: Relabel | Validate) -> str:
    """Returns the set that flags name, as they name it.

    Raises:
        UsageError: they name none, or settings, which the set has with it.
    """
    if flags.preset or flags.config_path:
        where = "--preset" if flags.preset else "--config_path"
        raise UsageError("the set has its recipe with it", where=where, remedy="leave it out; --set changes a setting")
    if place := flags.checkpoint_path or getattr(flags, "train_dir", None):
        return place
    raise UsageError(
        "which set?",
        where="--checkpoint_path" + ", or --train-dir" * hasattr(flags, "train_dir"),
        expected="the output folder of recover",
        remedy="name it, e.g. --checkpoint_path syn-data/NAME",
    )


def of_students(flags: Relabel | Validate) -> dict[str, Any]:
    """Returns the students' recipe as far as flags of both commands set it.

    Raises:
        UsageError: an unknown way of mixing, or two.
    """
    return {name: value for name, (_, value) in given(flags, OF_RECIPE).items()} | _mixing(flags)


def _mixing(flags: Relabel | Validate) -> dict[str, Any]:
    """Returns how --mix-type, --cutmix and --mixup have images mixed, as settings of the recipe.

    Raises:
        UsageError: an unknown way of mixing, or two.
    """
    if flags.mix_type is None:
        named = {name: value for name in MIXES[:2] if (value := getattr(flags, name)) is not None}
        if len(named) > 1:
            raise UsageError("two ways of mixing", where="--cutmix and --mixup", remedy="name one by --mix-type")
        return {"mix": name, "mix_alpha": named[name]} if (name := next(iter(named), None)) else {}
    name = choose(flags.mix_type.lower(), MIXES, kind="way of mixing", where="--mix-type")
    alpha, usual = {"cutmix": (flags.cutmix, 1.0), "mixup": (flags.mixup, 0.8), "none": (None, 1.0)}[name]
    return {"mix": name, "mix_alpha": usual if alpha is None else alpha}


def expected(method: Any, dataset: str) -> str:
    """Returns the accuracy of this method on this data set in the header of a packaged config."""
    for name, path in configs.packaged_configs().items():
        if name.startswith(f"cda/{method}_"):
            file = configs.read_config(path)
            if (file.values.get("method"), file.values.get("dataset_name")) == (method, dataset):
                return file.header.get("accuracy", "")
    return ""
