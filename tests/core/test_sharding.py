"""Entries shared out among devices; on eight of them in a process of its own, which counts devices when it starts."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from jaxdd.core import sharding
from tests.core import sharding_eight
from tests.limits import TIMEOUT

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHECKS = [name for name in vars(sharding_eight) if name.startswith("check_")]


@pytest.fixture(scope="module")
def findings():
    """What was found on eight devices, by the name of the check."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    words = [sys.executable, "-m", "tests.core.sharding_eight", str(jax.config.jax_compilation_cache_dir or "")]
    environment = {**os.environ, "XLA_FLAGS": flags}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS)
def test_on_eight_devices(check, findings):
    found = findings[check]
    assert not str(found).startswith("FAILED"), found


@pytest.mark.quick
def test_one_device_does_all():
    xs, seen = jnp.arange(5.0), []

    def fn(xs, factor):
        seen.append(xs)
        return factor * xs

    assert sharding.spread(fn, xs, 2.0).tolist() == [0, 2, 4, 6, 8]
    assert seen[0] is xs and sharding.ways() == 1
