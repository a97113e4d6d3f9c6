"""Compiles big programs for tests: XLA's own optimisations as always, LLVM's left out, which take most of the time."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax

fast_jit: Callable[..., Callable] = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
