"""Several devices and several processes. Each needs processes of its own: devices are counted when JAX starts."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from jaxdd.cli.command import require_one_device
from jaxdd.cli.flags.rcig import DISTILL
from jaxdd.cli.main import main
from jaxdd.core.distilled import DistilledSet
from jaxdd.core.errors import CheckpointError, UsageError
from jaxdd.run import devices
from jaxdd.run.devices import ALL
from tests.limits import TIMEOUT
from tests.run import eight_devices

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHECKS = [name for name in vars(eight_devices) if name.startswith("check_")]
TINY = ["--dataset_name", "digits", "--n_images", "1", "--width", "4", "--use_x64", "True", "--set", "depth=1"]
TINY += ["--set", "pool_model_count=2", "--set", "batch_size=32", "--set", "solver_steps=4"]
TINY += ["--set", "checkpoint_iters=[1]", "--log_every", "1"]


def environment(devices: int) -> dict[str, str]:
    flags = os.environ.get("XLA_FLAGS", "")
    return {**os.environ, "XLA_FLAGS": f"{flags} --xla_force_host_platform_device_count={devices}"}


@pytest.fixture(scope="module")
def findings():
    """What was found on eight devices, by the name of the check."""
    words = [sys.executable, "-m", "tests.run.eight_devices", str(jax.config.jax_compilation_cache_dir or "")]
    done = subprocess.run(words, cwd=ROOT, env=environment(8), capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS)
def test_on_eight_devices(check, findings):
    found = findings[check]
    assert not str(found).startswith("FAILED"), found


def start(process: int, port: int, folder: pathlib.Path) -> subprocess.Popen:
    """One of two processes of a run that would go on for long."""
    words = [sys.executable, str(ROOT / "distill_dataset.py"), *TINY, "--max_steps", "1000"]
    words += ["--output_dir", str(folder), "--checkpoint_every", "0", "--coordinator_address", f"localhost:{port}"]
    words += ["--num_processes", "2", "--process_id", str(process)]
    pipe = subprocess.PIPE
    return subprocess.Popen(words, cwd=folder.parent, env=environment(1), stdout=pipe, stderr=pipe, text=True)


@pytest.mark.slow
def test_two_processes_are_one_run(tmp_path):
    """They stop together when one of them is told to; one process goes on, and it is the run of one process."""
    folder, alone = tmp_path / "two", tmp_path / "one"
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    both = [start(process, port, folder) for process in (0, 1)]
    try:
        while not (folder / "checkpoints" / "newest").exists():
            assert all(one.poll() is None for one in both)
            time.sleep(0.05)
        both[1].send_signal(signal.SIGTERM)
        told = [one.communicate(timeout=TIMEOUT) for one in both]
    finally:
        for one in both:
            one.kill()
    assert [one.returncode for one in both] == [143, 143], told
    spoken = [[line for line in out.splitlines() if not line.startswith("[Gloo]")] for out, _ in told]
    assert not spoken[1] and not told[1][1] and "2 processes" in "\n".join(spoken[0]), told
    step = int((folder / "checkpoints" / "newest").read_text())
    assert f"stopped after step {step}" in spoken[0][-1] and step < 1000
    assert DistilledSet.load(folder / "distilled").provenance["step"] == step
    lines = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert lines == list(range(1, step + 1))  # each once: one process writes
    for place in (folder, alone):
        assert main(["distill", *TINY, "--max_steps", str(step + 1), "--output_dir", str(place)]) == 0
    found, wanted = (DistilledSet.load(place / "distilled") for place in (folder, alone))
    assert found.provenance["step"] == step + 1
    assert np.abs(found.images - wanted.images).max() < 1e-3 * np.abs(wanted.images).max()


@pytest.mark.quick
def test_flags_of_several_devices():
    assert [DISTILL.parse(["--devices", word]).options.devices for word in ("all", "-1", "8")] == [*ALL, 8]
    assert main(["distill", "--dataset_name", "digits", "--devices_mode", "pools"]) == 2
    with pytest.raises(UsageError, match="evaluated on one device"):
        require_one_device(ALL)


@pytest.mark.quick
@pytest.mark.parametrize("given", [("a:1", 2, None), (None, 2, 0), (None, None, 1), ("a:1", 2, 2)])
def test_flags_of_several_processes_belong_together(given):
    with pytest.raises(UsageError, match=r"all three flags|none of them"):
        devices.join_processes(*given)


@pytest.mark.quick
def test_the_first_process_tells_its_result_or_its_error(monkeypatch):
    """Two processes in one: what the first one says is handed to the second."""
    said: list = []
    monkeypatch.setattr(devices, "several_processes", lambda: True)
    monkeypatch.setattr(devices, "_told", lambda message: said.append(message) or json.loads(json.dumps(said[0])))

    def refuse():
        raise CheckpointError("in use", where="here", remedy="wait")

    def fail():
        raise OSError("disk")

    for fn, error, text in (
        (lambda: [1, None], None, ""),
        (refuse, CheckpointError, "wait"),
        (fail, Exception, "disk"),
    ):
        said.clear()
        for first in (True, False):
            monkeypatch.setattr(devices, "first_process", lambda first=first: first)
            if error is None:
                assert devices.on_first(fn if first else refuse) == [1, None]
            else:
                with pytest.raises(error, match=text):
                    devices.on_first(fn)
