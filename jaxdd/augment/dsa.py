"""Differentiable Siamese augmentation of DSA (arXiv 2102.08259), also of DM (arXiv 2110.04181).

Exactly one of the listed operations is drawn, uniformly and once per call; colour counts as one, though it changes
brightness, saturation and contrast. IDC and its successors mean something else by the same words: `augment/diffaug.py`.

The authors list `color_crop_cutout_flip_scale_rotate`, without `flip` for MNIST and SVHN. They match with
`siamese`, and train networks without it.
"""

from __future__ import annotations

from jaxdd.augment import draws
from jaxdd.augment.single import Augmentation, check_resolution, parse
from jaxdd.core.types import Array, Key

OPERATIONS = tuple(filter("translate".__ne__, draws.OPERATIONS))


def dsa(strategy: str | None, resolution: int, *, siamese: bool) -> Augmentation:
    """Makes DSA's augmentation of a strategy such as `color_crop_cutout_flip_scale_rotate`.

    Arguments:
        strategy: operations joined by `_`; None, "" or "none" for none at all.
        resolution: side of the images in pixels.
        siamese: one draw for the whole call, which depends on the key alone: real and synthetic images given to two
            calls with one key are transformed alike. Otherwise one draw for each image, of the same operation.

    Returns:
        A pure function `(key, images) -> images`, differentiable in the images; images are `[n, resolution,
        resolution, channels]`, already preprocessed, and are not clipped.

    Raises:
        UsageError: an unknown or repeated operation, or a resolution below one pixel; in a call, images of another
            resolution.
    """
    names = parse(strategy, OPERATIONS)
    check_resolution(resolution)

    def augment(key: Key, images: Array) -> Array:
        return draws.apply_one(names, key, images, draws.count_for(images, resolution, siamese=siamese))

    return augment if names else lambda key, images: images
