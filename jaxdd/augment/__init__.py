"""F1: image augmentations, pure `(key, images) -> images` and differentiable; imports core only.

The same words mean different things to different papers, so each family has a function of its own: `build` (RCIG,
FRePo), `diffaug` (IDC and its successors), `dsa` (DSA, DM), `dc` (evaluation of DC) and `imagenet`. `cutmix` mixes a
batch and its targets.
"""

from jaxdd.augment.cutmix import cutmix
from jaxdd.augment.dc import dc
from jaxdd.augment.diffaug import diffaug
from jaxdd.augment.dsa import dsa
from jaxdd.augment.imagenet import imagenet, random_resized_crop
from jaxdd.augment.single import OPERATIONS, Augmentation, build

__all__ = [
    "OPERATIONS",
    "Augmentation",
    "build",
    "cutmix",
    "dc",
    "diffaug",
    "dsa",
    "imagenet",
    "random_resized_crop",
]
