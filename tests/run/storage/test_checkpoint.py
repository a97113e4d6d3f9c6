"""Checkpoints: what was stopped continues to the last bit, and what was damaged is found."""

from __future__ import annotations

import gc
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd.core import io
from jaxdd.core.errors import CheckpointError, DivergedError, UsageError
from jaxdd.run import loop
from jaxdd.run.control import Stopped
from jaxdd.run.storage.checkpoint import Storage
from tests.run.toy import TRACES, Notes, Toy, bits, examples

IDENTITY = {"method": "toy", "settings": {"rate": 0.01, "sizes": (1, 2)}, "seed": 0}


def go(folder, steps, *, every=1e9, identity=IDENTITY, toy=None, stop_at=None, other=None, **options):
    """Runs the toy in a folder; returns its final state, and what was heard."""
    notes, asked = Notes(), iter(range(10**9))
    stop = (lambda: 15 if next(asked) >= stop_at else None) if stop_at is not None else None
    with Storage(folder, identity, other, checkpoint_every=every) as storage:
        options = {"log_every": 4, "should_stop": stop, **options}
        state, step = loop.final_state(
            toy or Toy(), examples(), steps=steps, seed=0, storage=storage, reporter=notes, **options
        )
    return state, step, notes


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def states(folder):
    return sorted(int(path.name) for path in (folder / "checkpoints").iterdir() if path.name.isdigit())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run of 20 steps: folder and bits of its final state."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, bits(go(folder, 20)[0])


@pytest.fixture(scope="module")
def two_made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    go(folder, 10, every=0)
    return folder


@pytest.fixture
def two(two_made, tmp_path):
    """A folder with the states of steps 9 and 10 of 20."""
    return pathlib.Path(shutil.copytree(two_made, tmp_path / "run"))


@pytest.mark.quick
@pytest.mark.parametrize("per_dispatch", [1, 4])
@pytest.mark.parametrize("stop_at", [1, 7, 19])
def test_a_stopped_run_continues_to_the_last_bit(tmp_path, stop_at, per_dispatch):
    straight, _, _ = go(tmp_path / "straight", 20, steps_per_dispatch=per_dispatch)
    stop_at = stop_at // per_dispatch or 1
    with pytest.raises(Stopped) as caught:
        go(tmp_path / "stopped", 20, stop_at=stop_at, steps_per_dispatch=per_dispatch)
    assert caught.value.exit_code == 143 and caught.value.step >= stop_at
    state, step, notes = go(tmp_path / "stopped", 20, steps_per_dispatch=per_dispatch)
    assert notes.of("resumed") == [[caught.value.step]] and step == 20
    assert bits(state) == bits(straight)
    assert lines(tmp_path / "stopped") == lines(tmp_path / "straight")
    assert [line["step"] for line in lines(tmp_path / "straight")] == [4, 8, 12, 16, 20]


def test_types_and_shapes_come_back(whole):
    folder, _ = whole
    state, _, notes = go(folder, 20)
    assert state.average.dtype == jnp.bfloat16 and state.flag.dtype == bool and state.visits.shape == ()
    assert state.nothing.shape == (0, 4) and isinstance(state.optimizer[0].count, jax.Array)
    assert not notes.of("warning")


def test_a_finished_run_returns_its_result_without_compiling(whole):
    folder, wanted = whole
    toy = Toy(size=9)  # not compiled before
    TRACES.clear()
    state, step, notes = go(folder, 20, toy=toy)
    assert bits(state) == wanted and step == 20
    assert notes.of("finished") == [[20]] and not notes.of("compiling") and "step" not in TRACES
    _, step, notes = go(folder, 5)
    assert step == 20 and notes.of("finished") == [[20]]


def test_more_steps_continue_a_finished_run(tmp_path, whole):
    go(tmp_path, 9, other={"max_steps": 9})
    state, _, notes = go(tmp_path, 20, other={"max_steps": 20})
    assert notes.of("resumed") == [[9]] and bits(state) == whole[1]
    assert [line["step"] for line in lines(tmp_path)] == [4, 8, 9, 12, 16, 20]
    assert json.loads((tmp_path / "config.json").read_text())["other"] == {"max_steps": 20}


def test_only_the_newest_two_states_are_kept(two):
    assert states(two) == [9, 10]
    assert not list(two.rglob("*orbax-checkpoint-tmp*"))


def test_a_state_that_is_not_finite_never_reaches_the_disk(tmp_path):
    with pytest.raises(DivergedError, match="is not finite") as caught:
        go(tmp_path, 20, every=0, toy=Toy(poison=6, poison_state=True), log_every=1000)
    assert states(tmp_path) == [5, 6] and "step 6 is still in the output folder" in caught.value.remedy


def test_a_metric_that_is_not_finite_is_not_saved(tmp_path):
    with pytest.raises(DivergedError, match="'loss' is nan"):
        go(tmp_path, 20, every=0, toy=Toy(poison=7))
    assert lines(tmp_path)[-1]["step"] == 4 and states(tmp_path) == [6, 7]


def files(step: pathlib.Path) -> list[pathlib.Path]:
    return sorted(path for path in step.rglob("*") if path.is_file() and path.stat().st_size)


def test_every_flipped_bit_is_found(two, whole):
    dice, kept = random.Random(0), two.parent / "kept"
    shutil.copytree(two, kept)
    template = jax.eval_shape(lambda state: state, go(kept, 10)[0])
    for _ in range(20):
        victim = dice.choice(files(two / "checkpoints" / "10"))
        content = bytearray(victim.read_bytes())
        content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
        victim.write_bytes(content)
        warnings = []
        with Storage(two, IDENTITY) as storage:
            step, _ = storage.load(template, warnings.append)
        assert step == 9 and len(warnings) == 1 and "step 10" in warnings[0] and "continuing from step 9" in warnings[0]
        shutil.rmtree(two)
        shutil.copytree(kept, two)
    assert bits(go(two, 20)[0]) == whole[1]


def cut(step):
    path = max(files(step), key=lambda path: path.stat().st_size)
    path.write_bytes(path.read_bytes()[:-7])


def empty(step):
    max(files(step), key=lambda path: path.stat().st_size).write_bytes(b"")


def missing(step):
    max(files(step), key=lambda path: path.stat().st_size).unlink()


def without_manifest(step):
    (step / "manifest.json").unlink()


def swapped(step):
    first, second = sorted(files(step), key=lambda path: path.stat().st_size)[-2:]
    first.rename(step / "x"), second.rename(first), (step / "x").rename(second)


def other_step(step):
    shutil.rmtree(step)
    shutil.copytree(step.parent / "9", step)


def gone(step):
    shutil.rmtree(step)


@pytest.mark.parametrize("damage", [cut, empty, missing, without_manifest, swapped, other_step, gone])
def test_damage_is_found_and_the_state_before_is_used(two, whole, damage):
    damage(two / "checkpoints" / "10")
    state, _, notes = go(two, 20)
    assert notes.of("resumed") == [[9]] and "step 10" in notes.of("warning")[0][0]
    assert bits(state) == whole[1]
    assert [line["step"] for line in lines(two)] == [4, 8, 12, 16, 20]
    assert (two / "checkpoints" / "damaged-10").exists() == (damage is not gone)


def test_no_good_state_left_is_an_error_that_stays(two):
    for step in (9, 10):
        cut(two / "checkpoints" / str(step))
    for _ in range(2):
        with pytest.raises(CheckpointError, match="no usable checkpoint is left") as caught:
            go(two, 20)
    assert "delete it to start from the beginning" in caught.value.remedy


def test_a_checkpoint_of_another_run_is_not_taken(two, tmp_path):
    go(tmp_path / "other", 10, identity={**IDENTITY, "seed": 1})
    shutil.rmtree(two / "checkpoints" / "10")
    shutil.copytree(tmp_path / "other" / "checkpoints" / "10", two / "checkpoints" / "10")
    _, _, notes = go(two, 11)
    assert notes.of("resumed") == [[9]] and "its run is" in notes.of("warning")[0][0]


def test_other_settings_are_refused_by_name(two):
    changed = {"method": "toy", "settings": {"rate": 0.02, "sizes": (1, 2)}, "seed": 0, "ipc": 1}
    with pytest.raises(CheckpointError) as caught:
        go(two, 20, identity=changed)
    assert "settings.rate: 0.01 -> 0.02" in str(caught.value) and "ipc: absent -> 1" in str(caught.value)
    assert "seed" not in caught.value.what and "sizes" not in caught.value.what
    go(two, 11)


@pytest.mark.parametrize("content", ["{", "[]", '{"format": 99, "identity": {}}'])
def test_a_damaged_config_is_refused(two, content):
    (two / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        go(two, 20)


def test_a_missing_config_is_refused(two):
    (two / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"without config\.json"):
        go(two, 20)


def test_another_version_only_warns(two):
    config = io.read_json(two / "config.json")
    config["versions"]["jax"] = "0.1"
    io.write_json(two / "config.json", config)
    _, _, notes = go(two, 11)
    assert 'jax: "0.1" ->' in notes.of("warning")[0][0]


def test_a_state_of_another_shape_is_named(two):
    with pytest.raises(CheckpointError) as caught:
        go(two, 20, toy=Toy(width=2))
    assert "'weights/idle': expected float32[256, 2], found float32[256, 1]" in str(caught.value)
    assert states(two) == [9, 10]


def test_a_second_writer_is_refused(two):
    with Storage(two, IDENTITY), pytest.raises(CheckpointError, match=f"pid {os.getpid()}"), Storage(two, IDENTITY):
        pass
    with Storage(two, IDENTITY):
        pass


@pytest.mark.slow
def test_a_second_process_that_writes_is_refused(two):
    with Storage(two, IDENTITY):
        command = [sys.executable, "-c", LOCKED, str(two)]
        found = subprocess.run(command, capture_output=True, text=True, cwd=pathlib.Path(__file__).parents[3])
        assert "another process writes into this output folder" in found.stdout, found.stderr


LOCKED = """
import sys
import jaxdd.core.io as io
try:
    io.folder_lock(sys.argv[1]).__enter__()
except Exception as error:
    print(error)
"""


@pytest.mark.parametrize("name", ["file", "file/below", "x" * 300, "/proc/jaxdd"])
def test_a_folder_that_cannot_be_written_fails_at_once(tmp_path, name):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot be written"), Storage(tmp_path / name, IDENTITY):
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_fails_at_once(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(CheckpointError, match="Permission denied"), Storage(tmp_path, IDENTITY):
        pass


def test_a_full_disk_is_told_beforehand(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    with pytest.raises(CheckpointError, match="too little free space"):
        go(tmp_path, 2)


def test_a_failing_disk_leaves_the_state_before(two, whole, monkeypatch):
    import orbax.checkpoint

    def fail(*arguments, **options):
        raise ValueError("RESOURCE_EXHAUSTED: no space left")

    with monkeypatch.context() as patch:
        patch.setattr(orbax.checkpoint.CheckpointManager, "save", fail)
        with pytest.raises(CheckpointError, match="RESOURCE_EXHAUSTED"):
            go(two, 20)
    assert states(two) == [9, 10]
    assert bits(go(two, 20)[0]) == whole[1]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Orbax drops its event loop
def test_a_disk_that_refuses_large_files(tmp_path):
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    toy = Toy(width=1000)
    straight, _, _ = go(tmp_path / "straight", 6, toy=toy)
    go(tmp_path / "run", 3, toy=toy)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(CheckpointError, match="step 6 could not be written") as caught:
            go(tmp_path / "run", 6, toy=toy)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        gc.collect()  # so that the warnings fall into this test
    assert "GB free" in caught.value.where and states(tmp_path / "run") == [3]
    assert bits(go(tmp_path / "run", 6, toy=toy)[0]) == bits(straight)


def test_leftovers_are_removed(two):
    for name in ("11.orbax-checkpoint-tmp-12", "12", ".newest.77.partial"):
        (two / "checkpoints" / name).mkdir() if "partial" not in name else (two / "checkpoints" / name).write_text("")
    _, _, notes = go(two, 20)
    assert notes.of("resumed") == [[10]] and not notes.of("warning")
    assert sorted(path.name for path in (two / "checkpoints").iterdir()) == ["10", "20", "newest"]


def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboardX")
    with Storage(tmp_path, IDENTITY, tensorboard=True) as storage:
        loop.run(Toy(), examples(), steps=4, seed=0, log_every=1, storage=storage)
    assert list((tmp_path / "tensorboard").glob("events*"))


def test_tensorboard_that_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="tensorboardX"):
        Storage(tmp_path, IDENTITY, tensorboard=True)


def test_a_torn_line_of_metrics_is_dropped(two):
    with open(two / "metrics.jsonl", "a") as file:
        file.write('{"step": 12, "loss": 1}\n{"step": 16, "lo')
    go(two, 16)
    assert [line["step"] for line in lines(two)] == [4, 8, 10, 12, 16] and lines(two)[3]["loss"] != 1
    assert np.isfinite([line["loss"] for line in lines(two)]).all()


@pytest.mark.parametrize("text", ["11", "30", "9", "0", "1p", "\x31\xb0", ""])
def test_a_damaged_number_of_the_newest_state_never_gives_another_one(two, whole, text):
    (two / "checkpoints" / "newest").write_text(text, encoding="latin-1")
    state, _, notes = go(two, 20)
    assert notes.of("resumed") == [[10]] and bits(state) == whole[1]
    assert bool(notes.of("warning")) == (text in ("0", "11", "30"))
