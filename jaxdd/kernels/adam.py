"""The paper's own solver of the inner problem: a fixed number of Adam steps for theta, and again for the
inverse-Hessian product (arXiv 2302.06755). Early stopping makes it differ from the exact solve.

Three habits of the authors' code are part of their published numbers and are options here:

* `count`: the inner Adam starts with the step count of the network's own training, so that its bias correction is
  already warm;
* `drift`: during the inner steps the base parameters coast on the momentum of that training;
* `last_kernel`: the tangent of the last kernel takes no Adam step but is moved by its raw gradient (uphill), and takes
  part in the inverse-Hessian product. False keeps it at zero throughout, as the exact solvers do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdd.core import backend, trees
from jaxdd.core.types import Array, PyTree
from jaxdd.kernels.linearized import on_rows
from jaxdd.kernels.meta_gradient import Expanded, InnerProblem


class Drift(NamedTuple):
    """Base parameters that coast: their learning rate and the optimiser state of the network's own training."""

    learning_rate: float
    optimizer: PyTree


def inner_gradient(
    problem: InnerProblem, theta: PyTree, expanded: Expanded, rows: Array | None = None
) -> tuple[Array, PyTree]:
    """Returns the inner loss L at theta and its gradient; derivatives flow through `rows` only.

    Arguments:
        problem: the network and the ridge coefficient.
        theta: tangent tree.
        expanded: the synthetic set as the network sees it.
        rows: indices into it, or None for all.
    """

    def output_of(theta: PyTree) -> tuple[Array, Array]:
        return on_rows(problem.bounded(lambda x: problem.tangent(theta, x)), expanded.images, rows)

    output, pull, features = jax.vjp(output_of, theta, has_aux=True)
    residual = expanded.labels - output
    weights = problem.ridge(jax.lax.stop_gradient(features)).solve(residual)
    share = problem.lam / expanded.labels.size
    loss = share / 2 * (jnp.sum(residual * weights) + trees.dot(theta, theta))
    return loss, trees.scale(share, trees.subtract(theta, pull(weights)[0]))


def minimise(
    problem_at: Callable[[PyTree], InnerProblem],
    params: PyTree,
    batches: Callable[[Array], tuple[Expanded, Array | None]],
    *,
    steps: int,
    learning_rate: Array | float,
    count: Array | int = 0,
    drift: Drift | None = None,
    last_kernel: bool = False,
) -> tuple[PyTree, PyTree, Array]:
    """Minimises the inner loss from theta = 0.

    Arguments:
        problem_at: the inner problem at given base parameters.
        params: base parameters.
        batches: step number -> the expanded set (augmented afresh, perhaps) and the rows gradients flow through.
        steps, learning_rate: of Adam.
        count, drift, last_kernel: see the module's header.

    Returns:
        theta, the base parameters after the drift, and the `[steps]` inner losses.
    """
    zero = trees.zeros_like(params)
    adam = optax.scale_by_adam()
    adam_state = optax.ScaleByAdamState(jnp.asarray(count, jnp.int32), zero, zero)
    coasting = drift.optimizer if drift else None

    def body(i, carry):
        theta, params, adam_state, coasting, losses = carry
        problem = problem_at(params)
        expanded, rows = batches(i)
        loss, gradient = inner_gradient(problem, theta, expanded, rows)
        update, adam_state = adam.update(problem.freeze(gradient), adam_state)
        theta = trees.subtract(theta, trees.scale(learning_rate, problem.freeze(update)))
        if last_kernel:
            theta = trees.add(theta, trees.subtract(gradient, problem.freeze(gradient)))
        if drift:
            coast, coasting = adam.update(zero, coasting)
            params = trees.subtract(params, trees.scale(drift.learning_rate, coast))
        return theta, params, adam_state, coasting, losses.at[i].set(loss)

    start = (zero, params, adam_state, coasting, _empty(steps, params))
    theta, params, _, _, losses = backend.loop(steps, body, start, unroll=False)
    return theta, params, losses[:steps]


def inverse_hessian_product(
    problem: InnerProblem,
    theta: PyTree,
    g: PyTree,
    expanded: Expanded,
    rows_at: Callable[[Array], Array | None],
    *,
    steps: int,
    learning_rate: Array | float,
    last_kernel: bool = False,
) -> tuple[PyTree, Array]:
    """Minimises `1/2 x^T H x - g^T x` by Adam from x = 0, where H is the Hessian of the inner loss.

    Arguments:
        rows_at: step number -> the rows that derivatives flow through at that step.
        steps, learning_rate: of Adam.
        last_kernel: whether the last kernel's tangent takes part.

    Returns:
        x, and the `[steps]` values `x^T (H x - 2 g)` before each step.
    """
    mask = (lambda tree: tree) if last_kernel else problem.freeze

    def gradient_on(rows: Array | None) -> Callable[[PyTree], PyTree]:
        return lambda t: inner_gradient(problem, t, expanded, rows)[1]

    with backend.looping():
        shared = jax.linearize(gradient_on(None), theta)[1] if rows_at(jnp.zeros((), jnp.int32)) is None else None

    def product(x: PyTree, i: Array) -> PyTree:
        return mask(shared(x) if shared else jax.jvp(gradient_on(rows_at(i)), (theta,), (x,))[1])

    return solve_quadratic(product, mask(g), steps=steps, learning_rate=learning_rate)


def solve_quadratic(
    product: Callable[[PyTree, Array], PyTree], g: PyTree, *, steps: int, learning_rate: Array | float
) -> tuple[PyTree, Array]:
    """Minimises `1/2 x^T H x - g^T x` by Adam from x = 0, given `product(x, step) = H x`; also returns `x^T (H x - 2
    g)` by step."""
    adam = optax.scale_by_adam()

    def body(i, carry):
        x, state, residuals = carry
        image = product(x, i)
        value = trees.dot(x, trees.subtract(image, trees.scale(2.0, g)))
        update, state = adam.update(trees.subtract(image, g), state)
        return trees.subtract(x, trees.scale(learning_rate, update)), state, residuals.at[i].set(value)

    start = (trees.zeros_like(g), adam.init(g), _empty(steps, g))
    x, _, residuals = backend.loop(steps, body, start, unroll=False)
    return x, residuals[:steps]


def descend(
    value_and_gradient: Callable[[PyTree, Array], tuple[Array, PyTree]],
    params: PyTree,
    optimizer: PyTree,
    *,
    steps: int,
    learning_rate: Array | float,
) -> tuple[PyTree, Array]:
    """Descends by plain Adam from a given optimiser state; returns the parameters and the `[steps]` losses."""
    adam = optax.scale_by_adam()

    def body(i, carry):
        params, optimizer, losses = carry
        loss, gradient = value_and_gradient(params, i)
        update, optimizer = adam.update(gradient, optimizer)
        return trees.subtract(params, trees.scale(learning_rate, update)), optimizer, losses.at[i].set(loss)

    params, _, losses = backend.loop(steps, body, (params, optimizer, _empty(steps, params)), unroll=False)
    return params, losses[:steps]


def _empty(steps: int, like: PyTree) -> Array:
    return jnp.zeros(max(steps, 1), jax.tree.leaves(like)[0].dtype)
