"""The layers of PyTorch's networks written out in NumPy, pixel by pixel, in float64; and random parameters for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd import models

EPSILON = 1e-5


def variables(network: models.Network, seed: int = 0) -> dict[str, Any]:
    """Random ones of the network's shapes: no bias is 0, no scale 1, no running statistic trivial."""
    random = np.random.default_rng(seed)

    def draw(path: Any, leaf: jax.ShapeDtypeStruct) -> jax.Array:
        if path[-1].key == "kernel":
            return jnp.asarray(random.normal(size=leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1])))
        return jnp.asarray((path[-1].key in ("scale", "var")) + random.uniform(0.0, 0.2, leaf.shape))

    return jax.tree_util.tree_map_with_path(draw, jax.eval_shape(network.init, jax.random.key(0)))


def windows(x: np.ndarray, side: int, stride: int, pad: int, fill: float, reduce: Callable) -> np.ndarray:
    """`reduce` of each window `[n, side, side, channels]`, stacked to an image."""
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)), constant_values=fill)
    rows, columns = ((size - side) // stride + 1 for size in x.shape[1:3])
    corners = [[(stride * i, stride * j) for j in range(columns)] for i in range(rows)]
    return np.stack([np.stack([reduce(x[:, i : i + side, j : j + side]) for i, j in row], 1) for row in corners], 1)


def convolve(x: np.ndarray, layer: dict[str, Any], stride: int = 1, pad: int | None = None) -> np.ndarray:
    """Of a square kernel; by default the padding keeps the image's size."""
    kernel = np.asarray(layer["kernel"])
    side = kernel.shape[0]
    around = side // 2 if pad is None else pad
    result = windows(x, side, stride, around, 0.0, lambda window: np.tensordot(window, kernel, 3))
    return result + np.asarray(layer.get("bias", 0.0))


def linear(x: np.ndarray, layer: dict[str, Any]) -> np.ndarray:
    """Of vectors `[n, d]`."""
    return x @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])


def average_pool(x: np.ndarray, side: int) -> np.ndarray:
    """Of squares beside each other."""
    return windows(x, side, side, 0, 0.0, lambda window: window.mean((1, 2)))


def max_pool(x: np.ndarray, side: int = 2, stride: int = 2, pad: int = 0) -> np.ndarray:
    """Of windows, which pixels outside the image do not count in."""
    return windows(x, side, stride, pad, -np.inf, lambda window: window.max((1, 2)))


def relu(x: np.ndarray) -> np.ndarray:
    """max(x, 0)."""
    return np.maximum(x, 0)


def flatten(x: np.ndarray) -> np.ndarray:
    """`[n, height, width, channels]` -> `[n, d]`."""
    return x.reshape(len(x), -1)


def normalize(x: np.ndarray, params: dict[str, Any], index: int) -> np.ndarray:
    """By whichever normalisation `params` have of this index, batch in training mode; none if they have none."""
    if f"GroupNorm_{index}" in params:
        layer, axes = params[f"GroupNorm_{index}"], (1, 2)
    elif f"BatchNorm_{index}" in params:
        layer, axes = params[f"BatchNorm_{index}"], (0, 1, 2)
    else:
        return x
    variance = x.var(axes, keepdims=True)
    x = (x - x.mean(axes, keepdims=True)) / np.sqrt(variance + EPSILON)
    return x * np.asarray(layer["scale"]) + np.asarray(layer["bias"])
