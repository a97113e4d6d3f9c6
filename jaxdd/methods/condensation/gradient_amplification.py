"""GA-DD: gradient amplification for gradient matching based dataset distillation (doi 10.1016/j.neunet.2025.107819).

AccDD's networks and DREAM's representatives, and four mechanisms, each an option of its own. With GM(y) the distance
between the gradients of the cross-entropy with label y, and t the outer iteration:

    L(t) = GM(c) + 1[t < T] lcs_weight GM(shift(c)) + 1[t > T] dm_weight sum_l D(mean f_l^r, mean f_l^s)
    E <- ema_decay E + (1 - ema_decay) S             after every class step; E is the result, S is what is optimised

| mechanism                     | options                                                   | as released             |
|-------------------------------|-----------------------------------------------------------|-------------------------|
| label cycle shifting          | `lcs_weight`; `lcs_shift`: c + 1, or cyclic               | 1, c + 1 mod C          |
| early exit, T                 | `exit_mode` `fixed` or `plateau`, `exit_at`               | fixed, 200              |
| ensemble of distilled sets, E | `ema_decay`, `ema_every`                                  | 0.999, every class step |
| gradient and distribution     | `dm_weight`, `compat_released_code`                       | 0.2, see below          |

The paper's tables and its exit criterion could not be read; what follows is our reconstruction, the defaults are those
of the released code. `plateau` leaves the first stage when the mean shifted loss over `exit_window` outer iterations is
less than `exit_tolerance` below that of the window before, at `exit_at` at the latest. In the released code the sum
over l overwrites itself and adds GM again: L = 1.2 GM + 0.2 D(last block), which `compat_released_code` gives. The
decay of 0.999 is meant for 10 classes: for C, 1 - 1 / (100 C) keeps the half-life in outer iterations.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Bool, Float, Int32

from jaxdd.core.types import Array
from jaxdd.methods.condensation import accdd, dream
from jaxdd.methods.condensation.settings import CondensationSettings

DEFAULTS: dict[str, Any] = {
    **accdd.DEFAULTS,
    **dream.DREAM,
    "batch_real": 64,
    "lcs_weight": 1.0,
    "exit_at": 200,
    "ema_decay": 0.999,
    "dm_weight": 0.2,
}


class Stage(NamedTuple):
    """The stage that a run is in, and what decides when the first one ends.

    Arguments:
        shifting: whether it is in the first stage, where labels are shifted.
        ended: outer iteration at which that ended; -1 before.
        shifted: sum of the shifted loss over the classes and inner iterations of this outer iteration.
        history: that sum in the last `2 exit_window` outer iterations, the newest last.
    """

    shifting: Bool[Array, ""]
    ended: Int32[Array, ""]
    shifted: Float[Array, ""]
    history: Float[Array, " iterations"]


def begin(settings: CondensationSettings, dtype: Any) -> Stage:
    """Returns the state of the stages before the first step."""
    history = jnp.zeros(2 * settings.exit_window, dtype)
    return Stage(jnp.asarray(settings.exit_at > 0), jnp.asarray(-1, jnp.int32), jnp.zeros((), dtype), history)


def advance(settings: CondensationSettings, stage: Stage, iteration: Array) -> Stage:
    """Returns the stage of an outer iteration that begins, given the stage of the one before."""
    history = jnp.roll(stage.history, -1).at[-1].set(stage.shifted)
    history = jnp.where(iteration > 0, history, stage.history)
    leave = iteration >= settings.exit_at
    if settings.exit_mode == "plateau":
        # Sums, not means: where no product is added, every copy of the decision that a compiler makes is the same.
        before, now = history[: settings.exit_window].sum(), history[settings.exit_window :].sum()
        seen = iteration >= 2 * settings.exit_window
        leave |= seen & (before - now < settings.exit_tolerance * before)
    leaves = stage.shifting & leave
    ended = jnp.where(leaves | ((iteration == 0) & ~stage.shifting), iteration, stage.ended)
    return Stage(stage.shifting & ~leave, ended, jnp.zeros_like(stage.shifted), history)


def matches_features(stage: Stage, iteration: Array) -> Array:
    """Returns whether the second stage has begun.

    The outer iteration at which the first stage ends belongs to neither: it has no extra term.
    """
    return ~stage.shifting & (iteration > stage.ended)


def shifted_label(settings: CondensationSettings, label: Array, classes: int, iteration: Array) -> Array:
    """Returns the other label that a class is matched with."""
    by = 1 if settings.lcs_shift == "fixed" else 1 + iteration % max(classes - 1, 1)
    return (label + by) % classes


def second_stage(settings: CondensationSettings, gradients: Array, features: list[Array]) -> Array:
    """Returns the loss of the second stage.

    Arguments:
        gradients: their distance GM.
        features: the distance of each block's mean features, the first block first.
    """
    if settings.compat_released_code:
        return (1 + settings.dm_weight) * gradients + settings.dm_weight * features[-1]
    return gradients + settings.dm_weight * jnp.sum(jnp.stack(features))
