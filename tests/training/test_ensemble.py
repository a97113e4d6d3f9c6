"""Networks trained together end where each of them ends alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd.core.procedure import Procedure
from jaxdd.core.types import Examples
from jaxdd.run import loop
from jaxdd.training.ensemble import Ensemble
from jaxdd.training.sgd import ClassifierTraining
from jaxdd.training.trainer import NetworkTraining
from tests.training import tiny

SEEDS = (7, 2**32 - 1, 0)
STEPS = 6


def training(normalization: str = "identity", **changes) -> NetworkTraining:
    """With every source of randomness: initialisation, batches, augmentation."""
    settings = {"learning_rate": 0.02, "warmup_steps": 2, "schedule_steps": 5, "batch_size": 5, "augment": "flip_crop"}
    return NetworkTraining(tiny.network(normalization), resolution=4, **{**settings, **changes})


def own_sets() -> list[Examples]:
    return [Examples(*tiny.data(9, seed), tiny.CLASSES) for seed in range(len(SEEDS))]


def stacked(trees):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def alone(procedure: Procedure, sets: list[Examples]):
    found = [
        loop.run(procedure, own, steps=STEPS, seed=seed, steps_per_dispatch=1)
        for seed, own in zip(SEEDS, sets, strict=True)
    ]
    return stacked(found)


# A bias before BatchNorm has no gradient but rounding, which Adam magnifies.
@pytest.mark.slow
@pytest.mark.parametrize("normalization, tolerance", [("identity", 1e-10), ("batch", 1e-7)])
@pytest.mark.parametrize("shared, per_dispatch", [(True, 1), (False, 4)])
def test_each_network_is_what_it_would_be_alone(normalization, tolerance, shared, per_dispatch, x64):
    procedure = training(normalization)
    sets = own_sets()[:1] * len(SEEDS) if shared else own_sets()
    data = sets[0] if shared else stacked(sets)
    together = loop.run(Ensemble(procedure, SEEDS), data, steps=STEPS, seed=99, steps_per_dispatch=per_dispatch)
    expected = alone(procedure, sets)
    assert jax.tree.structure(together) == jax.tree.structure(expected)
    assert {leaf.dtype for leaf in jax.tree.leaves(together)} == {jnp.dtype(jnp.float64)}
    tiny.assert_close(together, expected, rtol=tolerance)
    kernel = np.asarray(together["params"]["Conv_0"]["kernel"])
    assert all(np.abs(kernel[i] - kernel[j]).max() > 0.1 for i, j in ((0, 1), (0, 2), (1, 2)))


@pytest.mark.slow
def test_in_float32_to_rounding():
    sets = own_sets()
    procedure = training(augment=None)
    together = loop.run(Ensemble(procedure, SEEDS), stacked(sets), steps=STEPS, seed=0)
    tiny.assert_close(together, alone(procedure, sets), rtol=1e-4)


@pytest.mark.slow
def test_classifiers_too_with_cutmix_and_a_schedule(x64):
    schedule = {"milestones": (2, 4), "restart": True, "learning_rate": 0.1}
    mixing = {"kind": "diffaug", "strategy": "color_crop", "resolution": 4, "mix_p": 0.5}
    procedure = ClassifierTraining(tiny.network(), batch_size=5, **schedule, **mixing)
    images, _ = tiny.data()
    data = Examples(images, jnp.arange(len(images)) % tiny.CLASSES, tiny.CLASSES)
    together = loop.run(Ensemble(procedure, SEEDS), data, steps=STEPS, seed=0)
    tiny.assert_close(together, alone(procedure, [data] * len(SEEDS)), rtol=1e-10)


@pytest.mark.slow
def test_a_network_that_diverges_shows_in_the_mean():
    sets = stacked(own_sets())
    poisoned = Examples(sets.images.at[1].set(jnp.nan), sets.labels, sets.classes)
    ensemble = Ensemble(training(), SEEDS)
    state = ensemble.init(jax.random.key(0), poisoned)
    _, metrics = jax.jit(ensemble.step)(state, poisoned, jax.random.key(0))
    assert metrics["loss"].shape == () and jnp.isnan(metrics["loss"])
