"""IDC's augmentation (arXiv 2205.14959, its class DiffAug; also AccDD, DREAM, DREAM+ and GA-DD).

    flip, if listed -> colour, if listed -> one of the listed crop, scale, rotate, translate -> cutout, if listed

Only the geometric operation is drawn, uniformly and once per call, even where each image has numbers of its own. DC,
DSA and DM mean something else by the same words: `augment/dsa.py`. Which strategy is used for what:

| for                        | strategy                             | siamese |
|----------------------------|--------------------------------------|---------|
| matching                   | `color_crop_cutout`                  | yes     |
| training the network       | `color_crop`, then CutMix            | no      |
| evaluation, small images   | `color_crop_flip_scale_rotate`, then CutMix; without `flip` for SVHN and MNIST | no |
"""

from __future__ import annotations

from jaxdd.augment import draws
from jaxdd.augment.single import Augmentation, check_resolution, parse
from jaxdd.core.types import Array, Key

ALWAYS = ("flip", "color", "cutout")


def diffaug(strategy: str | None, resolution: int, *, siamese: bool) -> Augmentation:
    """Makes IDC's augmentation of a strategy such as `color_crop_cutout`.

    Arguments:
        strategy: operations joined by `_`, in any order; None, "" or "none" for none at all.
        resolution: side of the images in pixels.
        siamese: one draw for the whole call, which depends on the key alone: real and synthetic images given to two
            calls with one key are transformed alike. Otherwise one draw for each image.

    Returns:
        A pure function `(key, images) -> images`, differentiable in the images; images are `[n, resolution,
        resolution, channels]`, already preprocessed, and are not clipped.

    Raises:
        UsageError: an unknown or repeated operation, or a resolution below one pixel; in a call, images of another
            resolution.
    """
    names = parse(strategy, draws.OPERATIONS)
    check_resolution(resolution)
    before = tuple(name for name in ("flip", "color") if name in names)
    geometric = tuple(name for name in names if name not in ALWAYS)
    after = ("cutout",) if "cutout" in names else ()

    def augment(key: Key, images: Array) -> Array:
        count = draws.count_for(images, resolution, siamese=siamese)
        for name in before:
            images = draws.apply(name, key, images, count)
        if geometric:
            images = draws.apply_one(geometric, key, images, count)
        for name in after:
            images = draws.apply(name, key, images, count)
        return images

    return augment if names else lambda key, images: images
