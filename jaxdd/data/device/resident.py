"""Preprocessing on the device: uint8 pixels go there once, and one compiled program makes of them what networks see.

    standardised   x scale + shift                 one affine map per channel
    zca            (standardised - mu) W           W = U diag(s^-1/2) U', in full float32, chunk by chunk
    layernorm_zca  unit(standardised) W            each image centred and scaled to norm 1

The numbers are those of `Preprocessing.apply`, which computes on the host, to float32 rounding.

Raw images may stay uint8 on the device, where a quarter of the memory counts: 13 000 images of 224 pixels are 2 GB, and
8 GB as float32. What is taken of them becomes float32 on the way (`Examples.take`), with the same numbers to the bit.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd.core import backend
from jaxdd.core.types import Array
from jaxdd.data.device.zca import Zca, from_blocks, to_blocks

CHUNK_BYTES = 64 << 20  # of float32 images that are under way at once, beside the uint8 and the finished ones


def resident_type(shape: Sequence[int], space: str, dtype: Any = jnp.float32) -> Any:
    """Returns the type in which images are best kept on the device: uint8 for raw ones that would fill it as float32.

    Arguments:
        shape: `(n, side, side, channels)` of all images.
        space: the preprocessing's; only raw images can stay uint8.
        dtype: what they are otherwise; of bfloat16, none stays uint8.
    """
    large = 4 * math.prod(shape) > backend.working_memory()
    return np.dtype(np.uint8 if space == "raw" and np.dtype(dtype) == np.float32 and large else dtype)


def place(pixels: np.ndarray, scale: np.ndarray, shift: np.ndarray, zca: Zca | None, dtype: Any = jnp.float32) -> Array:
    """Returns preprocessed images, resident on the device; the pixels are freed there again.

    Arguments:
        pixels: `[n, side, side, channels]` uint8.
        scale, shift: `[channels]` or `[1]` float32, on the scale of the pixels.
        zca: the whitening that follows, if any.
        dtype: of the result, float32 or bfloat16; computed in float32.

    Returns:
        `[n, side, side, channels]`.
    """
    shape = pixels.shape[1:]
    chunk = max(1, min(len(pixels), CHUNK_BYTES // (4 * int(np.prod(shape)))))
    channels = [np.broadcast_to(constant, shape[-1:]) for constant in (scale, shift)]
    whitening = None if zca is None else (zca.mean, zca.whitening)
    arguments = jax.device_put((pixels, *channels, whitening))  # explicitly: nothing is transferred by the way
    return _preprocess(*arguments, layernorm=zca is not None and zca.contrast is not None, chunk=chunk, dtype=dtype)


@functools.partial(jax.jit, static_argnames=("layernorm", "chunk", "dtype"))
def _preprocess(
    pixels: Array, scale: Array, shift: Array, whitening: Any, *, layernorm: bool, chunk: int, dtype: Any
) -> Array:
    count, *shape = pixels.shape

    def one(part: Array) -> Array:
        images = part.astype(jnp.float32) * scale[None, None, None] + shift[None, None, None]
        if whitening is None:
            return images.astype(dtype)
        mean, matrix = whitening
        centred: Any = _unit(images) if layernorm else images - mean[None]
        blocks: Any = jnp.matmul(to_blocks(centred), matrix, precision=jax.lax.Precision.HIGHEST)
        whitened: Any = from_blocks(blocks, tuple(shape))
        return whitened.astype(dtype)

    def body(i: Array, done: Array) -> Array:
        # The last chunk overlaps the one before, so that all are of one size; both write the same numbers there.
        start = jnp.minimum(i * chunk, count - chunk)
        part = one(jax.lax.dynamic_slice_in_dim(pixels, start, chunk))
        return jax.lax.dynamic_update_slice_in_dim(done, part, start, axis=0)

    return backend.loop(-(-count // chunk), body, jnp.empty(pixels.shape, dtype), unroll=False)


def _unit(images: Array) -> Array:
    """Centres each image and scales it to norm 1; one of equal numbers becomes 0."""
    centred = images - images.mean(axis=(1, 2, 3), keepdims=True)
    norm = jnp.sqrt(jnp.sum(centred**2, axis=(1, 2, 3), keepdims=True))
    return centred / jnp.where(norm > 0, norm, 1)
