"""Subsets of ImageNet by name, as the IDC family chooses them: some classes in a published order, label = place in it.

    imagenet10       the first 10 classes of the list below
    imagenetN:P      classes N P .. N P + N - 1 of the list, labels 0 .. N - 1: part P, where a run cannot hold them all
    imagenetN:P:S    the same of a shuffled order of all 1000 classes; S seeds it, and 0 is the list

`imagenet:N:P:S` says the same. A part is a data set of its own, with networks for its own N classes; the authors'
`condense_mp.py` distils a part of 20 classes with networks that tell all 100 apart.

List and rule: snu-mllab/Efficient-Dataset-Condensation (arXiv 2205.14959), `misc/class100.txt` and `data.py`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

from jaxdd.core.errors import DataError, UsageError

RESOLUTION = 224
CLASSES = 1000  # of ImageNet
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
        known = CLASSES if self.seed else len(WNIDS)
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
        if len(folders) != CLASSES:
            raise DataError(
                f"{len(folders)} classes, of which a seed would choose others than of all",
                where=where,
                expected=f"the {CLASSES} class folders of ImageNet",
                remedy=f"complete the tree, or take classes of the published list: imagenet{self.classes}",
            )
        import numpy as np

        order = np.random.RandomState(self.seed).permutation(CLASSES)
        return tuple(sorted(folders)[index] for index in order[self._part])


def is_subset(name: str) -> bool:
    """Returns whether a name is of the form of a subset's."""
    return _NAME.fullmatch(name) is not None


def parse(name: str) -> Subset | None:
    """Returns the subset of this name; `None` for a name of another form.

    Raises:
        UsageError: no such classes.
    """
    match = _NAME.fullmatch(name)
    return Subset(*(int(number or 0) for number in match.groups())) if match else None
