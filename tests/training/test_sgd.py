"""SGD against its three lines written out in NumPy, and what a batch's pieces and statistics must not change."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd.core import backend
from jaxdd.training import sgd
from tests.training import tiny
from tests.training.literal_sgd import literal_sgd

RATE, MOMENTUM, DECAY = 0.1, 0.9, 5e-2


def targets(count: int, seed: int = 0):
    """Soft targets `[count, classes]` that sum to 1."""
    drawn = np.random.default_rng(seed).uniform(size=(count, tiny.CLASSES)) ** 2
    return jnp.asarray(drawn / drawn.sum(1, keepdims=True))


@functools.cache
def step(normalization: str = "identity", momentum: float = MOMENTUM, weight_decay: float = DECAY):
    """`(trained, images, targets, rate) -> (trained, metrics)`."""
    net = tiny.network(normalization)

    def update(trained, images, targets, rate):
        return sgd.update(
            net, trained, images, targets, learning_rate=rate, momentum=momentum, weight_decay=weight_decay
        )

    return jax.jit(update)


@pytest.mark.fast("identity")
@pytest.mark.quick
@pytest.mark.parametrize("normalization", ["identity", "batch"])
def test_four_steps_are_those_of_the_literal_loop(normalization, x64):
    net = tiny.network(normalization)
    trained = sgd.fresh(net, jax.random.key(0), jnp.float64)
    images, _ = tiny.data()
    batches = [(images + i, targets(len(images), i)) for i in range(4)]
    rates = [RATE, RATE, RATE / 10, RATE / 10]  # a rate that falls while there is momentum
    expected, expected_losses = literal_sgd(
        net, trained.variables, batches, rates, momentum=MOMENTUM, weight_decay=DECAY
    )
    losses = []
    for batch, rate in zip(batches, rates, strict=True):
        trained, metrics = step(normalization)(trained, *batch, rate)
        losses.append(float(metrics["loss"]))
    tiny.assert_close(trained.variables, expected, rtol=1e-10)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-10)


@pytest.mark.quick
def test_the_rule_on_numbers_worked_out_by_hand():
    # theta 1, gradient 2, decay 0.5, momentum 0.9, rate 0.1: buf 2.5 -> theta 0.75;
    # then gradient 0: buf 2.25 + 0.375 = 2.625 -> theta 0.4875.
    rule = {"learning_rate": 0.1, "momentum": 0.9, "weight_decay": 0.5}
    start = sgd.at_rest({"params": {"w": jnp.asarray([1.0])}, "batch_stats": {"m": jnp.asarray([7.0])}})
    first = sgd.descend(start, {"w": jnp.asarray([2.0])}, **rule)
    second = sgd.descend(first, {"w": jnp.asarray([0.0])}, **rule)
    np.testing.assert_allclose([first.params["w"][0], second.params["w"][0]], [0.75, 0.4875], rtol=1e-6)
    np.testing.assert_allclose([first.momentum["w"][0], second.momentum["w"][0]], [2.5, 2.625], rtol=1e-6)
    assert second.variables["batch_stats"]["m"][0] == 7.0


@pytest.mark.slow
def test_a_batch_in_pieces_gives_the_step_of_the_whole_batch(x64, monkeypatch):
    trained = sgd.fresh(tiny.network(), jax.random.key(0), jnp.float64)
    images, wanted = tiny.data(40)[0], targets(40)

    def once():
        rule = {"learning_rate": RATE, "momentum": MOMENTUM, "weight_decay": DECAY}
        return jax.jit(lambda *given: sgd.update(tiny.network(), *given, **rule))(trained, images, wanted)

    in_pieces = once()
    monkeypatch.setattr(backend, "rows_at_once", lambda count: count)
    tiny.assert_close(in_pieces, once(), rtol=1e-12)


@pytest.mark.slow
def test_batch_statistics_are_those_of_the_whole_batch():
    trained = sgd.fresh(tiny.network("batch"), jax.random.key(0))
    images = tiny.data(40)[0]
    found, _ = step("batch")(trained, images, targets(40).astype(images.dtype), RATE)
    expected = tiny.network("batch").apply(trained.variables, images, train=True).variables["batch_stats"]
    tiny.assert_close(found.variables["batch_stats"], expected, rtol=1e-5)


@pytest.mark.slow
def test_a_rate_on_the_device_needs_no_second_program():
    update, images = step(), tiny.data()[0]
    before = update._cache_size()
    trained = sgd.fresh(tiny.network(), jax.random.key(0))
    for rate in (0.1, 0.02):
        update(trained, images, targets(9), jnp.asarray(rate, jnp.float32))
    assert update._cache_size() <= before + 1
