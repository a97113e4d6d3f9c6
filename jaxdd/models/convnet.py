"""The ConvNet that dataset distillation is measured on (arXiv 2006.05929; widening blocks: arXiv 2206.00719)."""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn

from jaxdd.core.types import Array
from jaxdd.models import layers, pytorch

INITIALIZATIONS = ("flax", "pytorch")


class ConvNet(nn.Module):
    """`depth` blocks of convolution 3x3 with bias, normalisation, activation, 2x2 average pooling; then a classifier.

    Parameters are `Conv_i`, `BatchNorm_i` (`GroupNorm_i`, `LayerNorm_i`) and `Dense_0`.

    Arguments:
        classes: number of outputs.
        depth: number of blocks; each halves the image.
        width: channels of the first block.
        widening: block i has `width * 2**i` channels (RCIG, FRePo); else all have `width` (DC and its descendants).
        normalization: one of `names.NORMALIZATIONS`; after the convolution.
        norm_first: before the convolution, and before the first none (FRePo).
        norm_epsilon: of the normalisation, None for RCIG's and FRePo's; DC and its descendants use 1e-5 throughout.
        norm_pytorch: running statistics of `batch` as PyTorch keeps them (`models.pytorch`); else RCIG's: new ones
            weigh 0.9, and the variance is biased.
        initialization: one of `INITIALIZATIONS`: `flax` draws lecun_normal kernels and zero biases, `pytorch` both
            uniformly (`models.pytorch`), as DC and its descendants do.
        softplus_temp: beta of the activation softplus(beta x) / beta; 0 means ReLU.
        dtype: computation type of all but the classifier, None to follow the inputs.
    """

    classes: int
    depth: int = 3
    width: int = 128
    widening: bool = True
    normalization: str = "identity"
    norm_first: bool = False
    norm_epsilon: float | None = None
    norm_pytorch: bool = False
    initialization: str = "flax"
    softplus_temp: float = 0.0
    dtype: Any = None

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> tuple[Array, tuple[Array, ...]]:
        """Returns logits `[n, classes]` and the features after each block, the last flattened to `[n, d]`."""
        x = images
        blocks = []
        activation = layers.activation(self.softplus_temp)
        running = {"momentum": pytorch.MOMENTUM, "unbiased": True} if self.norm_pytorch else {}
        normalize = functools.partial(
            layers.normalize,
            kind=self.normalization,
            train=train,
            epsilon=self.norm_epsilon,
            dtype=self.dtype,
            **running,
        )
        for block in range(self.depth):
            features = self.width * 2**block if self.widening else self.width
            padding = layers.first_padding(images.shape[-1]) if block == 0 else 1
            drawn = self._drawn(9 * x.shape[-1])
            convolve = layers.convolution(features, padding=padding, dtype=self.dtype, **drawn)
            x = convolve(normalize(x) if self.norm_first and block else x)
            x = x if self.norm_first else normalize(x)
            x = layers.average_pool(activation(x))
            blocks.append(x)
        blocks[-1] = layers.flatten(x)
        return nn.Dense(self.classes, **self._drawn(blocks[-1].shape[-1]))(blocks[-1]), tuple(blocks)

    def _drawn(self, fan_in: int) -> dict[str, Any]:
        return pytorch.uniform(fan_in) if self.initialization == "pytorch" else {}
