"""The paper's Adam solver: its gradients are those of the inner loss, and in the limit it is the exact solver."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd.core import trees
from jaxdd.core.types import Examples
from jaxdd.kernels import adam, solvers
from jaxdd.kernels.linearized import dense_jacobian, linearize
from jaxdd.kernels.meta_gradient import Expanded, InnerProblem, Rows, Synthetic, direct_gradient, implicit_gradient

pytestmark = pytest.mark.usefixtures("x64")

LAM = 1.0
# Adam converges (instead of circling the solution) only while rate / eps stays below its limit of stability, so it has
# a tiny rate and short ways: everything is linear in the labels and in g.
RATE, STEPS, SMALL = 2e-7, 20_000, 1e-3


def forward(params, images):
    """Two layers: 4 inputs, 3 features, 2 logits."""
    features = jnp.tanh(images.reshape(len(images), -1) @ params["w"] + params["b"][None])
    return features @ params["last"]["kernel"] + params["last"]["bias"][None], features


def draw(*shapes, seed: int = 0):
    """Normal arrays."""
    random = np.random.default_rng(seed)
    return [jnp.asarray(random.normal(size=shape)) for shape in shapes]


def parameters(seed: int = 0):
    w, b, kernel, bias = draw((4, 3), (3,), (3, 2), (2,), seed=seed)
    return {"w": w / 2, "b": b / 10, "last": {"kernel": kernel, "bias": bias}}


def at(params) -> InnerProblem:
    return InnerProblem(forward, params, LAM, "last")


def synthetic() -> Synthetic:
    images, labels = draw((5, 2, 2, 1), (5, 2), seed=1)
    return Synthetic(images, SMALL * labels, jnp.asarray(0.2))


def expand(stored: Synthetic) -> Expanded:
    return Expanded(stored.images, stored.labels)


def real() -> Examples:
    return Examples(draw((4, 2, 2, 1), seed=2)[0], jnp.asarray([0, 1, 1, 0], jnp.int32), 2)


def literal_loss(theta, params, images, labels, rows=None):
    """L as the paper writes it; derivatives through `rows` only."""
    _, output, features = jax.jvp(lambda p: forward(p, images), (params,), (theta,), has_aux=True)
    if rows is not None:
        output = jax.lax.stop_gradient(output).at[rows].set(output[rows])
    kernel = features @ features.T
    weights = jnp.linalg.solve(kernel + LAM * jnp.eye(len(kernel)), labels - output)
    fit = jnp.sum((labels - output - kernel @ weights) ** 2)
    return (fit + LAM * (jnp.trace(weights.T @ kernel @ weights) + trees.dot(theta, theta))) / (2 * labels.size)


@pytest.mark.parametrize("rows", [None, (3, 0)])
def test_inner_gradient_is_the_derivative_of_the_inner_loss(rows):
    rows = None if rows is None else jnp.asarray(rows)
    theta, params, expanded = parameters(seed=5), parameters(), expand(synthetic())

    @jax.jit
    def both(theta):
        ours = adam.inner_gradient(at(params), theta, expanded, rows)
        return ours, jax.value_and_grad(literal_loss)(theta, params, *expanded, rows)

    (loss, gradient), (value, expected) = both(theta)
    np.testing.assert_allclose(loss, value, rtol=1e-12)
    for one, other in zip(jax.tree.leaves(gradient), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-13)


@pytest.mark.slow
def test_converged_adam_equals_the_dense_solution():
    stored, params = synthetic(), parameters()
    expanded, problem = expand(stored), at(params)
    linear = linearize(forward, params, expanded.images)
    jacobian = problem.without_last_kernel(dense_jacobian(forward, params, expanded.images))
    solve = solvers.dense_operator_solve(jacobian, linear, problem.ridge(linear.features), problem.freeze)
    exact = problem.freeze(linear.pull(solve(expanded.labels).solution))
    options = {"steps": STEPS, "learning_rate": RATE, "last_kernel": False}  # cold, and without drift
    theta, drifted, losses = jax.jit(lambda p: adam.minimise(at, p, lambda i: (expanded, None), **options))(params)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, drifted, params))
    assert losses[-1] < 0.9 * losses[0]

    def meta_gradient(theta, respond):
        _, _, d, g = direct_gradient(problem, theta, stored, expand, real(), Rows())
        u = respond(g)
        return {"theta": theta, "u": u, "d": d, "c": implicit_gradient(problem, theta, u, stored, expand)}

    def by_adam(g):
        x, _ = adam.inverse_hessian_product(problem, theta, trees.scale(SMALL, g), expanded, lambda i: None, **options)
        return trees.scale(LAM / expanded.labels.size / SMALL, x)

    def exactly(g):
        beta = solve(linear.push(problem.freeze(g))).solution
        return problem.freeze(trees.subtract(g, linear.pull(beta)))

    compiled = jax.jit(meta_gradient, static_argnums=1)
    found, expected = compiled(theta, by_adam), compiled(exact, exactly)
    for name, tree in expected.items():
        size = max(jnp.abs(leaf).max() for leaf in jax.tree.leaves(tree))
        differences = jax.tree.leaves(trees.subtract(found[name], tree))
        error = max(jnp.abs(leaf).max() for leaf in differences) / size
        assert error <= 1e-9, f"{name}: {error:.1e}"


def test_residuals_are_the_quadratic_before_each_step():
    hessian, g = jnp.diag(jnp.asarray([1.0, 4.0])), {"x": jnp.asarray([1.0, -2.0])}
    x, residuals = adam.solve_quadratic(lambda x, i: {"x": hessian @ x["x"]}, g, steps=2, learning_rate=0.1)
    after_one = jnp.asarray([0.1, -0.1])  # the first step of Adam is the rate in each coordinate
    np.testing.assert_allclose(residuals, [0, after_one @ (hessian @ after_one - 2 * g["x"])], rtol=1e-6)
    assert x["x"].shape == (2,)


@pytest.mark.slow
def test_published_habits_of_the_first_step():
    expanded = expand(synthetic())

    def first_step(**options):
        settings = {"steps": 1, "learning_rate": RATE} | options
        return jax.jit(lambda p: adam.minimise(at, p, lambda i: (expanded, None), **settings)[0])(parameters())

    plain, warm, published = first_step(), first_step(count=8), first_step(last_kernel=True)
    np.testing.assert_allclose(jnp.abs(plain["w"]), RATE, rtol=0.01)  # the rate in every coordinate
    np.testing.assert_allclose(jnp.abs(warm["w"]), 0.4886 * RATE, rtol=0.03)  # bias correction of the 9th step
    assert not plain["last"]["kernel"].any()
    _, gradient = adam.inner_gradient(at(parameters()), trees.zeros_like(parameters()), expanded)
    np.testing.assert_allclose(
        published["last"]["kernel"], gradient["last"]["kernel"], rtol=1e-12
    )  # uphill, by the raw gradient
