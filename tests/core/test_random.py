"""Randomness is a function of (seed, step, purpose)."""

import itertools

import jax
import pytest

from jaxdd.core.random import key_for, purpose_key

pytestmark = pytest.mark.quick


def number(key) -> int:
    return int(jax.random.bits(key, (), "uint32"))


def test_equal_arguments_give_equal_keys_traced_or_not():
    traced = jax.jit(lambda seed, step: key_for(seed, "batch", step))(3, 7)
    assert number(traced) == number(key_for(3, "batch", 7))


def test_seed_purpose_and_step_each_change_the_key():
    choices = itertools.product((0, 1, 2**32 - 1), ("batch", "step", "event/refresh"), (0, 1, 2, 10_000))
    found = [number(key_for(*arguments)) for arguments in choices]
    assert len(set(found)) == len(found)


def test_a_purpose_does_not_depend_on_which_others_were_asked_for():
    key = jax.random.key(5)
    alone = number(purpose_key(key, "pool"))
    for other in ("synthetic", "noise"):
        purpose_key(key, other)
    assert number(purpose_key(key, "pool")) == alone != number(key)


def test_a_chosen_key_is_pinned_for_ever():
    # Saved runs are resumed, and published ones repeated, by later versions.
    assert jax.random.key_data(key_for(0, "batch", 1)).tolist() == [3361425863, 3689295553]
