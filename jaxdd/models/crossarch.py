"""AlexNet, VGG11 and ResNet18 of the cross-architecture tables, as RCIG's code ships them or mended.

What is special about the published forms (`as_published=True`; facts from the code of arXiv 2302.06755):

* VGG11: every convolution has 128 filters, whatever the layer table says. Mended: 64 128 256 256 512 512 512 512.
* ResNet18: the requested normalisation reaches the stem only, not the blocks, and the last 4x4 map is flattened
  instead of averaged. Mended: every convolution is normalised, and the map is averaged over its pixels.
* All pool by average. Their BatchNorm keeps 0.9 of the old statistics, unlike the ConvNet's, which keeps 0.1.

`width` 128 gives the published sizes; other widths scale every layer.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn

from jaxdd.core.types import Array
from jaxdd.models import layers

VGG11_FILTERS = ((64,), (128,), (256, 256), (512, 512), (512, 512))  # a pooling after each group
VGG11_POOLS = len(VGG11_FILTERS)
RESNET18_FILTERS = (64, 128, 256, 512)
MOMENTUM = 0.9


class AlexNet(nn.Module):
    """Five convolutions, three average poolings, a classifier; no normalisation.

    Arguments:
        classes: number of outputs.
        width: channels of the first layer; the others scale with it.
        dtype: computation type of all but the classifier, None to follow the inputs.
    """

    classes: int
    width: int = 128
    dtype: Any = None

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> tuple[Array, tuple[Array, ...]]:
        """Returns logits `[n, classes]` and the features after each pooling, the last flattened to `[n, d]`."""
        x = images
        blocks = []
        for stage in (((128, 5),), ((192, 5),), ((256, 3), (192, 3), (192, 3))):
            for filters, kernel in stage:
                padding = None if blocks else layers.first_padding(images.shape[-1], kernel)
                features = filters * self.width // 128
                x = nn.relu(layers.convolution(features, kernel, padding=padding, dtype=self.dtype)(x))
            x = layers.average_pool(x)
            blocks.append(x)
        blocks[-1] = layers.flatten(x)
        return nn.Dense(self.classes)(blocks[-1]), tuple(blocks)


class VGG11(nn.Module):
    """Eight convolutions 3x3 with bias, five average poolings, a classifier.

    Arguments:
        classes: number of outputs.
        width: filters of every convolution as published; mended, 128 means the usual 64 to 512.
        normalization: one of `names.NORMALIZATIONS`; after each convolution.
        as_published: see the module's header.
        dtype: computation type of all but the classifier, None to follow the inputs.
    """

    classes: int
    width: int = 128
    normalization: str = "identity"
    as_published: bool = True
    dtype: Any = None

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> tuple[Array, tuple[Array, ...]]:
        """Returns logits `[n, classes]` and the features after each pooling, the last flattened to `[n, d]`."""
        x = images
        blocks = []
        for stage in VGG11_FILTERS:
            for filters in stage:
                features = self.width if self.as_published else filters * self.width // 128
                padding = None if blocks else layers.first_padding(images.shape[-1])
                x = layers.convolution(features, padding=padding, dtype=self.dtype)(x)
                x = layers.normalize(x, self.normalization, train=train, momentum=MOMENTUM, dtype=self.dtype)
                x = nn.relu(x)
            x = layers.average_pool(x)
            blocks.append(x)
        blocks[-1] = layers.flatten(x)
        return nn.Dense(self.classes)(blocks[-1]), tuple(blocks)


class BasicBlock(nn.Module):
    """Two convolutions 3x3 beside a shortcut; all without bias.

    Arguments:
        features: output channels.
        stride: of the first convolution and of the shortcut, which is a 1x1 convolution where the shape changes.
        normalization: one of `names.NORMALIZATIONS`; after each convolution.
        dtype: computation type, None to follow the inputs.
    """

    features: int
    stride: int = 1
    normalization: str = "identity"
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Returns `[n, height / stride, width / stride, features]`."""

        def step(y, kernel, stride):
            y = layers.convolution(self.features, kernel, stride=stride, use_bias=False, dtype=self.dtype)(y)
            return layers.normalize(y, self.normalization, train=train, momentum=MOMENTUM, dtype=self.dtype)

        y = step(nn.relu(step(x, 3, self.stride)), 3, 1)
        if self.stride != 1 or x.shape[-1] != self.features:
            x = step(x, 1, self.stride)
        return nn.relu(y + x)


class ResNet18(nn.Module):
    """A stem for small images (3x3, no pooling), four stages of two basic blocks, a classifier.

    Arguments:
        classes: number of outputs.
        width: 128 means stages of 64, 128, 256 and 512 channels.
        normalization: one of `names.NORMALIZATIONS`.
        as_published: see the module's header.
        dtype: computation type of all but the classifier, None to follow the inputs.
    """

    classes: int
    width: int = 128
    normalization: str = "identity"
    as_published: bool = True
    dtype: Any = None

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> tuple[Array, tuple[Array, ...]]:
        """Returns logits `[n, classes]` and the features after stem, stages and flattening, the last `[n, d]`."""
        inner = "identity" if self.as_published else self.normalization
        x = layers.convolution(self.width // 2, use_bias=False, dtype=self.dtype)(images)
        x = nn.relu(layers.normalize(x, self.normalization, train=train, momentum=MOMENTUM, dtype=self.dtype))
        blocks = [x]
        for stage, filters in enumerate(RESNET18_FILTERS):
            for block in range(2):
                stride = 2 if stage and block == 0 else 1
                x = BasicBlock(filters * self.width // 128, stride, inner, self.dtype)(x, train)
            blocks.append(x)
        blocks.append(layers.flatten(x) if self.as_published else x.mean((1, 2)))
        return nn.Dense(self.classes)(blocks[-1]), tuple(blocks)
