"""Precision: in which type each thing is computed. Decided here and nowhere else.

| computed                                             | `float32` | `bfloat16`          | with `use_x64`  |
|------------------------------------------------------|-----------|---------------------|-----------------|
| activations and convolutions of networks             | float32   | bfloat16            | no change       |
| parameters, batch statistics, classifier, losses     | float32   | float32             | no change       |
| distilled images and labels, optimisers' updates     | float32   | float32             | no change       |
| what is in `exact_products`, such as the J of pcg    | float32   | float32             | no change       |
| kernels K                                            | float32   | float32 (*)         | float64         |
| factorisation and solves with K + lam I              | float32   | float32             | float64         |

(*) of features that come out of bfloat16 activations, unless these stand inside `exact_products`.

Beside that GPUs may run float32 products in TF32 and TPUs in bfloat16, as JAX does by default; never those of kernels,
solves and whitening, which ask for full float32 themselves or stand inside `exact_products`.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any, get_args

import jax
import jax.numpy as jnp

from jaxdd.core.config import Precision
from jaxdd.core.errors import choose

_exact: contextvars.ContextVar[bool] = contextvars.ContextVar("jaxdd_exact", default=False)


def activations(precision: Precision) -> Any:
    """Returns the type that networks of this precision compute in; None: that of their images and parameters.

    Raises:
        UsageError: an unknown precision.
    """
    chosen = choose(precision, get_args(Precision), kind="precision", where="precision")
    return jnp.bfloat16 if chosen == "bfloat16" else None


@contextlib.contextmanager
def exact_products() -> Iterator[None]:
    """Keeps full float32 in all that is traced inside: no TF32 on GPU, no bfloat16 on TPU, no bfloat16 activations.

    A solve preconditioned by `(K + lam I)^-1` magnifies errors of its operator by 1 / lam.
    """
    token = _exact.set(True)
    try:
        with jax.default_matmul_precision("highest"):
            yield
    finally:
        _exact.reset(token)


def exact() -> bool:
    """Returns whether the code that is being traced stands inside `exact_products`."""
    return _exact.get()


@contextlib.contextmanager
def float64(enabled: bool) -> Iterator[None]:
    """Makes float64 possible inside, if `enabled`: arrays stay float32 unless they are made otherwise."""
    if not enabled:
        yield
    elif hasattr(jax, "enable_x64"):
        with jax.enable_x64(True):
            yield
    else:  # jax 0.7
        from jax import experimental

        with experimental.enable_x64(True):  # pyright: ignore[reportAttributeAccessIssue]
            yield
