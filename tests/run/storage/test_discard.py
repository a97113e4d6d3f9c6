"""What is removed: only what a run has written, and so that whoever is killed at it leaves nothing in the way."""

from __future__ import annotations

import functools
import os
import pathlib
import shutil

import pytest

from jaxdd.core import io
from jaxdd.run import loop
from jaxdd.run.storage.checkpoint import GONE, Storage, discard
from tests.run.toy import Notes, Toy, bits, examples


def go(folder, steps: int = 6):
    """Runs the toy; returns the bits of its state, and the steps that it was continued from."""
    notes = Notes()
    with Storage(folder, {"method": "toy"}, checkpoint_every=0) as storage:
        options = {"log_every": 1, "storage": storage, "reporter": notes}
        state, _ = loop.final_state(Toy(), examples(), steps=steps, seed=0, **options)
    return bits(state), notes.of("resumed")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A finished run: its folder and the bits of its state."""
    folder = tmp_path_factory.mktemp("made") / "run"
    return folder, go(folder)[0]


@pytest.fixture
def run(made, tmp_path):
    return pathlib.Path(shutil.copytree(made[0], tmp_path / "run")), made[1]


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


def kill_at(monkeypatch, call: int) -> list[str]:
    """Makes a removal or a renaming the last thing that is done; returns the list of those that will have been made."""
    done: list[str] = []

    def deadly(original, *arguments, **options):
        if len(done) == call:
            raise Killed
        done.append(original.__name__)
        return original(*arguments, **options)

    for original in (os.unlink, os.rmdir, os.rename):
        monkeypatch.setattr(os, original.__name__, functools.partial(deadly, original))
    return done


def test_what_a_run_wrote_goes_with_its_folder(run):
    folder, _ = run
    discard(folder)
    assert not folder.exists()
    discard(folder)  # of nothing


@pytest.mark.parametrize("call", [0, 1, 2, 5, 11, 23, -6, -5, -4, -3, -2, -1])
def test_whoever_is_killed_at_it_leaves_a_run_that_begins_anew(call, run, monkeypatch):
    """Counted from the last one where negative."""
    folder, wanted = run
    if call < 0:
        shutil.copytree(folder, folder.with_name("copy"))
        with monkeypatch.context() as patch:
            done = kill_at(patch, 10**9)
            discard(folder.with_name("copy"))
        call += len(done)
    with monkeypatch.context() as patch:
        kill_at(patch, call)
        with pytest.raises(Killed):
            discard(folder)
    found, resumed = go(folder)
    assert found == wanted and resumed == ([] if call else [[6]])
    assert not (folder / GONE).exists()
    discard(folder)
    assert not folder.exists()


def test_a_users_own_files_stay_in_it(run):
    folder, _ = run
    (folder / "images").mkdir()
    for name in ("notes.txt", "images/cat.png", ".download.77.partial"):
        (folder / name).write_text("a user's own")
    discard(folder)
    assert sorted(path.name for path in folder.rglob("*")) == [".download.77.partial", "cat.png", "images", "notes.txt"]


def test_a_folder_that_another_process_works_in_stays(run):
    folder, _ = run
    with io.folder_lock(folder):
        discard(folder)
    assert go(folder)[1] == [[6]]


def test_a_start_removes_what_a_killed_run_left_and_nothing_else(tmp_path):
    """Of a folder that was another program's before this run, nothing at all."""
    foreign = [".newest.7.partial", "5.orbax-checkpoint-tmp"]
    (tmp_path / "checkpoints").mkdir()
    for name in foreign:
        (tmp_path / "checkpoints" / name).mkdir()
    mine = [tmp_path / name for name in (".config.json.7.partial", ".metrics.jsonl.7.partial")]
    own = tmp_path / ".eval.json.7.partial"  # of an evaluation that is being written beside the run
    own.write_text("")
    with Storage(tmp_path, {"method": "toy"}):
        assert all((tmp_path / "checkpoints" / name).exists() for name in foreign)
    for path in mine:
        path.write_text("")
    for name in foreign:
        (tmp_path / "checkpoints" / name).rmdir()
    with Storage(tmp_path, {"method": "toy"}):
        assert own.exists() and not any(path.exists() for path in mine)
