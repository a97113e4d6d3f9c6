"""Augmentation for networks on ImageNet (IDC, arXiv 2205.14959, and its successors), on images in [0, 1]:

    random resized crop -> flip with probability 1/2 -> jitter of colour -> noise along the principal colours

With a, b, c uniform in +-0.4, g(x) = 0.299 R + 0.587 G + 0.114 B and mean g(x) over the image:

    brightness  x -> (1 - a) x      contrast  x -> x + b (mean g(x) - x)      saturation  x -> x + c (g(x) - x)

The authors apply these in random order without clipping. Then they commute: brightness is a factor, saturation keeps
g(x), contrast keeps its mean. So there is no order to draw. Lighting adds V (e * alpha), alpha ~ N(0, 0.1^2): V and e
are the principal colours of ImageNet and their standard deviations.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd.augment.single import Augmentation
from jaxdd.core.random import purpose_key
from jaxdd.core.types import Array, Key

RATIO = (3 / 4, 4 / 3)
ATTEMPTS = 10
JITTER = 0.4
LIGHTING = 0.1
GREY = np.array([0.299, 0.587, 0.114])
DEVIATIONS = np.array([0.2175, 0.0188, 0.0045])
COLOURS = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])


class Boxes(NamedTuple):
    """One window per image: first row and column, height and width, each `[n]` int32 in pixels."""

    top: Array
    left: Array
    height: Array
    width: Array


def draw_boxes(
    key: Key, shape: tuple[int, ...], scale: tuple[float | Array, float], ratio: tuple[float, float]
) -> Boxes:
    """Draws windows of a uniform share of the image's area and a log-uniform ratio of width to height.

    Of ten attempts the first that fits into the image counts; where none does, the largest window in the middle with
    a permitted ratio.

    Arguments:
        shape: of the images, `(n, height, width, channels)`.
        scale, ratio: the least and the largest; the least scale may be traced.
    """
    n, height, width, _ = shape
    share = jax.random.uniform(purpose_key(key, "area"), (n, ATTEMPTS), jnp.float32, *scale)
    log = jax.random.uniform(purpose_key(key, "ratio"), (n, ATTEMPTS), jnp.float32, *map(math.log, ratio))
    heights = jnp.round(jnp.sqrt(height * width * share / jnp.exp(log))).astype(jnp.int32)
    widths = jnp.round(jnp.sqrt(height * width * share * jnp.exp(log))).astype(jnp.int32)
    fits = (heights > 0) & (heights <= height) & (widths > 0) & (widths <= width)
    # A compiler may round a side twice and differently, but it sorts once: what comes out is one number for all.
    sides = jax.lax.sort((~fits, heights, widths), dimension=1, is_stable=True, num_keys=1)
    found, h, w = ~sides[0][:, 0], jnp.clip(sides[1][:, 0], 1, height), jnp.clip(sides[2][:, 0], 1, width)
    h = jnp.where(found, h, min(height, round(width / ratio[0])))
    w = jnp.where(found, w, min(width, round(height * ratio[1])))
    top = jax.random.randint(purpose_key(key, "top"), (n,), 0, height - h + 1, jnp.int32)
    left = jax.random.randint(purpose_key(key, "left"), (n,), 0, width - w + 1, jnp.int32)
    return Boxes(jnp.where(found, top, (height - h) // 2), jnp.where(found, left, (width - w) // 2), h, w)


def resized_crop(images: Array, boxes: Boxes, size: int) -> Array:
    """Cuts the windows out and resizes them, bilinear and without antialiasing: exact where nothing is made smaller.

    Pixel i of `size` shows the place ((2 i + 1) length - size) / (2 size) of a side of `length` pixels, both counted
    from 0 and clipped to the window. It is a ratio of integers: its whole part and its rest are exact.

    Arguments:
        images: `[n, height, width, channels]`.
        boxes: one window per image.
        size: side of the result in pixels.

    Returns:
        `[n, size, size, channels]`.
    """
    tall = _resized(images, boxes.top, boxes.height, size, axis=1)
    return _resized(tall, boxes.left, boxes.width, size, axis=2)


def _resized(images: Array, start: Array, length: Array, size: int, *, axis: int) -> Array:
    precise = jnp.promote_types(images.dtype, jnp.float32)
    start, length = (each[:, None].astype(jnp.int32) for each in (start, length))
    odd = 2 * jnp.arange(size, dtype=jnp.int32)[None, :] + 1
    parts = odd * length - size  # of 2 size each; 32 bits hold those of 32 767 pixels
    parts = jnp.clip(parts, 0, (length - 1) * (2 * size))  # what lies beside the window is no part of it
    before, rest = (divide(parts, jnp.int32(2 * size)) for divide in (jax.lax.div, jax.lax.rem))
    after = jnp.minimum(before + 1, length - 1)
    shape = (-1, size, 1, 1) if axis == 1 else (-1, 1, size, 1)
    low, high = (jnp.take_along_axis(images, (start + i).reshape(shape), axis) for i in (before, after))
    fraction = (rest.astype(precise) / (2 * size)).reshape(shape)
    return (low + fraction * (high - low)).astype(images.dtype)


def random_resized_crop(
    key: Key, images: Array, size: int, scale: tuple[float, float], ratio: tuple[float, float] = RATIO
) -> Array:
    """Shows a random window of each image, resized to `[n, size, size, channels]`; see `draw_boxes`."""
    return resized_crop(images, draw_boxes(key, images.shape, scale, ratio), size)


def jitter(images: Array, brightness: Array, contrast: Array, saturation: Array) -> Array:
    """Blends each image with black, with its mean grey and with its greys.

    Arguments:
        images: `[n, height, width, 3]`.
        brightness, contrast, saturation: `[n]`, a, b and c of the module's header.
    """
    a, b, c = (x.astype(images.dtype).reshape(-1, 1, 1, 1) for x in (brightness, contrast, saturation))
    grey = (images * jnp.asarray(GREY, images.dtype).reshape(1, 1, 1, 3)).sum(3, keepdims=True)
    mean = grey.mean((1, 2), keepdims=True)
    return (1 - a) * (b * mean + (1 - b) * (c * grey + (1 - c) * images))


def lighting(images: Array, alpha: Array) -> Array:
    """Adds to each image one colour along ImageNet's principal colours.

    Arguments:
        images: `[n, height, width, 3]`.
        alpha: `[n, 3]`, how far along each.
    """
    moved = (alpha[:, None, :] * jnp.asarray(COLOURS * DEVIATIONS, alpha.dtype)[None]).sum(-1)
    return images + moved.astype(images.dtype)[:, None, None, :]


def imagenet(size: int, *, scale: tuple[float, float] = (0.5, 1.0), ratio: tuple[float, float] = RATIO) -> Augmentation:
    """Makes the augmentation of the module's header.

    Arguments:
        size: side of the result in pixels, e.g. 224.
        scale: least and largest share of the image's area that is shown.
        ratio: least and largest ratio of width to height of what is shown.

    Returns:
        A pure function `(key, images) -> images`, differentiable in the images: from `[n, height, width, 3]` in [0, 1],
        before normalisation, to `[n, size, size, 3]`, not clipped.
    """

    def augment(key: Key, images: Array) -> Array:
        n = images.shape[0]
        images = random_resized_crop(purpose_key(key, "crop"), images, size, scale, ratio)
        mirrored = jax.random.bernoulli(purpose_key(key, "flip"), 0.5, (n, 1, 1, 1))
        images = jnp.where(mirrored, images[:, :, ::-1], images)
        names = ("brightness", "contrast", "saturation")
        amounts = (jax.random.uniform(purpose_key(key, x), (n,), jnp.float32, -JITTER, JITTER) for x in names)
        alpha = LIGHTING * jax.random.normal(purpose_key(key, "lighting"), (n, 3), jnp.float32)
        return lighting(jitter(images, *amounts), alpha)

    return augment
