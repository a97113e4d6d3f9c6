"""How flags have the images of students mixed, and which accuracy a packaged config expects of them."""

from __future__ import annotations

from typing import Any

from jaxdd.core import config as configs
from jaxdd.core.errors import UsageError, choose

MIXES = ("cutmix", "mixup", "none")


def mixing(flags: Any) -> dict[str, Any]:
    """How --mix-type, --cutmix and --mixup have images mixed, as settings of the recipe.

    Raises:
        UsageError: an unknown way of mixing, or two.
    """
    if flags.mix_type is None:
        named = {name: value for name in MIXES[:2] if (value := getattr(flags, name)) is not None}
        if len(named) > 1:
            raise UsageError("two ways of mixing", where="--cutmix and --mixup", remedy="name one by --mix-type")
        return {"mix": name, "mix_alpha": named[name]} if (name := next(iter(named), None)) else {}
    name = choose(flags.mix_type.lower(), MIXES, kind="way of mixing", where="--mix-type")
    given, usual = {"cutmix": (flags.cutmix, 1.0), "mixup": (flags.mixup, 0.8), "none": (None, 1.0)}[name]
    return {"mix": name, "mix_alpha": usual if given is None else given}


def expected(method: Any, dataset: str) -> str:
    """What the header of a packaged config says of this method's accuracy on this data set."""
    for name, path in configs.packaged_configs().items():
        if name.startswith(f"cda/{method}_"):
            file = configs.read_config(path)
            if (file.values.get("method"), file.values.get("dataset_name")) == (method, dataset):
                return file.header.get("accuracy", "")
    return ""
