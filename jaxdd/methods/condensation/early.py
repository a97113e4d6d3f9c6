"""How the networks at an early stage are trained that AccDD and GA-DD start from; `run.chain.pretrain` trains them.

For P epochs, by the SGD, augmentation and CutMix by which the matching method trains its networks; the rate is
multiplied by 0.2 after the epochs 2(P + 1)//3 and 5(P + 1)//6. Source: `pretrain.py` of AccDD (arXiv
2212.06152).
"""

from __future__ import annotations

import math
from typing import Any

from jaxdd.core.config import as_dict
from jaxdd.methods.condensation.method import Condensation
from jaxdd.training.schedules import two_thirds_and_five_sixths
from jaxdd.training.sgd import ClassifierTraining

SETTINGS = (  # of a matching method: those that decide how its networks are trained
    *("net_type", "norm_type", "depth", "width", "lr", "momentum", "weight_decay", "batch_real"),
    *("aug_family", "net_aug", "mixup_net", "mix_p", "beta", "precision"),
)
COUNT = 5  # networks of a run, as published
EPOCHS, IMAGENET_EPOCHS = 2, 10  # published
HALVED = ("resnet", "resnet_ap")  # networks to which `half_width` means something


def published_epochs(dataset: str) -> int:
    """Returns how many epochs are published for a data set."""
    return IMAGENET_EPOCHS if dataset.startswith("imagenet") else EPOCHS


def recipe(method: Condensation, epochs: int) -> dict[str, Any]:
    """Returns how a method's networks are trained, as JSON types."""
    settings = as_dict(method)
    return {"epochs": epochs, **{name: settings[name] for name in SETTINGS}}


def architecture(method: Condensation, image_shape: tuple[int, int, int], classes: int) -> dict[str, Any]:
    """Returns what networks trained beforehand must have in common with a method's own, as JSON types."""
    halved = {"half_width": method.half_width} if method.net_type in HALVED else {}
    return {
        "net_type": method.net_type,
        **halved,
        "network": method.network(image_shape, classes).description,
        "normalization": method.norm_type,
        "image_shape": list(image_shape),
        "classes": classes,
    }


def steps_per_epoch(method: Condensation, images: int) -> int:
    """Returns the number of steps in which a network sees so many images once."""
    return math.ceil(images / method.batch_real)


def training(
    method: Condensation, image_shape: tuple[int, int, int], classes: int, images: int, epochs: int
) -> ClassifierTraining:
    """Returns the training of one network.

    Arguments:
        method: whose network it is.
        image_shape, classes: of the data set.
        images: to train on.
        epochs: P.
    """
    per_epoch = steps_per_epoch(method, images)
    return ClassifierTraining(
        method.network(image_shape, classes),
        learning_rate=method.lr,
        milestones=tuple(epoch * per_epoch for epoch in two_thirds_and_five_sixths(epochs + 1)),
        momentum=method.momentum,
        weight_decay=method.weight_decay,
        batch_size=min(method.batch_real, images),
        kind=method.aug_family if method.net_aug else "none",
        strategy=method.net_aug or "",
        resolution=image_shape[0],
        mix_p=method.mix_p if method.mixup_net == "cut" else 0.0,
        mix_beta=method.beta,
    )
