"""MLP, LeNet, AlexNet and VGG11 of dataset condensation's tables (DC, arXiv 2006.05929), drawn as PyTorch does.

AlexNet and VGG11 pool by maximum here, unlike those of `crossarch`. `width` 128 gives the published sizes; other widths
scale every layer.
"""

from __future__ import annotations

import itertools
from typing import Any, ClassVar

import flax.linen as nn

from jaxdd.core.types import Array
from jaxdd.models import layers, pytorch
from jaxdd.models.crossarch import VGG11_FILTERS

ALEXNET_LAYERS = (
    ((128, 5),),
    ((192, 5),),
    ((256, 3), (192, 3), (192, 3)),
)  # (filters, kernel); a pooling after each group
VGG11_LAYERS = tuple(map(tuple, map(itertools.product, VGG11_FILTERS, itertools.repeat((3,)))))


class MLP(nn.Module):
    """Two hidden layers, `Hidden_i`, and a classifier.

    Arguments:
        classes: number of outputs.
        width: of the hidden layers.
        dtype: computation type of all but the classifier, None to follow the inputs.
    """

    classes: int
    width: int = 128
    dtype: Any = None

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> tuple[Array, tuple[Array, ...]]:
        """Returns logits `[n, classes]` and the hidden layers `[n, width]`."""
        blocks = _hidden(layers.flatten(images), (self.width, self.width), self.dtype)
        return pytorch.dense(self.width, self.classes)(blocks[-1]), blocks


class LeNet(nn.Module):
    """Two convolutions 5x5 of 6 and 16 filters, each with a pooling; hidden layers of 120 and 84; a classifier.

    Arguments:
        classes: number of outputs.
        width: 128 means the sizes above.
        dtype: computation type of all but the classifier, None to follow the inputs.
    """

    classes: int
    width: int = 128
    dtype: Any = None

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> tuple[Array, tuple[Array, ...]]:
        """Returns logits `[n, classes]` and the features after each pooling and each hidden layer."""
        x = images
        maps = []
        for filters in (6, 16):
            padding = 2 if images.shape[-1] == 1 and not maps else 0  # brings 28x28 to 32x32
            features = layers.scaled(filters, self.width)
            x = pytorch.convolution(x.shape[-1], features, 5, padding=padding, dtype=self.dtype)(x)
            x = layers.max_pool(nn.relu(x))
            maps.append(x)
        hidden = _hidden(layers.flatten(x), [layers.scaled(size, self.width) for size in (120, 84)], self.dtype)
        return pytorch.dense(hidden[-1].shape[-1], self.classes)(hidden[-1]), (*maps, *hidden)


class _Staged(nn.Module):
    """Stages of convolutions, each with a pooling by maximum, and a classifier.

    Arguments:
        classes: number of outputs.
        width: 128 means the published numbers of filters.
        normalization: one of `names.NORMALIZATIONS`; after each convolution.
        dtype: computation type of all but the classifier, None to follow the inputs.
    """

    classes: int
    width: int = 128
    normalization: str = "identity"
    dtype: Any = None

    stages: ClassVar[Any] = ()  # of each stage the layers' filters and sizes

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> tuple[Array, tuple[Array, ...]]:
        """Returns logits `[n, classes]` and the features after each pooling, the last flattened to `[n, d]`."""
        x = images
        blocks = []
        for stage in self.stages:
            for filters, kernel in stage:
                padding = layers.first_padding(images.shape[-1], kernel) if x is images else None
                features = layers.scaled(filters, self.width)
                x = pytorch.convolution(x.shape[-1], features, kernel, padding=padding, dtype=self.dtype)(x)
                x = nn.relu(pytorch.normalize(x, self.normalization, train=train, dtype=self.dtype))
            x = layers.max_pool(x)
            blocks.append(x)
        blocks[-1] = layers.flatten(x)
        return pytorch.dense(blocks[-1].shape[-1], self.classes)(blocks[-1]), tuple(blocks)


class AlexNet(_Staged):
    """Five convolutions, three poolings by maximum, a classifier; `width` filters in the first convolution."""

    stages: ClassVar[Any] = ALEXNET_LAYERS


class VGG11(_Staged):
    """Eight convolutions 3x3, five poolings by maximum, a classifier; of width 128 the usual 64 to 512 filters."""

    normalization: str = "instance"
    stages: ClassVar[Any] = VGG11_LAYERS


def _hidden(x: Array, sizes: Any, dtype: Any) -> tuple[Array, ...]:
    blocks = []
    for i, size in enumerate(sizes):  # named by hand: `Dense_0` is the classifier, in every network
        x = nn.relu(pytorch.dense(x.shape[-1], size, dtype=dtype, name=f"Hidden_{i}")(x))
        blocks.append(x)
    return tuple(blocks)
