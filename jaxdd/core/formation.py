"""Multi-formation (IDC, arXiv 2205.14959): every stored image encodes several training images.

    decode(x, f)   x is cut into an f x f grid, and every cell enlarged to the size of x     f^2 images from one

An image whose side f does not divide is padded on the right and at the bottom with grey (0.5) first. The results are
ordered by cell: the first cell of all images, then the second of all, row by row.

| formation | decoded with                                                                            |
|-----------|-----------------------------------------------------------------------------------------|
| `single`  | f                                                                                       |
| `multi`   | 1, 2, ..., f, one after another                                                         |
| `bound`   | f for the first images, smaller factors for the later ones, so that the number of       |
|           | training images stays within a bound                                                    |
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd.core.config import BOUND, Formation
from jaxdd.core.types import Array

GREY = 0.5


def decode(images: Array | np.ndarray, factor: int, formation: Formation = "single", *, bound: int = BOUND) -> Array:
    """Decodes stored images into training images.

    Arguments:
        images: `[n, side, side, channels]`, raw in [0, 1] if anything has to be padded.
        factor: f.
        formation: see the module's header.
        bound: of `bound`: most training images that n stored ones become.

    Returns:
        `[n', side, side, channels]`; `sources` tells which stored image each one comes from.
    """
    plan = _plan(len(images), factor, formation, bound)
    return jnp.concatenate([enlarge(images[start:stop], f) for f, start, stop in plan])


def sources(count: int, factor: int, formation: Formation = "single", *, bound: int = BOUND) -> np.ndarray:
    """Returns `[n']` int: for every image that `decode` makes of `count` stored ones, the index of the stored one."""
    plan = _plan(count, factor, formation, bound)
    return np.concatenate([np.tile(np.arange(start, stop), f * f) for f, start, stop in plan])


def enlarge(images: Array | np.ndarray, factor: int) -> Array:
    """Returns all f^2 cells of all images at full size, ordered by cell: `[n f^2, side, side, channels]`."""
    images = jnp.asarray(images)
    if factor == 1:
        return images
    side = images.shape[1]
    rest = -side % factor
    padded = jnp.pad(images, ((0, 0), (0, rest), (0, rest), (0, 0)), constant_values=GREY)
    cell = (side + rest) // factor
    starts = [(cell * i, cell * j) for i in range(factor) for j in range(factor)]
    cells = jnp.concatenate([padded[:, i : i + cell, j : j + cell] for i, j in starts])
    return jax.image.resize(cells, (len(cells), side, side, images.shape[-1]), "linear", antialias=False)


def paste(images: Array, factor: int) -> Array:
    """Pastes f^2 n training images into n stored ones: image k n + i becomes, made smaller, cell k of stored image i.

    The cells take every floor(j * in / out)-th pixel, as PyTorch's nearest interpolation does; where f does not divide
    the side, the first cells are a pixel larger (they need not agree with where `decode` cuts).

    Arguments:
        images: `[factor^2 n, side, side, channels]`.

    Returns:
        `[n, side, side, channels]`.
    """
    count, side = len(images) // factor**2, images.shape[1]
    sizes = [side // factor + (i < side % factor) for i in range(factor)]
    rows = []
    for i, height in enumerate(sizes):
        blocks = [images[(i * factor + j) * count :][:count] for j in range(factor)]
        row = [
            block[:, nearest(side, height)][:, :, nearest(side, width)]
            for block, width in zip(blocks, sizes, strict=True)
        ]
        rows.append(jnp.concatenate(row, axis=2))
    return jnp.concatenate(rows, axis=1)


def nearest(size: int, wanted: int) -> np.ndarray:
    """Returns `[wanted]` int: which pixels of a row of `size` remain when it is made `wanted` long: floor(j size /
    wanted)."""
    return np.arange(wanted) * size // wanted


def _plan(count: int, factor: int, formation: Formation, bound: int) -> list[tuple[int, int, int]]:
    """Returns `(factor, start, stop)` of the stretches of stored images that are decoded with one factor."""
    if formation == "single":
        return [(factor, 0, count)]
    if formation == "multi":
        return [(f, 0, count) for f in range(1, factor + 1)]
    stretches, start, total = [], 0, 0
    for f in range(factor, 0, -1):
        left = count - start
        room = (bound - total - left) // f**2
        taken = left if f == 1 else max(0, min(room, left))
        if taken:
            stretches.append((f, start, start + taken))
        start, total = start + taken, total + taken * f**2
    return stretches
