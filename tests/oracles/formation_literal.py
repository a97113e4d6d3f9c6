"""Multi-formation as published (IDC, arXiv 2205.14959), cell by cell and pixel by pixel.

f       factor    an image is cut into f x f cells, each enlarged to a training image
s       side of a cell, ceil(side / f); the image is padded with 0.5 on the right and below
B       bound     most training images that one class may become
"""

import jax.numpy as jnp
import numpy as np


def decode(stored, factor, kind, bound):
    """Stored images -> training images, cell by cell."""
    if kind == "single":
        return single(stored, factor)
    if kind == "multi":
        return jnp.concatenate([single(stored, f) for f in range(1, factor + 1)])
    m, used, total, found = len(stored), 0, 0, []
    for f in range(factor, 0, -1):
        budget = m - used
        current = bound - total - budget
        n = min(current // f**2, budget) if f > 1 else budget
        if n > 0:
            found.append(single(stored[used : used + n], f))
            used, total = used + n, total + n * f**2
    return jnp.concatenate(found)


def single(stored, f):
    """All images' first cell, then all images' second one, ..., each enlarged bilinearly."""
    if f == 1:
        return stored
    side = stored.shape[1]
    rest = (f - side % f) % f
    if rest:
        stored = jnp.pad(stored, ((0, 0), (0, rest), (0, rest), (0, 0)), constant_values=0.5)
    s = -(-side // f)
    cells = [stored[:, i * s : (i + 1) * s, j * s : (j + 1) * s] for i in range(f) for j in range(f)]
    up = np.zeros((side, s))
    for row in range(side):
        place = max((row + 0.5) * s / side - 0.5, 0)
        low = int(place)
        up[row, low] += 1 - (place - low)
        up[row, min(low + 1, s - 1)] += place - low
    up = jnp.asarray(up, stored.dtype)
    return jnp.concatenate([jnp.einsum("ai,nijc,bj->nabc", up, cell, up, precision="highest") for cell in cells])


def paste(images, f, m):
    """Image k m + i becomes, made smaller, cell k of image i."""
    side = images.shape[1]
    sizes = [side // f + (1 if i < side % f else 0) for i in range(f)]
    canvases = np.zeros((m, side, side, images.shape[-1]), images.dtype)
    for k in range(f * f):
        height, width = sizes[k // f], sizes[k % f]
        top, left = sum(sizes[: k // f]), sum(sizes[: k % f])
        for i in range(m):
            for a in range(height):
                for b in range(width):
                    canvases[i, top + a, left + b] = images[k * m + i, a * side // height, b * side // width]
    return canvases
