"""Names of architectures, and how other papers call them; a module that imports no JAX.

`registry.build` makes a network of a name; its header has the table.
"""

from __future__ import annotations

from typing import Any

from jaxdd.core.errors import choose

NAMES = (
    *("conv", "resnet", "vgg", "alexnet", "resnet_ap", "resnet_idc", "resnet_ap_dc", "resnet_dc", "densenet"),
    *("alexnet_dc", "vgg_dc", "mlp", "lenet", "torchvision_resnet", "vit_bn"),
)
NORMALIZATIONS = ("identity", "batch", "instance", "layer", "group")
DEPTHS = (18, 34, 50, 101)  # of torchvision's ResNets
ALIASES = {
    "convnet": "conv",
    "resnet18": "resnet",
    "vgg11": "vgg",
    "resnetap": "resnet_ap",
    "resnet18_dc": "resnet_dc",
    "resnet18_ap": "resnet_ap_dc",
    "vgg11_dc": "vgg_dc",
}
TEACHERS = {  # as SRe2L and its successors call networks, which other papers call otherwise -> name, depth for `build`
    **{f"resnet{depth}": ("torchvision_resnet", depth) for depth in DEPTHS},
    **dict.fromkeys(("vit_bn", "vit"), ("vit_bn", None)),
    **dict.fromkeys(("conv", "convnet"), ("conv", None)),
}
AS_IN_PYTORCH: dict[str, Any] = {"widening": False, "norm_epsilon": 1e-5, "initialization": "pytorch"}  # of a ConvNet


def teacher_architecture(name: str, width: int, where: str = "`arch_name`") -> dict[str, Any]:
    """Returns a teacher as arguments of `build`; always normalised by batches, on whose statistics recovery rests.

    Arguments:
        name: one of `TEACHERS`.
        width: channels; 128 stands for the published ones.
        where: the name stands, for the error.

    Raises:
        UsageError: the name is unknown.
    """
    built, depth = TEACHERS[choose(name, TEACHERS, kind="architecture", where=where)]
    arguments = {"name": built, "depth": depth, "width": width, "normalization": "batch"}
    return arguments | (AS_IN_PYTORCH if built == "conv" else {})


def called(name: str, depth: int | None) -> str:
    """Returns how SRe2L's scripts call a network, e.g. `resnet50`; of others the name itself.

    Arguments:
        name, depth: as in `build`; no depth stands for torchvision's ResNet-18.
    """
    known = (name, depth or 18) if name == "torchvision_resnet" else (name, None)
    return next((word for word, meant in TEACHERS.items() if meant == known), name)
