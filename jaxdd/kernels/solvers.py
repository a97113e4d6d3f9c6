"""Exact solvers of RCIG's inner problem, a ridge regression with the network's whole empirical tangent kernel.

    A = J J^T + K (x) I_k + lam I          alpha = A^-1 y,   theta* = J^T alpha,   W* = Phi^T alpha

`J` leaves out the last layer's kernel, whose share is `K (x) I`. Conjugate gradients alone do not converge in tens of
steps because lam is tiny; preconditioned by `(K + lam I)^-1` 8 to 12 steps do.

Kernel ridge regression on the last layer: the part of RCIG's inner problem that has a closed form.

    K = Phi Phi^T,   weights(r) = (K + lam I)^-1 r

`K` is badly conditioned (lam is tiny), so its products never run in TF32 and the factorisation may run in float64.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdd.core import backend, trees
from jaxdd.core.types import Array, PyTree
from jaxdd.kernels.linearized import Linearized, gram

STALL = 3  # steps in a row whose progress is lost in rounding, after which pcg stops


class Solved(NamedTuple):
    """A solution and how good it is.

    Arguments:
        solution: x, `[n, k]`.
        pulled: `J^T x`, the last kernel's part zero.
        residual: `||b - A x|| / ||b||`, as the recurrence of pcg knows it; 0 for a direct solve.
        steps: products with `A`.
    """

    solution: Array
    pulled: PyTree
    residual: Array
    steps: Array


class _Iterate(NamedTuple):
    solution: Array
    pulled: PyTree
    residual: Array
    direction: Array
    product: Array  # <r, M r>
    norm: Array
    energy: Array  # <x, A x>
    idle: Array
    steps: Array


def tangent_operator(
    linear: Linearized, ridge: Ridge, freeze: Callable[[PyTree], PyTree]
) -> Callable[[Array], tuple[Array, PyTree]]:
    """Returns `v -> A v, J^T v`, v `[n, k]`: one backward and one forward product of the network, and one with `K + lam
    I`.

    Arguments:
        linear: the network linearised on the coreset.
        ridge: the last layer's kernel.
        freeze: sets the last kernel's part of a tangent to zero.
    """

    def operator(v: Array) -> tuple[Array, PyTree]:
        pulled = freeze(linear.pull(v))
        last = jnp.matmul(ridge.matrix, v, precision=jax.lax.Precision.HIGHEST).astype(v.dtype)
        return linear.push(pulled) + last, pulled

    return operator


def pcg(
    operator: Callable[[Array], tuple[Array, PyTree]],
    right: Array,
    precondition: Callable[[Array], Array],
    *,
    steps: int,
    tolerance: float,
) -> Solved:
    """Solves `A x = right` by preconditioned conjugate gradients from zero.

    Stops at `steps` products, when the relative residual falls to `tolerance`, or when for a few steps the change of
    the solution is lost in rounding. That is measured in the norm of `A`, in which every step improves the solution,
    and not by the residual, which may grow for tens of steps meanwhile.

    Arguments:
        operator: `v -> A v, J^T v`; A is symmetric positive definite on `[n, k]`, J^T any linear map, whose value at
            the solution comes with it at no further product (None if it is not wanted).
        right: `[n, k]`.
        precondition: an approximate inverse, symmetric positive definite.
        steps: most products with the operator.
        tolerance: relative residual at which to stop; 0 never stops on it.
    """
    scale = jnp.sqrt(jnp.sum(right**2))
    target, lost = tolerance * scale, jnp.finfo(right.dtype).eps ** 2
    direction = precondition(right)
    zero, count, product = jnp.zeros_like(right), jnp.zeros((), jnp.int32), jnp.sum(right * direction)
    pulled = trees.zeros_like(jax.eval_shape(operator, right)[1])
    state = _Iterate(
        zero, pulled, right, direction, product, scale, energy=jnp.zeros_like(scale), idle=count, steps=count
    )

    def going(state: _Iterate) -> Array:
        return (state.norm > target) & (state.idle < STALL) & (state.product > 0)

    def body(state: _Iterate) -> _Iterate:
        image, pulled = operator(state.direction)
        length = state.product / jnp.sum(state.direction * image)
        residual = state.residual - length * image
        conditioned = precondition(residual)
        product = jnp.sum(residual * conditioned)
        gain = length * state.product
        energy = state.energy + gain
        return _Iterate(
            solution=state.solution + length * state.direction,
            pulled=trees.add(state.pulled, trees.scale(length, pulled)),
            residual=residual,
            direction=conditioned + product / state.product * state.direction,
            product=product,
            norm=jnp.sqrt(jnp.sum(residual**2)),
            energy=energy,
            idle=jnp.where(gain > lost * energy, 0, state.idle + 1),
            steps=state.steps + 1,
        )

    end = backend.bounded_while(steps, going, body, state)
    return Solved(end.solution, end.pulled, end.norm / jnp.where(scale > 0, scale, 1), end.steps)


def dense_operator_solve(
    jacobian: PyTree, linear: Linearized, ridge: Ridge, freeze: Callable[[PyTree], PyTree]
) -> Callable[[Array], Solved]:
    """Returns `right -> A^-1 right` through the explicit `[n k, n k]` matrix and its Cholesky factor, for small `n k`.

    Arguments:
        jacobian: dense, leaves `[n, k, ...]`, without a leaf for the last kernel. (Zeros in its place would be wrong:
            the product of a constant-zero matrix with itself is NaN on XLA:CPU of JAX 0.10 to 0.12.)
        linear: the network linearised on the same images.
        ridge: the last layer's kernel; its type is the type of the factorisation.
        freeze: sets the last kernel's part of a tangent to zero.
    """
    n, k = jax.tree.leaves(jacobian)[0].shape[:2]
    matrix = gram(jacobian).astype(ridge.matrix.dtype) + jnp.kron(ridge.matrix, jnp.eye(k, dtype=ridge.matrix.dtype))
    factor = jnp.linalg.cholesky(matrix)

    def solve(right: Array) -> Solved:
        flat = jax.scipy.linalg.cho_solve((factor, True), right.reshape(n * k).astype(matrix.dtype))
        solution = flat.reshape(n, k).astype(right.dtype)
        return Solved(solution, freeze(linear.pull(solution)), jnp.zeros(()), jnp.ones((), jnp.int32))

    return solve


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
