"""The recovery of SRe2L and CDA step by step in NumPy, float64; only the derivative through the network is JAX's.

Nothing of the package is used: the network is a ConvNet (3x3 convolution, batch normalisation, ReLU, 2x2 mean) written
out from its variables, the statistics are those of what enters each normalisation, and a crop is the dense matrix that
bilinear interpolation is, pixel by pixel.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

EPSILON = 1e-5  # of batch normalisation


class Draw(NamedTuple):
    """What one iteration draws: top, left, height, width; whether to flip; pixels down and right."""

    box: tuple[int, int, int, int]
    coin: bool
    roll: tuple[int, int]


class Weights(NamedTuple):
    """Of the loss: cross-entropy, statistics, the first normalisation among them, total variation, norm."""

    ce: float = 1.0
    bn: float = 0.05
    first: float = 10.0
    tv: float = 0.0
    norm: float = 0.0


def network(variables: Any, images: Any) -> tuple[Any, list[tuple[Any, Any, Any]]]:
    """Logits, and for each normalisation its input and running mean and variance."""
    seen, x = [], images
    params, running = variables["params"], variables["batch_stats"]
    for block in range(len(running)):
        layer, norm, stats = params[f"Conv_{block}"], params[f"BatchNorm_{block}"], running[f"BatchNorm_{block}"]
        x = jax.lax.conv_general_dilated(
            x, layer["kernel"], (1, 1), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
        ) + row(layer["bias"])
        seen.append((x, stats["mean"], stats["var"]))
        x = (x - row(stats["mean"])) / jnp.sqrt(row(stats["var"]) + EPSILON) * row(norm["scale"]) + row(norm["bias"])
        x = jnp.maximum(x, 0)
        x = (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / 4
    return x.reshape(len(x), -1) @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"][None, :], seen


def row(vector: Any) -> Any:
    return jnp.asarray(vector).reshape(1, 1, 1, -1)


def loss(variables: Any, images: Any, labels: Any, weights: Weights) -> tuple[Any, tuple[Any, Any]]:
    """The loss, and of it the cross-entropy and the statistics without their weights."""
    logits, seen = network(variables, images)
    shifted = logits - logits.max(1, keepdims=True)
    logs = shifted - jnp.log(jnp.exp(shifted).sum(1, keepdims=True))
    ce = -jnp.stack([logs[n, label] for n, label in enumerate(labels)]).mean()
    statistics = 0.0
    for layer, (x, mean, variance) in enumerate(seen):
        flat = x.reshape(-1, x.shape[-1])
        center = flat.sum(0) / len(flat)
        spread = ((flat - center[None, :]) ** 2).sum(0) / len(flat)
        term = jnp.sqrt(((spread - variance) ** 2).sum()) + jnp.sqrt(((center - mean) ** 2).sum())
        statistics = statistics + (weights.first if layer == 0 else 1.0) * term
    total = weights.ce * ce + weights.bn * statistics
    if weights.tv:
        x = images
        differences = (x[:, :, 1:] - x[:, :, :-1], x[:, 1:] - x[:, :-1])
        diagonals = (x[:, 1:, 1:] - x[:, :-1, :-1], x[:, 1:, :-1] - x[:, :-1, 1:])
        total = total + weights.tv * sum(jnp.sqrt((d**2).sum()) for d in (*differences, *diagonals))
    if weights.norm:
        total = total + weights.norm * jnp.stack([jnp.sqrt((x**2).sum()) for x in images]).mean()
    return total, (ce, statistics)


def interpolation(start: int, length: int, side: int, size: int) -> np.ndarray:
    """`[size, side]`: how bilinear interpolation along one axis makes `size` pixels of a window."""
    matrix = np.zeros((size, side))
    for i in range(size):
        place = min(max((i + 0.5) * length / size - 0.5, 0.0), length - 1.0)
        before = int(place)
        after = min(before + 1, length - 1)
        matrix[i, start + before] += 1 - (place - before)
        matrix[i, start + after] += place - before
    return matrix


def see(images: Any, rows: Any, columns: Any, coin: Any, roll: Any) -> Any:
    """Crop, flip, roll: the same for all images."""
    seen = jnp.einsum("ih,nhwc,jw->nijc", rows, images, columns)
    return jnp.roll(jnp.where(coin, seen[:, :, ::-1], seen), roll, (1, 2))


def rate(iteration: int, total: int, peak: float) -> float:
    return peak * 0.5 * (1 + math.cos(math.pi * iteration / total))


def min_scale(iteration: int, total: int, mode: str, milestone: float, least: float = 0.08) -> float:
    if mode == "none" or not iteration < milestone * total:
        return least
    share = iteration / (milestone * total)
    factor = {"step": 1.0, "linear": 1 - share, "cosine": 0.5 * (1 + math.cos(math.pi * share))}[mode]
    return least + (1 - least) * factor


def recover(
    variables: Any,
    images: np.ndarray,
    labels: np.ndarray,
    draws: list[Draw],
    *,
    total: int,
    peak: float,
    betas: tuple[float, float],
    mean: tuple[float, ...],
    std: tuple[float, ...],
    weights: Weights,
) -> np.ndarray:
    """The images after as many iterations as there are draws, of `total`."""
    x, size = np.array(images), images.shape[1]
    first, second = np.zeros_like(x), np.zeros_like(x)
    derivative = jax.jit(jax.grad(lambda x, *view: loss(variables, see(x, *view), labels, weights)[0]))
    for i, draw in enumerate(draws):
        top, left, height, width = draw.box
        rows, columns = (interpolation(*ends, size, size) for ends in ((top, height), (left, width)))
        slope = np.asarray(derivative(x, rows, columns, draw.coin, np.asarray(draw.roll)))
        first = betas[0] * first + (1 - betas[0]) * slope
        second = betas[1] * second + (1 - betas[1]) * slope**2
        unbiased = first / (1 - betas[0] ** (i + 1)), second / (1 - betas[1] ** (i + 1))
        x = x - rate(i, total, peak) * unbiased[0] / (np.sqrt(unbiased[1]) + 1e-8)
        for channel, (m, s) in enumerate(zip(mean, std, strict=True)):
            x[..., channel] = np.clip(x[..., channel], -m / s, (1 - m) / s)
    return x
