"""The pool of networks: filled, trained for a number of steps known on device only, renewed."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd.core import trees
from jaxdd.training import pool
from tests.training import tiny

RATE = 0.01


@functools.cache
def trainer(normalization: str):
    """Training as one program: `(member, steps) -> member`; step i sees the images shifted by i."""
    images, labels = tiny.data()

    def train(member, steps):
        batches = lambda i: (images + i.astype(images.dtype), labels)  # noqa: E731
        return pool.train(tiny.network(normalization), member, steps, batches, learning_rate=RATE)

    return jax.jit(train)


@pytest.mark.fast("4-identity")
@pytest.mark.parametrize("normalization", ["identity", "batch"])
@pytest.mark.parametrize("steps", [0, 1, 4])
def test_trains_exactly_the_given_number_of_steps_of_adam(normalization, steps, x64):
    net = tiny.network(normalization)
    member = pool.fresh(net, jax.random.key(0), jnp.float64)  # a bias before BatchNorm has no gradient but rounding
    trained = trainer(normalization)(member, jnp.asarray(steps))
    images, labels = tiny.data()
    batches = [(images + i, labels) for i in range(steps)]
    expected, _ = tiny.literal_adam(net, member.variables, batches, [RATE] * steps)
    assert int(trained.age) == int(trained.optimizer.count) == steps
    tiny.assert_close(trained.variables, expected)


def test_training_continues_where_it_was():
    member = pool.fresh(tiny.network(), jax.random.key(0))
    images, labels = tiny.data()
    net = tiny.network()
    once = jax.jit(lambda m, s: pool.train(net, m, s, lambda i: (images, labels), learning_rate=RATE))
    at_once, in_two = once(member, jnp.asarray(5)), once(once(member, jnp.asarray(2)), jnp.asarray(3))
    for one, other in zip(jax.tree.leaves(at_once), jax.tree.leaves(in_two), strict=True):
        np.testing.assert_array_equal(one, other)


class TestFill:
    def test_members_are_unlike_each_other_of_age_0_and_reproducible(self):
        stacked, again = (pool.fill(tiny.network(), jax.random.key(1), 3) for _ in range(2))
        kernel = stacked.params["Conv_0"]["kernel"]
        assert kernel.shape == (3, 3, 3, 3, 2)
        assert all(not np.array_equal(kernel[i], kernel[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
        assert stacked.age.tolist() == stacked.optimizer.count.tolist() == [0, 0, 0]
        assert not any(leaf.any() for leaf in jax.tree.leaves((stacked.optimizer.mu, stacked.optimizer.nu)))
        for one, other in zip(jax.tree.leaves(stacked), jax.tree.leaves(again), strict=True):
            np.testing.assert_array_equal(one, other)

    @pytest.mark.slow
    def test_take_and_put_are_inverse_and_touch_one_member_only(self):
        stacked = pool.fill(tiny.network("batch"), jax.random.key(1), 3)
        changed = jax.tree.map(lambda leaf: leaf + 1, trees.take(stacked, 1))
        put = jax.jit(trees.put)(stacked, jnp.asarray(1), changed)
        for new, old, entry in zip(
            jax.tree.leaves(put), jax.tree.leaves(stacked), jax.tree.leaves(changed), strict=True
        ):
            np.testing.assert_array_equal(new[1], entry)
            np.testing.assert_array_equal(new[jnp.asarray([0, 2])], old[jnp.asarray([0, 2])])


@pytest.mark.parametrize("age, renewed", [(99, False), (100, True), (114, True)])
def test_a_network_is_replaced_by_a_fresh_one_at_the_limit(age, renewed):
    net, key = tiny.network(), jax.random.key(7)
    old = pool.fresh(net, jax.random.key(0))
    old = old._replace(age=jnp.asarray(age, jnp.int32), optimizer=old.optimizer._replace(count=jnp.asarray(age)))
    found = jax.jit(lambda member: pool.renew(net, member, key, limit=100))(old)
    expected = pool.fresh(net, key) if renewed else old
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
