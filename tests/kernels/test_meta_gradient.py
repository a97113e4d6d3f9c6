"""The split d + c is the whole derivative of the outer loss through the inner solution."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd.core import trees
from jaxdd.kernels.linearized import dense_jacobian, gram
from jaxdd.kernels.meta_gradient import (
    Expanded,
    Rows,
    Synthetic,
    clip_to,
    direct_gradient,
    implicit_gradient,
    outer_loss,
)
from tests.kernels import tiny

pytestmark = pytest.mark.usefixtures("x64")


def whole_loss(base, synthetic: Synthetic):
    """The outer loss as a function of what is learned alone: alpha = A^-1 Y by one differentiable linear solve."""
    images, labels = tiny.expand(synthetic)
    real = tiny.real()

    def network(p):
        return tiny.forward(p, images)

    _, pull, features = jax.vjp(network, base, has_aux=True)

    def operator(v):
        pushed = jax.jvp(lambda p: network(p)[0], (base,), (tiny.freeze(pull(v)[0]),))[1]
        return pushed + features @ (features.T @ v) + tiny.LAM * v

    jacobian = jax.lax.stop_gradient(dense_jacobian(tiny.forward, base, images))
    matrix = gram(jacobian) + tiny.LAM * jnp.eye(labels.size)  # with the last kernel: all of A

    def inverse(_, b):
        return jnp.linalg.solve(matrix, b.reshape(-1)).reshape(b.shape)

    alpha = jax.lax.custom_linear_solve(operator, labels, inverse, symmetric=True)
    theta = tiny.freeze(pull(alpha)[0])

    def forward_real(p):
        return tiny.forward(p, real.images)

    _, output, real_features = jax.jvp(forward_real, (base,), (theta,), has_aux=True)
    predictions = output + real_features @ (features.T @ alpha)
    return outer_loss(predictions, labels, real.labels, synthetic.log_temperature)


@functools.cache
def oracle():
    """Value and gradient of the whole loss, compiled once."""
    return jax.jit(jax.value_and_grad(lambda synthetic: whole_loss(tiny.params(), synthetic)))


@functools.cache
def split(solver: str):
    """Loss, d and c of the engine, compiled once per solver."""

    @jax.jit
    def run(synthetic, real):
        inner, expanded = tiny.problem(tiny.params()), tiny.expand(synthetic)
        solve, linear = tiny.solver(solver, inner, expanded)
        theta = inner.freeze(linear.pull(solve(expanded.labels).solution))
        loss, _, d, g = direct_gradient(inner, theta, synthetic, tiny.expand, real, Rows())
        beta = solve(linear.push(inner.freeze(g))).solution
        u = inner.freeze(trees.subtract(g, linear.pull(beta)))
        return loss, d, implicit_gradient(inner, theta, u, synthetic, tiny.expand)

    return run


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["pcg", "dense"])
def test_split_equals_the_derivative_through_a_linear_solve(solver):
    value, expected = oracle()(tiny.synthetic())
    loss, d, c = split(solver)(tiny.synthetic(), tiny.real())
    np.testing.assert_allclose(loss, value, rtol=1e-10)
    for name, total, leaf in zip(Synthetic._fields, trees.add(d, c), expected, strict=True):
        error = np.max(np.abs(total - leaf)) / np.max(np.abs(leaf))
        assert error <= 1e-10, f"{name}: {error:.1e}"
    share = {name: trees.norms(c)._asdict()[name] / trees.norms(d)._asdict()[name] for name in ("images", "labels")}
    assert min(share.values()) > 0.01  # both halves matter: the test would see either missing


@pytest.mark.slow
@pytest.mark.parametrize("direction", Synthetic._fields)
def test_split_equals_finite_differences(direction):
    synthetic = tiny.synthetic()
    way = jnp.asarray(np.random.default_rng(7).normal(size=getattr(synthetic, direction).shape))
    step = 1e-4

    def value(distance: float):
        moved = synthetic._replace(**{direction: getattr(synthetic, direction) + distance * way})
        return oracle()(moved)[0]

    near, far = ((value(s) - value(-s)) / (2 * s) for s in (step, 2 * step))
    expected = (4 * near - far) / 3  # Richardson: error of order step^4
    _, d, c = split("dense")(synthetic, tiny.real())
    found = jnp.sum(way * getattr(trees.add(d, c), direction))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.slow
def test_sub_sampled_gradients_touch_their_images_only():
    @jax.jit
    def run(synthetic, theta, rows, real_rows):
        inner = tiny.problem(tiny.params())
        sampled = direct_gradient(inner, theta, synthetic, unmirrored, tiny.real(), Rows(rows, real_rows))
        return *sampled, implicit_gradient(inner, theta, theta, synthetic, unmirrored, rows)

    def unmirrored(stored):
        return Expanded(stored.images, stored.labels)

    theta = trees.scale(0.1, tiny.params(seed=1))
    loss, accuracy, d, g, c = run(tiny.synthetic(), theta, jnp.asarray([4, 1, 0]), jnp.asarray([2, 0, 3]))
    other = run(tiny.synthetic(), theta, jnp.asarray([4, 1, 5]), jnp.asarray([2, 0, 4]))
    np.testing.assert_allclose((loss, accuracy), other[:2], rtol=1e-12)  # every image counts in the values
    for gradient in (d, c):
        assert gradient.images[jnp.asarray([4, 1, 0])].any((1, 2, 3)).all()
        assert not gradient.images[jnp.asarray([2, 3, 5])].any()
    np.testing.assert_allclose(d.images[jnp.asarray([4, 1])], other[2].images[jnp.asarray([4, 1])], rtol=1e-9)
    assert max(jax.tree.leaves(trees.norms(trees.subtract(g, other[3])))) > 1e-3


class TestOuterLoss:
    def test_is_tempered_cross_entropy_less_the_clipped_margin(self):
        random = np.random.default_rng(3)
        predictions, real_labels = random.normal(size=(5, 4)), np.asarray([0, 3, 1, 2, 2])
        labels = np.asarray([[0.0, 0.05, -1, -1], [2.0, 1.0, 0.5, 0.0]])  # margins 0.05 and 1, cut at 1/8
        tempered = predictions * np.exp(0.7)
        entropy = np.log(np.exp(tempered).sum(1)) - tempered[np.arange(5), real_labels]
        expected = entropy.mean() - (0.05 + 1 / 8) / 2
        found = outer_loss(*map(jnp.asarray, (predictions, labels, real_labels, 0.7)))
        np.testing.assert_allclose(found, expected, rtol=1e-12)

    def test_margin_pulls_the_two_highest_labels_apart_until_it_is_wide_enough(self):
        labels = jnp.asarray([[0.0, 0.05, -1, -1], [2.0, 1.0, 0.5, 0.0]])
        predictions = jnp.zeros((2, 4))
        slope = jax.grad(lambda y: outer_loss(predictions, y, jnp.zeros(2, jnp.int32), jnp.zeros(())))(labels)
        np.testing.assert_allclose(slope, [[0.5, -0.5, 0, 0], [0, 0, 0, 0]], atol=1e-15)


class TestClip:
    def test_each_leaf_is_shortened_to_its_own_partner_and_never_lengthened(self):
        implicit = {"long": jnp.asarray([[3.0, 4.0]]), "short": jnp.asarray([0.3, 0.4])}
        direct = {"long": jnp.asarray([[0.0, 1.0]]), "short": jnp.asarray([10.0, 0.0])}
        clipped = clip_to(implicit, direct)
        np.testing.assert_allclose(clipped["long"], [[0.6, 0.8]], rtol=1e-15)
        np.testing.assert_allclose(clipped["short"], [0.3, 0.4], rtol=1e-15)

    def test_a_leaf_without_gradient_stays_zero(self):
        assert clip_to(jnp.zeros(()), jnp.zeros(())) == 0
        assert not clip_to(jnp.zeros(3), jnp.ones(3)).any()
