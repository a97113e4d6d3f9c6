"""ResNet-18, -34, -50 and -101 as torchvision has them: the teachers and students of SRe2L, CDA and their successors.

    basic block (18, 34)    relu(bn(conv3x3(relu(bn(conv3x3(x))))) + shortcut(x))
    bottleneck (50, 101)    relu(bn(conv1x1(relu(bn(conv3x3(relu(bn(conv1x1(x))))))) + shortcut(x))
    shortcut                x, or bn(conv1x1(x)) where stride or channels change

The stride is that of the first 3x3 convolution, and of the shortcut (torchvision's bottleneck, "ResNet v1.5"). A
bottleneck has four times as many channels as its 3x3 convolution. No convolution has a bias.

| stem       | layers                              | for                  |
|------------|-------------------------------------|----------------------|
| `imagenet` | 7x7 by 2, bn, relu, max of 3x3 by 2 | 224 pixels           |
| `small`    | 3x3, bn, relu                       | CIFAR, Tiny-ImageNet |

Kernels are drawn from N(0, 2 / (kernel area * outputs)), the classifier as PyTorch does. Modules are created in the
order in which torchvision's parameters are listed (`models.imported` rests on it): in a block first those of the main
path, then those of the shortcut.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn

from jaxdd.core.types import Array
from jaxdd.models import layers, pytorch

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}  # depth -> blocks per stage
BOTTLENECK_FROM = 50
EXPANSION = 4
FILTERS = (64, 128, 256, 512)
STEMS = ("imagenet", "small")
SMALL_TO = 64  # side in pixels up to which the published networks have the small stem
HE_FAN_OUT = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


def stem_for(side: int) -> str:
    """Returns the stem for images of this side in pixels, as published."""
    return "small" if side <= SMALL_TO else "imagenet"


class Block(nn.Module):
    """One residual block; see the module's header.

    Arguments:
        features: channels of its 3x3 convolutions.
        stride: 2 halves the image.
        bottleneck: whether it is a bottleneck.
        convolution: `(inputs, features, kernel, stride=1) -> flax.linen.Conv`.
        normalize: applied after each convolution.
    """

    features: int
    stride: int
    bottleneck: bool
    convolution: Callable[..., nn.Conv]
    normalize: Callable[[Array], Array]

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Returns `[n, height / stride, width / stride, channels]`."""
        inputs, features = x.shape[-1], self.features
        if self.bottleneck:
            outputs = EXPANSION * features
            y = nn.relu(self.normalize(self.convolution(inputs, features, 1)(x)))
            y = nn.relu(self.normalize(self.convolution(features, features, 3, stride=self.stride)(y)))
            y = self.normalize(self.convolution(features, outputs, 1)(y))
        else:
            outputs = features
            y = nn.relu(self.normalize(self.convolution(inputs, features, 3, stride=self.stride)(x)))
            y = self.normalize(self.convolution(features, features, 3)(y))
        if self.stride != 1 or inputs != outputs:
            x = self.normalize(self.convolution(inputs, outputs, 1, stride=self.stride)(x))
        return nn.relu(y + x)


class ResNet(nn.Module):
    """A stem, four stages, the mean over the pixels, a classifier; see the module's header.

    Arguments:
        classes: number of outputs.
        depth: 18, 34, 50 or 101.
        width: 128 means the published channels, 64 to 512; others scale with it.
        stem: one of `STEMS`.
        dtype: computation type of all but the classifier, None to follow the inputs.
    """

    classes: int
    depth: int = 18
    width: int = 128
    stem: str = "imagenet"
    dtype: Any = None

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> tuple[Array, tuple[Array, ...]]:
        """Returns logits `[n, classes]`, and features after stem, stages and averaging (0, 1 to 4, 5: `[n, d]`)."""
        options = {"kernel_init": HE_FAN_OUT, "use_bias": False, "dtype": self.dtype}
        convolution = functools.partial(pytorch.convolution, **options)
        normalize = functools.partial(pytorch.normalize, kind="batch", train=train, dtype=self.dtype)
        filters = [layers.scaled(each, self.width) for each in FILTERS]
        large = self.stem == "imagenet"
        x = convolution(images.shape[-1], filters[0], 7 if large else 3, stride=2 if large else 1)(images)
        x = nn.relu(normalize(x))
        if large:
            around: Any = ((1, 1), (1, 1))
            x = nn.max_pool(x, (3, 3), (2, 2), around)
        blocks = [x]
        for stage, (features, count) in enumerate(zip(filters, BLOCKS[self.depth], strict=True)):
            for block in range(count):
                stride = 2 if stage and block == 0 else 1
                x = Block(features, stride, self.depth >= BOTTLENECK_FROM, convolution, normalize)(x)
            blocks.append(x)
        blocks.append(x.mean((1, 2)))
        return pytorch.dense(blocks[-1].shape[-1], self.classes)(blocks[-1]), tuple(blocks)
