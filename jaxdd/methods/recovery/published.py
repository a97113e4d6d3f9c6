"""The published settings of SRe2L, CDA, SRe2L++, FADRM and RDED; other data sets take those of the most similar one."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from jaxdd.core.config import Implied
from jaxdd.data import imagenet, registry
from jaxdd.methods.recovery.settings import CANDIDATES, GROUP

MOSAIC_FROM = 128  # side in pixels from which RDED puts four crops into an image
MANY_CLASSES = 5000  # from which a data set is taken for another ImageNet-21K
LOW = 200 / 224  # FADRM's lower resolution, as a share of the data set's

_SMALL: dict[str, Any] = {"iterations": 1000, "lr_img": 0.25, "r_bn": 0.01}
_LARGE: dict[str, Any] = {"iterations": 4000, "lr_img": 0.25, "r_bn": 0.01}
_HUGE: dict[str, Any] = {"iterations": 2000, "lr_img": 0.05, "r_bn": 0.25}
_CURRICULUM: dict[str, Any] = {"easy2hard_mode": "cosine", "milestone": 1.0}
_MEDIUM: dict[str, Any] = {"initialise": "medium", "iterations": 4000, "lr_img": 0.25, "r_bn": 0.01}
_FADRM: dict[str, Any] = {**_MEDIUM, "iterations": 2000, "merge": 0.5, "store": "png"}
_RDED: dict[str, Any] = {"initialise": "mosaic", "iterations": 0}
PUBLISHED: dict[str, dict[str, dict[str, Any]]] = {  # method -> kind of data set -> settings
    "sre2l": {
        "cifar": {**_SMALL, "crop": False, "flip": False},
        "tiny_imagenet": {"iterations": 4000, "lr_img": 0.1, "r_bn": 1.0, "jitter_signed": True},
        "imagenet": _LARGE,
        "imagenet21k": _HUGE,  # CDA's, without its curriculum
    },
    "cda": {
        "cifar": {**_SMALL, **_CURRICULUM},  # SRe2L's, with the curriculum
        "tiny_imagenet": {"iterations": 4000, "lr_img": 0.4, "r_bn": 0.05, **_CURRICULUM},
        "imagenet": {**_LARGE, **_CURRICULUM},
        "imagenet21k": {**_HUGE, **_CURRICULUM},
    },
    "sre2l_pp": {"cifar": _MEDIUM, "tiny_imagenet": _MEDIUM, "imagenet": _MEDIUM, "imagenet21k": _MEDIUM},
    "fadrm": {
        "cifar": _FADRM,
        "tiny_imagenet": {**_FADRM, "iterations": 1000, "lr_img": 0.01},
        "imagenet": _FADRM,
        "imagenet21k": _FADRM,
    },
    "rded": {"cifar": _RDED, "tiny_imagenet": _RDED, "imagenet": _RDED, "imagenet21k": _RDED},
}
UNPUBLISHED = {("sre2l", "imagenet21k"), ("cda", "cifar"), ("sre2l_pp", "imagenet21k"), ("fadrm", "imagenet21k")}
STAGES = {"tiny_imagenet": 2}  # of FADRM; four elsewhere


def implied(values: Mapping[str, Any], *, resolution: int | None = None, classes: int | None = None) -> Implied:
    """Returns the published settings for a method and a data set, or those for the most similar data set.

    Arguments:
        values: of a config file or of flags: `method`, `dataset_name` and any other.
        resolution: side of the images in pixels; None for what is known of the data set.
        classes: number of classes; likewise.
    """
    method, dataset = str(values.get("method", "sre2l")), str(values.get("dataset_name", "imagenet"))
    if method not in PUBLISHED:
        return Implied({})  # which is told when the settings are checked
    side, count = _size(dataset, resolution, classes)
    kind, notices = _kind(method, dataset, side, count)
    chosen = {**PUBLISHED[method][kind], "jitter": _jitter(side, kind), "method": method}
    chosen |= {"mosaic": 2 if method == "rded" and side >= MOSAIC_FROM else 1}
    chosen |= {"lr_img": 0.05} if (method, dataset) == ("fadrm", "imagenette") else {}
    chosen |= {"flip": False} if registry.one_way(dataset) else {}
    cells = _number(values.get("n_images")) * _number(values.get("mosaic", chosen["mosaic"])) ** 2
    chosen |= {"candidates": cells} if method == "rded" and cells > CANDIDATES else {}
    group = min(GROUP, count) if count else GROUP
    chosen |= {"batch_size": group, "statistics_group": group}
    if method == "fadrm" and "stages" not in values:
        total = values.get("iterations", chosen["iterations"])
        chosen["stages"] = _stages(side, total if isinstance(total, int) else 0, STAGES.get(kind, 4))
    if "stages" in values and "iterations" not in values:
        chosen["iterations"] = _total(values["stages"], chosen["iterations"])
    return Implied({key: value for key, value in chosen.items() if key not in values}, notices)


def published_side(dataset: str) -> int | None:
    """Returns the side in pixels for which a data set's settings are published; None for an unknown name."""
    known = registry.canonical(dataset) in registry.SPECS or _of_imagenet(dataset)
    return _size(dataset, None, None)[0] if known else None


def _size(dataset: str, resolution: int | None, classes: int | None) -> tuple[int, int]:
    """Returns side and number of classes: as given, else from the registry, else 64 pixels and 0 (not known)."""
    if _of_imagenet(dataset):
        return resolution or imagenet.RESOLUTION, classes or _classes_of_imagenet(dataset)
    known = registry.SPECS.get(registry.canonical(dataset))
    side = resolution or (known.resolution if known else None)
    return side or 64, classes or (known.classes if known else 0)


def _of_imagenet(dataset: str) -> bool:
    return dataset.startswith("imagenet") and "resized" not in dataset and not dataset.startswith("imagenette")


def _classes_of_imagenet(dataset: str) -> int:
    subset = imagenet.parse(dataset)
    if subset is not None:
        return subset.classes
    return 10450 if dataset == "imagenet21k" else imagenet.CLASSES


def _kind(method: str, dataset: str, side: int, classes: int) -> tuple[str, tuple[str, ...]]:
    """Returns the row of `PUBLISHED` for a data set, and what a user is told about that choice."""
    named = {"cifar10": "cifar", "cifar100": "cifar", "tiny_imagenet": "tiny_imagenet", "imagenet": "imagenet"}
    named |= {"imagenet1k": "imagenet", "imagenet21k": "imagenet21k", "imagenette": "imagenet", "imagewoof": "imagenet"}
    name = registry.canonical(dataset)
    if name in named:
        kind = named[name]
        borrowed = (method, kind) in UNPUBLISHED
        note = f"{method} has no published settings for {name}: those of the methods beside it are used"
        return kind, (note,) if borrowed else ()
    if classes >= MANY_CLASSES:
        kind = "imagenet21k"
    else:
        kind = "cifar" if side <= 32 else "tiny_imagenet" if side <= 64 else "imagenet"
    what = f"{side} pixels" + (f" and {classes} classes" if classes else "")
    return kind, (f"{method} has no published settings for {name}: at {what} it goes by those for {kind}",)


def _jitter(side: int, kind: str) -> int:
    """Returns the jitter: published 32 at 224 pixels, 4 at 64 and at 32; in proportion for larger and smaller ones."""
    if kind in ("imagenet", "imagenet21k"):
        return max(1, round(side / 7))
    return min(4, max(1, side // 8))


def _stages(side: int, iterations: int, count: int) -> tuple[tuple[int, int], ...] | None:
    """Returns FADRM's stages: of low and full resolution in turn for large images, of one size for small ones."""
    if iterations < count:
        return None
    low = round(LOW * side) if side >= MOSAIC_FROM else side
    shares = [iterations // count] * (count - 1)
    sizes = [low if (count - number) % 2 == 0 else side for number in range(count)]
    return tuple(zip(sizes, [*shares, iterations - sum(shares)], strict=True))


def _number(value: Any) -> int:
    """Returns an integer setting; 1 for a value of the wrong type, which is refused later."""
    return value if isinstance(value, int) else 1


def _total(stages: Any, otherwise: int) -> int:
    """Returns the sum of the stages' iterations; `otherwise` for stages of the wrong type, which are refused later."""
    try:
        return sum(int(iterations) for _, iterations in stages)
    except (TypeError, ValueError):
        return otherwise


def for_size(
    values: dict[str, Any], chosen: Collection[str], dataset: str, side: int | None
) -> tuple[dict[str, Any], list[str]]:
    """Returns a preset's settings for images of another size than it was written for, and what a user is told of it.

    Arguments:
        values: the settings.
        chosen: names of settings that a user gave, which stay.
        dataset: that the preset was written for.
        side: of the images, in pixels.
    """
    published = published_side(dataset)
    dropped = [name for name in ("stages", "jitter", "mosaic") if name in values and name not in chosen]
    if published in (None, side) or side is None or not dropped:
        return values, []
    kept = {name: value for name, value in values.items() if name not in dropped}
    return kept, [f"the preset is for {published} pixels: {', '.join(dropped)} become those for {side}"]


def told_of_teacher(name: str) -> list[str]:
    """Returns what a user is told where settings were published for ResNet-18 alone.

    Arguments:
        name: of the teacher's architecture, as in `models.TEACHERS`.
    """
    if not name.startswith("resnet") or name == "resnet18":
        return []
    return [
        f"r_bn is that of ResNet-18; for {name} none is published, and its statistics weigh more (about 100 times for "
        "ResNet-50): watch 'ce' beside 'statistics', and set `r_bn`"
    ]
