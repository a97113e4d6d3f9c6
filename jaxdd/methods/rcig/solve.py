"""RCIG's inner problem, solved exactly as one linear system or by the paper's Adam steps, behind one interface."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxdd.core import backend, trees
from jaxdd.core.errors import ConfigError
from jaxdd.core.types import Array, Key, Metrics, PyTree
from jaxdd.kernels import adam, solvers
from jaxdd.kernels.linearized import Linearized, dense_jacobian, linearize
from jaxdd.kernels.meta_gradient import Expanded, InnerProblem
from jaxdd.methods.rcig.draws import Draws
from jaxdd.methods.rcig.rates import Rates
from jaxdd.methods.rcig.settings import RCIGSettings
from jaxdd.training import pool

MOST_DENSE_BYTES = 8 * 10**9


class Solution(NamedTuple):
    """The inner problem solved.

    Arguments:
        problem: the problem at the parameters where the meta-gradient is taken.
        theta: the minimiser.
        respond: g -> u, the scaled inverse-Hessian product, with metrics.
        metrics: how well it was solved.
        losses: inner losses by step, for `adam`.
    """

    problem: InnerProblem
    theta: PyTree
    respond: Callable[[PyTree], tuple[PyTree, Metrics, Array]]
    metrics: Metrics
    losses: Float[Array, " inner_steps"]


def solve_exactly(settings: RCIGSettings, problem: InnerProblem, expanded: Expanded) -> Solution:
    """Solves for theta* = J^T A^-1 Y and, given g, for u = g - J^T A^-1 J g.

    With `hinv_last_kernel`, as published, the last kernel's tangent takes part in u though not in theta: the second J
    has its columns, so that A is J J^T + (2 K + lam I) (x) I there, and d + c is no longer the exact derivative.
    """
    chunk = min((s for s in (settings.inner_train_batch_size, settings.hinv_batch_size) if s), default=problem.chunk)
    with backend.exact_products():  # the solves too: chunked products are traced when they are called
        with backend.looping(settings.inner_solver == "pcg"):
            linear = linearize(problem.forward, problem.params, expanded.images, chunk=chunk)
        alpha = _solver(settings, problem, expanded, linear, last_kernel=False)(expanded.labels)

    def respond(g: PyTree) -> tuple[PyTree, Metrics, Array]:
        last_kernel = settings.hinv_last_kernel
        g = g if last_kernel else problem.freeze(g)
        with backend.exact_products():
            beta = _solver(settings, problem, expanded, linear, last_kernel=last_kernel)(linear.push(g))
        metrics = {"hinv_residual": beta.residual, "hinv_steps": beta.steps}
        return trees.subtract(g, beta.pulled), metrics, beta.residual[None]

    metrics = {"inner_residual": alpha.residual, "inner_steps": alpha.steps}
    return Solution(problem, alpha.pulled, respond, metrics, alpha.residual[None])


def _solver(
    settings: RCIGSettings, problem: InnerProblem, expanded: Expanded, linear: Linearized, *, last_kernel: bool
) -> Callable[[Array], solvers.Solved]:
    """Returns `right -> A^-1 right`, with or without the last kernel's columns in J."""
    mask = (lambda tree: tree) if last_kernel else problem.freeze
    ridge = problem.ridge(linear.features)
    if settings.inner_solver == "dense":
        _require_small(problem, expanded)
        jacobian = dense_jacobian(problem.forward, problem.params, expanded.images)
        jacobian = jacobian if last_kernel else problem.without_last_kernel(jacobian)
        return solvers.dense_operator_solve(jacobian, linear, ridge, mask)
    inverse = (problem.ridge(math.sqrt(2) * linear.features) if last_kernel else ridge).inverse()

    def precondition(v: Array) -> Array:
        return jnp.matmul(inverse, v, precision=jax.lax.Precision.HIGHEST).astype(v.dtype)

    operator = solvers.tangent_operator(linear, ridge, mask)
    limits = {"steps": settings.solver_steps, "tolerance": settings.solver_tolerance}
    return lambda right: solvers.pcg(operator, right, precondition, **limits)


def _require_small(problem: InnerProblem, expanded: Expanded) -> None:
    """Refuses a dense Jacobian that the memory could not hold."""
    needed = expanded.labels.size * trees.byte_size(problem.params)
    if needed > MOST_DENSE_BYTES:
        raise ConfigError(
            f"the dense Jacobian would take {needed / 1e9:,.1f} GB",
            where="inner_solver = dense",
            expected=f"at most {MOST_DENSE_BYTES / 1e9:,.0f} GB: images x classes x parameters of one network",
            remedy="use inner_solver = pcg, or a smaller width",
        )


def solve_by_adam(
    settings: RCIGSettings,
    problem: InnerProblem,
    member: pool.Member,
    expand: Callable[[Key | None], Expanded],
    draws: Draws,
    rates: Rates,
) -> Solution:
    """Solves for theta and x by the paper's fixed numbers of Adam steps; u = lam / (n k) x.

    Arguments:
        member: the network of the pool; its optimiser warms and drifts as in the authors' code.
        expand: the synthetic set as the network sees it, augmented if a key is given.
        draws: sub-samples and augmentation keys.
        rates: the two learning rates.
    """
    views = draws.inner_augment

    def batches(i: Array) -> tuple[Expanded, Array | None]:
        expanded = expand(None if views is None else views[i])
        return expanded, None if draws.inner is None else draws.inner[i]

    theta, params, losses = adam.minimise(
        lambda params: dataclasses.replace(problem, params=params),
        problem.params,
        batches,
        steps=settings.n_inner_steps,
        learning_rate=rates.inner,
        count=member.optimizer.count if settings.warm_inner_adam else 0,
        drift=adam.Drift(settings.pool_learning_rate, member.optimizer) if settings.base_drift else None,
        last_kernel=settings.hinv_last_kernel,
    )
    problem = dataclasses.replace(problem, params=params)
    expanded = expand(None)

    def respond(g: PyTree) -> tuple[PyTree, Metrics, Array]:
        x, residuals = adam.inverse_hessian_product(
            problem,
            theta,
            g,
            expanded,
            lambda i: None if draws.hinv is None else draws.hinv[i],
            steps=settings.n_hinv_steps,
            learning_rate=rates.hvp,
            last_kernel=settings.hinv_last_kernel,
        )
        metrics = {"hinv_residual": residuals[-1]} if settings.n_hinv_steps else {}
        return trees.scale(problem.lam / expanded.labels.size, x), metrics, residuals

    metrics = {"inner_loss": losses[-1]} if settings.n_inner_steps else {}
    if settings.monitor_losses and settings.n_inner_steps:
        metrics["first_inner_loss"] = losses[0]
    return Solution(problem, theta, respond, metrics, losses)
