"""Layers that every network here is made of: convolution by device, cheap pooling, activation, normalisation."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdd.core import backend
from jaxdd.core.types import Array, Moments

TAPS = "taps"  # the Flax collection into which a module sows the statistics that callers may ask for
MOMENTS = "moments"  # what batch normalisations can be asked for
GROUPS = 32  # of `group` normalisation: it divides every published width


def convolution(features: int, kernel: int = 3, *, padding: Any = None, stride: int = 1, **options: Any) -> nn.Conv:
    """Returns a square convolution that runs as `core.backend` decides.

    Arguments:
        features: output channels.
        kernel: side of the kernel in pixels.
        padding: pixels on each of the four sides; by default `kernel // 2`, which keeps an image's size.
        stride: in pixels.
        **options: of `flax.linen.Conv`, e.g. `use_bias`.
    """
    pad = kernel // 2 if padding is None else padding
    return nn.Conv(
        features,
        (kernel, kernel),
        strides=(stride, stride),
        padding=((pad, pad), (pad, pad)),
        conv_general_dilated=backend.convolve,
        **options,
    )


def first_padding(channels: int, kernel: int = 3) -> int:
    """Returns padding of a network's first convolution: two more pixels for one channel, which brings 28x28 to
    32x32."""
    return kernel // 2 + (2 if channels == 1 else 0)


def average_pool(images: Array) -> Array:
    """Returns the mean of each 2x2 square, stride 2; an odd last row or column is dropped.

    A reshape and a mean: as fast as `reduce_window` inside a network on XLA:CPU and up to 3 times as fast backward
    alone. A sum of strided slices, faster still by itself, keeps the activation fused into it from being vectorised
    (the whole network 20 to 45 % slower with softplus).

    Arguments:
        images: `[n, height, width, channels]`.

    Returns:
        `[n, height // 2, width // 2, channels]`.
    """
    return _squares(images).mean((2, 4))


def max_pool(images: Array) -> Array:
    """Returns the largest of each 2x2 square, stride 2; an odd last row or column is dropped.

    Equals share a derivative (PyTorch gives it to the first), which after a ReLU makes no difference: equals are zeros.

    Arguments:
        images: `[n, height, width, channels]`.

    Returns:
        `[n, height // 2, width // 2, channels]`.
    """
    return _squares(images).max((2, 4))


def _squares(images: Array) -> Array:
    n, height, width, channels = images.shape
    rows, columns = height // 2, width // 2
    return images[:, : 2 * rows, : 2 * columns].reshape(n, rows, 2, columns, 2, channels)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def softplus(x: Array, beta: float) -> Array:
    """Returns log(1 + exp(beta x)) / beta, a ReLU rounded over a width of 1 / beta; finite derivatives of every order.

    The derivative is given as a logistic function, which costs XLA:CPU a fifth of what differentiating through
    `jax.nn.softplus` does. `log(1 + e)` is half the price of `log1p(e)`; the error is at most an epsilon over beta.
    """
    tail = jnp.exp(-beta * jnp.abs(x))
    return jnp.maximum(x, 0) + jnp.log(1 + tail) * (1 / beta)


@softplus.defjvp
def _softplus_jvp(beta, primals, tangents):
    return softplus(primals[0], beta), tangents[0] * jax.nn.sigmoid(beta * primals[0])


def activation(softplus_temp: float) -> Callable[[Array], Array]:
    """Returns `softplus` of this beta, or ReLU when it is 0."""
    return functools.partial(softplus, beta=softplus_temp) if softplus_temp else nn.relu


class BatchNorm(nn.BatchNorm):
    """Flax's, which can be asked for the `Moments` of its input, by the name `MOMENTS` (`Network.apply(taps=...)`).

    Arguments:
        unbiased: whether the running variance takes in the batch's unbiased one, as in PyTorch.
    """

    unbiased: bool = False

    def __call__(self, x: Array, *args: Any, **options: Any) -> Array:
        """Normalises `[..., channels]`; everything but the running variance is Flax's."""
        if self.is_mutable_collection(TAPS) and not self.is_initializing():
            self.sow(TAPS, MOMENTS, self._moments(x))
        if not self.unbiased or self.use_running_average or self.is_initializing():
            return super().__call__(x, *args, **options)
        kept = self.momentum * self.get_variable("batch_stats", "var")
        normalized = super().__call__(x, *args, **options)
        biased = self.get_variable("batch_stats", "var") - kept
        count = x.size // x.shape[-1]
        self.put_variable("batch_stats", "var", kept + biased * (count / max(count - 1, 1)))
        return normalized

    def _moments(self, x: Array) -> Moments:
        mean, variance = (self.get_variable("batch_stats", name) for name in ("mean", "var"))
        apart = x.astype(mean.dtype) - mean.reshape((1,) * (x.ndim - 1) + (-1,))
        axes = tuple(range(x.ndim - 1))
        return Moments(apart.mean(axes), jnp.square(apart).mean(axes), variance)


def normalize(
    x: Array,
    kind: str,
    *,
    train: bool,
    momentum: float = 0.1,
    unbiased: bool = False,
    epsilon: float | None = None,
    dtype: Any = None,
) -> Array:
    """Applies one of `NORMALIZATIONS` inside a compact module; parameters get Flax's automatic names.

    Arguments:
        x: `[n, height, width, channels]`.
        kind: `identity`, `batch`, `instance` (a group per channel), `layer` (over channels, per pixel) or `group` (32
            groups).
        train: whether `batch` uses the batch's own statistics and updates the running ones.
        momentum: weight of the old running statistics; new ones weigh `1 - momentum`.
        unbiased: whether the running variance is of unbiased ones (divided by count - 1), as in PyTorch.
        epsilon: added to variances; None for what RCIG and FRePo use: 1e-5 for `batch`, Flax's 1e-6 for the rest.
        dtype: computation type, None to follow the inputs.
    """
    epsilon = (1e-5 if kind == "batch" else 1e-6) if epsilon is None else epsilon
    if kind == "batch":
        rule = {"use_running_average": not train, "momentum": momentum, "unbiased": unbiased}
        layer = BatchNorm(epsilon=epsilon, dtype=dtype, **rule)
    elif kind == "instance":
        layer = nn.GroupNorm(num_groups=None, group_size=1, epsilon=epsilon, dtype=dtype)
    elif kind == "layer":
        layer = nn.LayerNorm(epsilon=epsilon, dtype=dtype)
    elif kind == "group":
        layer = nn.GroupNorm(num_groups=GROUPS, epsilon=epsilon, dtype=dtype)
    else:
        return x
    return layer(x)


def scaled(features: int, width: int) -> int:
    """Returns the channels of a layer that has `features` at the published width, 128; never fewer than 1."""
    return max(1, features * width // 128)


def flatten(x: Array) -> Array:
    """Returns `[n, height, width, channels]` -> `[n, height * width * channels]`."""
    return x.reshape(x.shape[0], -1)
