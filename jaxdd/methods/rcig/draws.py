"""Every random choice of one outer step of RCIG, made in one place: so a test can choose them itself."""

from __future__ import annotations

from typing import NamedTuple

import jax
from jaxtyping import Int, Int32
from jaxtyping import Key as Keys

from jaxdd.core import sharding
from jaxdd.core.random import purpose_key
from jaxdd.core.types import Array, Key
from jaxdd.kernels.meta_gradient import Rows
from jaxdd.methods.rcig.settings import RCIGSettings


class Draws(NamedTuple):
    """Every random choice of one outer step; what does not apply is None.

    Arguments:
        model: index into the pool.
        pool_steps: training steps of that network.
        renewal: key of the network that may replace it.
        direct: per repeat, the rows of the expanded set and of the real batch that gradients flow through.
        implicit: per repeat, rows of the expanded set.
        inner, hinv: rows of the expanded set by step, for `adam`.
        pool_rows: rows of the stored set by step.
        inner_augment, pool_augment: keys by step.
        direct_augment, implicit_augment: keys by repeat.
    """

    model: Int32[Array, ""]
    pool_steps: Int32[Array, ""]
    renewal: Key
    direct: tuple[Rows, ...]
    implicit: tuple[Int[Array, " _"] | None, ...]
    inner: Int[Array, "n_inner_steps _"] | None = None
    hinv: Int[Array, "n_hinv_steps _"] | None = None
    pool_rows: Int[Array, "n_max_steps_pool _"] | None = None
    inner_augment: Keys[Array, " n_inner_steps"] | None = None
    pool_augment: Keys[Array, " n_max_steps_pool"] | None = None
    direct_augment: Keys[Array, " aug_repeats"] | None = None
    implicit_augment: Keys[Array, " aug_repeats"] | None = None


def draw(settings: RCIGSettings, key: Key, *, stored: int, real: int) -> Draws:
    """Draws all random choices of one outer step, from one key.

    Arguments:
        stored: images in the synthetic set, before mirroring.
        real: images in the real batch.
    """
    expanded = stored * (2 if settings.use_flip else 1)
    repeats = range(settings.normal_repeats + (settings.aug_repeats if settings.aug else 0))

    def rows(purpose: str, count: int, size: int | None, steps: int | None = None) -> Array | None:
        if size is None or size >= count:
            return None
        choose = lambda k: jax.random.choice(k, count, (size,), replace=False)  # noqa: E731
        of_purpose = purpose_key(key, purpose)
        return choose(of_purpose) if steps is None else jax.vmap(choose)(jax.random.split(of_purpose, steps))

    adam_only = settings.inner_solver == "adam"
    augmented = bool(settings.aug)
    keys = lambda purpose, count: jax.random.split(purpose_key(key, purpose), count)  # noqa: E731
    return Draws(
        model=jax.random.randint(purpose_key(key, "model"), (), 0, sharding.share(settings.pool_model_count)),
        pool_steps=jax.random.randint(purpose_key(key, "pool steps"), (), 1, settings.n_max_steps_pool),
        renewal=purpose_key(key, "renewal"),
        direct=tuple(
            Rows(
                rows(f"direct synthetic {i}", expanded, settings.direct_batch_sizes[0]),
                rows(f"direct real {i}", real, settings.direct_batch_sizes[1]),
            )
            for i in repeats
        ),
        implicit=tuple(rows(f"implicit {i}", expanded, settings.implicit_batch_size) for i in repeats),
        inner=rows("inner", expanded, settings.inner_train_batch_size, settings.n_inner_steps) if adam_only else None,
        hinv=rows("hinv", expanded, settings.hinv_batch_size, settings.n_hinv_steps) if adam_only else None,
        pool_rows=rows("pool rows", stored, settings.pool_train_batch_size, settings.n_max_steps_pool),
        inner_augment=keys("inner augment", max(settings.n_inner_steps, 1)) if augmented else None,
        pool_augment=keys("pool augment", settings.n_max_steps_pool) if augmented else None,
        direct_augment=keys("direct augment", settings.aug_repeats) if augmented else None,
        implicit_augment=keys("implicit augment", settings.aug_repeats) if augmented else None,
    )
