"""Output folders by whatever name: a run below any of them stops, continues and is read again."""

from __future__ import annotations

import os
import pathlib
import tempfile

import jax
import pytest

from jaxdd.core.errors import CheckpointError
from jaxdd.run import loop
from jaxdd.run.storage import checkpoint
from jaxdd.run.storage.checkpoint import Storage
from tests.run.toy import Notes, Toy, bits, examples

NAMES = {
    "brackets": "run[1]",
    "star": "a*",
    "question": "which?",
    "no such class": "[!a]",
    "backslash": "back\\slash",
    "address": "gs:",
    "quotes": 'it\'s "one"',
    "unicode": "Bilder für 数据",
    "not UTF-8": os.fsdecode(b"\xca\xfd\xbe\xdd"),
    "long": "x" * 255,
}


def go(folder, steps: int):
    """Runs the toy; returns the bits of its state, and the steps that it was continued from."""
    notes = Notes()
    with Storage(folder, {"method": "toy"}, checkpoint_every=1e9) as storage:
        options = {"log_every": 4, "storage": storage, "reporter": notes}
        state, _ = loop.final_state(Toy(), examples(), steps=steps, seed=0, **options)
    return bits(state), notes.of("resumed")


@pytest.fixture(scope="module")
def wanted():
    return bits(loop.final_state(Toy(), examples(), steps=6, seed=0, log_every=4)[0])


@pytest.fixture(autouse=True)
def own_room(tmp_path, monkeypatch):
    """Links that a run needs are made here, and must be gone afterwards."""
    room = tmp_path / "room"
    room.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(room))
    yield
    assert not list(room.iterdir())


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_run_below_any_name_continues_to_the_last_bit(name, tmp_path, wanted):
    """The fault that this was made for: a state below `run[1]` was written, and nothing could read it again."""
    folder = tmp_path / name / "run"
    go(folder, 3)
    assert go(folder, 6) == (wanted, [[3]])
    template = jax.eval_shape(lambda: Toy().init(jax.random.key(0), examples()))
    assert bits(checkpoint.read_state(folder / "checkpoints" / "6", template)) == wanted


def test_a_link_a_relative_path_and_a_tilde(tmp_path, wanted, monkeypatch):
    (tmp_path / "real [1]").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real [1]")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    go(pathlib.Path("link/run"), 2)
    assert go("~/real [1]/run", 4)[1] == [[2]]
    assert go(tmp_path / "link" / "run", 6) == (wanted, [[4]])


def test_what_orbax_cannot_read_is_told_in_one_error(tmp_path):
    go(tmp_path, 2)
    template = jax.eval_shape(lambda: Toy().init(jax.random.key(0), examples()))
    step = (tmp_path / "checkpoints" / "2").rename(tmp_path / "elsewhere")
    (step / "default").rename(step / "moved")
    with pytest.raises(CheckpointError, match="the state cannot be read") as refusal:
        checkpoint.read_state(step, template)
    assert refusal.value.where == str(step)
