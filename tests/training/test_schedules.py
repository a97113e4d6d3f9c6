"""Learning rates at the steps that matter."""

import numpy as np
import pytest

from jaxdd.training.schedules import by_epoch, multi_step, two_thirds_and_five_sixths, warmup_cosine

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


class TestMultiStep:
    @staticmethod
    def rates(epochs: int, milestones: tuple[int, ...], per_epoch: int) -> list[float]:
        """The rate of every epoch, which must be one throughout it."""
        schedule = multi_step(0.01, milestones=[epoch * per_epoch for epoch in milestones], factor=0.2)
        by_step = np.asarray([schedule(step) for step in range(epochs * per_epoch)]).reshape(epochs, per_epoch)
        assert (by_step == by_step[:, :1]).all()
        return [float(rate) for rate in by_step[:, 0]]

    def test_a_thousand_epochs_of_idc(self):
        schedule = multi_step(0.01, milestones=two_thirds_and_five_sixths(1000), factor=0.2)
        found = [float(schedule(epoch - 1)) for epoch in (1, 666, 667, 833, 834, 1000)]  # epochs counted from 1
        np.testing.assert_allclose(found, [0.01, 0.01, 0.002, 0.002, 0.0004, 0.0004], rtol=1e-6)

    def test_ten_epochs_of_pretraining_end_before_the_eleven_that_the_schedule_counts(self):
        found = self.rates(10, two_thirds_and_five_sixths(11), per_epoch=3)
        np.testing.assert_allclose(found, [0.01] * 7 + [0.002] * 2 + [0.0004], rtol=1e-6)

    def test_two_epochs_of_pretraining_keep_the_rate(self):
        assert two_thirds_and_five_sixths(3) == (2, 2)
        np.testing.assert_allclose(self.rates(2, two_thirds_and_five_sixths(3), per_epoch=2), [0.01, 0.01], rtol=1e-6)

    def test_two_milestones_at_one_step_count_twice_and_none_never(self):
        twice = multi_step(1.0, milestones=(5, 5), factor=0.5)
        np.testing.assert_allclose([twice(4), twice(5)], [1.0, 0.25])
        np.testing.assert_allclose(multi_step(1.0, milestones=(), factor=0.5)(10**6), 1.0)


class TestByEpoch:
    def test_the_cosine_starts_at_the_peak_and_ends_where_the_slowdown_says(self):
        plain, slow = (by_epoch(0.1, shape="cosine", epochs=300, slowdown=eta) for eta in (1, 2))
        np.testing.assert_allclose([plain(0), plain(150), plain(299)], [0.1, 0.05, 0.1 * 2.7415e-5], rtol=1e-3)
        np.testing.assert_allclose([slow(0), slow(150), slow(300)], [0.1, 0.0853553, 0.05], rtol=1e-5)

    def test_the_line_ends_at_half_the_rate_with_a_slowdown_of_two(self):
        schedule = by_epoch(1e-3, shape="linear", epochs=300, slowdown=2.0)
        np.testing.assert_allclose([schedule(0), schedule(150), schedule(300)], [1e-3, 7.5e-4, 5e-4], rtol=1e-5)

    def test_a_warm_up_rises_from_a_hundredth_and_the_rest_is_a_cosine_to_nothing(self):
        schedule = by_epoch(0.2, shape="cosine", epochs=100, warmup=5)
        rise = [0.2 * (0.01 + 0.99 * e / 5) for e in range(5)]
        np.testing.assert_allclose([schedule(e) for e in range(5)], rise, rtol=1e-5)
        np.testing.assert_allclose([schedule(5), schedule(100)], [0.2, 0.0], atol=1e-7)
