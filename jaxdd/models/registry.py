"""From an architecture's name to a `Network`; every argument is checked here, before anything is traced."""

from __future__ import annotations

import math
from typing import Any

from jaxdd.core.errors import UsageError, choose
from jaxdd.core.precision import Precision, activations
from jaxdd.models.convnet import ConvNet
from jaxdd.models.crossarch import VGG11, VGG11_POOLS, AlexNet, ResNet18
from jaxdd.models.layers import GROUPS, NORMALIZATIONS, first_padding
from jaxdd.models.network import Network

NAMES = ("conv", "resnet", "vgg", "alexnet")
ALIASES = {"convnet": "conv", "resnet18": "resnet", "vgg11": "vgg"}
_DEPTHS = {"resnet": 18, "vgg": 11, "alexnet": 8}  # the only depth that these come in
_POOLS = {"resnet": 0, "vgg": VGG11_POOLS, "alexnet": 3}


def default_depth(resolution: int) -> int:
    """The ConvNet's depth for images of this side: the published 3 at 28 and 32, 4 at 64, 5 at 128 pixels.

    Those networks end in a 4x4 map: log2(resolution / 4), rounded; other sizes follow, but never fewer than 2 blocks
    (better than 1 or 3 on the 8x8 digits), more than 5, or more than leave one pixel.

    Arguments:
        resolution: the shorter side in pixels.
    """
    exact = math.log2(resolution)
    return min(max(2, round(exact) - 2), 5, max(1, math.floor(exact)))


def build(
    name: str,
    *,
    image_shape: tuple[int, int, int],
    classes: int,
    width: int = 128,
    depth: int | None = None,
    normalization: str = "identity",
    softplus_temp: float = 0.0,
    widening: bool = True,
    norm_first: bool = False,
    norm_epsilon: float | None = None,
    as_published: bool = True,
    precision: Precision = "float32",
) -> Network:
    """Makes a network.

    Arguments:
        name: `conv`, `resnet` (18 layers), `vgg` (11 layers) or `alexnet`; also `convnet`, `resnet18`, `vgg11`.
        image_shape: `(height, width, channels)`.
        classes: number of outputs, >= 1.
        width: channels of the ConvNet's first block. The others scale with it; 128 is their published size.
        depth: of the ConvNet, None for `default_depth`; the others have one depth only.
        normalization: `identity`, `batch`, `instance`, `layer` or `group`. AlexNet has none whatever this says.
        softplus_temp: beta of the ConvNet's activation, 0 for ReLU; the others always use ReLU.
        widening: whether the ConvNet's block i has `width * 2**i` channels (else `width`).
        norm_first: whether the ConvNet normalises before its convolutions, the first excepted, not after them (FRePo).
        norm_epsilon: of the ConvNet's normalisation; None for 1e-5 with `batch`, 1e-6 with the others.
        as_published: `vgg` and `resnet` with the slips of RCIG's released code (see `crossarch`), which its tables
            contain; False mends them.
        precision: `float32` or `bfloat16`; see `core.precision`.

    Raises:
        UsageError: an unknown word, a size out of range, or images too small for the pooling.
    """
    name = choose(ALIASES.get(name.lower(), name.lower()), NAMES, kind="architecture", where="architecture")
    normalization = choose(normalization, NORMALIZATIONS, kind="normalization", where="normalization")
    if depth is None:
        depth = _DEPTHS.get(name) or default_depth(min(image_shape[:2]))
    elif name in _DEPTHS and depth != _DEPTHS[name]:
        raise UsageError(f"{name} has no depth {depth}", where="depth", expected=f"{_DEPTHS[name]}, or none given")
    _check(name, image_shape, classes, width, depth, normalization)
    common: Any = {"classes": classes, "width": width}
    if name == "conv":
        module = ConvNet(
            depth=depth,
            widening=widening,
            normalization=normalization,
            norm_first=norm_first,
            norm_epsilon=norm_epsilon,
            softplus_temp=float(softplus_temp),
            **common,
        )
    elif name == "alexnet":
        module = AlexNet(**common)
    else:
        module = {"vgg": VGG11, "resnet": ResNet18}[name](
            normalization=normalization, as_published=as_published, **common
        )
    height, columns, channels = (int(side) for side in image_shape)
    return Network(module, (height, columns, channels), activations(precision))


def _check(
    name: str, image_shape: tuple[int, int, int], classes: int, width: int, depth: int, normalization: str
) -> None:
    narrowest = 1 if name == "conv" else 2  # below, the others would have layers without channels
    for where, value, least in (("classes", classes, 1), ("width", width, narrowest), ("depth", depth, 1)):
        if value < least:
            raise UsageError(f"{where} is {value}", where=where, expected=f"at least {least}")
    pools = _POOLS.get(name, depth)
    # The first layer pads images of one channel by two more pixels on each side.
    side = min(image_shape[:2]) + (2 * (first_padding(image_shape[2]) - 1) if name != "resnet" else 0)
    if side >> pools < 1:
        raise UsageError(
            f"images of {image_shape[0]}x{image_shape[1]} pixels are too small for {name} with {pools} poolings",
            where="depth" if name == "conv" else "architecture",
            expected=f"sides of at least {2**pools - (side - min(image_shape[:2]))} pixels",
            remedy=f"use depth {max(1, side.bit_length() - 1)} or less" if name == "conv" else "use conv",
        )
    if normalization == "group" and (width % GROUPS or (name == "resnet" and (width // 2) % GROUPS)):
        raise UsageError(
            f"group normalization has {GROUPS} groups, which do not divide width {width}",
            where="width",
            expected=f"a multiple of {GROUPS if name != 'resnet' else 2 * GROUPS}",
        )
