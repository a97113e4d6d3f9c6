"""The settings of FRePo; a module that imports no JAX."""

from __future__ import annotations

import dataclasses
from typing import Literal

from jaxdd.core.config import Precision, setting


@dataclasses.dataclass(frozen=True)
class FRePoSettings:
    """Every hyper-parameter; the defaults are the authors'."""

    n_images: int = setting(10, "images per class (ipc)", low=1)
    batch_size: int = setting(1024, "real images per outer step", low=1)
    proto_learning_rate: float = setting(3e-4, "LAMB learning rate of images and labels", low=0)
    schedule_steps: int = setting(500_000, "outer steps over which that rate falls to a tenth", low=1)
    learn_labels: bool = setting(True, "learn the labels too")
    use_flip: bool = setting(True, "regress on the set together with its mirror images")
    ridge: float = setting(1e-6, "regularisation, as a share of the kernel's mean diagonal", low=0)
    use_x64: bool = setting(False, "form and factorise the kernel matrix in float64")

    width: int = setting(128, "channels of the network's first block", low=1)
    depth: int | None = setting(None, "blocks of the network; null: 3 at 28 and 32 pixels, 4 at 64, 5 at 128", low=1)
    normalization: Literal["identity", "batch", "instance", "layer", "group"] = setting(
        "batch", "of the pool's networks; it stands before every convolution but the first"
    )
    precision: Precision = setting("float32", "activations in float32 or bfloat16; kernels and solves stay float32")
    pool_model_count: int = setting(10, "networks in the pool", low=1)
    max_online_steps: int = setting(100, "a network that has trained more steps than this is replaced", low=0)
    pool_learning_rate: float = setting(3e-4, "Adam learning rate of the pool's networks", low=0)
    pool_train_batch_size: int = setting(1000, "most stored images that a network trains on in one step", low=1)
