"""One view for a whole batch: all images are cropped, flipped and rolled alike (the recovery of SRe2L, 2306.13092).

    seen = A x B'        for every image x and channel; A is [size, height], B is [size, width]

Row i of A holds the weights with which the rows of x make row i of what is seen:

| operation                    | matrices                                                                     |
|------------------------------|------------------------------------------------------------------------------|
| bilinear crop to `size`      | A_ij = max(0, 1 - abs(p_i - j)), p_i the place of pixel i, within the window |
| flip from left to right      | B's rows in reverse                                                          |
| roll by (down, right) pixels | A's rows rolled by down, B's by right                                        |

So whatever the view, seeing costs two small matrix products, and so does its derivative: no gather, no scatter. Places
are those of torchvision: pixels' middles are aligned and nothing is smoothed first, which is exact where nothing is
made smaller.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdd.augment.imagenet import RATIO, Boxes, draw_boxes
from jaxdd.core.random import purpose_key
from jaxdd.core.types import Array, Key


class View(NamedTuple):
    """How a batch is seen: A and B of the module's header.

    Arguments:
        rows: A, `[size, height]`.
        columns: B, `[size, width]`.
    """

    rows: Array
    columns: Array


def see(view: View, images: Array) -> Array:
    """Returns the part of `images` `[n, height, width, channels]` that is seen: `[n, size, size, channels]`, in their
    type."""
    exact = jax.lax.Precision.HIGHEST  # images are not to be rounded to what a GPU multiplies networks with
    tall = jnp.einsum("ih,nhwc->niwc", view.rows, images, precision=exact)
    return jnp.einsum("jw,niwc->nijc", view.columns, tall, precision=exact).astype(images.dtype)


def whole(shape: tuple[int, ...], size: int, dtype: Any = jnp.float32) -> View:
    """Shows all of the images, resized to `size` pixels.

    Arguments:
        shape: of the images, `(n, height, width, channels)`.
    """
    _, height, width, _ = shape
    return View(_weights(0, height, height, size, dtype), _weights(0, width, width, size, dtype))


def window(box: Boxes, shape: tuple[int, ...], size: int, dtype: Any = jnp.float32) -> View:
    """Shows one window of the images, resized to `size` pixels.

    Arguments:
        box: its first row and column, height and width, scalars.
        shape: as in `whole`.
    """
    _, height, width, _ = shape
    rows = _weights(box.top, box.height, height, size, dtype)
    return View(rows, _weights(box.left, box.width, width, size, dtype))


def flipped(view: View, coin: Array | bool) -> View:
    """Returns the view, flipped from left to right if `coin`."""
    return view._replace(columns=jnp.where(coin, view.columns[::-1], view.columns))


def rolled(view: View, down: Array | int, right: Array | int) -> View:
    """Returns the view, rolled by so many pixels; what leaves on one side comes in on the other."""
    return View(jnp.roll(view.rows, down, 0), jnp.roll(view.columns, right, 0))


def crop(
    key: Key, shape: tuple[int, ...], size: int, scale: tuple[float | Array, float], dtype: Any = jnp.float32
) -> View:
    """Returns a random window with torchvision's distribution (`imagenet.draw_boxes`), resized to `size` pixels.

    Arguments:
        shape: as in `whole`.
        scale: least and greatest share of the image's area; the least may be traced, for it changes over a run.
    """
    return window(draw_box(key, shape, scale), shape, size, dtype)


def draw_box(key: Key, shape: tuple[int, ...], scale: tuple[float | Array, float]) -> Boxes:
    """Returns the window of `crop`, four scalars."""
    return jax.tree.map(lambda each: each[0], draw_boxes(key, (1, *shape[1:]), scale, RATIO))


def flip(key: Key, view: View) -> View:
    """Flips images with probability 1/2."""
    return flipped(view, jax.random.bernoulli(key))


def roll(key: Key, view: View, most: int, signed: bool = False) -> View:
    """Rolls images by uniform numbers of pixels, down and right: from 0, or `-most` if signed, to `most` inclusive."""
    return rolled(view, *draw_roll(key, most, signed))


def draw_roll(key: Key, most: int, signed: bool = False) -> tuple[Array, Array]:
    """Returns the two numbers of `roll`, int32 scalars."""
    least = -most if signed else 0
    down, right = (jax.random.randint(purpose_key(key, name), (), least, most + 1) for name in ("down", "right"))
    return down, right


def _weights(start: Array | int, length: Array | int, side: int, size: int, dtype: Any) -> Array:
    """Returns `[size, side]`: how the pixels of a window make `size` pixels, along one axis."""
    length = jnp.asarray(length, dtype)
    place = (jnp.arange(size, dtype=dtype) + 0.5) * (length / size) - 0.5
    place = jnp.clip(place, 0, length - 1) + jnp.asarray(start, dtype)  # what lies beside the window is no part of it
    return jnp.maximum(0, 1 - jnp.abs(place[:, None] - jnp.arange(side, dtype=dtype)[None, :]))
