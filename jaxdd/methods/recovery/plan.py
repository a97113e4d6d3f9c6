"""When what happens while images are recovered: learning rate, curriculum of crops, stages (SRe2L, CDA, FADRM).

With iteration i = 0 .. T-1 of all stages together and p = i / (milestone T):

    lr(i)    = lr (1 + cos(pi i / T)) / 2  =  lr sin^2(pi (T - i) / 2T)       the latter loses no digits as i nears T

| `easy2hard_mode` | s_min(i), least share of the image that a crop shows, while i < milestone T | afterwards |
|------------------|-----------------------------------------------------------------------------|------------|
| none             | s                                                                           | s          |
| step             | 1                                                                           | s          |
| linear           | s + (1 - s) (1 - p)                                                         | s          |
| cosine           | s + (1 - s) (1 + cos(pi p)) / 2                                             | s          |

s is `min_scale`, published 0.08. Milestone 0 means no curriculum (CDA, arXiv 2311.18838). Between stages FADRM
(arXiv 2506.24125) mixes the images with the patches P that they started from, which keeps them near real ones:

    x <- alpha resize(x) + (1 - alpha) resize(P)                              bilinear, pixels' middles aligned
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal

import jax.numpy as jnp

from jaxdd.augment import shared
from jaxdd.core.errors import ConfigError
from jaxdd.core.types import Array
from jaxdd.methods.recovery.settings import Recovery

Curriculum = Literal["none", "step", "linear", "cosine"]


@dataclasses.dataclass(frozen=True)
class Stage:
    """A stretch of the recovery at one resolution.

    Arguments:
        size: side of the images in pixels.
        first: its first iteration, counted over all stages.
        iterations: how many it makes.
        teachers: which networks the images are recovered from, one per iteration in turn.
        merge: alpha, the share of the images when they are mixed with their patches before it begins; 1: they are not.
        reset: whether Adam begins anew.
    """

    size: int
    first: int
    iterations: int
    teachers: tuple[int, ...] = (0,)
    merge: float = 1.0
    reset: bool = True

    @property
    def steps(self) -> int:
        """Number of steps: each is one iteration with every teacher."""
        return -(-self.iterations // len(self.teachers))


def plan(settings: Recovery, resolution: int, teachers: int = 1) -> tuple[Stage, ...]:
    """Returns the stages of a recovery; none where nothing is optimised (RDED).

    Arguments:
        resolution: side in pixels of the data set's images, and of the result.
        teachers: how many networks there are.

    Raises:
        ConfigError: the last stage has another size than the data set.
    """
    if settings.iterations == 0:
        return ()
    stages = settings.stages or ((resolution, settings.iterations),)
    if stages[-1][0] != resolution:
        raise ConfigError(
            f"images would be recovered at {stages[-1][0]} pixels, but those of the data set have {resolution}",
            where="stages",
            expected=f"a last stage of {resolution} pixels",
            remedy=f"end stages with {resolution}, or read the data at `resolution={stages[-1][0]}`",
        )
    found, first = [], 0
    for number, (size, iterations) in enumerate(stages):
        alpha = settings.merge if number else 1.0
        found.append(Stage(size, first, iterations, tuple(range(teachers)), alpha, settings.reset or number == 0))
        first += iterations
    return tuple(found)


def resize(images: Array, size: int) -> Array:
    """Resizes images `[n, height, width, channels]` to `size` pixels: bilinear, not smoothed first.

    Images of that size stay as they are.
    """
    if images.shape[1:3] == (size, size):
        return images
    return shared.see(shared.whole(images.shape, size, images.dtype), images)


def merge(images: Array, patches: Array, size: int, alpha: float) -> Array:
    """Mixes images with the patches that they started from: FADRM's data residual, of the module's header.

    Arguments:
        images: `[n, height, width, channels]`, as the stage before left them.
        patches: what they started from, of any size.
        size: side in pixels of the next stage.
        alpha: share of the images, 0 to 1.
    """
    if alpha == 1:
        return resize(images, size)
    return alpha * resize(images, size) + (1 - alpha) * resize(patches, size)


def learning_rate(iteration: Array | int, total: int, peak: float, dtype: Any = jnp.float32) -> Array:
    """Returns lr(i) of the module's header."""
    return peak * _falling(total - jnp.asarray(iteration), total, dtype)


def min_scale(
    iteration: Array | int, total: int, mode: str, milestone: float, least: float, dtype: Any = jnp.float32
) -> Array:
    """Returns s_min(i) of the module's header.

    Arguments:
        iteration, total: i and T.
        mode: a `Curriculum`.
        milestone: share of the iterations that it takes, 0 to 1.
        least: s.
    """
    span = milestone * total
    if mode == "none" or span == 0:
        return jnp.asarray(least, dtype)
    left = span - jnp.asarray(iteration, dtype)
    if mode == "step":
        share = jnp.ones((), dtype)
    else:
        share = left / span if mode == "linear" else _falling(left, span, dtype)
    return jnp.where(jnp.asarray(iteration) < math.ceil(span), least + (1 - least) * share, least).astype(dtype)


def _falling(left: Array, span: float, dtype: Any) -> Array:
    """Returns (1 + cos(pi i / span)) / 2 for `left = span - i`."""
    return jnp.square(jnp.sin(jnp.asarray(left, dtype) * (math.pi / (2 * span))))
