"""ResNet and ResNetAP of IDC (arXiv 2205.14959), which distils ImageNet with the latter, and those of DC (2006.05929).

A stem, four stages of basic blocks, the mean over the pixels, a classifier. A block is

    block(x) = relu(norm(conv3x3(relu(norm(conv3x3(x))))) + shortcut(x)),    shortcut(x) = x or norm(conv1x1(x)).

What halves the image in the first block of stages 2 to 4, and in the stem of larger images:

|              | ResNet                    | ResNetAP (`pools`)                       |
|--------------|---------------------------|------------------------------------------|
| block        | stride of the first 3x3   | mean of 2x2 before the second 3x3        |
| its shortcut | stride of the 1x1         | mean of 2x2 between the 1x1 and its norm |
| stem `small` | 3x3                       | 3x3                                      |
| stem `mid`   | 3x3, max of 3x3 by 2      | 3x3, mean of 2x2                         |
| stem `large` | 7x7 by 2, max of 3x3 by 2 | 7x7, mean of 4x4                         |

IDC draws kernels from N(0, 2 / (kernel area * outputs)), and for CIFAR it halves the channels. DC draws them as PyTorch
does, has the small stem only, and its ResNetAP flattens the last map in place of the mean. Both draw the classifier as
PyTorch does.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn

from jaxdd.core.types import Array
from jaxdd.models import layers, pytorch

BLOCKS = {10: 1, 18: 2}  # depth -> basic blocks per stage
FILTERS = (64, 128, 256, 512)
STEMS = ("small", "mid", "large")
HE_FAN_OUT = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


def stem_for(side: int) -> str:
    """Returns IDC's stem for images of this side in pixels: `small` to 64, `mid` to 128, `large` beyond."""
    return STEMS[(side > 64) + (side > 128)]


class BasicBlock(nn.Module):
    """Two convolutions 3x3 beside a shortcut; see the module's header.

    Arguments:
        features: output channels.
        stride: 2 halves the image.
        pools: by average pooling, else by strides.
        convolution: `(inputs, features, kernel, stride=1) -> flax.linen.Conv`.
        normalize: applied after each convolution.
    """

    features: int
    stride: int
    pools: bool
    convolution: Callable[..., nn.Conv]
    normalize: Callable[[Array], Array]

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Returns `[n, height / stride, width / stride, features]`."""
        stride = 1 if self.pools else self.stride
        pool = layers.average_pool if self.pools and self.stride == 2 else lambda y: y
        y = self.convolution(x.shape[-1], self.features, 3, stride=stride)(x)
        y = pool(nn.relu(self.normalize(y)))
        y = self.normalize(self.convolution(self.features, self.features, 3)(y))
        if self.stride != 1 or x.shape[-1] != self.features:
            x = self.normalize(pool(self.convolution(x.shape[-1], self.features, 1, stride=stride)(x)))
        return nn.relu(y + x)


class ResNet(nn.Module):
    """A stem, four stages, the mean over the pixels, a classifier; see the module's header.

    Arguments:
        classes: number of outputs.
        depth: 10 or 18.
        width: 128 means stages of 64, 128, 256 and 512 channels.
        normalization: one of `names.NORMALIZATIONS`. ResNetAP's convolutions have a bias where it is `identity`.
        pools: whether average pooling takes the place of strides (ResNetAP).
        stem: one of `STEMS`.
        cifar: half the channels.
        from_dc: DC's form: kernels drawn as PyTorch does, and with `pools` the last map flattened.
        dtype: computation type of all but the classifier, None to follow the inputs.
    """

    classes: int
    depth: int = 10
    width: int = 128
    normalization: str = "instance"
    pools: bool = False
    stem: str = "small"
    cifar: bool = False
    from_dc: bool = False
    dtype: Any = None

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> tuple[Array, tuple[Array, ...]]:
        """Returns logits `[n, classes]`, and features after stem, stages and averaging (0, 1 to 4, 5: `[n, d]`)."""
        options: dict[str, Any] = {} if self.from_dc else {"kernel_init": HE_FAN_OUT}
        bias = self.pools and self.normalization == "identity"
        convolution = functools.partial(pytorch.convolution, use_bias=bias, dtype=self.dtype, **options)
        normalize = functools.partial(pytorch.normalize, kind=self.normalization, train=train, dtype=self.dtype)
        filters = [layers.scaled(each // 2 if self.cifar else each, self.width) for each in FILTERS]
        x = self._enter(images, filters[0], convolution, normalize)
        blocks = [x]
        for stage, features in enumerate(filters):
            for block in range(BLOCKS[self.depth]):
                stride = 2 if stage and block == 0 else 1
                x = BasicBlock(features, stride, self.pools, convolution, normalize)(x)
            blocks.append(x)
        blocks.append(layers.flatten(x) if self.pools and self.from_dc else x.mean((1, 2)))
        return pytorch.dense(blocks[-1].shape[-1], self.classes)(blocks[-1]), tuple(blocks)

    def _enter(self, images: Array, features: int, convolution: Callable, normalize: Callable) -> Array:
        large = self.stem == "large"
        stride = 2 if large and not self.pools else 1
        x = convolution(images.shape[-1], features, 7 if large else 3, stride=stride)(images)
        x = nn.relu(normalize(x))
        if self.stem == "small":
            return x
        if not self.pools:
            around: Any = ((1, 1), (1, 1))
            return nn.max_pool(x, (3, 3), (2, 2), around)
        return layers.average_pool(layers.average_pool(x) if large else x)  # the mean of 4x4, if twice
