"""FRePo beside its literal oracle, its kernel regression beside dense algebra, its gradient beside differences."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd.core.types import Examples, Key
from jaxdd.kernels.meta_gradient import label_margin
from jaxdd.methods.frepo.method import Draws, FRePo, FRePoState, Prototypes
from jaxdd.models.network import Network
from tests.oracles import frepo_literal

SHAPE, CLASSES, IPC, REAL = (8, 8, 1), 3, 2, 7
TOLERANCE = 1e-10
MODELS = (1, 1, 1, 0)  # ages start at 0 and 1, the limit is 2: the third step replaces a network


def method(**settings) -> FRePo:
    """FRePo with two small networks and schedules that a few steps pass through."""
    small = {"n_images": IPC, "batch_size": REAL, "width": 2, "depth": 2, "pool_model_count": 2, "max_online_steps": 2}
    rates = {"proto_learning_rate": 0.05, "schedule_steps": 3, "pool_learning_rate": 0.01}
    return FRePo(**{**small, **rates, "pool_train_batch_size": 4, **settings})


def examples(count: int, seed: int, dtype: type = np.float64) -> Examples:
    """Random images, classes in turn."""
    images = np.random.default_rng(seed).normal(size=(count, *SHAPE)).astype(dtype)
    return Examples(jnp.asarray(images), jnp.asarray(np.arange(count) % CLASSES, jnp.int32), CLASSES)


def draws(of: FRePo, step: int) -> Draws:
    """Its own random choices, but for the network."""
    drawn = of.draw(jax.random.key(step), stored=CLASSES * IPC)
    return drawn._replace(model=jnp.asarray(MODELS[step], jnp.int32))


def literal_net(variables, age: int) -> frepo_literal.Net:
    """A network of the oracle's pool."""
    return frepo_literal.Net(variables["params"], variables.get("batch_stats", {}), age)


def _fresh(network: Network, key: Key) -> frepo_literal.Net:
    return literal_net(jax.jit(network.init, static_argnums=1)(key, jnp.float64), 0)


def literal_run(of: FRePo, state: FRePoState) -> tuple[frepo_literal.Lamb, list[frepo_literal.Net], list[float]]:
    """The oracle from the same start with the same random choices."""
    config = frepo_literal.Config(
        learning_rate=of.proto_learning_rate,
        schedule_steps=of.schedule_steps,
        pool_learning_rate=of.pool_learning_rate,
        max_age=of.max_online_steps,
        flip=of.use_flip,
        learn_labels=of.learn_labels,
    )
    ages = [0, 1]
    pool = [literal_net(jax.tree.map(lambda leaf, i=i: leaf[i], state.pool.variables), ages[i]) for i in range(2)]
    lamb = frepo_literal.Lamb({"x_proto": state.prototypes.images, "y_proto": state.prototypes.labels})
    network, losses = of.network(SHAPE, CLASSES), []
    for step, model in enumerate(MODELS):
        drawn, batch = draws(of, step), examples(REAL, 10 + step)
        rows = np.arange(CLASSES * IPC) if drawn.rows is None else np.asarray(drawn.rows)
        fresh = functools.partial(_fresh, network, drawn.renewal)
        real = batch.images, batch.labels
        losses.append(frepo_literal.iterate(lamb, pool, model, rows, fresh, real, config))
    return lamb, pool, losses


@pytest.mark.fast("plain")
@pytest.mark.parametrize(
    "settings",
    [{}, {"normalization": "identity", "use_flip": False, "learn_labels": False, "pool_train_batch_size": 9}],
    ids=["published", "plain"],
)
def test_four_steps_equal_the_literal_procedure(settings, x64):
    of = method(**settings)
    start = jax.jit(of.init)(jax.random.key(0), examples(30, seed=1))
    start = start._replace(prototypes=start.prototypes._replace(labels=start.prototypes.labels - _spread(start)))
    lamb, pool, expected = literal_run(of, start)
    state, losses, update = start, [], jax.jit(of.update)
    for step in range(len(MODELS)):
        state, metrics = update(state, examples(REAL, 10 + step), draws(of, step))
        losses.append(float(metrics["loss"]))
    np.testing.assert_allclose(losses, expected, rtol=TOLERANCE)
    np.testing.assert_allclose(state.prototypes.images, lamb.values["x_proto"], atol=TOLERANCE)
    np.testing.assert_allclose(state.prototypes.labels, lamb.values["y_proto"], atol=TOLERANCE)
    assert [net.age for net in pool] == state.pool.age.tolist() == [1, 0]
    for i, net in enumerate(pool):
        held = {"params": net.params, "batch_stats": net.stats} if net.stats else {"params": net.params}
        found = jax.tree.map(lambda leaf, i=i: leaf[i], state.pool.variables)
        jax.tree.map(functools.partial(np.testing.assert_allclose, atol=TOLERANCE), found, held)
    moved = np.max(np.abs(state.prototypes.labels - start.prototypes.labels))
    assert (moved > 0.01) == of.learn_labels


def _spread(state: FRePoState) -> np.ndarray:
    """Breaks ties and puts some margins below the threshold and some above."""
    sizes = np.linspace(0, 1, CLASSES * IPC)[:, None]
    return sizes * np.asarray(state.prototypes.labels) + np.linspace(0, 0.03, CLASSES)


@pytest.mark.quick
@pytest.mark.parametrize("double", [False, True])
def test_the_prediction_is_dense_kernel_ridge_regression(double, x64):
    random = np.random.default_rng(0)
    real, features, labels = random.normal(size=(5, 8)), random.normal(size=(6, 8)), random.normal(size=(6, 3))
    gram = features @ features.T
    dense = real @ features.T @ np.linalg.inv(gram + 0.01 * np.trace(gram) / 6 * np.eye(6)) @ labels
    dtype, tolerance = (jnp.float32, 1e-5) if double else (jnp.float64, 1e-13)
    arrays = (jnp.asarray(array, dtype) for array in (real, features, labels))
    found = method(ridge=0.01, use_x64=double).predict(*arrays)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, dense, rtol=tolerance, atol=tolerance)


@pytest.mark.slow
def test_the_gradient_agrees_with_differences(x64):
    of = method(normalization="instance")
    network = of.network(SHAPE, CLASSES)
    state = of.init(jax.random.key(0), examples(30, seed=1))
    member = jax.tree.map(lambda leaf: leaf[0], state.pool)
    batch, start = examples(REAL, seed=2), state.prototypes
    start = start._replace(labels=start.labels - _spread(state))
    at = jax.jit(lambda prototypes: of.meta_gradient(network, member, prototypes, batch))
    gradient, metrics = at(start)
    assert float(metrics["margin"]) == pytest.approx(float(label_margin(start.labels, 1.0)))
    for leaf, seed in (("images", 3), ("labels", 4)):
        direction = np.random.default_rng(seed).normal(size=getattr(start, leaf).shape)
        ahead, behind = (
            float(at(start._replace(**{leaf: getattr(start, leaf) + h * direction}))[1]["loss"]) for h in (1e-6, -1e-6)
        )
        along = float(np.sum(np.asarray(getattr(gradient, leaf)) * direction))
        assert along == pytest.approx((ahead - behind) / 2e-6, rel=1e-6)


@pytest.mark.quick
def test_the_margin_counts_up_to_one_over_k():
    labels = jnp.asarray([[1.0, 0.9, 0.0], [5.0, 0.0, 0.0]])
    assert float(label_margin(labels, 1.0)) == pytest.approx((0.1 + 1 / 3) / 2)


@pytest.mark.quick
def test_the_start_is_real_images_scaled_labels_and_staggered_ages():
    of = FRePo(n_images=2, width=2, depth=1)
    data = examples(60, seed=1, dtype=np.float32)
    state = jax.jit(of.init)(jax.random.key(0), data)
    held = {np.asarray(image).tobytes() for image in data.images}
    assert all(np.asarray(image).tobytes() in held for image in state.prototypes.images)
    classes = np.repeat(np.arange(3), 2)
    expected = (np.eye(3)[classes] - 1 / 3) / np.sqrt(3 / 10)
    np.testing.assert_allclose(state.prototypes.labels, expected, rtol=1e-6)
    assert state.pool.age.tolist() == list(range(0, 100, 10))
    assert not np.any(state.pool.optimizer.count)  # older by count alone: none has been trained
    kernels = np.asarray(state.pool.params["Conv_0"]["kernel"])
    assert len({kernel.tobytes() for kernel in kernels}) == 10


@pytest.mark.quick
def test_what_the_commands_ask_it():
    of = FRePo(width=4, use_x64=True)
    assert of.describe((28, 28, 1), 10) == "ConvNet, depth 3, width 4, batch norm, pool of 10"
    assert of.needs_float64 and not FRePo().needs_float64
    assert (of.family, of.kind, of.notices(), FRePo.implied({"aug": "flip"}).values) == ("rcig", None, (), {})
    result = of.result(FRePoState(Prototypes(jnp.ones((3, 4, 4, 1)), jnp.eye(3)), (), ()))  # pyright: ignore
    assert not result.decode.flip and result.images.dtype == np.float32
