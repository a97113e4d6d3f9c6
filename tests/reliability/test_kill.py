"""SIGKILL at random moments of a real RCIG run: the same command finishes it, bit-equal to an undisturbed run."""

import pathlib
import random
import re
import subprocess
import sys
import time

import numpy as np
import pytest

from jaxdd import DistilledSet

ROOT = pathlib.Path(__file__).resolve().parents[2]
STEPS, KILLS, EARLY = 150, 10, 2  # of the kills, so many may come before a first step
SMALL = ("--width", "4", "--set", "pool_model_count=2", "--set", "batch_size=16", "--set", "solver_steps=3")


def command(folder: pathlib.Path, checkpoint_every: str = "0") -> list[str]:
    """The run; as it is here, a checkpoint after every step, so that a good part of its time is spent writing."""
    flags = ["--output_dir", str(folder), "--max_steps", str(STEPS), "--checkpoint_every", checkpoint_every]
    return [sys.executable, str(ROOT / "distill_dataset.py"), *flags, *SMALL]


def start(folder: pathlib.Path) -> subprocess.Popen:
    return subprocess.Popen(command(folder), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def saves(log: pathlib.Path) -> list[tuple[str, int]]:
    """`("saving" | "saved", step)` in order."""
    text = log.read_text() if log.exists() else ""
    return [(verb, int(step)) for verb, step in re.findall(r"^(saving|saved) step (\d+)", text, re.MULTILINE)]


def finish(folder: pathlib.Path, checkpoint_every: str = "5") -> None:
    done = subprocess.run(
        command(folder, checkpoint_every), cwd=ROOT, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def wait_for_more(process: subprocess.Popen, log: pathlib.Path, seen: int) -> bool:
    """Waits until another checkpoint begins; False if the run ended first."""
    while process.poll() is None:
        if len(saves(log)) > seen:
            return True
        time.sleep(0.01)
    return False


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_runs_finish_bit_equal(tmp_path):
    folder, log = tmp_path / "killed", tmp_path / "killed" / "log.txt"
    moments = random.Random(0)
    after_a_step = while_writing = kills = 0
    while kills < KILLS:
        seen, process = len(saves(log)), start(folder)
        if kills < EARLY:
            time.sleep(moments.uniform(0.5, 2.5))
        elif not wait_for_more(process, log, seen):
            break
        else:
            time.sleep(moments.uniform(0.0, 0.6))
        process.kill()
        process.wait()
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
