"""The dry run and the choice of devices."""

from __future__ import annotations

import jax
import pytest

from jaxdd.core import trees
from jaxdd.core.errors import ConfigError, UsageError
from jaxdd.core.types import Examples
from jaxdd.run import devices, loop, plan
from tests.run.toy import Toy, examples


@pytest.mark.quick
def test_a_plan_is_what_the_run_then_needs():
    found = plan.plan(Toy(), examples())
    state, _ = loop.final_state(Toy(), examples(), steps=1, seed=0)
    assert found.state_bytes == trees.byte_size(state) and found.disk_bytes == 3 * found.state_bytes
    assert [part.name for part in found.parts] == list(state._fields)
    assert found.parts[0].numbers == 16 * 3 + 256 and found.parts[0].bytes == 4 * found.parts[0].numbers
    assert found.data_bytes == 64 * 16 * 4 + 64 * 4
    assert found.operations_per_step > 2 * 2 * 8 * 16 * 3


def test_shapes_are_enough():
    huge = Examples(
        jax.ShapeDtypeStruct((10**7, 4, 4, 1), "float32"), jax.ShapeDtypeStruct((10**7,), "int32"), classes=3
    )
    assert plan.plan(Toy(width=10**6), huge, count_operations=False).state_bytes > 3e9


def test_a_trial_tells_time_and_memory_of_the_real_step():
    found = plan.trial(Toy(), examples())
    needs = plan.plan(Toy(), examples(), count_operations=False)
    arguments = needs.state_bytes + needs.data_bytes
    assert found.steps == plan.TRIED and found.seconds_per_step > 0 and found.compile_seconds > 0
    assert found.peak_bytes is not None and found.temporary_bytes is not None
    assert arguments + found.temporary_bytes <= found.peak_bytes < 2 * (arguments + found.temporary_bytes) + 1000


def test_a_trial_makes_one_step_where_steps_are_long(monkeypatch):
    monkeypatch.setattr(plan, "PATIENCE", 1e-9)
    assert plan.trial(Toy(), examples()).steps == 1


def test_what_cannot_fit_is_refused_with_what_would_help():
    with pytest.raises(ConfigError, match="a step needs about") as refusal:
        plan.trial(Toy(), examples(), limit=1000, remedy="--set width=1")
    assert refusal.value.remedy == "--set width=1" and refusal.value.where.startswith("memory_limit")
    with pytest.raises(ConfigError, match="needs about 1e\\+09 GB") as refusal:
        plan.require_memory(10**18)
    assert refusal.value.where.startswith("the device")
    plan.require_memory(10**6)


def test_parameters_of_networks_are_counted_without_their_optimizer():
    class Pool(Toy):
        def init(self, key, data):
            networks = {"params": {"kernel": jax.numpy.zeros((5, 7))}, "batch_stats": {"mean": jax.numpy.zeros(7)}}
            return {"networks": networks, "optimizer": {"params": jax.numpy.zeros((5, 7))}}

    assert plan.plan(Pool(), examples(), count_operations=False).network_parameters == 35


def test_devices():
    assert devices.choose() == devices.choose(1) == jax.devices()[:1]
    assert devices.mesh(devices.choose()).shape == {"data": 1}
    with pytest.raises(UsageError, match="out of range"):
        devices.choose(len(jax.devices()) + 1)
    with pytest.raises(UsageError, match="out of range"):
        devices.choose(0)


def test_all_devices(monkeypatch):
    monkeypatch.setattr(jax, "devices", lambda: ["a", "b", "c"])
    assert devices.choose(2) == ["a", "b"] and devices.choose("all") == ["a", "b", "c"]
