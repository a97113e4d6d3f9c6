"""The known data sets: sizes, splits, class names and the normalisation constants each family of methods published.

Constants belong to (method family, data set): RCIG and FRePo computed their own, the IDC family took torchvision's.
Sources: yolky/RCIG `dataloader.py` (family `rcig`), snu-mllab/Efficient-Dataset-Condensation `data.py` (family `idc`),
VICO-UoE/DatasetCondensation `utils.py` (family `dc`), VILA-Lab/SRe2L and zeyuanyin/tiny-imagenet (family `sre2l`).
"""

from __future__ import annotations

import dataclasses
import pathlib
import re
from typing import Literal

from jaxdd.core.errors import UsageError, choose
from jaxdd.data import imagenet

Space = Literal["raw", "standardised", "zca", "layernorm_zca"]
Statistics = tuple[tuple[float, ...], tuple[float, ...]]

USER_KINDS = ("folder", "npz", "parquet")  # `folder:DIR`, `npz:FILE`, `parquet:DIR`: a user's own data set
ALIASES = {
    "fashion": "fashion_mnist",
    "svhn": "svhn_cropped",
    "tinyimagenet": "tiny_imagenet",
}  # the IDC family's names


@dataclasses.dataclass(frozen=True)
class DataSpec:
    """Facts of a data set that are known before any image is read.

    Arguments:
        name: as in `--dataset_name`.
        resolution: side in pixels after cropping and resizing; `None` when only the images can tell.
        channels: 1 (grey) or 3 (RGB); `None` when only the images can tell.
        classes: number of classes.
        splits: names of the train and test splits in TFDS.
        class_names: in label order; empty where the list is long.
        tfds: name in TensorFlow Datasets, or `None` if it is not there.
        tensorflow: whether TFDS needs TensorFlow to prepare it (never to read it).
        space: the preprocessing of the RCIG family, `zca` or `standardised`.
        aliases: folder names that the set's own archive unpacks to.
        subset: which classes of a larger tree, for subsets of ImageNet.
        one_way: whether a mirror image shows something else, as of digits.
    """

    name: str
    resolution: int | None
    channels: int | None
    classes: int
    splits: tuple[str, str] = ("train", "test")
    class_names: tuple[str, ...] = ()
    tfds: str | None = None
    tensorflow: bool = False
    space: Space = "zca"
    aliases: tuple[str, ...] = ()
    subset: imagenet.Subset | None = None
    one_way: bool = False

    @property
    def image_shape(self) -> tuple[int | None, int | None, int | None]:
        """`(height, width, channels)`, `None` where unknown."""
        return self.resolution, self.resolution, self.channels


def _of_imagenet(subset: imagenet.Subset) -> DataSpec:
    return DataSpec(
        subset.name,
        imagenet.RESOLUTION,
        3,
        subset.classes,
        splits=("train", "val"),
        class_names=subset.wnids,
        space="standardised",
        aliases=("imagenet",),
        subset=subset,
    )


_DIGITS = tuple("0123456789")
_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
_NETTE = (
    *("tench", "English springer", "cassette player", "chain saw", "church"),
    *("French horn", "garbage truck", "gas pump", "golf ball", "parachute"),
)
_NETTE_FOLDERS = ("imagenette2", "imagenette2-320", "imagenette2-160")
_WOOF_FOLDERS = ("imagewoof2", "imagewoof2-320", "imagewoof2-160")
_VALIDATION = ("train", "validation")

SPECS: dict[str, DataSpec] = {
    spec.name: spec
    for spec in (
        DataSpec("digits", 8, 1, 10, class_names=_DIGITS, space="standardised", one_way=True),
        DataSpec(
            "mnist",
            28,
            1,
            10,
            class_names=_DIGITS,
            tfds="mnist",
            tensorflow=True,
            space="standardised",
            one_way=True,
        ),
        DataSpec(
            "fashion_mnist",
            28,
            1,
            10,
            class_names=_FASHION,
            tfds="fashion_mnist",
            tensorflow=True,
            space="standardised",
        ),
        DataSpec("svhn_cropped", 32, 3, 10, class_names=_DIGITS, tfds="svhn_cropped", one_way=True),
        DataSpec("cifar10", 32, 3, 10, class_names=_CIFAR10, tfds="cifar10", tensorflow=True),
        DataSpec("cifar100", 32, 3, 100, tfds="cifar100", tensorflow=True),
        DataSpec("tiny_imagenet", 64, 3, 200, aliases=("tiny-imagenet-200",)),
        DataSpec(
            "imagenette",
            128,
            3,
            10,
            splits=_VALIDATION,
            class_names=_NETTE,
            tfds="imagenette/full-size-v2",
            tensorflow=True,
            aliases=_NETTE_FOLDERS,
        ),
        DataSpec("imagewoof", 128, 3, 10, splits=_VALIDATION, aliases=_WOOF_FOLDERS),
        _of_imagenet(imagenet.Subset(10)),
        _of_imagenet(imagenet.Subset(100)),
        DataSpec("imagenet1k", 224, 3, 1000, splits=("train", "val"), aliases=("imagenet",)),
        DataSpec("imagenet21k", 224, 3, 10450, splits=("train", "val"), aliases=("imagenet21k_p",)),
        DataSpec("imagenet_resized/32x32", 32, 3, 1000, splits=_VALIDATION, tfds="imagenet_resized/32x32"),
        DataSpec("imagenet_resized/64x64", 64, 3, 1000, splits=_VALIDATION, tfds="imagenet_resized/64x64"),
        DataSpec("caltech_birds2011", 32, 3, 200, tfds="caltech_birds2011", tensorflow=True),
    )
}

_CIFAR = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_IDC: dict[str, Statistics] = {
    "mnist": ((0.1307,), (0.3081,)),
    "fashion_mnist": ((0.2861,), (0.3530,)),
    "svhn_cropped": ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
    "cifar10": _CIFAR,
    "cifar100": _CIFAR,  # the IDC family normalises CIFAR-100 with CIFAR-10's constants
    "tiny_imagenet": _IMAGENET,
    "imagenette": _IMAGENET,
    "imagewoof": _IMAGENET,
    "imagenet": _IMAGENET,  # every subset of it
    "imagenet_resized/32x32": _IMAGENET,
    "imagenet_resized/64x64": _IMAGENET,
}

CONSTANTS: dict[str, dict[str, Statistics]] = {
    "rcig": {
        "digits": ((0.3053,), (0.3757,)),  # ours: computed from the train split that `readers` makes
        "mnist": ((0.1307,), (0.3081,)),
        "fashion_mnist": ((0.2861,), (0.3530,)),
        "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
        "cifar100": ((0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762)),
        "tiny_imagenet": ((0.4759, 0.4481, 0.3926), (0.2763, 0.2687, 0.2813)),
        "imagenette": ((0.4626, 0.4588, 0.4251), (0.2790, 0.2745, 0.2973)),
        "imagewoof": ((0.4917, 0.4613, 0.3931), (0.2513, 0.2442, 0.2530)),
        "imagenet_resized/32x32": ((0.4811, 0.4575, 0.4079), (0.2604, 0.2532, 0.2682)),
        "imagenet_resized/64x64": ((0.4815, 0.4578, 0.4082), (0.2686, 0.2613, 0.2758)),
        "caltech_birds2011": ((0.4810, 0.4964, 0.4245), (0.2129, 0.2084, 0.2468)),
    },
    "idc": _IDC,
    "dc": {**_IDC, "cifar100": ((0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762))},
    "kip": {},  # computed from the train split, as in its notebooks
    "sre2l": {
        "cifar10": _CIFAR,
        "cifar100": _CIFAR,  # CIFAR-10's here too
        "tiny_imagenet": ((0.4802, 0.4481, 0.3975), (0.2302, 0.2265, 0.2262)),
        **dict.fromkeys(("imagenette", "imagewoof", "imagenet", "imagenet1k"), _IMAGENET),
        **{f"imagenet_resized/{side}x{side}": _IMAGENET for side in (32, 64)},
        "imagenet21k": ((0.0,) * 3, (1.0,) * 3),  # its networks see [0, 1]
    },
}


def user_kind(name: str) -> str | None:
    """Returns `folder`, `npz` or `parquet` for a user's own set such as `folder:DIR`; `None` for every other name."""
    kind, colon, path = name.partition(":")
    return kind if colon and path and kind in USER_KINDS else None


def canonical(name: str) -> str:
    """Returns the name under which a data set is known and stored; one that is not known, as it is.

    Raises:
        UsageError: classes of ImageNet that there are not.
    """
    subset = imagenet.parse(name)
    return subset.name if subset else ALIASES.get(name, name)


def require_known(name: str) -> None:
    """Refuses the name of a data set that is neither known nor a user's own; light, so that a typo costs nothing.

    Raises:
        UsageError: names the nearest one.
    """
    if not user_kind(name):
        spec(name)


def spec(name: str) -> DataSpec:
    """Returns the entry of a known data set, also by an alias.

    Raises:
        UsageError: the name is unknown; names the nearest one.
    """
    if subset := imagenet.parse(name):
        return _of_imagenet(subset)
    if name == "imagenet":
        raise UsageError(
            "ImageNet, but not which of its classes",
            where="`dataset_name`",
            expected=imagenet.NAMES,
            remedy="name all of it, imagenet1k, or a subset, for example imagenet10 or imagenet100",
        )
    name = canonical(name)
    options = [*SPECS, imagenet.NAMES, *(f"{kind}:PATH" for kind in USER_KINDS)]
    choose(name, options, kind="data set", where="`dataset_name`")
    if name not in SPECS:  # someone typed the literal `folder:PATH`
        choose(name, SPECS, kind="data set", where="`dataset_name`")
    return SPECS[name]


def one_way(name: str) -> bool:
    """Returns whether mirror images of a data set show something else; of a user's own nothing is known, so it is
    False."""
    return name in SPECS and SPECS[name].one_way


def statistics(family: str, name: str) -> Statistics | None:
    """Returns published per-channel (mean, standard deviation) on the [0, 1] scale; `None`: compute from the train
    split.

    Raises:
        UsageError: the family is unknown.
    """
    choose(family, CONSTANTS, kind="family of normalisation constants", where="family")
    return CONSTANTS[family].get("imagenet" if imagenet.is_subset(name) else name)


def one_word(dataset: str) -> str:
    """Returns a data set's name for names of folders: `folder_faces` for `folder:my/faces`."""
    kind, colon, rest = dataset.partition(":")
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", f"{kind}_{pathlib.PurePath(rest).stem}" if colon else dataset)
