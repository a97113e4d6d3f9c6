"""RCIG's inner problem, solved exactly as one linear system or by the paper's Adam steps, behind one interface.

Every random choice of one outer step of RCIG, made in one place: so a test can choose them itself.

Learning rates of RCIG's `adam` solver: tuned before step 0, adapted while running, as the authors' code does.

status of a run of losses     +1 strictly falling, -1 higher at the end than at the start, 0 otherwise
tuning                        raise a rate by 1.2 while its losses fall strictly; then 0.84 of the first that fails
every 50 steps                inner rate x 0.9 if at least 29 % rose, x 1.05 if at least 70 % fell; the rate of the
                              inverse-Hessian product stays as tuned
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int, Int32
from jaxtyping import Key as Keys

from jaxdd.core import backend, sharding, trees
from jaxdd.core.errors import ConfigError
from jaxdd.core.random import purpose_key
from jaxdd.core.types import Array, Key, Metrics, PyTree
from jaxdd.kernels import adam, solvers
from jaxdd.kernels.linearized import Linearized, dense_jacobian, linearize
from jaxdd.kernels.meta_gradient import Expanded, InnerProblem, Rows
from jaxdd.methods.rcig.settings import RCIGSettings
from jaxdd.training import pool


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
