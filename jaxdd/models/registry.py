"""From an architecture's name to a `Network`; every argument is checked here, before anything is traced.

| name                    | network                                       | normalised by                   |
|-------------------------|-----------------------------------------------|---------------------------------|
| conv                    | ConvNet of RCIG and FRePo, of DC and IDC (*)  | as asked                        |
| resnet, vgg, alexnet    | RCIG's cross-architecture forms (`crossarch`) | as asked; alexnet by nothing    |
| resnet_ap, resnet_idc   | IDC's ResNetAP and ResNet (`resnet`)          | as asked; published: instance   |
| resnet_ap_dc, resnet_dc | DC's                                          | as asked; instance or batch     |
| densenet                | IDC's DenseNet for CIFAR (`densenet`)         | batch                           |
| alexnet_dc              | DC's AlexNet (`condensation`)                 | as asked; nothing or batch      |
| vgg_dc                  | DC's VGG11                                    | as asked; instance or batch     |
| mlp, lenet              | DC's                                          | nothing                         |
| torchvision_resnet      | torchvision's ResNets (`torchvision`)         | batch                           |
| vit_bn                  | DeiT-Tiny normalised by batch (`vit`)         | batch                           |

(*) with `widening=False, norm_epsilon=1e-5, initialization="pytorch"`, `normalization="instance"` as a rule
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import flax.linen as nn

from jaxdd.core.errors import UsageError, choose
from jaxdd.core.precision import Precision, activations
from jaxdd.models import condensation, crossarch, torchvision, vit
from jaxdd.models.convnet import INITIALIZATIONS, ConvNet
from jaxdd.models.densenet import DenseNet
from jaxdd.models.layers import GROUPS, first_padding
from jaxdd.models.names import ALIASES, NAMES, NORMALIZATIONS
from jaxdd.models.network import Network
from jaxdd.models.resnet import BLOCKS, ResNet, stem_for


class Traits(NamedTuple):
    """Sizes that an architecture can have.

    Arguments:
        depths: those that it comes in, the default first; none: any.
        pools: halvings that need two pixels each; None for as many as the depth.
        pads: whether images of one channel get two more pixels on each side.
        least_width: below, it would have layers without channels.
        grouping: widths whose layers GROUPS groups divide are multiples of this; None: it has no such layers.
    """

    depths: tuple[int, ...]
    pools: int | None = 0
    pads: bool = False
    least_width: int = 1
    grouping: int | None = None


_RESIDUAL = tuple(BLOCKS)
TRAITS = {
    "conv": Traits((), None, True, 1, GROUPS),
    "resnet": Traits((18,), 0, False, 2, 2 * GROUPS),
    "vgg": Traits((11,), crossarch.VGG11_POOLS, True, 2, GROUPS),
    "alexnet": Traits((8,), 3, True, 2, None),
    "resnet_ap": Traits(_RESIDUAL, 3, grouping=2 * GROUPS),
    "resnet_idc": Traits(_RESIDUAL, grouping=2 * GROUPS),
    "resnet_ap_dc": Traits(_RESIDUAL[::-1], 3, grouping=2 * GROUPS),
    "resnet_dc": Traits(_RESIDUAL[::-1], grouping=2 * GROUPS),
    "densenet": Traits((121,), 3),
    "alexnet_dc": Traits((8,), 3, True, grouping=2 * GROUPS),
    "vgg_dc": Traits((11,), crossarch.VGG11_POOLS, True, grouping=2 * GROUPS),
    "mlp": Traits((3,)),
    "lenet": Traits((5,)),
    "torchvision_resnet": Traits(tuple(torchvision.BLOCKS), 0, False, 2),
    "vit_bn": Traits(vit.DEPTHS),
}


def default_depth(resolution: int) -> int:
    """Returns the ConvNet's depth for images of this side: the published 3 at 28 and 32, 4 at 64, 5 at 128 pixels.

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
    norm_pytorch: bool | None = None,
    initialization: str = "flax",
    as_published: bool = True,
    cifar: bool = False,
    precision: Precision = "float32",
) -> Network:
    """Makes a network.

    Arguments:
        name: one of `NAMES` or `ALIASES`, in any case; see the module's header.
        image_shape: `(height, width, channels)`.
        classes: number of outputs, >= 1.
        width: channels of the ConvNet's first block. The others scale with it; 128 is their published size.
        depth: of the ConvNet, None for `default_depth`; 10 or 18 of ResNets, None for IDC's 10 and DC's 18; 18, 34, 50
            or 101 of torchvision's, None for 18; 12, 6 or 3 of `vit_bn`, None for 12; the others have one depth only.
        normalization: `identity` (or `none`), `batch`, `instance`, `layer` or `group`, where the architecture leaves it
            open.
        softplus_temp: beta of the ConvNet's activation, 0 for ReLU; the others always use ReLU.
        widening: whether the ConvNet's block i has `width * 2**i` channels (else `width`).
        norm_first: whether the ConvNet normalises before its convolutions, the first excepted, not after them (FRePo).
        norm_epsilon: of the ConvNet's normalisation; None for 1e-5 with `batch`, 1e-6 with the others.
        norm_pytorch: whether the ConvNet's `batch` keeps running statistics as PyTorch does; None: if
            `initialization` is `pytorch`.
        initialization: how the ConvNet is drawn, `flax` or `pytorch` (`models.pytorch`). The networks that only papers
            on matching use are always drawn as PyTorch does, `resnet`, `vgg` and `alexnet` always as Flax does.
        as_published: `vgg` and `resnet` with the slips of RCIG's released code (see `crossarch`), which its tables
            contain; False mends them.
        cifar: `resnet_ap` and `resnet_idc` with half the channels and the stem for small images, as IDC has them for
            CIFAR-10 and CIFAR-100 and for no other set; the others have no such variant.
        precision: `float32` or `bfloat16`; see `core.precision`.

    Raises:
        UsageError: an unknown word, a size out of range, or images too small for the pooling.
    """
    name = choose(ALIASES.get(name.lower(), name.lower()), NAMES, kind="architecture", where="architecture")
    normalization = "identity" if normalization == "none" else normalization
    normalization = choose(normalization, NORMALIZATIONS, kind="normalization", where="normalization")
    depth = _depth(name, depth, image_shape)
    _check_drawing(name, initialization)
    _check_sizes(name, image_shape, classes, width, depth)
    _check_groups(name, normalization, width, cifar)
    if name == "conv":
        module = ConvNet(
            classes,
            depth,
            width,
            widening=widening,
            normalization=normalization,
            norm_first=norm_first,
            norm_epsilon=norm_epsilon,
            norm_pytorch=initialization == "pytorch" if norm_pytorch is None else norm_pytorch,
            initialization=initialization,
            softplus_temp=float(softplus_temp),
        )
    else:
        module = _module(name, min(image_shape[:2]), classes, width, depth, normalization, as_published, cifar)
    height, columns, channels = (int(side) for side in image_shape)
    return Network(module, (height, columns, channels), activations(precision))


def _module(
    name: str, side: int, classes: int, width: int, depth: int, normalization: str, as_published: bool, cifar: bool
) -> nn.Module:
    common: Any = {"classes": classes, "width": width}
    plain = {"alexnet": crossarch.AlexNet, "densenet": DenseNet, "mlp": condensation.MLP, "lenet": condensation.LeNet}
    if name in plain:
        return plain[name](**common)
    if name == "torchvision_resnet":
        return torchvision.ResNet(depth=depth, stem=torchvision.stem_for(side), **common)
    if name == "vit_bn":
        return vit.ViT(depth=depth, patch=vit.patch_for(side), **common)
    common["normalization"] = normalization
    if name in ("vgg", "resnet"):
        published = crossarch.VGG11 if name == "vgg" else crossarch.ResNet18
        return published(as_published=as_published, **common)
    if name in ("alexnet_dc", "vgg_dc"):
        return (condensation.AlexNet if name == "alexnet_dc" else condensation.VGG11)(**common)
    from_dc = name.endswith("_dc")
    return ResNet(
        depth=depth,
        pools=name.startswith("resnet_ap"),
        stem="small" if cifar or from_dc else stem_for(side),
        cifar=cifar and not from_dc,
        from_dc=from_dc,
        **common,
    )


def _depth(name: str, depth: int | None, image_shape: tuple[int, int, int]) -> int:
    depths = TRAITS[name].depths
    if depth is None:
        return depths[0] if depths else default_depth(min(image_shape[:2]))
    if depths and depth not in depths:
        raise UsageError(
            f"{name} has no depth {depth}",
            where="depth",
            expected=f"{' or '.join(str(each) for each in sorted(depths))}, or none given",
            remedy="choose a depth from the list",
        )
    return depth


def _check_drawing(name: str, initialization: str) -> None:
    choose(initialization, INITIALIZATIONS, kind="initialization", where="initialization")
    if name in ("resnet", "vgg", "alexnet") and initialization != "flax":
        raise UsageError(
            f"{name} is drawn as Flax does, not {initialization}",
            where="initialization",
            expected="flax, or another architecture",
            remedy=f"use {name}_dc" + (" or resnet_idc" if name == "resnet" else "") + ", drawn as PyTorch does",
        )


def _check_sizes(name: str, image_shape: tuple[int, int, int], classes: int, width: int, depth: int) -> None:
    traits = TRAITS[name]
    for where, value, least in (("classes", classes, 1), ("width", width, traits.least_width), ("depth", depth, 1)):
        if value < least:
            raise UsageError(
                f"{where} is {value}",
                where=where,
                expected=f"at least {least}",
                remedy=f"raise {where}, or leave it out for its default",
            )
    pools = depth if traits.pools is None else traits.pools
    # The first layer pads images of one channel by two more pixels on each side.
    added = 2 * (first_padding(image_shape[2]) - 1)
    side = min(image_shape[:2]) + (added if traits.pads else 0)
    least = 2**pools - (side - min(image_shape[:2]))
    if name == "lenet":
        pools, least = 2, 16 - added  # its convolutions take 4 pixels each, the first not of images of one channel
    if min(image_shape[:2]) < least:
        raise UsageError(
            f"images of {image_shape[0]}x{image_shape[1]} pixels are too small for {name} with {pools} poolings",
            where="depth" if name == "conv" else "architecture",
            expected=f"sides of at least {least} pixels",
            remedy=f"use depth {max(1, side.bit_length() - 1)} or less" if name == "conv" else "use conv",
        )


def _check_groups(name: str, normalization: str, width: int, cifar: bool) -> None:
    grouping = TRAITS[name].grouping
    multiple = 2 * (grouping or 1) if cifar and name in ("resnet_ap", "resnet_idc") else grouping
    if normalization == "group" and multiple and width % multiple:
        raise UsageError(
            f"group normalization has {GROUPS} groups, which do not divide width {width}",
            where="width",
            expected=f"a multiple of {multiple}",
            remedy="choose another width, or another normalization",
        )
