"""What `--checkpoint_path` may name; states of a run are tested with the commands."""

from __future__ import annotations

import msgpack
import numpy as np
import pytest

from jaxdd.core.distilled import DistilledSet
from jaxdd.core.errors import CheckpointError
from jaxdd.run.storage.sets import dataset_of, find

pytestmark = pytest.mark.quick

SMALL = DistilledSet(np.zeros((2, 8, 8, 1), np.float32), np.eye(2, dtype=np.float32), dataset="digits")


@pytest.fixture
def folder(tmp_path):
    """An output folder with a set, one more under its step, and the run's config."""
    SMALL.save(tmp_path / "distilled")
    SMALL.save(tmp_path / "distilled" / "step_5")
    (tmp_path / "config.json").write_text("{}")
    return tmp_path


@pytest.mark.parametrize(
    "name, place, beside",
    [
        ("", "distilled", ""),
        ("distilled", "distilled", ""),
        ("distilled/manifest.json", "distilled", ""),
        ("distilled/step_5", "distilled/step_5", "distilled/step_5"),
    ],
)
def test_a_set_is_found(folder, name, place, beside):
    found = find(folder / name)
    assert (found.kind, found.path, found.beside) == ("set", folder / place, folder / beside)
    assert found.read(dataset="other", flip=True).dataset == "digits"


@pytest.mark.parametrize("name", ["", "distilled", "images"])
def test_a_recovered_set_and_its_image_folder_belong_together(tmp_path, name):
    SMALL.save(tmp_path / "distilled")
    for other in ("recovered", "images"):
        (tmp_path / other).mkdir()
    found = find(tmp_path / name, "recover")
    assert (found.kind, found.path, found.beside) == ("set", tmp_path / "distilled", tmp_path)


def test_a_users_own_data_may_have_moved_but_a_known_set_is_what_it_is(tmp_path):
    own = SMALL.replace(dataset="folder:here/faces")
    assert dataset_of(own, None, tmp_path) == "folder:here/faces"
    assert dataset_of(own, "folder:/there/faces", tmp_path) == "folder:/there/faces"
    assert dataset_of(SMALL.replace(dataset=""), "cifar10", tmp_path) == "cifar10"
    for given, asked in ((SMALL, "folder:/there"), (own, "cifar10"), (SMALL, "mnist")):
        with pytest.raises(CheckpointError, match="was distilled from"):
            dataset_of(given, asked, tmp_path)


def test_without_a_set_the_newest_state_is_taken(folder):
    for path in (folder / "distilled" / "step_5", folder / "distilled"):
        (path / "manifest.json").unlink()
        next(path.glob("*.safetensors")).unlink()
    for step in ("9", "10", "damaged-11"):
        (folder / "checkpoints" / step).mkdir(parents=True)
        (folder / "checkpoints" / step / "manifest.json").write_text("{}")
    (folder / "checkpoints" / "12").mkdir()  # not sealed
    newest = folder / "checkpoints" / "10"
    assert [find(path, "").path for path in (folder, folder / "checkpoints", newest)] == [newest] * 3
    assert find(folder / "checkpoints" / "9", "").path == folder / "checkpoints" / "9"
    assert find(folder, "").kind == "state" and find(folder, "").beside == folder


def packed(array: np.ndarray) -> msgpack.ExtType:
    return msgpack.ExtType(1, msgpack.packb((array.shape, array.dtype.name, array.tobytes())))


def test_original_files_and_folders_of_them(tmp_path):
    average = {
        "x_proto": packed(np.ones((2, 8, 8, 1), np.float32)),
        "y_proto": packed(np.eye(2, dtype=np.float32)),
        "log_temp": packed(np.zeros((), np.float32)),
    }
    for step in (900, 15000):
        (tmp_path / f"checkpoint_{step}").write_bytes(msgpack.packb({"step": step, "ema_average": average}))
    newest = find(tmp_path, "")
    assert (newest.kind, newest.path, newest.beside) == ("original", tmp_path / "checkpoint_15000", tmp_path)
    read = find(tmp_path / "checkpoint_900", "").read(dataset="digits", flip=False)
    assert read.provenance["step"] == 900 and read.dataset == "digits" and not read.decode.flip


def test_what_is_none_is_refused_with_all_that_would_do(folder):
    (folder / "empty").mkdir()
    (folder / "notes.txt").write_text("hello")
    for name in ("empty", "notes.txt"):
        with pytest.raises(CheckpointError, match="nothing here that can be evaluated") as refusal:
            find(folder / name, "condense")
        assert "original RCIG checkpoint" in str(refusal.value) and "distil first: `condense`" in str(refusal.value)
    with pytest.raises(CheckpointError, match="did you mean 'distilled'"):
        find(folder / "destilled", "")


def test_a_damaged_set_says_so_instead_of_hiding(folder):
    (folder / "distilled" / "manifest.json").write_text("{")
    with pytest.raises(CheckpointError, match="not valid JSON"):
        find(folder, "").read(dataset="", flip=True)
