"""KIP: a literal transcription in float64, derivatives, label solve, and its kernel accuracy."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd.core.errors import ConfigError, UsageError
from jaxdd.core.precision import float64
from jaxdd.core.types import Examples
from jaxdd.data import Dataset, fit
from jaxdd.kernels import ntk_compat
from jaxdd.kernels.ntk_compat import import_neural_tangents
from jaxdd.methods.kip.method import KIP, Support, kernel_accuracy
from jaxdd.run.distillation import Distillation

pytestmark = pytest.mark.quick


@pytest.fixture(autouse=True)
def nt():
    """Skips where neural-tangents is not installed."""
    try:
        return import_neural_tangents()
    except UsageError as error:
        pytest.skip(error.what)


def _real(count: int = 24, seed: int = 0, dtype=jnp.float64) -> Examples:
    """Images of 4x4x2 in three classes that can be told apart."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    means = np.random.default_rng(9).normal(size=(3, 4, 4, 2))
    images = means[labels] + random.normal(size=(count, 4, 4, 2))
    return Examples(jnp.asarray(images, dtype), jnp.asarray(labels, jnp.int32), 3)


def _literal(x_s, y_s, batches, *, rate: float, learn: bool, depth: int):
    """The procedure as published: dense matrices, an explicit inverse differentiated through, Adam written out."""
    stax = import_neural_tangents().stax
    dense = [layer for _ in range(depth) for layer in (stax.Dense(1, 2**0.5, 0.1), stax.Relu())]
    kernel: Any = stax.serial(stax.Flatten(), *dense, stax.Dense(1, 2**0.5, 0.1))[2]

    def loss(x_s, y_s, x_t, labels):
        y_t = jnp.eye(3)[labels] - 1 / 3
        k_ss, k_ts = kernel(x_s, x_s, "ntk"), kernel(x_t, x_s, "ntk")
        regularised = k_ss + 1e-6 * jnp.trace(k_ss) * jnp.eye(len(x_s)) / len(x_s)
        return 0.5 * jnp.mean((k_ts @ jnp.linalg.inv(regularised) @ y_s - y_t) ** 2)

    gradient = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))
    moments, losses = [[0.0, 0.0], [0.0, 0.0]], []
    values = [x_s, y_s]
    for t, (x_t, labels) in enumerate(batches, start=1):
        value, found = gradient(*values, x_t, labels)
        losses.append(float(value))
        for i in range(2 if learn else 1):
            first = moments[i][0] = 0.9 * moments[i][0] + 0.1 * found[i]
            second = moments[i][1] = 0.999 * moments[i][1] + 0.001 * found[i] ** 2
            values[i] = values[i] - rate * (first / (1 - 0.9**t)) / (jnp.sqrt(second / (1 - 0.999**t)) + 1e-8)
    return values, losses


@pytest.mark.fast("fixed")
@pytest.mark.parametrize("labels", ["fixed", "learned"])
def test_three_steps_are_those_of_the_literal_procedure(x64, labels: Literal["fixed", "learned"]):
    method = KIP(n_images=2, labels=labels, kernel_depth=2)
    state = method.init(jax.random.key(0), _real())
    batches = [_real(9, seed) for seed in (1, 2, 3)]
    (images, targets), losses = _literal(
        *state.support,
        [(batch.images, batch.labels) for batch in batches],
        rate=0.04,
        learn=labels == "learned",
        depth=2,
    )
    step, found = jax.jit(method.step), []
    for batch in batches:
        state, metrics = step(state, batch, jax.random.key(1))
        found.append(float(metrics["loss"]))
    np.testing.assert_allclose(found, losses, rtol=1e-8)
    np.testing.assert_allclose(state.support.images, images, atol=1e-8)
    np.testing.assert_allclose(state.support.labels, targets, atol=1e-8)


def test_the_gradient_is_that_of_finite_differences(x64):
    method = KIP(n_images=2, labels="learned", ridge=1e-3)
    batch, support = _real(9, seed=1), method.init(jax.random.key(0), _real()).support
    random = np.random.default_rng(3)
    direction = Support(*(jnp.asarray(random.normal(size=leaf.shape)) for leaf in support))

    def loss(at):
        return method.loss(at, batch)[0]

    gradient, value, h = jax.jit(jax.grad(loss))(support), jax.jit(loss), 3e-3
    slope = sum(float((g * d).sum()) for g, d in zip(gradient, direction, strict=True))

    def at(steps: int) -> float:
        return float(value(jax.tree.map(lambda x, d: x + steps * h * d, support, direction)))

    difference = (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * h)  # of fourth order: the kernel rounds at 1e-8
    assert slope == pytest.approx(difference, rel=1e-5)


def test_fixed_labels_stay_and_only_they(x64):
    method = KIP(n_images=2)
    state = method.init(jax.random.key(0), _real())
    np.testing.assert_allclose(state.support.labels, np.eye(3)[[0, 0, 1, 1, 2, 2]] - 1 / 3)
    after, _ = jax.jit(method.step)(state, _real(9, seed=1), jax.random.key(0))
    np.testing.assert_array_equal(after.support.labels, state.support.labels)
    assert np.abs(after.support.images - state.support.images).min() > 0.03  # Adam's first step is its rate


@pytest.mark.slow
def test_solved_labels_are_optimal_and_images_stay(x64):
    method = KIP(n_images=2, labels="solved")
    data = _real(60)
    assert method.batch_rule.kind == "all"
    state = method.init(jax.random.key(0), data)
    after, metrics = jax.jit(method.step)(state, data, jax.random.key(0))
    np.testing.assert_array_equal(after.support.images, state.support.images)
    learned = dataclasses.replace(method, labels="learned")
    slope = jax.jit(jax.grad(lambda at: learned.loss(at, data)[0]))
    before, now = (np.abs(slope(at.support).labels).max() for at in (state, after))
    assert now < 1e-10 < 1e-3 < before
    assert metrics["loss"] < 0.9 * jax.jit(learned.loss)(state.support, data)[0]
    again, _ = jax.jit(method.step)(after, data, jax.random.key(0))
    np.testing.assert_allclose(again.support.labels, after.support.labels, atol=1e-9)


def test_a_set_of_another_method_needs_a_kernel_named(x64):
    method, data = KIP(n_images=1), _real(dtype=jnp.float32)
    distilled = method.result(method.init(jax.random.key(0), data))
    with pytest.raises(ConfigError, match="give a method"):
        kernel_accuracy(distilled, None, None)  # pyright: ignore[reportArgumentType]


def test_what_it_cannot_work_with_is_refused_before_data_are_read(monkeypatch):
    assert "depth 1; labels fixed" in KIP().describe((8, 8, 1), 10)
    with pytest.raises(ConfigError, match="4 blocks"):
        KIP(architecture="conv", kernel_depth=4).describe((8, 8, 1), 10)
    monkeypatch.setattr(ntk_compat, "VERSION", "another")
    with pytest.raises(UsageError, match="pip install"):
        KIP().describe((8, 8, 1), 10)


@pytest.mark.slow
def test_state_is_float32_and_the_kernel_float64(x64):
    data = _real(dtype=jnp.float32)
    method = KIP(n_images=1)
    state, _ = jax.jit(method.step)(method.init(jax.random.key(0), data), data, jax.random.key(0))
    assert {leaf.dtype for leaf in state.support} == {np.dtype("float32")}
    assert jax.jit(method.predict)(state.support, data.images).dtype == np.dtype("float64")


@pytest.mark.slow
def test_the_step_that_a_chunk_makes_is_the_same(x64):
    data, method = _real(), KIP(n_images=2)
    state = method.init(jax.random.key(0), data)
    whole, pieces = (
        jax.jit(dataclasses.replace(method, kernel_chunk=chunk).step)(state, data, jax.random.key(0))
        for chunk in (None, 5)
    )
    for left, right in zip(jax.tree.leaves(whole), jax.tree.leaves(pieces), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_kernel_accuracy_is_that_of_a_dense_regression_on_the_test_images():
    random = np.random.default_rng(0)
    labels = np.arange(90) % 3
    bright = (40 + 60 * labels[:, None, None, None] + random.integers(0, 90, (90, 4, 4, 1))).astype(np.uint8)
    data = Dataset.of_arrays(bright[:60], labels[:60], bright[60:], labels[60:])
    method = KIP(n_images=2, batch_per_class=10)
    preprocessing = fit(data, family="kip", kind=method.preprocess)
    distilled = Distillation("kip", method, data, preprocessing, steps=3).drive()
    x_s, y_s = distilled.decoded()
    x_t = preprocessing.apply(data.test_images)
    with float64(True):
        matrix, cross = (
            np.asarray(method.kernel_fn(*(jnp.asarray(x, float) for x in pair))) for pair in ([x_s], [x_t, x_s])
        )
    predicted = cross @ np.linalg.solve(matrix + 1e-6 * np.trace(matrix) / 6 * np.eye(6), y_s.astype(float))
    expected = (predicted.argmax(1) == data.test_labels).mean()
    assert expected > 0.5
    assert kernel_accuracy(distilled, data, preprocessing, chunk=7) == pytest.approx(expected)
