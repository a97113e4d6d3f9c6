"""Learning rates of the `adam` solver: what a run of losses says, and how the rates follow it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd.methods.rcig import solve as solving

pytestmark = pytest.mark.quick


@pytest.mark.parametrize(
    "losses, expected",
    [
        ([3.0, 2.0, 1.0], 1),
        ([3.0, 2.0, 2.0], 0),
        ([3.0, 1.0, 2.0], 0),
        ([3.0, 1.0, 3.0], 0),
        ([3.0, 1.0, 3.5], -1),
        ([3.0, np.nan, 1.0], 0),
        ([3.0, 2.0, np.nan], 0),
        ([1.0], 0),
        ([], 0),
    ],
)
def test_status(losses, expected):
    assert int(solving.status(jnp.asarray(losses))) == expected


@pytest.mark.parametrize("failing", [0, 1, 7])
def test_tuning_ends_at_0_84_of_the_first_rate_that_fails(failing):
    limit = 1e-5 * 1.2 ** (failing - 0.5)
    tuned = solving.tune(jnp.asarray(1e-5), lambda rate: jnp.where(rate < limit, 1, 0))
    np.testing.assert_allclose(tuned, 0.84 * 1e-5 * 1.2**failing, rtol=1e-5)


def test_tuning_ends_even_if_nothing_fails():
    tuned = solving.tune(jnp.asarray(1e-5), lambda rate: jnp.ones((), jnp.int32))
    np.testing.assert_allclose(tuned, 0.7 * 1e-5 * 1.2**solving.TUNING_TRIALS, rtol=1e-3)


def run(statuses) -> solving.Rates:
    """The rates after one step per status, from step 0 on."""
    adapt = jax.jit(solving.adapt)
    rates = solving.start(1e-3, 2e-3, jnp.float32)
    for step, latest in enumerate(statuses):
        rates = adapt(rates, jnp.asarray(latest), jnp.asarray(step))
    return rates


# Steps 0 to 50 are the first 51 statuses; 29 % of them are 14.79, 70 % are 35.7.
@pytest.mark.parametrize(
    "risen, fallen, factor",
    [(15, 0, 0.9), (14, 36, 1.05), (14, 35, 1.0), (15, 36, 0.9), (0, 51, 1.05), (51, 0, 0.9), (0, 0, 1.0)],
)
def test_the_inner_rate_follows_51_statuses_and_the_other_stays(risen, fallen, factor):
    rates = run([-1] * risen + [1] * fallen + [0] * (51 - risen - fallen))
    np.testing.assert_allclose(rates.inner, 1e-3 * factor, rtol=1e-6)
    np.testing.assert_allclose(rates.hvp, 2e-3, rtol=1e-6)
    assert (int(rates.risen), int(rates.fallen), int(rates.seen)) == (0, 0, 0)


def test_nothing_changes_between_and_the_next_50_count_afresh():
    assert float(run([1] * 50).inner) == np.float32(1e-3)
    np.testing.assert_allclose(run([1] * 51 + [0] * 16 + [1] * 34).inner, 1e-3 * 1.05, rtol=1e-6)  # 34 of 50: 68 %
    np.testing.assert_allclose(run([1] * 51 + [0] * 15 + [1] * 35).inner, 1e-3 * 1.05**2, rtol=1e-6)
