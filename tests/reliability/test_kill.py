"""SIGKILL at random moments of a real RCIG run: the same command finishes it, bit-equal to an undisturbed run."""

import contextlib
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from jaxdd import DistilledSet
from tests.limits import TIMEOUT

ROOT = pathlib.Path(__file__).resolve().parents[2]
STEPS, KILLS, EARLY = 150, 10, 2  # of the kills, so many may come before a first step
SMALL = ("--width", "4", "--set", "pool_model_count=2", "--set", "batch_size=16", "--set", "solver_steps=3")


def words(folder: pathlib.Path, checkpoint_every: str = "0") -> list[str]:
    """The run; as it is here, a checkpoint after every step, so that a good part of its time is spent writing."""
    return ["--output_dir", str(folder), "--max_steps", str(STEPS), "--checkpoint_every", checkpoint_every, *SMALL]


@pytest.fixture(scope="module")
def forker():
    """The process that has imported everything."""
    command = [sys.executable, "-m", "tests.reliability.forked"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.stdin.close()


class Attempt:
    """One start of the command."""

    def __init__(self, forker: subprocess.Popen, folder: pathlib.Path):
        self._forker = forker
        forker.stdin.write(json.dumps(words(folder)) + "\n")
        forker.stdin.flush()
        self._number = int(forker.stdout.readline())

    def ended(self) -> bool:
        """Whether it is no more."""
        try:
            os.kill(self._number, 0)
        except ProcessLookupError:
            return True
        return False

    def kill(self) -> None:
        """Ends it, if it has not ended, and waits for that."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._number, signal.SIGKILL)
        self._forker.stdout.readline()


def saves(log: pathlib.Path) -> list[tuple[str, int]]:
    """`("saving" | "saved", step)` in order."""
    text = log.read_text() if log.exists() else ""
    return [(verb, int(step)) for verb, step in re.findall(r"^(saving|saved) step (\d+)", text, re.MULTILINE)]


def finish(folder: pathlib.Path, checkpoint_every: str = "5") -> None:
    command = [sys.executable, str(ROOT / "distill_dataset.py"), *words(folder, checkpoint_every)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def wait_for_more(attempt: Attempt, log: pathlib.Path, seen: int) -> bool:
    """Waits until another checkpoint begins; False if the run ended first."""
    while not attempt.ended():
        if len(saves(log)) > seen:
            return True
        time.sleep(0.01)
    return False


@pytest.mark.slow
def test_killed_runs_finish_bit_equal(tmp_path, forker):
    folder, log = tmp_path / "killed", tmp_path / "killed" / "log.txt"
    moments = random.Random(0)
    after_a_step = while_writing = kills = 0
    while kills < KILLS:
        seen, attempt = len(saves(log)), Attempt(forker, folder)
        if kills < EARLY:
            time.sleep(moments.uniform(0.5, 2.5))
        elif not wait_for_more(attempt, log, seen):
            attempt.kill()
            break
        else:
            time.sleep(moments.uniform(0.0, 0.6))
        attempt.kill()
        kills += 1
        history = saves(log)
        after_a_step += any(step >= 1 for _, step in history)
        while_writing += bool(history) and history[-1][0] == "saving"
    assert kills == KILLS, f"the run ended after {kills} kills: more steps are needed"
    assert after_a_step >= 8
    assert while_writing >= 2
    finish(folder)
    finish(tmp_path / "whole")
    killed, whole = (DistilledSet.load(tmp_path / name / "distilled") for name in ("killed", "whole"))
    assert killed.provenance["step"] == whole.provenance["step"] == STEPS
    for name in ("images", "labels", "pixels"):
        np.testing.assert_array_equal(getattr(killed, name), getattr(whole, name))
    assert killed.log_temperature == whole.log_temperature
    assert not list(folder.rglob("*.partial")), "temporary files were left behind"
