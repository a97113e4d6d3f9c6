"""The published FRePo procedure, written out term by term: networks, kernels, Adam and LAMB in plain array operations.

FRePo = "Dataset Distillation using Neural Feature Regression", arXiv 2206.00719. The engine is compared with this file,
so it takes nothing from it: matrices are inverted, updates are formulas, networks of the pool are a Python list.

    paper     here                  meaning
    X_s, y_s  x_proto, y_proto      what is learned, `[P, H, W, c]` and `[P, C]`; with flips N = 2P rows, else N = P
    phi       `features`            input of the classifier, running statistics
    lambda    1e-6 * tr(K) / N      relative to the mean diagonal of K

One outer iteration, at one network of the pool:

    pred = phi(X_t) phi(X_s)^T (phi(X_s) phi(X_s)^T + lambda I)^-1 y_s
    loss = mean_i 1/2 |pred_i - (onehot_i - 1/C)|^2 + mean_j -min(top1 - top2, 1/C)   over the P stored labels
    LAMB on (X_s, y_s), rate by cosine from its start to a tenth
    age > limit: a fresh network replaces this one; else one Adam step on some of the new (X_s, y_s), not flipped
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings; the rates and lengths are arguments so that a few steps of a test pass through all of a schedule."""

    learning_rate: float
    schedule_steps: int
    pool_learning_rate: float
    max_age: int
    flip: bool
    learn_labels: bool
    reg: float = 1e-6


@dataclasses.dataclass
class Net:
    """One network of the pool with its Adam moments; `age` decides on its replacement, `count` on bias correction."""

    params: dict[str, Any]
    stats: dict[str, Any]
    age: int
    count: int = 0
    mean: Any = None
    square: Any = None


@dataclasses.dataclass
class Lamb:
    """The learned arrays by name, and LAMB's moments."""

    values: dict[str, jax.Array]
    count: int = 0
    mean: Any = None
    square: Any = None


def forward(params: dict, stats: dict, images: jax.Array, train: bool) -> tuple[jax.Array, jax.Array, dict]:
    """(logits, features, new running statistics): batch norm (if any), convolution, ReLU, 2x2 mean; none at first."""
    x, new = images, dict(stats)
    depth = sum(name.startswith("Conv") for name in params)
    for i in range(depth):
        if i > 0 and stats:
            name, norm = f"BatchNorm_{i - 1}", params[f"BatchNorm_{i - 1}"]
            mean, var = stats[name]["mean"], stats[name]["var"]
            if train:
                mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
                old = stats[name]
                new[name] = {"mean": 0.1 * old["mean"] + 0.9 * mean, "var": 0.1 * old["var"] + 0.9 * var}
            x = _row(norm["scale"]) * (x - _row(mean)) / _row(jnp.sqrt(var + 1e-5)) + _row(norm["bias"])
        layer, pad = params[f"Conv_{i}"], 3 if i == 0 and images.shape[-1] == 1 else 1
        x = jax.lax.conv_general_dilated(
            x, layer["kernel"], (1, 1), ((pad, pad), (pad, pad)), dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = x + _row(layer["bias"])
        x = jnp.where(x > 0, x, 0)  # slope 0 at 0, which the padding of one-channel images makes frequent
        x = (x[:, 0::2, 0::2] + x[:, 1::2, 0::2] + x[:, 0::2, 1::2] + x[:, 1::2, 1::2]) / 4
    features = x.reshape(len(x), -1)
    return features @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"][None], features, new


def _row(channels: jax.Array) -> jax.Array:
    return channels[None, None, None]


@functools.partial(jax.jit, static_argnums=5)
@jax.value_and_grad
def loss_and_gradient(
    values: dict, params: dict, stats: dict, real: jax.Array, labels: jax.Array, config: Config
) -> Any:
    """The outer loss and its gradient in `values`; `labels` are class indices."""
    images, targets = values["x_proto"], values["y_proto"]
    if not config.learn_labels:
        targets = jax.lax.stop_gradient(targets)
    classes = targets.shape[1]
    margins = [jnp.sort(row)[-1] - jnp.sort(row)[-2] for row in targets]
    label_loss = sum(-jnp.minimum(margin, 1 / classes) for margin in margins) / len(margins)
    if config.flip:
        images = jnp.concatenate([images, jnp.flip(images, 2)])
        targets = jnp.concatenate([targets, targets])
    phi = forward(params, stats, images, False)[1]
    phi_real = jax.lax.stop_gradient(forward(params, stats, real, False)[1])
    gram = phi @ phi.T
    inverse = jnp.linalg.inv(gram + config.reg * jnp.trace(gram) / len(gram) * jnp.eye(len(gram)))
    predicted = phi_real @ phi.T @ inverse @ targets
    wanted = jnp.eye(classes)[labels] - 1 / classes
    return sum(jnp.sum((p - w) ** 2) / 2 for p, w in zip(predicted, wanted, strict=True)) / len(labels) + label_loss


def lamb_step(lamb: Lamb, gradient: dict, config: Config) -> None:
    """One step in place: Adam's direction (eps 1e-6), each array's as long as the array itself, times the rate."""
    share = 0.9 * 0.5 * (1 + np.cos(np.pi * min(lamb.count / config.schedule_steps, 1))) + 0.1
    direction = _adam(lamb, gradient, eps=1e-6)
    for name, value in lamb.values.items():
        length, own = jnp.sqrt(jnp.sum(direction[name] ** 2)), jnp.sqrt(jnp.sum(value**2))
        ratio = jnp.where((length == 0) | (own == 0), 1.0, own / jnp.where(length == 0, 1.0, length))
        lamb.values[name] = value - config.learning_rate * share * ratio * direction[name]


@jax.jit
@functools.partial(jax.grad, has_aux=True)
def error_gradient(params: dict, stats: dict, images: jax.Array, labels: jax.Array) -> tuple[jax.Array, dict]:
    """Gradient in `params` of half the squared error, summed over classes, mean over images; and new statistics."""
    logits, _, stats = forward(params, stats, images, True)
    return jnp.sum((logits - labels) ** 2) / 2 / len(images), stats


def train_step(net: Net, images: jax.Array, labels: jax.Array, config: Config) -> None:
    """One Adam step in place."""
    gradient, stats = error_gradient(net.params, net.stats, images, labels)
    direction = _adam(net, gradient, eps=1e-8)
    net.params = jax.tree.map(lambda p, d: p - config.pool_learning_rate * d, net.params, direction)
    net.stats, net.age = stats, net.age + 1


def _adam(moments: Net | Lamb, gradient: Any, eps: float) -> Any:
    zeros = jax.tree.map(jnp.zeros_like, gradient)
    before = (zeros, zeros) if moments.mean is None else (moments.mean, moments.square)
    moments.count += 1
    moments.mean, moments.square, direction = _moments(*before, gradient, moments.count, eps)
    return direction


@jax.jit
def _moments(mean: Any, square: Any, gradient: Any, count: int, eps: float) -> tuple[Any, Any, Any]:
    mean = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, mean, gradient)
    square = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g**2, square, gradient)
    first, second = 1 - 0.9**count, 1 - 0.999**count
    return mean, square, jax.tree.map(lambda m, v: m / first / (jnp.sqrt(v / second) + eps), mean, square)


def iterate(
    lamb: Lamb, pool: list[Net], index: int, rows: np.ndarray, fresh: Callable[[], Net], batch: tuple, config: Config
) -> float:
    """One outer iteration in place.

    Arguments:
        index: of the network in the pool.
        rows: of the stored set, for the network's step.
        fresh: makes what replaces the network.
        batch: real images and class indices.

    Returns:
        The outer loss.
    """
    net = pool[index]
    value, gradient = loss_and_gradient(lamb.values, net.params, net.stats, *batch, config)
    lamb_step(lamb, gradient, config)
    if net.age > config.max_age:
        pool[index] = fresh()
    else:
        train_step(net, lamb.values["x_proto"][rows], lamb.values["y_proto"][rows], config)
    return float(value)
