"""Learning rates at the steps that matter."""

import numpy as np
import pytest

from jaxdd.training.schedules import warmup_cosine

pytestmark = pytest.mark.quick


@pytest.mark.parametrize(
    "step, expected",
    [(0, 0.0), (5, 0.05), (10, 0.1), (60, 0.0505), (110, 0.001), (111, 0.001), (10_000, 0.001)],
)
def test_linear_warm_up_then_cosine_to_one_percent_then_constant(step, expected):
    np.testing.assert_allclose(warmup_cosine(0.1, warmup=10, total=110)(step), expected, rtol=1e-5, atol=1e-9)


def test_without_warm_up_it_starts_at_the_peak():
    schedule = warmup_cosine(0.1, warmup=0, total=100, final=0.5)
    np.testing.assert_allclose([schedule(0), schedule(50), schedule(100), schedule(101)], [0.1, 0.075, 0.05, 0.05])


def test_a_warm_up_longer_than_the_schedule_still_rises():
    schedule = warmup_cosine(0.1, warmup=20, total=10)
    np.testing.assert_allclose([schedule(10), schedule(20), schedule(30)], [0.05, 0.1, 0.001], rtol=1e-5)
