"""The settings of the recovery, and what is published of them for each method and data set.

| method     | is                                                                                  | source     |
|------------|-------------------------------------------------------------------------------------|------------|
| `sre2l`    | from noise; crops of any size throughout                                            | 2306.13092 |
| `cda`      | SRe2L with crops that begin with the whole image and become smaller                 | 2311.18838 |
| `sre2l_pp` | SRe2L from real images of medium difficulty                                         | 2501.07575 |
| `fadrm`    | the same at two resolutions in turn, mixed with those real images between them      | 2506.24125 |
| `rded`     | mosaics of real crops, not optimised                                                | 2312.03526 |

Facts from the authors' scripts. FADRM computes in float16 there; here `precision` is `float32` unless asked.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from jaxdd.core.config import as_dict, setting
from jaxdd.core.errors import ConfigError
from jaxdd.core.precision import Precision
from jaxdd.core.procedure import Implied
from jaxdd.data import imagenet, registry

NAMES = ("sre2l", "cda", "rded", "sre2l_pp", "fadrm")
GROUP = 100  # images, of as many classes, whose statistics are matched together
CANDIDATES = 300  # images per class that RDED cuts from
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


@dataclasses.dataclass(frozen=True)
class Recovery:
    """Every setting of how images are recovered and stored; the defaults are SRe2L's for ImageNet-1K.

    Raises:
        ConfigError: settings that contradict each other.
    """

    method: Literal["sre2l", "cda", "rded", "sre2l_pp", "fadrm"] = setting(
        "sre2l", "whose published settings these are"
    )
    n_images: int = setting(10, "images per class (ipc)", low=1)
    initialise: Literal["noise", "random", "medium", "mosaic"] = setting(
        "noise",
        "noise; random real images; those of medium difficulty for the teacher; mosaics of crops",
    )
    mosaic: int = setting(1, "crops along each side of a mosaic", low=1, high=16)
    candidates: int = setting(CANDIDATES, "images per class that crops are taken from", low=1)
    crops: int = setting(5, "random crops of each of them, of which the best is kept", low=1)

    iterations: int = setting(4000, "iterations of all stages together; 0: images stay as they start", low=0)
    lr_img: float = setting(0.25, "learning rate of the images' Adam; it falls along a cosine", low=0)
    betas: tuple[float, float] = setting((0.5, 0.9), "betas of Adam", low=0, high=0.9999999)
    ce_weight: float = setting(1.0, "weight of the cross-entropy", low=0)
    r_bn: float | tuple[float, ...] = setting(
        0.01, "weight of the statistics, or one for each teacher: ResNet-50's are 100 times ResNet-18's", low=0
    )
    first_bn_multiplier: float = setting(10.0, "weight of the first normalisation among the others", low=0)
    tv_l2: float = setting(
        0.0, "weight of the total variation; SRe2L's script has 1e-4, its published command 0", low=0
    )
    l2_scale: float = setting(0.0, "weight of the images' mean norm; in the script 1e-5, published 0", low=0)

    crop: bool = setting(True, "show a random crop, the same of all images of a group")
    flip: bool = setting(True, "flip half of the time")
    min_scale: float = setting(0.08, "least share of the image's area in a crop", low=0.0001, high=1)
    easy2hard_mode: Literal["none", "step", "linear", "cosine"] = setting(
        "none", "how the least share falls from 1 to min_scale (CDA)"
    )
    milestone: float = setting(0.0, "share of the iterations that it takes; 0: no curriculum", low=0, high=1)
    jitter: int = setting(32, "most pixels by which images are rolled", low=0)
    jitter_signed: bool = setting(False, "roll to both sides; else by 0 to jitter")

    batch_size: int = setting(GROUP, "images that are recovered together, of as many classes", low=1)
    statistics_group: int = setting(GROUP, "images of which the statistics are matched; has its own crop", low=1)
    stages: tuple[tuple[int, int], ...] | None = setting(
        None, "[[side in pixels, iterations], ...]; null: one stage at the data set's resolution"
    )
    merge: float = setting(1.0, "share of the images when they meet their patches between stages", low=0, high=1)
    reset: bool = setting(True, "begin Adam anew at every stage")
    precision: Precision = setting("float32", "activations in float32 or bfloat16; all else stays float32")
    store: Literal["jpg", "png", "none"] = setting("jpg", "image files of the result: lossy, exact, or none")
    quality: int = setting(75, "of the JPEG files; published 75", low=1, high=100)

    def __post_init__(self):
        if not self.crop and self.easy2hard_mode != "none" and self.milestone > 0:
            raise ConfigError(
                "a curriculum of crops for images that are not cropped",
                where="crop = false, easy2hard_mode, milestone",
                expected="crops, or milestone 0 (SRe2L on CIFAR crops nothing)",
                remedy="set milestone = 0, or crop = true",
            )
        if self.stages is None:
            return
        if any(size < 1 or iterations < 1 for size, iterations in self.stages) or not self.stages:
            raise ConfigError(
                "a stage without pixels or iterations",
                where="stages",
                expected="[[size, iterations], ...]",
                remedy="give every stage a size and at least one iteration",
            )
        total = sum(iterations for _, iterations in self.stages)
        if total != self.iterations:
            raise ConfigError(
                f"the stages make {total} iterations, not {self.iterations}",
                where="stages",
                expected="stages whose iterations add up to 'iterations'",
                remedy="change one of the two",
            )
        if self.initialise == "noise" and self.merge < 1 and len(self.stages) > 1:
            raise ConfigError(
                "images that start from noise have no patches to meet",
                where=f"initialise = noise, merge = {self.merge:g}",
                expected="merge 1, or real images to start from",
                remedy="set merge = 1, or initialise = medium, as FADRM does",
            )
        if not self.reset and len({size for size, _ in self.stages}) > 1:
            raise ConfigError(
                "Adam cannot go on at another resolution",
                where="reset",
                expected="true with these stages",
                remedy="set reset = true, or stages of one size",
            )

    @classmethod
    def implied(
        cls, values: Mapping[str, Any], *, resolution: int | None = None, classes: int | None = None
    ) -> Implied:
        """What the method's name and the data set imply, for all settings that are not given; see `implied`."""
        return implied(values, resolution=resolution, classes=classes)

    @property
    def identity(self) -> dict[str, Any]:
        """The settings on which an image depends, JSON types: not how many there are, so that a set can grow.

        Mosaics depend on it: the best crops are shared out among all.
        """
        every = as_dict(self)
        return every if self.initialise == "mosaic" else {k: value for k, value in every.items() if k != "n_images"}

    def statistics_weight(self, teacher: int) -> float:
        """`r_bn` of one teacher."""
        return self.r_bn[teacher] if isinstance(self.r_bn, tuple) else self.r_bn


def implied(values: Mapping[str, Any], *, resolution: int | None = None, classes: int | None = None) -> Implied:
    """The published settings for a method and a data set, or those of the data set that is most alike.

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
    """The side in pixels for which a data set's settings are published; None of one that is not known by its name."""
    known = registry.canonical(dataset) in registry.SPECS or _of_imagenet(dataset)
    return _size(dataset, None, None)[0] if known else None


def _size(dataset: str, resolution: int | None, classes: int | None) -> tuple[int, int]:
    """Side and number of classes: as given, as the registry knows them, or 64 pixels and 0 for "not known"."""
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
    """The row of `PUBLISHED` by which a data set goes, and what is to be told of it."""
    own = {"cifar10": "cifar", "cifar100": "cifar", "tiny_imagenet": "tiny_imagenet", "imagenet": "imagenet"}
    own |= {"imagenet1k": "imagenet", "imagenet21k": "imagenet21k", "imagenette": "imagenet", "imagewoof": "imagenet"}
    name = registry.canonical(dataset)
    if name in own:
        kind = own[name]
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
    """Published 32 at 224 pixels, 4 at 64 and at 32; in proportion below and between the large ones."""
    if kind in ("imagenet", "imagenet21k"):
        return max(1, round(side / 7))
    return min(4, max(1, side // 8))


def _stages(side: int, iterations: int, count: int) -> tuple[tuple[int, int], ...] | None:
    """FADRM's: low and full resolution in turn for large images, equal stages for small ones."""
    if iterations < count:
        return None
    low = round(LOW * side) if side >= MOSAIC_FROM else side
    shares = [iterations // count] * (count - 1)
    sizes = [low if (count - number) % 2 == 0 else side for number in range(count)]
    return tuple(zip(sizes, [*shares, iterations - sum(shares)], strict=True))


def _number(value: Any) -> int:
    """A setting that may still be of the wrong type, which is told later."""
    return value if isinstance(value, int) else 1


def _total(stages: Any, otherwise: int) -> int:
    """Iterations of stages that may still be of the wrong type, which is told later."""
    try:
        return sum(int(iterations) for _, iterations in stages)
    except (TypeError, ValueError):
        return otherwise
