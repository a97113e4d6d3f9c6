"""Numbers for the tensors of a network in torch that any program can make again: integer arithmetic on name and index.

No two numbers of a tensor are equal, no bias is 0, no scale and no running statistic trivial: whatever is swapped or
transposed on its way shows.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping

import numpy as np

BITS = 24  # those that a float32 holds exactly


def uniform(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Of [0, 1), float64, a permutation of the multiples of 2^-24 that depends on the name."""
    mask = np.uint64((1 << BITS) - 1)
    x = (np.arange(np.prod(shape, dtype=int), dtype=np.uint64) + np.uint64(zlib.crc32(name.encode()))) & mask
    for factor in (0x85EBCB, 0xC2B2AF):  # odd: every step is one to one
        x ^= x >> np.uint64(13)
        x = (x * np.uint64(factor)) & mask
    return ((x ^ (x >> np.uint64(11))) / 2.0**BITS).reshape(shape)


def tensor(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Float32: kernels of variance 1 / fan-in; scales and running variances in [0.5, 1.5), the rest within 0.5 of 0."""
    numbers = uniform(name, shape)
    if len(shape) > 1:
        return ((2 * numbers - 1) * np.sqrt(3 / np.prod(shape[1:]))).astype(np.float32)
    centre = 1.0 if name.endswith((".running_var", ".weight")) else 0.0
    return (centre - 0.5 + numbers).astype(np.float32)


def images(count: int, side: int) -> np.ndarray:
    """Float32 within 2 of 0, as torch has them: `[count, 3, side, side]`."""
    return (4 * uniform("images", (count, 3, side, side)) - 2).astype(np.float32)


def signature(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Of names and shapes, in whatever order."""
    lines = sorted(f"{name} {list(shape)}" for name, shape in shapes.items() if "num_batches" not in name)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
