"""The students' recipes as published with SRe2L, CDA, RDED, SRe2L++ and FADRM, by method, data set and size.

| set             | SRe2L (arXiv 2306.13092), CDA (2311.18838)                                                         |
|-----------------|----------------------------------------------------------------------------------------------------|
| ImageNet-1K     | AdamW 1e-3, 300 epochs, batches of 1024 in two halves (CDA: 128), T 20, CutMix                     |
| ImageNet-21K    | AdamW 2e-3, batches of 32, T 20, nothing mixed                                                     |
| Tiny-ImageNet   | SGD 0.2, 100 epochs, 5 of warm-up, batches of 256, T 20 with T^2, nothing mixed                    |
| CIFAR           | AdamW 1e-3 on all parameters, 400 epochs, batches of 128, T 30, mixup 0.8, padded crops; the       |
|                 | teacher's normalisations in batch mode (it is never switched)                                      |

RDED (2312.03526): cosine of slowdown 2, crops of 1/f and more with shuffled patches for mosaics of f by f, batches by
images per class. SRe2L++ (CV-DD, 2501.07575) and FADRM (2506.24125): batches of 16 in two halves of 8, which student
and teacher normalise by themselves; slowdown by images per class; FADRM's own rates; both have others for ResNet-50
and -101 (`OF_OTHERS`). What is not said there is as for ImageNet-1K and ResNet-18. Other data sets take what the
published one nearest in size does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

METHODS = ("sre2l", "cda", "rded", "sre2l_pp", "fadrm")
SMALL, MEDIUM, MOSAIC = 32, 64, 128  # pixels: up to CIFAR's and Tiny-ImageNet's recipes; from which RDED has mosaics

IMAGENET: dict[str, Any] = {"epochs": 300, "batch_size": 1024, "eval_lr": 1e-3, "weight_decay": 0.01}
IMAGENET |= {"temperature": 20.0, "mix": "cutmix"}
TINY = {"optimizer": "sgd", "eval_lr": 0.2, "momentum": 0.9, "weight_decay": 1e-4, "decay_all": True}
TINY |= {"epochs": 100, "warmup": 5, "batch_size": 256, "squared": True, "mix": "none"}
CIFAR = {"decay_all": True, "epochs": 400, "batch_size": 128, "temperature": 30.0}
CIFAR |= {"mix": "mixup", "mix_alpha": 0.8, "crop": "padded", "batch_statistics": True}
IMAGENET21K = {"eval_lr": 2e-3, "batch_size": 32, "mix": "none"}
HALVED = {"micro": 512}  # SRe2L's --gradient-accumulation-steps 2
OF_SET = {"imagenet": {}, "imagenet21k": IMAGENET21K, "tiny_imagenet": TINY, "cifar": CIFAR}
IN_HALVES = {"batch_size": 16, "micro": 8, "batch_statistics": True, "group": 8}
ONE_PER_CLASS = {"batch_size": 10, "micro": None, "batch_statistics": True, "group": None}  # for ten classes
SLOWDOWN = {  # of SRe2L++, at 1, 10 and 50 images per class
    "imagenet": (2.0, 2.0, 1.0),
    "tiny_imagenet": (2.0, 1.0, 2.0),
    "cifar100": (1.0, 2.0, 1.0),
    "cifar10": (1.0, 1.0, 1.0),
}
OF_FADRM = {  # rate and slowdown at 1, 10 and 50 images per class
    "imagenet": ((1e-3, 2.0), (1e-3, 2.0), (1e-3, 1.0)),
    "tiny_imagenet": ((1e-3, 2.0), (1e-3, 2.0), (1e-3, 1.0)),
    "cifar100": ((5e-4, 2.0), (1e-3, 2.0), (1e-3, 1.0)),
    "imagenette": ((5e-4, 2.0), (5e-4, 1.0), (5e-4, 2.0)),
    "imagewoof": ((5e-4, 2.0), (5e-4, 1.0), (1e-3, 2.0)),
}
OF_OTHERS: dict[tuple[str, str], dict[str, tuple[tuple[float, float], ...]]] = {  # method, student -> the same
    ("sre2l_pp", "resnet50"): {"tiny_imagenet": ((1e-3, 1.0), (1e-3, 1.0), (1e-3, 1.0))},
    ("sre2l_pp", "resnet101"): {
        "imagenet": ((1e-3, 2.0), (1e-3, 2.0), (5e-4, 2.0)),
        "tiny_imagenet": ((5e-4, 2.0), (5e-4, 2.0), (5e-4, 2.0)),
    },
    ("fadrm", "resnet50"): {
        "imagenet": ((5e-4, 2.0), (1e-3, 2.0), (1e-3, 1.0)),
        "tiny_imagenet": ((5e-4, 2.0), (5e-4, 2.0), (5e-4, 1.0)),
        "cifar100": ((1e-3, 1.0), (1e-3, 2.0), (1e-3, 1.0)),
    },
    ("fadrm", "resnet101"): {
        "imagenet": ((3.5e-3, 2.0), (1e-3, 2.0), (5e-4, 1.0)),
        "tiny_imagenet": ((5e-4, 2.0), (5e-4, 2.0), (5e-4, 1.0)),
        "cifar100": ((5e-4, 1.0), (5e-4, 1.0), (5e-4, 1.0)),
    },
}


def published(
    method: str,
    dataset: str,
    ipc: int,
    *,
    resolution: int | None = None,
    classes: int | None = None,
    student: str = "resnet18",
) -> dict[str, Any]:
    """Returns the published settings of `evaluation.students.SoftRecipe`, as far as they are not its defaults.

    Arguments:
        method: one of `METHODS`; of any other, SRe2L's.
        dataset: its name in the registry, or of any other set.
        ipc: images per class.
        resolution: side of the images in pixels; None for 224.
        classes: how many there are; None for 1000.
        student: whose rates these are; those of ResNet-18 where a student has none of its own.
    """
    usual = _of_resnet18(method, dataset, ipc, resolution, classes)
    other = OF_OTHERS.get((method, student), {})
    name = _named(dataset, resolution or 224, classes or 1000, tuple(OF_FADRM if method == "fadrm" else SLOWDOWN))
    return usual | (dict(zip(("eval_lr", "slowdown"), other[name][_place(ipc)], strict=True)) if name in other else {})


def for_student(
    stored: Mapping[str, Any], method: str, dataset: str, ipc: int, *, before: str, student: str, **sizes: Any
) -> dict[str, Any]:
    """Returns the published settings that change with the student.

    One that a stored recipe has otherwise than published stays as it is.

    Arguments:
        stored: the recipe.
        method, dataset, ipc, sizes: of the set, as in `published`.
        before: the student that the recipe is for.
        student: the other one.
    """
    old, new = (published(method, dataset, ipc, **sizes, student=name) for name in (before, student))
    return {key: new[key] for key in ("eval_lr", "slowdown") if new.get(key) != old.get(key) == stored.get(key)}


def _place(ipc: int) -> int:
    """Returns the column for a number of images per class, in tables for 1, 10 and 50."""
    return 0 if ipc < 10 else 1 if ipc < 50 else 2


def _of_resnet18(method: str, dataset: str, ipc: int, resolution: int | None, classes: int | None) -> dict[str, Any]:
    side, classes = resolution or 224, classes or 1000
    place = _place(ipc)
    if method == "rded":
        factor = 2 if side >= MOSAIC else 1
        few = (10, 50, 100)[place] * (2 if classes >= 100 else 1)
        batch = 100 if _set(dataset, side) == "tiny_imagenet" and classes >= 100 else few
        rule = {"slowdown": 2.0, "batch_size": batch, "min_scale": 1 / factor, "patches": factor}
        return {**IMAGENET, **rule}
    if method == "sre2l_pp":
        slowdown = SLOWDOWN[_named(dataset, side, classes, tuple(SLOWDOWN))][place]
        ten = classes == 10 and (ipc == 1 or side > SMALL)
        single = {"batch_size": 10, "micro": 5, "group": 5} if ipc == 1 and side >= MOSAIC and classes > 10 else {}
        return {**IMAGENET, **(ONE_PER_CLASS if ten else IN_HALVES), **single, "slowdown": slowdown}
    if method == "fadrm":
        name = _named(dataset, side, classes, tuple(OF_FADRM))
        rate, slowdown = OF_FADRM[name][place]
        rule = {**(ONE_PER_CLASS if classes == 10 else IN_HALVES), "eval_lr": rate, "slowdown": slowdown}
        if name == "tiny_imagenet":
            rule |= {"batch_statistics": False, "group": None}
        long = name == "cifar100" or (name == "tiny_imagenet" and ipc < 10)
        return {**IMAGENET, **rule, "epochs": 1000 if long else 300}
    of_set = OF_SET[_set(dataset, side)]
    batch_rule = {"batch_size": 128} if method == "cda" else HALVED
    return {**IMAGENET, **of_set, **({} if of_set else batch_rule)}


def _set(dataset: str, side: int) -> str:
    """Returns the published data set whose recipe a data set takes."""
    if dataset == "imagenet21k":
        return dataset
    return "cifar" if side <= SMALL else "tiny_imagenet" if side <= MEDIUM else "imagenet"


def _named(dataset: str, side: int, classes: int, known: tuple[str, ...]) -> str:
    """Returns the data set of a table, one of `known`, whose row a data set takes."""
    if dataset in known:
        return dataset
    nearest = _set(dataset, side)
    if nearest == "cifar":
        return "cifar10" if classes <= 10 and "cifar10" in known else "cifar100"
    if nearest == "imagenet" and classes <= 10 and "imagenette" in known:
        return "imagenette"
    return "imagenet" if nearest == "imagenet21k" else nearest
