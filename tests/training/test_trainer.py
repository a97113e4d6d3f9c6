"""Training of one network: Adam on half the mean squared error by a schedule, and the accuracy that comes of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd.augment import build as build_augmentation
from jaxdd.core.types import Examples
from jaxdd.training.schedules import warmup_cosine
from jaxdd.training.trainer import NetworkTraining, accuracies, accuracy
from tests.training import tiny


def procedure(normalization: str = "identity", **changes) -> NetworkTraining:
    settings = {"learning_rate": 0.05, "warmup_steps": 2, "schedule_steps": 5, "resolution": 4}
    return NetworkTraining(tiny.network(normalization), **{**settings, **changes})


def run(training: NetworkTraining, data: Examples, steps: int):
    """The final state, and the loss of every step."""
    state, losses = training.init(jax.random.key(0), data), []
    step = jax.jit(training.step)
    for i in range(steps):
        state, metrics = step(state, data, jax.random.key(i))
        losses.append(float(metrics["loss"]))
    return state, losses


def examples() -> Examples:
    return Examples(*tiny.data(), tiny.CLASSES)


@pytest.mark.fast("identity")
@pytest.mark.parametrize("normalization", ["identity", "batch"])
def test_equals_adam_written_out(normalization, x64):
    training, data = procedure(normalization), examples()
    state, losses = run(training, data, 7)
    schedule = warmup_cosine(0.05, warmup=2, total=5)
    start = training.init(jax.random.key(0), data).variables
    expected, expected_losses = tiny.literal_adam(
        training.network, start, [tiny.data()] * 7, [float(schedule(i)) for i in range(7)]
    )
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-8)
    tiny.assert_close(training.result(state), expected)
    assert int(state.step) == 7
    assert ("batch_stats" in training.result(state)) == (normalization == "batch")


def test_loss_falls_and_the_patterns_are_learned():
    data = examples()
    state, losses = run(procedure(schedule_steps=60), data, 60)
    assert losses[-1] < 0.2 * losses[0]
    test_images, soft = tiny.data(30, seed=1)
    test = Examples(test_images, jnp.argmax(soft, 1), tiny.CLASSES)
    assert accuracy(tiny.network(), state.variables, test) > 0.9


@pytest.mark.slow
def test_images_of_a_step_are_augmented_by_its_key():
    training, data, key = procedure(augment="flip"), examples(), jax.random.key(5)
    state = training.init(jax.random.key(0), data)
    seen = build_augmentation("flip", 4)(key, data.images)
    assert not np.array_equal(seen, data.images)
    expected = jax.jit(procedure().step)(state, Examples(seen, data.labels, 3), key)
    found = jax.jit(training.step)(state, data, key)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


def test_a_batch_is_the_whole_set_or_a_uniform_draw():
    assert procedure().batch_rule.kind == "all"
    assert (procedure(batch_size=4).batch_rule.kind, procedure(batch_size=4).batch_rule.size) == ("uniform", 4)


@pytest.mark.parametrize("batch_size", [4, 5, 10, 1000])
def test_accuracy_is_the_share_of_all_images_whatever_the_batch(batch_size):
    net = tiny.network()
    images, _ = tiny.data(10)
    variables = net.init(jax.random.key(3))
    predicted = np.argmax(net.apply(variables, images).logits, 1)
    labels = np.where(np.arange(10) < 7, predicted, (predicted + 1) % 3)
    data = Examples(images, jnp.asarray(labels, jnp.int32), 3)
    assert accuracy(net, variables, data, batch_size=batch_size) == pytest.approx(0.7)


def test_accuracies_of_stacked_networks_are_those_of_each():
    net, (images, _) = tiny.network(), tiny.data(10)
    each = [net.init(jax.random.key(i)) for i in range(3)]
    data = Examples(images, jnp.arange(10, dtype=jnp.int32) % 3, 3)
    together = accuracies(net, jax.tree.map(lambda *leaves: jnp.stack(leaves), *each), data, batch_size=4)
    assert together == [accuracy(net, variables, data) for variables in each]
    assert len(set(together)) > 1
