"""F1: image augmentations, pure `(key, images) -> images` and differentiable; imports core only."""

from jaxdd.augment.single import OPERATIONS, Augmentation, build

__all__ = ["OPERATIONS", "Augmentation", "build"]
