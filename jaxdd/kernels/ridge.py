"""Kernel ridge regression on the last layer: the part of RCIG's inner problem that has a closed form.

    K = Phi Phi^T,   weights(r) = (K + lam I)^-1 r

`K` is badly conditioned (lam is tiny), so its products never run in TF32 and the factorisation may run in float64.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from jaxdd.core.types import Array


def kernel(features: Array, others: Array | None = None) -> Array:
    """Returns `Phi Phi'^T`, `[n, m]`, at full precision."""
    others = features if others is None else others
    return jnp.matmul(features, others.T, precision=jax.lax.Precision.HIGHEST)


@dataclasses.dataclass(frozen=True)
class Ridge:
    """A factorised `K + lam I`; differentiable in the features through `of`.

    Arguments:
        matrix: `[n, n]`, `K + lam I`.
        factor: its lower Cholesky factor.
    """

    matrix: Array
    factor: Array

    @classmethod
    def of(cls, features: Array, lam: float | Array, *, double: bool = False) -> Ridge:
        """Builds and factorises `Phi Phi^T + lam I`.

        Arguments:
            features: `[n, d]`.
            lam: ridge coefficient, > 0.
            double: form and factorise the matrix in float64 (needs `jax_enable_x64`).
        """
        features = features.astype(jnp.float64) if double else features
        matrix = kernel(features) + lam * jnp.eye(len(features), dtype=features.dtype)
        return cls(matrix, jnp.linalg.cholesky(jax.lax.stop_gradient(matrix)))

    def inverse(self) -> Array:
        """Returns `(K + lam I)^-1`, `[n, n]`: for a preconditioner, whose many products cost less than as many
        solves."""
        return jax.scipy.linalg.cho_solve((self.factor, True), jnp.eye(len(self.factor), dtype=self.factor.dtype))

    def solve(self, right: Array) -> Array:
        """Returns `(K + lam I)^-1 right`, `[n, k]`, in `right`'s type; one factorisation serves value and
        derivatives."""
        solution = jax.lax.custom_linear_solve(
            lambda v: jnp.matmul(self.matrix, v, precision=jax.lax.Precision.HIGHEST),
            right.astype(self.matrix.dtype),
            lambda _, b: jax.scipy.linalg.cho_solve((self.factor, True), b),
            symmetric=True,
        )
        return solution.astype(right.dtype)
