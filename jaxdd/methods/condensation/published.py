"""Defaults of the authors' code: the settings of each matching method for each data set.

`FAMILY` is IDC's table, which AccDD, DREAM, DREAM+ and GA-DD take over but for what their own modules list; `DC` is the
table of DC, DSA and DM. Facts from the released `misc/reproduce.py` and `argument.py` of IDC, AccDD, DREAM and GA-DD,
and from `main.py` and `main_DM.py` of DC.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxdd.core.config import Implied
from jaxdd.data import imagenet
from jaxdd.data.registry import canonical
from jaxdd.methods.condensation import accdd, dream, gradient_amplification
from jaxdd.methods.condensation.settings import LR_IMG

_MSE: dict[str, Any] = {"metric": "mse", "lr_img": LR_IMG}
_L1: dict[str, Any] = {"metric": "l1", "lr_img": 1e-4, "n_data": 500}
_IMAGENET: dict[str, Any] = {
    "net_type": "resnet_ap",
    "metric": "l1",
    "lr_img": 3e-3,
    "n_data": 500,
    "mix_p": 1.0,
    "base_size": 224,
}
FAMILY: dict[str, dict[str, Any]] = {  # data set -> settings of IDC, AccDD, DREAM, DREAM+ and GA-DD
    "digits": {**_MSE, "base_size": 8, "n_data": 500},  # ours
    "mnist": {**_L1, "base_size": 28},
    "fashion_mnist": {**_L1, "base_size": 32},
    "svhn_cropped": {**_MSE, "n_data": 500, "base_size": 32},
    "cifar10": {**_MSE, "n_data": 2000, "base_size": 32},
    "cifar100": {**_MSE, "n_data": 2000, "base_size": 32},
    "tiny_imagenet": {**_MSE, "n_data": 1000, "base_size": 32, "depth": 4},
    "imagenet10": {**_IMAGENET, "early": 10},  # and other subsets of fewer than 100 classes
    "imagenet100": {**_IMAGENET, "lr_img": 1e-3, "lr": 0.1, "weight_decay": 1e-4, "batch_real": 128},  # and more
}
OTHER: dict[str, Any] = {**_MSE, "n_data": 2000, "base_size": 32}  # a data set of the user's own
ITERATIONS, IMAGENET_ITERATIONS = 2000, 500  # outer ones

DSA_STRATEGY = "color_crop_cutout_flip_scale_rotate"
NO_FLIP = ("mnist", "svhn_cropped", "digits")
DC: dict[str, Any] = {  # settings of DC, DSA and DM
    "space": "standardised",
    "aug_family": "dsa",
    "metric": "ours",
    "batch_real": 256,
    "train_on": "synthetic",
    "lr": 0.01,
    "momentum": 0.0,
    "weight_decay": 0.0,
    "mixup_net": "vanilla",
    "shared_momentum": False,
    "lr_img": 0.1,
    "base_size": None,
}
DC_ITERATIONS, DM_STEPS = 1000, 20000
DC_LOOPS = {1: (1, 1), 10: (10, 50), 20: (20, 25), 30: (30, 20), 40: (40, 15), 50: (50, 10)}  # matchings, epochs


def implied(values: Mapping[str, Any]) -> Implied:
    """Returns the settings that a method's name, data set and number of images imply, for all that are not given.

    Arguments:
        values: of a config file or of flags: `method`, `dataset_name`, `n_images`, `factor`, and any other.
    """
    name, dataset = str(values.get("method", "idc")), family_of(str(values.get("dataset_name", "cifar10")))
    ipc, factor = _integer(values, "n_images"), _integer(values, "factor")
    of_method = _dc(name, dataset, ipc) if name in ("dc", "dsa", "dm") else _of_family(name, dataset, ipc, factor)
    chosen = {**of_method, **values}
    if "net_aug" not in chosen:
        chosen["net_aug"] = without_cutout(chosen.get("aug_type", "color_crop_cutout"), chosen.get("mixup_net", "cut"))
    if "max_steps" not in chosen:
        chosen["max_steps"] = iterations(name, dataset) * max(1, _integer(chosen, "inner_loop", 100))
    if chosen.get("net_type", "convnet") != "convnet" and "depth" not in values:
        chosen.pop("depth", None)  # it is the ConvNet's
    return Implied({key: value for key, value in chosen.items() if key not in values})


def iterations(name: str, dataset: str) -> int:
    """Returns the number of outer iterations of a published run."""
    if name in ("dc", "dsa"):
        return DC_ITERATIONS + 1
    if name == "dm":
        return DM_STEPS + 1
    family = family_of(dataset)
    of_method = {"accdd": accdd.ITERATIONS, "ga": {"cifar10": 500}}.get(name, {})
    usual = IMAGENET_ITERATIONS if family.startswith("imagenet1") else ITERATIONS
    return of_method.get(family, usual)


def family_of(dataset: str) -> str:
    """Returns the row of the tables for a data set: its name, or `imagenet10` or `imagenet100` for a subset."""
    subset = imagenet.parse(dataset)
    if subset is None:
        return canonical(dataset)
    return "imagenet10" if subset.classes < 100 else "imagenet100"


def without_cutout(strategy: Any, mixing: str) -> Any:
    """Returns the augmentation that networks train with: that of the matching, without cutout where there is CutMix."""
    if mixing != "cut" or not isinstance(strategy, str):
        return strategy
    return "_".join(word for word in strategy.split("_") if word != "cutout") or None


def _of_family(name: str, dataset: str, ipc: int, factor: int) -> dict[str, Any]:
    settings: dict[str, Any] = dict(FAMILY.get(dataset, OTHER))
    settings |= {"inner_loop": 100, "half_width": dataset in ("cifar10", "cifar100")}
    if dataset == "mnist" and factor > 1:
        settings |= {"aug_type": "color_crop", "mixup_net": "vanilla"}
    if dataset in ("imagenet10", "imagenet100") and factor >= 3 and ipc >= 20:
        settings |= {"decode_type": "bound"}
    if dataset == "tiny_imagenet" and ipc == 50:
        settings |= {"lr_img": 1e-6}
    own = {
        "accdd": accdd.DEFAULTS,
        "dream": dream.DREAM,
        "dream_plus": dream.DREAM_PLUS,
        "ga": gradient_amplification.DEFAULTS,
    }
    settings |= own.get(name, {})
    if name in ("accdd", "ga"):
        settings |= {"early": 0}
        settings |= {"lr_img": accdd.RATES[dataset]} if dataset in accdd.RATES else {}
    if name in ("dream", "dream_plus") and dataset == "tiny_imagenet":
        settings |= dream.TINY if name == "dream_plus" else {"batch_real": dream.TINY["batch_real"]}
    return settings


def _dc(name: str, dataset: str, ipc: int) -> dict[str, Any]:
    strategy = DSA_STRATEGY.replace("_flip", "") if dataset in NO_FLIP else DSA_STRATEGY
    matchings, epochs = DC_LOOPS.get(ipc, (min(ipc, 50), 50 if ipc < 10 else max(1, 500 // min(ipc, 50))))
    settings = {**DC, "inner_loop": matchings, "net_epoch": epochs, "initial": "real", "aug_type": strategy}
    settings |= {"depth": 4} if dataset == "tiny_imagenet" and name != "dm" else {}
    if name == "dc":
        settings |= {"initial": "noise", "aug_type": None, "net_aug": None}
    if name == "dm":
        many = dataset == "cifar10" and ipc >= 100
        settings |= {"match": "feat", "metric": "mse", "inner_loop": 1, "lr_img": 10.0 if many else 1.0}
    return settings


def _integer(values: Mapping[str, Any], key: str, default: int = 1) -> int:
    """Returns a positive integer setting; the default where it is missing, or wrong, which is refused later."""
    value = values.get(key, default)
    return value if isinstance(value, int) and value > 0 else default
