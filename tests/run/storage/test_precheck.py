"""Output folders that are refused before anything is computed: what lies in the way, and whose set is there."""

from __future__ import annotations

import os
import socket

import numpy as np
import pytest

from jaxdd.core import io
from jaxdd.core.distilled import DistilledSet
from jaxdd.core.errors import CheckpointError, UsageError
from jaxdd.run.storage.checkpoint import Storage
from jaxdd.run.storage.identity import (
    refuse_foreign_set,
    refuse_other_run,
    refuse_other_set,
    require_writable,
)

pytestmark = pytest.mark.quick

RUN = {"method": "rcig", "settings": {"lr": 0.1}, "seed": 0, "dataset": {"name": "digits"}}
CHAIN = {"method": "cda", "settings": {"lr": 0.2, "n_images": 1}, "seed": 0}


def pipe(path):
    os.mkfifo(path)


def sock(path):
    here = os.getcwd()
    os.chdir(path.parent)  # the name of a socket may only be short
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(path.name)
    os.chdir(here)


FILES = ["metrics.jsonl", "log.txt", "manifest.json", "config.json", "eval.json", ".lock", "distilled/grid.png"]
FILES += ["distilled/manifest.json", "checkpoints/newest", "recovered/config.json", "labels/epochs.json"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("make, kind", [(os.mkdir, "a folder"), (pipe, "a named pipe"), (sock, "a socket")])
def test_what_lies_in_the_place_of_a_file_is_refused(name, make, kind, tmp_path):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    make(path)
    with pytest.raises(CheckpointError, match=f"{kind} in the place of the file '{path.name}'") as refusal:
        require_writable(tmp_path)
    assert refusal.value.where == str(path) and refusal.value.expected and "move it away" in refusal.value.remedy


@pytest.mark.parametrize("name", ["distilled", "tensorboard", "checkpoints", "teacher", "images"])
@pytest.mark.parametrize("make, kind", [(pipe, "a named pipe"), (lambda path: path.write_text(""), "a file")])
def test_what_lies_in_the_place_of_a_folder_is_refused(name, make, kind, tmp_path):
    make(tmp_path / name)
    with pytest.raises(CheckpointError, match=f"{kind} in the place of the folder '{name}'"):
        require_writable(tmp_path)


def test_what_belongs_there_and_what_is_somebody_elses_is_not(tmp_path):
    (tmp_path / "log.txt").symlink_to("/dev/null")
    for name in ("distilled", "notes", "checkpoints"):
        (tmp_path / name).mkdir()
    for name in ("metrics.jsonl", "config.json", "distilled/manifest.json"):
        (tmp_path / name).write_text("")
    pipe(tmp_path / "theirs")
    require_writable(tmp_path)


def test_an_output_folder_that_is_a_pipe(tmp_path):
    pipe(tmp_path / "out")
    with pytest.raises(CheckpointError, match="out is a named pipe"):
        require_writable(tmp_path / "out")


@pytest.mark.parametrize("name", ["folder", "pipe", "x" * 300, "file/below"])
def test_a_result_file_that_cannot_be(name, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    pipe(tmp_path / "pipe")
    with pytest.raises(CheckpointError) as refusal:
        io.require_place(tmp_path / name)
    assert refusal.value.where == str(tmp_path / name) and refusal.value.expected and refusal.value.remedy
    for fine in ("file", "new", "x" * 255):
        io.require_place(tmp_path / fine)


@pytest.mark.parametrize("path", ["~nobody-of-this-name/x", "~"])
def test_a_home_that_nobody_knows(path, monkeypatch):
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", lambda number: (_ for _ in ()).throw(KeyError(number)))
    for ask in (io.absolute, require_writable, lambda path: Storage(path, RUN)):
        with pytest.raises(UsageError, match="nobody knows") as refusal:
            ask(path)
        assert refusal.value.where == path and "whole path" in refusal.value.remedy


def begun(folder):
    """A run that was stopped before its first set."""
    with Storage(folder, RUN):
        pass


def made(folder, provenance):
    images = np.zeros((2, 4, 4, 1), np.float32)
    DistilledSet(images, np.eye(2, dtype=np.float32), provenance=provenance).save(folder / "distilled")


def test_a_run_does_not_replace_the_set_of_a_chain_that_came_in_between(tmp_path):
    begun(tmp_path)
    made(tmp_path, CHAIN)
    for ask in (refuse_foreign_set, lambda folder: refuse_other_run(folder, RUN)):
        with pytest.raises(CheckpointError, match=r"a set that another run made \(cda\)") as refusal:
            ask(tmp_path)
        assert refusal.value.where == str(tmp_path / "distilled")


def test_nor_does_a_chain_take_the_folder_of_a_run_that_was_stopped(tmp_path):
    begun(tmp_path)
    with pytest.raises(CheckpointError, match="holds another run, not finished") as refusal:
        refuse_other_set(tmp_path, CHAIN)
    assert 'method: "rcig" -> "cda"' in str(refusal.value) and refusal.value.where.endswith("config.json")


def test_a_set_of_which_nothing_is_known_is_nobodys_to_replace(tmp_path):
    made(tmp_path, {})
    with pytest.raises(CheckpointError, match="the set of another run"):
        refuse_other_set(tmp_path, CHAIN)
    with pytest.raises(CheckpointError, match="of unknown method"):
        refuse_foreign_set(tmp_path)


def test_a_run_replaces_its_own_set(tmp_path):
    begun(tmp_path)
    made(tmp_path, {**RUN, "step": 3, "versions": {}})
    refuse_foreign_set(tmp_path)
    refuse_other_run(tmp_path, RUN)
    (tmp_path / "distilled" / "manifest.json").write_text("{")  # damaged: the run makes it again
    refuse_foreign_set(tmp_path)


@pytest.mark.parametrize("change", [{"seed": 1}, {"settings": {"lr": 0.3}}])
def test_the_set_of_a_run_with_other_settings_is_another_runs(change, tmp_path):
    begun(tmp_path)
    made(tmp_path, {**RUN, **change})
    with pytest.raises(CheckpointError, match="another run made"):
        refuse_foreign_set(tmp_path)
