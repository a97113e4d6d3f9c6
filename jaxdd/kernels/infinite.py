"""Kernels of infinitely wide ReLU networks, in closed form, through neural-tangents (arXiv 1912.02803).

    nngp    Sigma(x, x') = E[f(x) f(x')]                    over random weights: the network's prior
    ntk     Theta(x, x') = E[<df(x)/dw, df(x')/dw>]         how training on x' moves f(x)

Layer by layer, with weights of standard deviation w and biases of standard deviation b ("ntk" parametrisation, in which
the width drops out), for inputs of D numbers and (u, v) Gaussian with the covariance Sigma_{l-1} at (x, x'):

    Sigma_0 = b^2 + w^2 <x, x'> / D                         Theta_0 = Sigma_0
    Sigma_l = b^2 + w^2 E[relu(u) relu(v)]                  Theta_l = Sigma_l + w^2 Theta_{l-1} E[relu'(u) relu'(v)]

Convolutions carry the same recursion for every pair of pixels, so a kernel of images with P pixels takes P^2 numbers
per pair of images where there is pooling: 32 KB at 8x8 in float64, 8 MB at 32x32. Fully connected ones are one matrix
product.

| here             | network                                                                                    |
|------------------|--------------------------------------------------------------------------------------------|
| `fc`             | flatten, `depth` x (dense, ReLU), dense                                                    |
| `conv`           | [3x3 convolution, ReLU,] `depth` x (3x3 convolution, ReLU, average pool 2), flatten, dense |
| `global_pooling` | `conv` with the average over all positions in place of flatten                             |
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal

import jax

from jaxdd.core import backend
from jaxdd.core.errors import ConfigError
from jaxdd.core.precision import exact_products
from jaxdd.core.types import Array
from jaxdd.kernels.ntk_compat import import_neural_tangents

WEIGHT_STD, BIAS_STD = 2**0.5, 0.1  # as in KIP


@dataclasses.dataclass(frozen=True)
class InfiniteKernel:
    """A kernel function of images; hashable, so a program is compiled once for equal ones.

    Arguments:
        architecture: `fc` or `conv`.
        depth: hidden layers (`fc`) or blocks (`conv`).
        kind: `ntk` or `nngp`.
        leading_conv: `conv`: one more convolution and ReLU before the blocks, as KIP publishes it.
        global_pooling: `conv`: average over all positions before the last layer.
        weight_std: w.
        bias_std: b.
        chunk: rows of the matrix that are computed at once, forwards and backwards; None for all.
    """

    architecture: Literal["fc", "conv"] = "fc"
    depth: int = 1
    kind: Literal["ntk", "nngp"] = "ntk"
    leading_conv: bool = True
    global_pooling: bool = False
    weight_std: float = WEIGHT_STD
    bias_std: float = BIAS_STD
    chunk: int | None = None

    def __call__(self, images: Array, others: Array | None = None) -> Array:
        """Returns the kernel matrix. Pure, differentiable, jittable.

        Arguments:
            images: `[n, height, width, channels]` float; float64 gives a float64 matrix.
            others: `[m, height, width, channels]`; None for `images` themselves.

        Returns:
            `[n, m]`.

        Raises:
            UsageError: neural-tangents is not installed, or does not fit this JAX.
            ConfigError: the images are too small for so many blocks.
        """
        self.require_fits(images.shape[1:])
        kernel_fn = _kernel_fn(dataclasses.replace(self, chunk=None))
        others = images if others is None else others
        with exact_products():
            if self.chunk is None:
                return kernel_fn(images, others, self.kind)
            rows = jax.checkpoint(
                lambda piece: kernel_fn(piece, others, self.kind)
            )  # pieces are not kept for the way back
            return backend.chunked_map(rows, images, self.chunk)

    def require_fits(self, image_shape: tuple[int, ...]) -> None:
        """Refuses images that are smaller than one pixel after the last block's pooling.

        Raises:
            ConfigError: see above.
        """
        most = min(image_shape[:2]).bit_length() - 1
        if self.architecture == "conv" and self.depth > most:
            raise ConfigError(
                f"{self.depth} blocks, each of which halves images of {min(image_shape[:2])} pixels",
                where="the kernel's depth",
                expected=f"0 to {most}",
                remedy="take fewer blocks, or larger images",
            )

    def __str__(self) -> str:
        if self.architecture == "fc":
            return f"{self.kind.upper()} of a fully connected network, depth {self.depth}"
        leading = ", one leading convolution" if self.leading_conv else ""
        return (
            f"{self.kind.upper()} of a ConvNet, depth {self.depth}{leading}{', global pooling' * self.global_pooling}"
        )


@functools.cache
def _kernel_fn(kernel: InfiniteKernel) -> Callable[[Array, Array, str], Array]:
    stax: Any = import_neural_tangents().stax
    stds = {"W_std": kernel.weight_std, "b_std": kernel.bias_std}
    convolution = functools.partial(stax.Conv, 1, (3, 3), padding="SAME", **stds)
    if kernel.architecture == "fc":
        layers = [stax.Flatten()]
        for _ in range(kernel.depth):
            layers += [stax.Dense(1, **stds), stax.Relu()]
    else:
        layers = [convolution(), stax.Relu()] if kernel.leading_conv else []
        for _ in range(kernel.depth):
            layers += [convolution(), stax.Relu(), stax.AvgPool((2, 2), strides=(2, 2))]
        layers.append(stax.GlobalAvgPool() if kernel.global_pooling else stax.Flatten())
    return stax.serial(*layers, stax.Dense(1, **stds))[2]
