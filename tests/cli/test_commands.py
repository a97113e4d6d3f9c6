"""The two commands as a user types them, on the smallest possible runs."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import pytest

from jaxdd.core.distilled import DistilledSet
from tests.limits import TIMEOUT

from .conftest import ROOT, TINY, command

QUICK = ["--models_to_test", "1", "--set", "plain_steps=3", "--set", "steps=3"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A working directory in which digits were distilled for two steps, and what that printed."""
    folder = tmp_path_factory.mktemp("home")
    outcome = command("distill_dataset.py", "--max_steps", "2", "--message", "a note", *TINY, cwd=folder)
    assert outcome.code == 0, outcome
    return folder, outcome


@pytest.mark.smoke
def test_distilling_fills_the_output_folder(home):
    folder, _ = home
    made = folder / "output_dir" / "digits_1"
    names = {"checkpoints", "distilled", "metrics.jsonl", "config.json", "log.txt"}
    assert names <= {path.name for path in made.iterdir()}
    assert {"manifest.json", "grid.png", "step_1"} <= {path.name for path in (made / "distilled").iterdir()}
    assert {"manifest.json", "grid.png"} <= {path.name for path in (made / "distilled" / "step_1").iterdir()}
    small = DistilledSet.load(made / "distilled")
    assert small.provenance["step"] == 2 and small.recipe["width"] == 4 and small.pixels is not None
    assert DistilledSet.load(made / "distilled" / "step_1").provenance["step"] == 1
    assert [json.loads(line)["step"] for line in (made / "metrics.jsonl").read_text().splitlines()] == [1, 2]
    config = json.loads((made / "config.json").read_text())
    assert config["other"]["message"] == "a note" and config["identity"]["settings"]["width"] == 4


@pytest.mark.slow
def test_what_is_printed_is_in_the_log_and_names_the_next_command(home):
    folder, outcome = home
    log = (folder / "output_dir" / "digits_1" / "log.txt").read_text()
    for line in outcome.out.splitlines():
        assert line in log
    for words in ("RCIG on digits, 1 image per class, 2 steps", "1438 train", "compiling 'step'", "in all", "s/step"):
        assert words in outcome.out
    *_, last = outcome.out.splitlines()
    assert last.startswith("next") and "eval.py --checkpoint_path output_dir/digits_1" in last
    assert outcome.err == ""


@pytest.mark.slow
def test_the_same_command_finds_the_run_finished_and_more_steps_continue_it(home, call, monkeypatch):
    folder, _ = home
    monkeypatch.chdir(folder)
    again = call("distill", "--max_steps", "2", *TINY)
    assert again.code == 0 and "finished already: 2 steps" in again.out and "compiling" not in again.out
    more = call("distill", "--max_steps", "3", *TINY)
    assert more.code == 0 and "continuing after step 2" in more.out
    made = folder / "output_dir" / "digits_1"
    assert DistilledSet.load(made / "distilled").provenance["step"] == 3
    assert len((made / "metrics.jsonl").read_text().splitlines()) == 3
    other = call("distill", "--max_steps", "3", "--random_seed", "7", *TINY)
    assert other.code == 3 and "seed: 0 -> 7" in other.err


@pytest.mark.slow
def test_evaluating_writes_a_table_and_a_file(home):
    folder, _ = home
    outcome = command("eval.py", *QUICK, cwd=folder)
    assert outcome.code == 0, outcome
    for words in ("distilled + augmentation", "k-means real", "test accuracy", "eval.json"):
        assert words in outcome.out
    found = json.loads((folder / "output_dir" / "digits_1" / "eval.json").read_text())
    assert [row["name"] for row in found["rows"]] == [
        name for name in ("distilled", "random real", "k-means real") for _ in range(2)
    ]
    assert found["recipe"]["width"] == 4 and found["recipe"]["plain_steps"] == 3 and found["dataset"] == "digits"
    assert all(len(row["runs"]) == 1 and row["std"] == 0 for row in found["rows"])


@pytest.mark.slow
def test_every_form_of_the_checkpoint_path_is_the_same_set(home, call, monkeypatch):
    folder, _ = home
    monkeypatch.chdir(folder)
    made = folder / "output_dir" / "digits_1"
    newest = (made / "checkpoints" / "newest").read_text()
    means = set()
    forms = ["distilled", "distilled/manifest.json", "checkpoints", f"checkpoints/{newest}"]
    for number, form in enumerate(forms):
        place = made / form if number % 2 else made.relative_to(folder) / form
        words = ["--checkpoint_path", str(place), "--output_dir", "results", "--save_name", f"form{number}"]
        outcome = call("eval", *QUICK, "--set", "test_aug=null", "--baselines=False", *words)
        assert outcome.code == 0, outcome
        means.add(json.loads((folder / "results" / f"form{number}.json").read_text())["rows"][0]["mean"])
    assert len(means) == 1


@pytest.mark.slow
def test_a_signal_saves_and_the_same_command_continues(tmp_path):
    words = [sys.executable, str(ROOT / "distill_dataset.py"), "--max_steps", "100000", "--output_dir", "a b", *TINY]
    running = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None
    assert any(line.startswith("step") for line in running.stdout)
    time.sleep(0.2)
    running.send_signal(signal.SIGTERM)
    rest, _ = running.communicate(timeout=TIMEOUT)
    assert running.returncode == 143
    assert "run the same command again to continue" in rest
    assert DistilledSet.load(tmp_path / "a b" / "distilled").provenance["step"] >= 1
