"""What is checked on eight devices, in a process that has them; `test_sharding.py` starts it.

    XLA_FLAGS=--xla_force_host_platform_device_count=8 python -m tests.core.sharding_eight

Prints one JSON object: the name of every check and what it found, or how it failed.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd.core import backend, sharding
from jaxdd.core.precision import float64
from jaxdd.run import loop
from jaxdd.run.devices import Layout, choose
from tests import checks
from tests.methods.condensation import tiny
from tests.methods.recovery import tiny as sre2l_tiny


def layout(count: int) -> Layout:
    return Layout(tuple(choose(count)), "shard")


def check_entries_are_shared_out() -> int:
    """Three and eleven entries, which eight devices do not divide; what is inside runs as on one device."""
    seen = []

    def fn(xs, factor):
        seen.append((xs["a"].shape[0], sharding.ways()))
        return factor * xs["a"].sum(1) + sharding.rows(xs["b"])

    for count in (3, 8, 11):
        xs = {"a": jnp.arange(2.0 * count).reshape(count, 2), "b": jnp.arange(1.0 * count)}
        wanted = fn(xs, 3.0)
        with sharding.split_over(layout(8).mesh):
            found = jax.jit(lambda xs: sharding.spread(fn, xs, jnp.asarray(3.0)))(xs)
            assert backend.classes_at_once(count) == min(count, 8) and sharding.ways() == 8
        np.testing.assert_array_equal(found, wanted)
    assert seen[1::2] == [(1, 1), (1, 1), (2, 1)], seen
    return len(seen)


def check_matching_on_eight_devices_equals_one() -> float:
    """Three classes at once against one after another, two outer iterations, in float64."""
    of = tiny.method("idc", ema_decay=0.9)
    with float64(True):
        data = tiny.examples(of, np.float64)
        found, wanted = (
            jax.tree.map(np.asarray, loop.final_state(of, data, steps=4, seed=3, layout=layout(count))[0])
            for count in (8, 1)
        )
        names = ("images", "buffer", "average", "network", "losses")
        difference = max(tiny.difference(getattr(found, name), getattr(wanted, name)) for name in names)
    assert found.images.dtype == np.float64 and difference < 1e-10, difference
    return difference


def check_recovering_on_eight_devices_equals_one() -> float:
    """Two groups of eleven images, whose statistics are sums over all devices, three steps, in float64."""
    with float64(True):
        (of,) = sre2l_tiny.stages(statistics_group=11, lr_img=0.05)
        data = sre2l_tiny.examples(22, np.float64)
        found, wanted = (loop.run(of, data, steps=3, seed=3, layout=layout(count)) for count in (8, 1))
        difference = tiny.difference(np.asarray(found), np.asarray(wanted))
    assert found.dtype == np.float64 and difference < 1e-10, difference
    return difference


if __name__ == "__main__":
    checks.run(globals())
