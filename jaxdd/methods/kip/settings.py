"""The settings of KIP; a module that imports no JAX."""

from __future__ import annotations

import dataclasses
from typing import Literal

from jaxdd.core.config import setting


@dataclasses.dataclass(frozen=True)
class KIPSettings:
    """Every hyper-parameter; the defaults are the demonstration of the authors' notebook."""

    n_images: int = setting(10, "images per class (ipc)", low=1)
    batch_per_class: int = setting(500, "real images per class and step; labels = solved takes all there are", low=1)
    learning_rate: float = setting(0.04, "Adam learning rate of images and labels", low=0)
    labels: Literal["fixed", "learned", "solved"] = setting(
        "fixed",
        "fixed: one-hot minus 1/k; learned with the images; solved: in closed form, and images stay as they are",
    )
    ridge: float = setting(1e-6, "regularisation, as a share of the kernel's mean diagonal", low=0)
    kernel: Literal["ntk", "nngp"] = setting("ntk", "neural tangent kernel, or covariance of the network's outputs")
    architecture: Literal["fc", "conv"] = setting("fc", "the infinitely wide network: fully connected or convolutional")
    kernel_depth: int = setting(1, "hidden layers (fc) or blocks (conv) of it", low=0)
    leading_conv: bool = setting(True, "conv: one more convolution before the blocks, as published")
    global_pooling: bool = setting(False, "conv: global average pooling instead of flattening")
    kernel_chunk: int | None = setting(None, "rows of a kernel matrix computed at once; null for all", low=1)
    preprocess: Literal["standardised", "layernorm_zca"] = setting(
        "standardised", "standardised per channel, or whitened as KIP does it"
    )
    use_x64: bool = setting(True, "kernels and the solve in float64")
