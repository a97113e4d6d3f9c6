"""Killed, told to stop, or interrupted: the run goes on where it was."""

from __future__ import annotations

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import threading

import pytest

from jaxdd.run import control, loop
from jaxdd.run.storage.checkpoint import Storage
from tests.run.toy import Notes, Toy, bits, examples

CALLS = ("orbax", "rename", "replace", "sync", "prune", "seal", "write")
POINTS = [f"{call} {side}" for call in CALLS for side in ("before", "after")]
DRIVER = pathlib.Path(__file__).with_name("driver.py")


def drive(folder: pathlib.Path, seed: int, kills: int, kinds: str) -> dict:
    """Lets the driver kill a run `kills` times; returns what it prints."""
    folder.mkdir(parents=True)
    command = [sys.executable, str(DRIVER), str(folder), str(seed), str(kills), kinds]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr[-3000:]
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, 31))
    names = sorted(path.name for path in (folder / "checkpoints").iterdir())
    assert names == ["29", "30", "newest"], "a killed writer left something behind"
    assert not list(folder.glob(".*.partial"))
    return json.loads(found.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return drive(tmp_path_factory.mktemp("undisturbed") / "run", 0, 0, "none")["final"]


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path, undisturbed):
    found = drive(tmp_path / "run", 1, 6, "random")
    assert len(found["kills"]) >= 4 and found["final"] == undisturbed


@pytest.mark.slow
def test_killed_around_every_call_of_the_writer(tmp_path, undisturbed):
    found = drive(tmp_path / "run", 2, len(POINTS), ",".join(POINTS))
    assert found["kills"] == POINTS and found["final"] == undisturbed


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(20))
def test_killed_very_often(tmp_path, undisturbed, seed):
    kinds = random.Random(seed).sample([*POINTS, *["random"] * 10], 24)
    assert drive(tmp_path / "run", 100 + seed, 24, ",".join(kinds))["final"] == undisturbed


@pytest.fixture
def heeded():
    """Signals as an interactive shell leaves them: in the background, where some are ignored, the runs ignore them."""
    handlers = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGHUP: signal.SIG_DFL,
        signal.SIGTERM: signal.SIG_DFL,
    }
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class SendsItself(Notes):
    """Sends this process signals when a phase is reported for the first time."""

    def __init__(self, phase: str, *numbers: int):
        super().__init__()
        self.heard.append(("plan", phase, numbers))

    def __getattribute__(self, name):
        heard = object.__getattribute__(self, "heard") if name != "heard" else []
        if heard and name == heard[0][1] and not any(entry[0] == name for entry in heard):
            for number in heard[0][2]:
                os.kill(os.getpid(), number)
        return super().__getattribute__(name)


def stopped_run(folder, reporter, steps=10):
    with control.caught() as should_stop, Storage(folder, {"method": "toy"}) as storage:
        return loop.final_state(
            Toy(size=7),
            examples(),
            steps=steps,
            seed=0,
            log_every=1,
            storage=storage,
            should_stop=should_stop,
            reporter=reporter,
        )[0]


@pytest.mark.parametrize("phase", ["compiled", "progress", "estimate"])
@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_signal_saves_and_stops(heeded, tmp_path, phase, number, code):
    before = [signal.getsignal(each) for each in control.SIGNALS]
    loop.programs_for.__globals__["_cached"].cache_clear()  # so that there is a phase of compiling
    reporter = SendsItself(phase, number)
    with pytest.raises(control.Stopped) as caught:
        stopped_run(tmp_path, reporter)
    assert caught.value.exit_code == code and reporter.of("stopped") == [[caught.value.step, number]]
    assert caught.value.step <= 4
    assert [step for step, _ in reporter.of("saved")] == ([caught.value.step] if caught.value.step else [])
    assert [signal.getsignal(each) for each in control.SIGNALS] == before
    assert bits(stopped_run(tmp_path, Notes())) == bits(stopped_run(tmp_path / "straight", Notes()))


def test_a_signal_while_saving_lets_the_save_finish(heeded, tmp_path):
    with pytest.raises(control.Stopped):
        stopped_run(tmp_path, SendsItself("progress", signal.SIGTERM))
    reporter = SendsItself("saving", signal.SIGTERM)
    stopped_run(tmp_path, reporter)  # the save is the last thing it does: nothing is left to stop
    assert reporter.of("finished") == [[10]] and [step for step, _ in reporter.of("saved")] == [10]


def test_the_second_interrupt_is_immediate(heeded, tmp_path):
    reporter = SendsItself("estimate", signal.SIGINT, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        stopped_run(tmp_path, reporter)
    assert not reporter.of("stopped")
    stopped_run(tmp_path, Notes())


def test_what_is_ignored_stays_ignored():
    """`nohup` ignores SIGHUP, a shell without job control SIGINT: the run goes on."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with control.caught() as should_stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert should_stop() is None and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_outside_the_main_thread_nothing_changes():
    found = []

    def inside():
        with control.caught() as should_stop:
            found.append((signal.getsignal(signal.SIGTERM), should_stop()))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert found == [(before, None)]
