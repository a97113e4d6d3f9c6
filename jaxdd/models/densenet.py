"""The DenseNet for CIFAR that IDC (arXiv 2205.14959) and its descendants judge by and call DenseNet-100.

    dense layer    x <- [conv3x3(relu(norm(conv1x1(relu(norm(x)))))), x]      4 growth, then growth channels, put first
    transition     x <- mean2x2(conv1x1(relu(norm(x))))                       half the channels
    head           the mean over the pixels of relu(norm(x)), a classifier

Its layout is that of 121 layers, with a growth of 12 channels. Everything is normalised by batch, no convolution has a
bias, and all is drawn as PyTorch does.
"""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from jaxdd.core.types import Array
from jaxdd.models import layers, pytorch

LAYOUT = (6, 12, 24, 16)
GROWTH = 12


class DenseNet(nn.Module):
    """A convolution 3x3, four dense blocks with a transition between two, a classifier; see the module's header.

    Arguments:
        classes: number of outputs.
        width: 128 means a growth of 12 channels.
        layout: dense layers of each block.
        dtype: computation type of all but the classifier, None to follow the inputs.
    """

    classes: int
    width: int = 128
    layout: tuple[int, ...] = LAYOUT
    dtype: Any = None

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> tuple[Array, tuple[Array, ...]]:
        """Returns logits `[n, classes]`, and features after stem, transitions, last block and averaging, `[n, d]`."""
        growth = layers.scaled(GROWTH, self.width)
        convolution = functools.partial(pytorch.convolution, use_bias=False, dtype=self.dtype)

        def activate(x):
            return nn.relu(pytorch.normalize(x, "batch", train=train, dtype=self.dtype))

        x = convolution(images.shape[-1], 2 * growth)(images)
        blocks = [x]
        for stage, count in enumerate(self.layout):
            if stage:
                x = layers.average_pool(convolution(x.shape[-1], x.shape[-1] // 2, 1)(activate(x)))
                blocks.append(x)
            for _ in range(count):
                new = convolution(x.shape[-1], 4 * growth, 1)(activate(x))
                new = convolution(4 * growth, growth)(activate(new))
                x = jnp.concatenate([new, x], axis=-1)
        blocks += [x, activate(x).mean((1, 2))]
        return pytorch.dense(blocks[-1].shape[-1], self.classes)(blocks[-1]), tuple(blocks)
