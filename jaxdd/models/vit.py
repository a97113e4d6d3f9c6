"""A vision transformer whose normalisations are all by batch, so that SRe2L can match their statistics: BN-ViT.

    tokens x = [class token, patches W + b] + positions         [n, 1 + patches, width]
    layer    x <- x + attention(bn(x));  x <- x + W2 gelu(bn(W1 bn(x)))
    logits   W bn(x)[class token]
    attention(x) = softmax(q k^T / sqrt(d)) v, side by side for every head, times W;  [q, k, v] = x [Wq, Wk, Wv]

bn is over images and tokens together, as PyTorch's BatchNorm1d of `[n * tokens, width]`. It stands wherever DeiT-Tiny
(arXiv 2012.12877) has a layer normalisation, and once more within the perceptron: so have it the authors of SRe2L
(arXiv 2306.13092, VILA-Lab/SRe2L issue 7). Sizes are DeiT-Tiny's: 12 layers, 192 channels, 3 heads of 64, 4 * 192
hidden units, patches of 16 pixels at 224. There is no dropout.

Kernels, class token and positions are drawn from N(0, 0.02^2); biases are 0.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdd.core.types import Array
from jaxdd.models import layers, pytorch

DEPTHS = (12, 6, 3)  # the published one, and smaller ones for small sets
HEADS = 3
HEAD_SIZE = 64
EXPANSION = 4  # hidden units per channel
LARGEST_PATCH = 16
DRAW = nn.initializers.normal(0.02)


def patch_for(side: int) -> int:
    """Returns the side of a patch for images of this side: 4 pixels at 32, 8 at 64, 16 at 224 (8 to 15 in a row)."""
    return min(LARGEST_PATCH, 2 ** max(0, math.floor(math.log2(side)) - 3))


class Attention(nn.Module):
    """Every token attends to every token; see the module's header.

    Arguments:
        heads: number of heads; it divides the channels.
        dtype: computation type, None to follow the inputs.
    """

    heads: int
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Returns `[n, tokens, channels]`."""
        n, tokens, channels = x.shape
        dense = functools.partial(nn.Dense, kernel_init=DRAW, dtype=self.dtype)
        q, k, v = jnp.moveaxis(dense(3 * channels)(x).reshape(n, tokens, 3, self.heads, -1), 2, 0)
        similarity = jnp.einsum("nqhd,nkhd->nhqk", q, k) / math.sqrt(channels // self.heads)
        weights = jax.nn.softmax(similarity.astype(jnp.promote_types(similarity.dtype, jnp.float32)))
        mixed = jnp.einsum("nhqk,nkhd->nqhd", weights.astype(v.dtype), v)
        return dense(channels)(mixed.reshape(n, tokens, channels))


class Layer(nn.Module):
    """Attention and a perceptron, each beside a shortcut; see the module's header.

    Arguments:
        heads: of the attention.
        train: whether the batch's own statistics normalise.
        dtype: computation type, None to follow the inputs.
    """

    heads: int
    train: bool
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Returns `[n, tokens, channels]`."""
        normalize = functools.partial(pytorch.normalize, kind="batch", train=self.train, dtype=self.dtype)
        dense = functools.partial(nn.Dense, kernel_init=DRAW, dtype=self.dtype)
        channels = x.shape[-1]
        x = x + Attention(self.heads, self.dtype)(normalize(x))
        hidden = normalize(dense(EXPANSION * channels)(normalize(x)))
        return x + dense(channels)(nn.gelu(hidden, approximate=False))


class ViT(nn.Module):
    """Patches, layers, a classifier; see the module's header.

    Arguments:
        classes: number of outputs.
        depth: number of layers.
        width: 128 means the published 192 channels; others scale with it.
        patch: side of a patch in pixels; what it does not divide is dropped on the right and at the bottom.
        dtype: computation type of all but the classifier, None to follow the inputs.
    """

    classes: int
    depth: int = 12
    width: int = 128
    patch: int = 16
    dtype: Any = None

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> tuple[Array, tuple[Array, ...]]:
        """Returns logits `[n, classes]` and tokens after embedding and each layer; last, the class token's `[n, d]`."""
        channels = HEADS * layers.scaled(HEAD_SIZE, self.width)
        x = nn.Dense(channels, kernel_init=DRAW, dtype=self.dtype, name="patches")(self._cut(images))
        first = self.param("class_token", DRAW, (1, 1, channels)).astype(x.dtype)
        x = jnp.concatenate([jnp.broadcast_to(first, (len(x), 1, channels)), x], axis=1)
        x = x + self.param("positions", DRAW, (1, *x.shape[1:])).astype(x.dtype)
        blocks = [x]
        for _ in range(self.depth):
            blocks.append(Layer(HEADS, train, self.dtype)(blocks[-1]))
        x = pytorch.normalize(blocks[-1], "batch", train=train, dtype=self.dtype)
        return nn.Dense(self.classes, kernel_init=DRAW, name="Dense_0")(x[:, 0]), (*blocks, x[:, 0])

    def _cut(self, images: Array) -> Array:
        """Returns the patches row by row, `[n, patches, patch * patch * channels]`."""
        n, height, width, channels = images.shape
        rows, columns, side = height // self.patch, width // self.patch, self.patch
        images = images[:, : rows * side, : columns * side].reshape(n, rows, side, columns, side, channels)
        return images.swapaxes(2, 3).reshape(n, rows * columns, side * side * channels)
