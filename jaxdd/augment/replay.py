"""How a step of soft-label training shows its images (SRe2L arXiv 2306.13092, RDED 2312.03526): a function of one key.

    shuffle patches -> crop -> flip          every image by its own draws
    cutmix or mixup                          one permutation p, one lambda, one box for the whole batch

    cutmix   x[box] = x[p][box]; the box has sqrt(1 - lambda) of each side    lambda ~ Beta(alpha, alpha)
    mixup    x = lambda x + (1 - lambda) x[p]

Labels are a teacher's answer to what comes out, so lambda is corrected for nothing: neither for a box clipped to the
image nor for one whose side was rounded. The authors store crops, flips, permutations and boxes beside the labels; here
the key gives them again, and only answers are stored.

`ShufflePatches(f)` (RDED) cuts an image into f rows and f columns of tiles and permutes rows and columns, so that the
pieces of a mosaic trade places. It is made for mosaics of f by f images; f = 1 does nothing.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from jaxdd.augment.cutmix import box, fill
from jaxdd.augment.imagenet import random_resized_crop
from jaxdd.core.config import Mix
from jaxdd.core.errors import UsageError
from jaxdd.core.random import purpose_key
from jaxdd.core.types import Array, Key


@dataclasses.dataclass(frozen=True)
class Show:
    """Settings of how images are shown; see the module's header.

    Arguments:
        size: side of the result in pixels.
        scale: least and largest share of the image's area in a random resized crop; None for no such crop.
        padding: pixels of black around the image, out of which a window of its own size is cut; 0 for none.
        flip: whether each image is mirrored with probability 1/2.
        mix: `none`, `cutmix` or `mixup`.
        alpha: both parameters of lambda's Beta distribution; published: 1 for cutmix, 0.8 for mixup.
        patches: f of `ShufflePatches`; 1 for none.
    """

    size: int
    scale: tuple[float, float] | None = (0.08, 1.0)
    padding: int = 0
    flip: bool = True
    mix: Mix = "cutmix"
    alpha: float = 1.0
    patches: int = 1

    def show(self, key: Key, images: Array) -> Array:
        """Returns images as a step shows them.

        Arguments:
            key: gives all choices.
            images: `[n, height, width, channels]` float, before standardisation.

        Returns:
            `[n, size, size, channels]`; without a resized crop of the images' own size.

        Raises:
            UsageError: `patches` does not divide the images' sides.
        """
        images = shuffle_patches(purpose_key(key, "patches"), images, self.patches)
        if self.padding:
            images = padded_crop(purpose_key(key, "window"), images, self.padding)
        if self.scale is not None:
            images = random_resized_crop(purpose_key(key, "crop"), images, self.size, self.scale)
        if self.flip:
            mirrored = jax.random.bernoulli(purpose_key(key, "flip"), 0.5, (len(images), 1, 1, 1))
            images = jnp.where(mirrored, images[:, :, ::-1], images)
        return images if self.mix == "none" else self._mixed(purpose_key(key, "mix"), images)

    def _mixed(self, key: Key, images: Array) -> Array:
        n, height, width, _ = images.shape
        share = purpose_key(key, "share")
        if self.alpha == 1:  # the same distribution, without rejection sampling
            lam = jax.random.uniform(share, (), jnp.float32)
        else:
            lam = jax.random.beta(share, self.alpha, self.alpha, dtype=jnp.float32)
        partner = jax.random.permutation(purpose_key(key, "partner"), n)
        if self.mix == "mixup":
            lam = lam.astype(images.dtype)
            return lam * images + (1 - lam) * images[partner]
        row = jax.random.randint(purpose_key(key, "row"), (), 0, height, jnp.int32)
        column = jax.random.randint(purpose_key(key, "column"), (), 0, width, jnp.int32)
        return fill(images, box(height, width, lam, row, column), partner)


def shuffle_patches(key: Key, images: Array, factor: int) -> Array:
    """Permutes the `factor` rows and the `factor` columns of tiles of each image, by draws of its own.

    Arguments:
        images: `[n, height, width, channels]`.
        factor: tiles per side, which must divide it.

    Raises:
        UsageError: it does not.
    """
    if factor == 1:
        return images
    n, height, width, _ = images.shape
    if height % factor or width % factor:
        raise UsageError(
            f"images of {height}x{width} pixels cannot be cut into {factor}x{factor} tiles",
            where=f"patches = {factor}",
            expected="a divisor of both sides",
            remedy="use the factor of the mosaics, or 1",
        )

    def places(name: str, side: int) -> Array:
        order = jnp.argsort(jax.random.bits(purpose_key(key, name), (n, factor), jnp.uint32))
        tile = side // factor
        return (order[:, :, None] * tile + jnp.arange(tile)[None, None, :]).reshape(n, side)

    images = jnp.take_along_axis(images, places("rows", height)[:, :, None, None], 1)
    return jnp.take_along_axis(images, places("columns", width)[:, None, :, None], 2)


def padded_crop(key: Key, images: Array, padding: int) -> Array:
    """Returns a window of each image's own size, anywhere in it and `padding` pixels of black on every side
    (torchvision's `RandomCrop`)."""
    n, height, width, _ = images.shape
    framed = jnp.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)))

    def places(name: str, side: int) -> Array:
        start = jax.random.randint(purpose_key(key, name), (n, 1), 0, 2 * padding + 1, jnp.int32)
        return start + jnp.arange(side)[None, :]

    framed = jnp.take_along_axis(framed, places("top", height)[:, :, None, None], 1)
    return jnp.take_along_axis(framed, places("left", width)[:, None, :, None], 2)
