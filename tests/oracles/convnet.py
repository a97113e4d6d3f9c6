"""The small ConvNet that the RCIG and FRePo papers distil with, as a plain Flax module.

Each of `depth` blocks is: 3x3 convolution with `width * 2**i` channels and bias, optional BatchNorm, activation, 2x2
average pooling. A Dense layer follows the flattened features. One-channel images are padded by 3 in the first block, so
that 28x28 becomes 32x32.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax

Variables = Mapping[str, Any]


class ConvNet(nn.Module):
    """ConvNet with parameters `Conv_i`, `BatchNorm_i` (if `batch_norm`) and `Dense_0`.

    Attributes:
        classes: number of outputs.
        width: channels of the first block; block i has `width * 2**i`.
        depth: number of blocks; each halves the image.
        softplus_temp: beta of the activation softplus(beta x) / beta; 0 means ReLU.
        batch_norm: BatchNorm after each convolution (eps 1e-5; new statistics weigh 0.9).
        dtype: computation type.
    """

    classes: int
    width: int = 128
    depth: int = 3
    softplus_temp: float = 60.0
    batch_norm: bool = False
    dtype: Any = None

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> tuple[jax.Array, jax.Array]:
        """Returns (logits [n, classes], flattened features [n, d])."""
        x = images
        for block in range(self.depth):
            pad = 3 if block == 0 and images.shape[-1] == 1 else 1
            x = nn.Conv(self.width * 2**block, (3, 3), padding=((pad, pad), (pad, pad)), dtype=self.dtype)(x)
            if self.batch_norm:
                x = nn.BatchNorm(use_running_average=not train, epsilon=1e-5, momentum=0.1, dtype=self.dtype)(x)
            beta = self.softplus_temp
            x = nn.softplus(beta * x) / beta if beta else nn.relu(x)
            x = nn.avg_pool(x, (2, 2), strides=(2, 2))
        features = x.reshape((x.shape[0], -1))
        return nn.Dense(self.classes, dtype=self.dtype)(features), features


def apply_fn(net: ConvNet):
    """The network as the oracle takes it: `apply(variables, images, train) -> (logits, features, batch_stats)`."""

    def apply(variables: Variables, images: jax.Array, train: bool = False):
        (logits, features), updated = net.apply(variables, images, train=train, mutable=["batch_stats"])
        return logits, features, updated.get("batch_stats")

    return apply
