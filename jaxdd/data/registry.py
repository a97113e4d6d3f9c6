"""The known data sets: sizes, splits, class names and the normalisation constants each family of methods published.

Constants belong to (method family, data set): RCIG and FRePo computed their own, the IDC family took torchvision's.
Sources: yolky/RCIG `dataloader.py` (family `rcig`), snu-mllab/Efficient-Dataset-Condensation `data.py` (family `idc`),
VICO-UoE/DatasetCondensation `utils.py` (family `dc`), VILA-Lab/SRe2L and zeyuanyin/tiny-imagenet (family `sre2l`).

Subsets of ImageNet by name, as the IDC family chooses them: some classes in a published order, label = place in it.

    imagenet10       the first 10 classes of the list below
    imagenetN:P      classes N P .. N P + N - 1 of the list, labels 0 .. N - 1: part P, where a run cannot hold them all
    imagenetN:P:S    the same of a shuffled order of all 1000 classes; S seeds it, and 0 is the list

`imagenet:N:P:S` says the same. A part is a data set of its own, with networks for its own N classes; the authors'
`condense_mp.py` distils a part of 20 classes with networks that tell all 100 apart.

List and rule: snu-mllab/Efficient-Dataset-Condensation (arXiv 2205.14959), `misc/class100.txt` and `data.py`.
"""

from __future__ import annotations

import dataclasses
import pathlib
import re
from collections.abc import Sequence
from typing import Literal

from jaxdd.core.errors import DataError, UsageError, choose

IMAGENET_SIDE = 224
IMAGENET_CLASSES = 1000  # of ImageNet
NAMES = "imagenetN, imagenetN:PHASE or imagenetN:PHASE:SEED"

_NAME = re.compile(r"imagenet:?(\d{1,4})(?::(\d{1,4}))?(?::(\d{1,10}))?", re.ASCII)
_LIST = """
    n02869837 n01749939 n02488291 n02107142 n13037406 n02091831 n04517823 n04589890 n03062245 n01773797
    n01735189 n07831146 n07753275 n03085013 n04485082 n02105505 n01983481 n02788148 n03530642 n04435653
    n02086910 n02859443 n13040303 n03594734 n02085620 n02099849 n01558993 n04493381 n02109047 n04111531
    n02877765 n04429376 n02009229 n01978455 n02106550 n01820546 n01692333 n07714571 n02974003 n02114855
    n03785016 n03764736 n03775546 n02087046 n07836838 n04099969 n04592741 n03891251 n02701002 n03379051
    n02259212 n07715103 n03947888 n04026417 n02326432 n03637318 n01980166 n02113799 n02086240 n03903868
    n02483362 n04127249 n02089973 n03017168 n02093428 n02804414 n02396427 n04418357 n02172182 n01729322
    n02113978 n03787032 n02089867 n02119022 n03777754 n04238763 n02231487 n03032252 n02138441 n02104029
    n03837869 n03494278 n04136333 n03794056 n03492542 n02018207 n04067472 n03930630 n03584829 n02123045
    n04229816 n02100583 n03642806 n04336792 n03259280 n02116738 n02108089 n03424325 n01855672 n02090622
"""
WNIDS = tuple(_LIST.split())  # WordNet's numbers, which ImageNet's class folders are called by


@dataclasses.dataclass(frozen=True)
class Subset:
    """Which classes of ImageNet.

    Arguments:
        classes: how many, N.
        phase: which part of the order, P.
        seed: 0 for the published list of 100 classes; else it shuffles all 1000.

    Raises:
        UsageError: no such classes.
    """

    classes: int
    phase: int = 0
    seed: int = 0

    def __post_init__(self):
        known = IMAGENET_CLASSES if self.seed else len(WNIDS)
        if not 1 <= self.classes <= self.classes * (self.phase + 1) <= known or self.seed >= 2**32:
            raise UsageError(
                f"classes {self.classes * self.phase} to {self.classes * (self.phase + 1)}",
                where=self.name,
                expected=f"N >= 1 and N (PHASE + 1) <= {known} ({NAMES}), and a seed below 2^32",
                remedy="ask for fewer classes or an earlier phase; a seed from 1 on chooses from all 1000 classes",
            )

    @property
    def name(self) -> str:
        """The one name of this choice: `imagenet10`, `imagenet20:3`, `imagenet10:0:7`."""
        seeded, later = self.seed > 0, self.phase > 0
        return f"imagenet{self.classes}" + f":{self.phase}" * (later or seeded) + f":{self.seed}" * seeded

    @property
    def wnids(self) -> tuple[str, ...]:
        """The class folders in label order; empty with a seed, as only the tree tells them."""
        return () if self.seed else WNIDS[self._part]

    @property
    def _part(self) -> slice:
        return slice(self.classes * self.phase, self.classes * (self.phase + 1))

    def choose(self, folders: Sequence[str], where: str) -> tuple[str, ...]:
        """Returns the class folders in label order.

        Arguments:
            folders: the names of all class folders of a tree.
            where: the tree, for messages.

        Raises:
            DataError: a seeded choice from a tree without all of ImageNet's classes: it would be another choice.
        """
        if not self.seed:
            return self.wnids
        if len(folders) != IMAGENET_CLASSES:
            raise DataError(
                f"{len(folders)} classes, of which a seed would choose others than of all",
                where=where,
                expected=f"the {IMAGENET_CLASSES} class folders of ImageNet",
                remedy=f"complete the tree, or take classes of the published list: imagenet{self.classes}",
            )
        import numpy as np

        order = np.random.RandomState(self.seed).permutation(IMAGENET_CLASSES)
        return tuple(sorted(folders)[index] for index in order[self._part])


def is_subset(name: str) -> bool:
    """Returns whether a name is of the form of a subset's."""
    return _NAME.fullmatch(name) is not None


def imagenet_subset(name: str) -> Subset | None:
    """Returns the subset of this name; `None` for a name of another form.

    Raises:
        UsageError: no such classes.
    """
    match = _NAME.fullmatch(name)
    return Subset(*(int(number or 0) for number in match.groups())) if match else None


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
    subset: Subset | None = None
    one_way: bool = False

    @property
    def image_shape(self) -> tuple[int | None, int | None, int | None]:
        """`(height, width, channels)`, `None` where unknown."""
        return self.resolution, self.resolution, self.channels


def _of_imagenet(subset: Subset) -> DataSpec:
    return DataSpec(
        subset.name,
        IMAGENET_SIDE,
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
        _of_imagenet(Subset(10)),
        _of_imagenet(Subset(100)),
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
    subset = imagenet_subset(name)
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
    if subset := imagenet_subset(name):
        return _of_imagenet(subset)
    if name == "imagenet":
        raise UsageError(
            "ImageNet, but not which of its classes",
            where="`dataset_name`",
            expected=NAMES,
            remedy="name all of it, imagenet1k, or a subset, for example imagenet10 or imagenet100",
        )
    name = canonical(name)
    options = [*SPECS, NAMES, *(f"{kind}:PATH" for kind in USER_KINDS)]
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
    return CONSTANTS[family].get("imagenet" if is_subset(name) else name)


def one_word(dataset: str) -> str:
    """Returns a data set's name for names of folders: `folder_faces` for `folder:my/faces`."""
    kind, colon, rest = dataset.partition(":")
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", f"{kind}_{pathlib.PurePath(rest).stem}" if colon else dataset)
