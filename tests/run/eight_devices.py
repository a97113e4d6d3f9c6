"""What is checked on eight devices, in a process that has them; `test_devices.py` starts it and reads its findings.

    XLA_FLAGS=--xla_force_host_platform_device_count=8 python -m tests.run.eight_devices

Prints one JSON object: the name of every check and what it found, or how it failed.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import tempfile
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

from jaxdd.core import sharding, trees
from jaxdd.core.errors import ConfigError, UsageError
from jaxdd.core.precision import float64
from jaxdd.core.random import key_for
from jaxdd.core.types import Examples
from jaxdd.data.device.sampling import sample
from jaxdd.methods import RCIG
from jaxdd.methods.rcig.draws import draw
from jaxdd.run import loop
from jaxdd.run.chain.pieces import merge
from jaxdd.run.control import Control
from jaxdd.run.devices import Layout, choose
from jaxdd.run.programs import Programs, initial, template
from jaxdd.run.storage.checkpoint import Storage
from tests import checks
from tests.run import toy
from tests.run.chain.test_squeeze import squeezing
from tests.run.chain.tiny import recovering
from tests.run.crowd import Crowd

SEED = 3
TINY = RCIG(n_images=1, width=4, depth=1, batch_size=12, pool_model_count=8, solver_steps=4, n_max_steps_pool=4)


def layout(count: int, mode: str = "shard") -> Layout:
    return Layout(tuple(choose(count)), mode)  # pyright: ignore[reportArgumentType]


def digits(dtype: Any = np.float32) -> Examples:
    """240 real digits."""
    images, labels = load_digits(return_X_y=True)
    scaled = (images[:240].reshape(-1, 8, 8, 1) / 16 - 0.3) / 0.38
    return Examples(jnp.asarray(scaled, dtype), jnp.asarray(labels[:240], jnp.int32), 10)


def state_after(steps: int, where: Layout, method: Any = TINY, data: Examples | None = None, **options: Any) -> Any:
    """The state of a run of `steps` steps, on the host."""
    data = digits() if data is None else data
    state, _ = loop.final_state(method, data, steps=steps, seed=SEED, layout=where, **options)
    return jax.tree.map(np.asarray, state)


def largest_difference(found: Any, wanted: Any) -> float:
    """Over all leaves of numbers, relative to the largest entry of each."""
    differences = [0.0]
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        if a.size:
            a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
            differences.append(np.abs(a - b).max() / (np.abs(b).max() or 1.0))
    return float(max(differences))


def check_shard_equals_one_device_in_float64() -> float:
    """20 images with their mirrors, which 8 does not divide, and 16 real ones."""
    method = dataclasses.replace(TINY, batch_size=16)
    with float64(True):
        data = digits(np.float64)
        found, wanted = (state_after(2, layout(count), method, data) for count in (8, 1))
        difference = largest_difference(found, wanted)
    assert found.synthetic.images.dtype == np.float64 and difference < 1e-10, difference
    return difference


def check_shard_equals_one_device_in_float32() -> float:
    """One outer step: the gradient and the networks.

    Not the images: AdaBelief's first step is nearly the gradient's sign, also where the gradient is mere rounding. And
    not at the published ridge coefficient, at which the kernel matrix alone magnifies rounding a thousand times.
    """
    method = dataclasses.replace(TINY, l2_rate=0.01)
    found, wanted = (state_after(1, layout(count), method) for count in (8, 1))
    moments = [state.optimizer.inner_states["prototypes"].inner_state[0].mu for state in (found, wanted)]
    difference = max(largest_difference(*moments), largest_difference(found.pool.variables, wanted.pool.variables))
    assert 0 < difference < 1e-4, difference
    return difference


def check_a_second_run_compiles_nothing() -> int:
    """The programs of the check before this one serve another number of steps, too."""
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, duration_secs, **_: compiled.append(event) if "backend_compile" in event else None
    )
    loop.final_state(
        dataclasses.replace(TINY, l2_rate=0.01), digits(), steps=3, seed=SEED, layout=layout(8), log_every=2
    )
    found, compiled = compiled, []
    assert not found, found
    return len(found)


def check_shard_with_several_steps_per_dispatch_and_events() -> float:
    found, wanted = (
        state_after(7, layout(count), toy.Toy(), toy.examples(), steps_per_dispatch=per_dispatch)
        for count, per_dispatch in ((8, 3), (1, 1))
    )
    difference = largest_difference(found, wanted)
    assert difference < 1e-5, difference
    return difference


def check_shard_divides_the_work() -> float:
    """Operations on one device over operations per device on eight."""
    method = RCIG(n_images=4, width=16, depth=2, batch_size=256, pool_model_count=2, solver_steps=2)
    random = np.random.default_rng(0)
    data = Examples(jnp.asarray(random.normal(size=(512, 16, 16, 3)), jnp.float32), jnp.arange(512) % 10, 10)
    counted = []
    for count in (1, 8):
        where = layout(count)
        shapes = template(method, data)
        state, real = jax.tree.map(
            lambda leaf, on=where: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=on.everywhere), (shapes, data)
        )
        program = Programs(method, data, 1, where, shapes).advance
        with sharding.split_over(where.mesh):  # one device cuts batches into pieces too, in loops that count once
            lowered = program.lower(state, real, *where.put((np.uint32(0), np.int32(0), np.int32(1))))
        counted.append((lowered.compile().cost_analysis() or {})["flops"])
    ratio = counted[0] / counted[1]
    assert ratio >= 7, counted
    return ratio


@functools.cache
def single(method: RCIG) -> Any:
    """One device's share of a pool step, for one device: its meta-gradient, and how it goes on."""

    @jax.jit
    def gradient(state, data, index):
        batch = sample(data, method.batch_rule, jax.random.fold_in(key_for(SEED, "batch"), index))
        key = jax.random.fold_in(key_for(SEED, "step"), index)
        draws = draw(method, key, stored=len(state.synthetic.images), real=len(batch))
        network = method.network(data.image_shape, data.classes)
        member = trees.take(state.pool, draws.model)
        return method.meta_gradient(network, member, state, batch, draws), member, draws

    @jax.jit
    def advance(state, member, found, draws):
        network = method.network(state.synthetic.images.shape[1:], state.synthetic.labels.shape[1])
        return method.advance(network, member, state, found, draws)[0]

    return gradient, advance


def check_pool_gradient_is_the_mean_of_single_ones() -> float:
    """A whole step on 4 devices against 4 single-device gradients, their mean, one update, 4 trainings."""
    with float64(True):
        count, data = 4, digits(np.float64)
        gradient, advance = single(dataclasses.replace(TINY, pool_model_count=2))
        start = jax.jit(lambda: initial(TINY, data, SEED))()
        shares = [
            start._replace(pool=jax.tree.map(lambda leaf, i=i: leaf[2 * i : 2 * i + 2], start.pool)) for i in range(4)
        ]
        singles = [gradient(state, data, i) for i, state in enumerate(shares)]
        mean = jax.tree.map(lambda *leaves: sum(leaves) / count, *(found for found, *_ in singles))
        ends = [advance(state, member, mean, draws) for state, (_, member, draws) in zip(shares, singles, strict=True)]
        wanted = ends[0]._replace(
            pool=jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *(end.pool for end in ends))
        )
        found = state_after(1, layout(count, "pool"), data=data)
        difference = largest_difference(found, wanted)
        spread = largest_difference(singles[0][0].total, mean.total)
    assert difference < 1e-10 and spread > 0.1, (difference, spread)
    return difference


def check_pool_keeps_shared_arrays_equal_to_the_last_bit() -> float:
    state, _ = loop.final_state(
        Crowd(), digits(), steps=5, seed=SEED, layout=layout(8, "pool"), steps_per_dispatch=2, log_every=2
    )
    for path, leaf in trees.paths(state):
        copies = {np.asarray(shard.data).tobytes() for shard in leaf.addressable_shards}
        assert path.startswith("crowd/") or len(copies) == 1, path
        assert not path.startswith("crowd/") or leaf.addressable_shards[0].data.shape[0] == 1, path
    ages = np.asarray(state.crowd["age"])
    assert ages.tolist() == [5] * 8, ages  # each device has one network, which moved at every step
    return float(ages.max())


def check_one_device_runs_the_same_program_in_both_modes() -> float:
    difference = largest_difference(*(state_after(2, layout(1, mode), Crowd()) for mode in ("pool", "shard")))
    assert difference == 0
    return difference


def stopped_after(steps: int, folder: pathlib.Path, where: Layout) -> Any:
    with Storage(folder, {"method": "crowd"}) as storage:
        return state_after(steps, where, Crowd(), storage=storage)


def check_a_state_of_four_devices_continues_on_others() -> float:
    """Written after step 2 on 4 devices, continued to step 3 on 1 and on 2."""
    wanted, worst = state_after(3, layout(1), Crowd()), 0.0
    with tempfile.TemporaryDirectory() as root:
        for mode in ("shard", "pool"):
            for count in (1, 2):
                folder = pathlib.Path(root, f"{mode} {count}")
                written = stopped_after(2, folder, layout(4, mode))
                read = stopped_after(0, folder, layout(count, mode))  # nothing is left to do: it comes back as it is
                assert toy.bits(read) == toy.bits(written)
                state = stopped_after(3, folder, layout(count, mode))
                assert state.steps == 3 and all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
                if mode == "shard":
                    worst = max(worst, largest_difference(state, wanted))
    assert worst < 1e-5, worst
    return worst


def check_a_teacher_is_squeezed_on_several() -> float:
    """Tested on the way, from wherever its variables lie; its numbers are those of one device, to rounding."""
    found = []
    with tempfile.TemporaryDirectory() as root:
        for count in (1, 4):
            folder = pathlib.Path(root, str(count))
            made = dataclasses.replace(squeezing(), test_every=1)
            found.append(made.make(folder, Control(layout=layout(count))).variables)
    worst = largest_difference(*found)
    assert worst < 1e-3, worst
    return worst


def check_recovered_images_are_those_of_one_device() -> float:
    """Chunks of two images and of four: JPEGs aside, at most one level of 256 apart."""
    worst = 0.0
    with tempfile.TemporaryDirectory() as root:
        for size in (2, 4):
            sets = []
            for count in (1, 4):
                folder = pathlib.Path(root, f"{size} {count}")
                recovering(store="none", batch_size=size).recover(folder, Control(layout=layout(count)))
                sets.append(merge([folder], folder / "out").images.astype(int))
            worst = max(worst, float(np.abs(sets[0] - sets[1]).max()))
    assert worst <= 1, worst
    return worst


def check_refusals() -> str:
    refused = [
        (ConfigError, dataclasses.replace(TINY, pool_model_count=6), digits(), layout(4, "pool")),
        (UsageError, toy.Toy(), toy.examples(), layout(2, "pool")),
    ]
    texts = []
    for error, method, data, where in refused:
        try:
            loop.final_state(method, data, steps=1, seed=0, layout=where)
        except error as caught:
            texts.append(str(caught))
    assert len(texts) == 2 and "pool_model_count=8" in texts[0] and "`devices_mode=shard`" in texts[1], texts
    return texts[0]


def check_functions_of_methods() -> str:
    """Outside a run they do nothing; inside they say what they should."""
    batch, key = jnp.ones((3, 2)), jax.random.key(0)
    assert sharding.rows(batch) is batch and sharding.mean(batch) is batch and sharding.own(key) is key
    assert sharding.share(30) == 30
    with sharding.one_of(5):
        assert sharding.share(30) == 6
    with sharding.split_over(layout(8).mesh):
        text = jax.jit(lambda x: sharding.rows(x) + 1).lower(batch).as_text()
        assert sharding.rows(batch[:1]).shape == (1, 2)
    assert '"data"' in text, text
    return "fine"


if __name__ == "__main__":
    checks.run(globals())
