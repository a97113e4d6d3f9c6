"""Randomness as a function of (seed, step, purpose), never of history: the reason why resuming is bit-exact."""

from __future__ import annotations

import zlib

import jax

from jaxdd.core.types import Array, Key


def key_for(seed: int | Array, purpose: str, step: int | Array = 0) -> Key:
    """Returns the key for one purpose at one step of one run.

    Arguments:
        seed: the run's seed; a Python integer or a traced scalar.
        purpose: a fixed word such as `"batch"`; other words give independent keys.
        step: the step number; a Python integer or a traced scalar.
    """
    return jax.random.fold_in(purpose_key(jax.random.key(seed), purpose), step)


def purpose_key(key: Key, purpose: str) -> Key:
    """Derives the key for `purpose` from `key`; use it instead of counting on the order of `jax.random.split`."""
    return jax.random.fold_in(key, zlib.crc32(purpose.encode()))
