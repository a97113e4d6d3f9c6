"""Choosing real images of one class by what a teacher says of them: RDED (arXiv 2312.03526), DELT (2411.19946), chance.

With l(x) the teacher's cross-entropy of the true class y and p(x) = exp(-l(x)), evaluated with running statistics:

    mosaic   of every candidate x_j the best of k crops, c_j = argmin_i l(centre(crop_ij(x_j)))
             in the order of l(c_j), the first ipc f^2 of them
             ranks q ipc .. (q + 1) ipc - 1 become cell q (row by row) of the images 0 .. ipc - 1
    medium   ranked by p from the least; places m, m + 1, m - 1, m + 2, m - 2, ... with m = ceil(n / 2)
    random   without replacement

crop is square, of a uniform share (0.08 to 1) of the area, resized to side / f with antialiasing; centre puts it into
the middle of zeros of full size, in the space that the teacher sees.

| symbol | name         |
|--------|--------------|
| k      | `crops`      |
| f      | `factor`     |
| n      | `candidates` |

From DELT's code differs: images are ranked as the data set has them, not enlarged by 8/7 and cropped to the middle;
where one side of the ranking is used up, its order goes on along the other.
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd.augment.imagenet import Boxes, draw_boxes
from jaxdd.core import backend
from jaxdd.core.errors import ConfigError
from jaxdd.core.formation import nearest
from jaxdd.core.random import purpose_key
from jaxdd.core.types import Array, Examples, Key, PyTree
from jaxdd.models.network import Network

SCALE = (0.08, 1.0)  # least and greatest share of the area that a crop shows
SQUARE = (1.0, 1.0)  # ratio of its sides
BATCH = 256  # images that go through the teacher together on accelerators


def random_rows(key: Key, count: int, ipc: int) -> np.ndarray:
    """Draws `ipc` of `count` images: rows `[ipc]`, int.

    Raises:
        ConfigError: there are fewer than `ipc`.
    """
    _require(count, ipc, "images of the class", "n_images")
    return np.asarray(jax.random.permutation(key, count))[:ipc]


def medium_rows(network: Network, variables: PyTree, images: Examples, ipc: int) -> np.ndarray:
    """Returns the images of one class that are of medium difficulty for the teacher: rows `[ipc]`, int.

    They lie around the median of its cross-entropies.

    Arguments:
        network, variables: the teacher.
        images: `[n, side, side, channels]` with their labels `[n]`; raw ones with `constants`.
        ipc: how many.

    Raises:
        ConfigError: there are fewer than `ipc`.
    """
    _require(len(images), ipc, "images of the class", "n_images")
    losses = _in_batches(functools.partial(_whole_losses, network, variables, _static(images)), images, 1)
    ranked = np.argsort(np.exp(-losses), kind="stable")
    return ranked[outwards(len(ranked))[:ipc]]


def outwards(count: int) -> np.ndarray:
    """Returns the places 0 .. count - 1 from ceil(count / 2) outwards, the later one first: `[count]` int."""
    middle = math.ceil(count / 2)
    steps = np.arange(1, 2 * count + 2)
    places = middle + np.where(steps % 2 == 0, 1, -1) * (steps // 2)
    return places[(places >= 0) & (places < count)]


def mosaics(
    key: Key,
    network: Network,
    variables: PyTree,
    images: Examples,
    ipc: int,
    *,
    factor: int,
    candidates: int,
    crops: int,
) -> Array:
    """Makes RDED's images of one class: mosaics of the crops of which the teacher is surest.

    Arguments:
        key: chooses candidates and crops.
        network, variables: the teacher.
        images: `[n, side, side, channels]` raw, with their labels `[n]` and `constants`.
        ipc: how many.
        factor: f, cells along each side.
        candidates: how many of the images are looked at; all where there are fewer.
        crops: of each of these.

    Returns:
        `[ipc, side, side, channels]` in [0, 1].

    Raises:
        ConfigError: fewer candidates than cells.
    """
    count = min(candidates, len(images))
    _require(count, ipc * factor**2, "candidates for the cells of its images", "candidates")
    rows = random_rows(purpose_key(key, "candidates"), len(images), count)
    best, losses = best_crops(purpose_key(key, "crops"), network, variables, take(images, rows), factor, crops)
    order = np.argsort(losses, kind="stable")[: ipc * factor**2]
    return assemble(best[order], factor, images.image_shape[0])


def best_crops(
    key: Key, network: Network, variables: PyTree, images: Examples, factor: int, crops: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the crop of every image that the teacher is surest of.

    Arguments:
        key, network, variables, images, factor, crops: as in `mosaics`.

    Returns:
        `[n, side // factor, side // factor, channels]` in [0, 1], and their cross-entropies `[n]`.
    """
    n, (side, _, channels) = len(images), images.image_shape
    boxes = draw_boxes(key, (n * crops, side, side, channels), SCALE, SQUARE)
    boxes = Boxes(*(each.reshape(n, crops) for each in boxes))
    score = functools.partial(_best_crops, network, variables, _static(images), side // factor)
    return _in_batches(score, images, crops, boxes)


def antialiased_crop(images: Array, boxes: Boxes, size: int) -> Array:
    """Cuts windows out and resizes them, with a triangular filter as wide as the scale where they become smaller.

    Arguments:
        images: `[n, height, width, channels]` float.
        boxes: of every image one window or several, each field `[n]` or `[n, k]`.
        size: side of the result in pixels.

    Returns:
        `[n, size, size, channels]` or `[n, k, size, size, channels]`.

    Source:
        torchvision's `resized_crop` of tensors with `antialias=True`.
    """
    _, height, width, _ = images.shape
    rows = _weights(boxes.top, boxes.height, height, size).astype(images.dtype)
    columns = _weights(boxes.left, boxes.width, width, size).astype(images.dtype)
    exact = jax.lax.Precision.HIGHEST
    tall = jnp.einsum("n...ih,nhwc->n...iwc", rows, images, precision=exact)
    return jnp.einsum("n...jw,n...iwc->n...ijc", columns, tall, precision=exact)


def centred(crops: Array, side: int) -> Array:
    """Surrounds images `[..., size, size, channels]` by zeros: `[..., side, side, channels]`.

    Of an odd number of zeros the larger half lies below and to the right.
    """
    rest = side - crops.shape[-2]
    pads = [(0, 0)] * (crops.ndim - 3) + [(rest // 2, rest - rest // 2)] * 2 + [(0, 0)]
    return jnp.pad(crops, pads)


def assemble(cells: np.ndarray | Array, factor: int, side: int) -> Array:
    """Puts mosaics together: cell q (row by row) of image i is entry q n + i.

    Arguments:
        cells: `[n * factor**2, size, size, channels]`, best first.
        side: of the mosaics in pixels; where the factor does not divide it the first cells are a pixel larger.

    Returns:
        `[n, side, side, channels]`.
    """
    cells = jnp.asarray(cells)
    count, size = len(cells) // factor**2, cells.shape[1]
    sides = [side // factor + (i < side % factor) for i in range(factor)]
    rows = []
    for i, height in enumerate(sides):
        row = [cells[(i * factor + j) * count :][:count] for j in range(factor)]
        row = [
            cell[:, nearest(size, height)][:, :, nearest(size, width)] for cell, width in zip(row, sides, strict=True)
        ]
        rows.append(jnp.concatenate(row, axis=2))
    return jnp.concatenate(rows, axis=1)


def cross_entropy(network: Network, variables: PyTree, images: Array, labels: Array) -> Array:
    """Returns the teacher's cross-entropy of each image, `[n]`.

    Arguments:
        images: `[n, side, side, channels]`, in its space.
        labels: `[n]`, their classes.
    """
    logits = network.apply(variables, images).logits
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1)[:, 0]


def take(images: Examples, rows: np.ndarray) -> Examples:
    """Returns some of the examples, as they are stored."""
    return Examples(images.images[rows], images.labels[rows], images.classes, images.constants)


def _static(images: Examples) -> tuple:
    return images.classes, images.constants


@functools.partial(jax.jit, static_argnums=(0, 2))
def _whole_losses(network: Network, variables: PyTree, static: tuple, images: Array, labels: Array) -> Array:
    examples = Examples(images, labels, *static)
    return cross_entropy(network, variables, examples.standardise(examples.take(slice(None))), labels)


@functools.partial(jax.jit, static_argnums=(0, 2, 3))
def _best_crops(
    network: Network, variables: PyTree, static: tuple, size: int, images: Array, labels: Array, boxes: Boxes
) -> tuple[Array, Array]:
    examples, (n, crops) = Examples(images, labels, *static), boxes.top.shape
    cut = antialiased_crop(examples.take(slice(None)), boxes, size)
    seen = centred(examples.standardise(cut), examples.image_shape[0]).reshape(n * crops, *examples.image_shape)
    losses = cross_entropy(network, variables, seen, jnp.repeat(labels, crops)).reshape(n, crops)
    best = jnp.argmin(losses, axis=1)
    return cut[jnp.arange(n), best], losses[jnp.arange(n), best]


def _in_batches(fn, images: Examples, views: int, *others):
    """Returns `fn(images, labels, *others)` of all rows, on the host, from batches that the device can hold."""
    count = len(images)
    size = min(count, max(1, backend.rows_at_once(BATCH) // views))
    parts = []
    for start in range(0, count, size):
        first = min(start, count - size)  # the last batch is as large as the others; what it repeats is cut off
        rows = slice(first, first + size)
        arguments = jax.tree.map(lambda leaf, rows=rows: leaf[rows], (images.images, images.labels, *others))
        results = jax.device_get(fn(*jax.device_put(arguments)))
        parts.append(jax.tree.map(lambda leaf, new=start - first: leaf[new:], results))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def _weights(start: Array, length: Array, side: int, size: int) -> Array:
    """Returns the weights by which the pixels of a window make `size` pixels along one axis: `[..., size, side]`."""
    shape = (*start.shape, size, side)
    pixel, place = (jax.lax.broadcasted_iota(jnp.float32, shape, len(shape) - axis) + 0.5 for axis in (1, 2))
    start, length = (each[..., None, None].astype(jnp.float32) for each in (start, length))
    at, scale = pixel - start, length / size
    weights = jnp.maximum(0, 1 - jnp.abs(at - place * scale) / jnp.maximum(scale, 1))
    weights = jnp.where((at > 0) & (at < length), weights, 0)  # what lies beside the window is no part of it
    return weights / weights.sum(-1, keepdims=True)


def _require(count: int, wanted: int, what: str, where: str) -> None:
    if wanted < 1 or count < wanted:
        raise ConfigError(
            f"{wanted} wanted, but there are {count} {what}",
            where=where,
            expected=f"1 .. {count}",
            remedy="ask for fewer images per class, or allow more candidates",
        )
