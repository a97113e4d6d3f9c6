"""Learning-rate schedules."""

from __future__ import annotations

import optax


def warmup_cosine(peak: float, *, warmup: int, total: int, final: float = 0.01) -> optax.Schedule:
    """Linear from 0 to `peak` over `warmup` steps, then cosine to `final * peak` at step `total`, constant after it."""
    rise = optax.linear_schedule(0.0, peak, max(warmup, 1))
    fall = optax.cosine_decay_schedule(peak, max(total - warmup, 1), alpha=final)
    return optax.join_schedules([rise, fall], [warmup]) if warmup else fall
