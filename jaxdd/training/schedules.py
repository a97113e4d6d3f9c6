"""Learning-rate schedules."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import jax.numpy as jnp
import optax

from jaxdd.core.types import Array


def warmup_cosine(peak: float, *, warmup: int, total: int, final: float = 0.01) -> optax.Schedule:
    """Returns a rate that rises linearly from 0 to `peak` over `warmup` steps, then falls by a cosine.

    At step `total` it is `final * peak`, and stays so.
    """
    rise = optax.linear_schedule(0.0, peak, max(warmup, 1))
    fall = optax.cosine_decay_schedule(peak, max(total - warmup, 1), alpha=final)
    return optax.join_schedules([rise, fall], [warmup]) if warmup else fall


def multi_step(rate: float, *, milestones: Sequence[int], factor: float) -> Callable[[Array | int], Array]:
    """Returns the rate `rate * factor**k` at step s (from 0), where k of the milestones are <= s.

    PyTorch's MultiStepLR changes the rate after the epoch (counted from 1) that is a milestone, so in steps its
    milestones are `epoch * steps_per_epoch`.
    """

    def schedule(step: Array | int) -> Array:
        passed = sum((jnp.asarray(step) >= milestone).astype(jnp.int32) for milestone in milestones)
        return jnp.asarray(rate, jnp.float32) * jnp.asarray(factor, jnp.float32) ** passed

    return schedule


def by_epoch(
    rate: float, *, shape: str, epochs: int, slowdown: float = 1.0, warmup: int = 0
) -> Callable[[Array | int], Array]:
    """Returns the rate of an epoch e (from 0) of E, by which students of SRe2L and its successors train.

        cosine    rate * (1 + cos(pi e / (slowdown E))) / 2        slowdown: eta of RDED and CV-DD, zeta of EDC
        linear    rate * (1 - e / (slowdown E))                    what EDC's command for ImageNet-1K does

    With a slowdown of 2 both end at half the rate. With W epochs of warm-up the rate rises from a hundredth in a line,
    and e and E above are e - W and E - W (zeyuanyin/tiny-imagenet).

    Arguments:
        rate: the largest, >= 0.
        shape: `cosine` or `linear`.
        epochs: E, >= 1.
        slowdown: >= 1.
        warmup: W, < E.
    """

    def schedule(epoch: Array | int) -> Array:
        epoch = jnp.asarray(epoch)
        share = (epoch - warmup) / (slowdown * max(epochs - warmup, 1))
        fall = (1 + jnp.cos(math.pi * share)) / 2 if shape == "cosine" else 1 - share
        rise = 0.01 + 0.99 * epoch / max(warmup, 1)
        return rate * jnp.where(epoch < warmup, rise, fall)

    return schedule


def two_thirds_and_five_sixths(epochs: int) -> tuple[int, int]:
    """Returns the two epochs, counted from 1, after which IDC and its descendants lower the learning rate."""
    return 2 * epochs // 3, 5 * epochs // 6
