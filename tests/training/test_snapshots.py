"""What is kept on the way is what shorter runs would have made."""

import jax
import numpy as np
import pytest

from jaxdd.run import loop
from jaxdd.training.ensemble import Ensemble
from jaxdd.training.snapshots import Snapshots
from tests.training.test_classifier import PLAIN, data


@pytest.mark.slow
@pytest.mark.parametrize("per_dispatch", [1, 4])
def test_results_after_every_so_many_steps_and_the_last(per_dispatch):
    kept = loop.run(Snapshots(PLAIN, every=3, count=2), data(), steps=11, seed=5, steps_per_dispatch=per_dispatch)
    for place, steps in enumerate((3, 6, 11)):  # not 9: that would be a third
        expected = loop.run(PLAIN, data(), steps=steps, seed=5, steps_per_dispatch=1)
        for found, own in zip(jax.tree.leaves(kept), jax.tree.leaves(expected), strict=True):
            assert found.shape == (3, *own.shape)
            np.testing.assert_allclose(found[place], own, rtol=1e-6, atol=1e-7)


@pytest.mark.slow
def test_of_several_networks_at_once():
    ensemble = Ensemble(PLAIN, (1, 2))
    kept = loop.run(Snapshots(ensemble, every=2, count=1), data(), steps=4, seed=0)
    early = loop.run(ensemble, data(), steps=2, seed=0)
    for found, own in zip(jax.tree.leaves(kept), jax.tree.leaves(early), strict=True):
        np.testing.assert_allclose(found[0], own, rtol=1e-6, atol=1e-7)
        assert np.abs(np.asarray(found[1] - own)).max() > 0
