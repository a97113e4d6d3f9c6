"""PyTorch's defaults where they differ from Flax's: the numbers of the papers on gradient matching rest on them.

kernel, bias    U(-b, b) with b = 1 / sqrt(fan_in), fan_in = inputs * kernel area    torch.nn.Conv2d, torch.nn.Linear
epsilon         1e-5                                                         torch.nn.GroupNorm, torch.nn.BatchNorm2d
running         0.9 running + 0.1 batch, of the unbiased variance                              torch.nn.BatchNorm2d
"""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdd.core.types import Array, Key
from jaxdd.models import layers

EPSILON = 1e-5
MOMENTUM = 0.9


def uniform(fan_in: int) -> dict[str, Any]:
    """Returns options of `flax.linen.Conv` and `flax.linen.Dense` that draw kernel and bias as PyTorch does.

    Arguments:
        fan_in: how many numbers an output is a weighted sum of: inputs times kernel area.
    """
    bound = 1 / math.sqrt(fan_in)

    def draw(key: Key, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return {"kernel_init": draw, "bias_init": draw}


def convolution(inputs: int, features: int, kernel: int = 3, **options: Any) -> nn.Conv:
    """Returns `layers.convolution` for `inputs` channels, drawn as PyTorch does.

    Arguments:
        inputs, features: channels that come in and go out.
        kernel: side of the kernel in pixels.
        **options: of `layers.convolution`; an initialiser among them replaces PyTorch's.
    """
    return layers.convolution(features, kernel, **(uniform(inputs * kernel * kernel) | options))


def dense(inputs: int, features: int, **options: Any) -> nn.Dense:
    """Returns a linear layer from `inputs` to `features` numbers, drawn as PyTorch does."""
    return nn.Dense(features, **(uniform(inputs) | options))


def normalize(x: Array, kind: str, *, train: bool, dtype: Any = None) -> Array:
    """Returns `layers.normalize` with PyTorch's epsilon and running statistics."""
    return layers.normalize(x, kind, train=train, momentum=MOMENTUM, unbiased=True, epsilon=EPSILON, dtype=dtype)
