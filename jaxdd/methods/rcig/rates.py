"""Learning rates of RCIG's `adam` solver: tuned before step 0, adapted while running, as the authors' code does.

status of a run of losses     +1 strictly falling, -1 higher at the end than at the start, 0 otherwise
tuning                        raise a rate by 1.2 while its losses fall strictly; then 0.84 of the first that fails
every 50 steps                inner rate x 0.9 if at least 29 % rose, x 1.05 if at least 70 % fell; the rate of the
                              inverse-Hessian product stays as tuned
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Float, Int32

from jaxdd.core import backend
from jaxdd.core.types import Array

INTERVAL = 50
RISEN, FALLEN = 0.29, 0.7
DOWN, UP = 0.9, 1.05
TUNING_FACTOR, TUNING_BACKOFF = 1.2, 0.7
TUNING_TRIALS = 200


class Rates(NamedTuple):
    """The two learning rates, and how the inner losses went since the last adaptation.

    Arguments:
        inner, hvp: learning rates of theta and of the inverse-Hessian product.
        risen, fallen, seen: counts of steps.
    """

    inner: Float[Array, ""]
    hvp: Float[Array, ""]
    risen: Int32[Array, ""]
    fallen: Int32[Array, ""]
    seen: Int32[Array, ""]


def start(inner: float, hvp: float, dtype: Any) -> Rates:
    """Returns the rates before step 0, in the images' type."""
    zero = jnp.zeros((), jnp.int32)
    return Rates(jnp.asarray(inner, dtype), jnp.asarray(hvp, dtype), zero, zero, zero)


def status(losses: Array) -> Array:
    """Returns the status (+1, 0 or -1) of losses `[steps]`; 0 for none, and for any with NaN."""
    if losses.shape[0] < 2:
        return jnp.zeros((), jnp.int32)
    falling = jnp.all(losses[:-1] > losses[1:])
    return jnp.where(falling, 1, jnp.where(losses[-1] > losses[0], -1, 0)).astype(jnp.int32)


def adapt(rates: Rates, latest: Array, step: Array) -> Rates:
    """Counts the latest status and, every 50 steps, adapts the inner rate."""
    risen, fallen = rates.risen + (latest == -1), rates.fallen + (latest == 1)
    seen = rates.seen + 1
    due = (step % INTERVAL == 0) & (step > 0)
    factor = jnp.where(risen >= RISEN * seen, DOWN, jnp.where(fallen >= FALLEN * seen, UP, 1.0))
    inner = jnp.where(due, rates.inner * factor, rates.inner).astype(rates.inner.dtype)
    clear = lambda count: jnp.where(due, 0, count)  # noqa: E731
    return Rates(inner, rates.hvp, clear(risen), clear(fallen), clear(seen))


def tune(first: Array, attempt: Callable[[Array], Array]) -> Array:
    """Raises a rate until `attempt(rate)`, the status of its losses, is no longer +1.

    Arguments:
        first: the first rate tried.
        attempt: pure and jittable; it is compiled once, whatever the number of trials.
    """

    def raised(carry):
        rate, _ = carry
        return rate * TUNING_FACTOR, attempt(rate)

    def falling(carry):
        return carry[1] == 1

    begin = (first, jnp.ones((), jnp.int32))
    with backend.looping():
        rate, _ = backend.bounded_while(TUNING_TRIALS, falling, raised, begin)
    return rate * TUNING_BACKOFF
