"""A teacher's folder: what is in it, that it is made once, and that interrupting changes nothing in it."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from jaxdd import data, models
from jaxdd.core.errors import CheckpointError, UsageError
from jaxdd.run.chain import teachers
from jaxdd.run.chain.squeeze import Squeezing
from jaxdd.run.control import Control, Reporter, Stopped
from jaxdd.run.storage import networks
from jaxdd.training.recipe import DIGITS
from jaxdd.training.trainer import accuracies
from tests.limits import TIMEOUT

ROOT = pathlib.Path(__file__).resolve().parents[3]
OPTIONS = {"depth": 1, "width": 8, "normalization": "batch", "initialization": "pytorch"}
WORDS = {"name": "conv", **OPTIONS, "image_shape": [8, 8, 1], "classes": 10}
RECIPE = dataclasses.replace(DIGITS, epochs=3, warmup_epochs=1)


class Heard(Reporter):
    """Remembers epoch, loss and accuracy of every test."""

    def __init__(self):
        self.tests = []

    def ends(self, piece, facts):
        self.tests.append((facts["epoch"], facts["loss"], facts["accuracy"]))


def squeezing(seed: int = 1, **options: Any) -> Squeezing:
    digits = data.load("digits")
    network = models.build("conv", image_shape=digits.image_shape, classes=10, **OPTIONS)
    preprocessing = data.fit(digits, kind="raw")
    return Squeezing.of(digits, preprocessing, network, RECIPE, architecture=WORDS, seed=seed, test_every=2, **options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A teacher that was never interrupted, and what was reported of it."""
    folder, heard = tmp_path_factory.mktemp("whole") / "teacher", Heard()
    squeezing().make(folder, Control(heard))
    return folder, heard.tests


def same(folder: pathlib.Path, other: pathlib.Path) -> bool:
    """Whether two folders hold the same files to the byte."""
    one, two = ({path.name: path.read_bytes() for path in each.iterdir()} for each in (folder, other))
    return one == two


def test_the_folder_holds_the_network_and_what_it_depends_on(whole):
    folder, heard = whole
    made = squeezing()
    teacher, manifest = networks.load(folder), networks.read_manifest(folder)
    assert manifest["architecture"] == WORDS and manifest["seed"] == 1 and manifest["dataset"]["name"] == "digits"
    assert manifest["recipe"]["learning_rate"] == 0.1 and manifest["preprocessing"]["space"] == "raw"
    assert len(teacher) == 1 and sorted(path.name for path in folder.iterdir())[0] == "manifest.json"
    assert len(list(folder.iterdir())) == 2  # the state of its training is gone
    reached = accuracies(made.network, teacher.variables, made.test)[0]
    assert [epoch for epoch, *_ in heard] == [2, 3] and heard[-1][2] == reached > 0.3
    assert manifest["networks"][0]["accuracies"] == [accuracy for *_, accuracy in heard]
    assert heard[-1][1] < heard[0][1] < 2.4


def test_it_is_made_once(whole):
    folder, _ = whole

    made, heard = squeezing(), Heard()
    assert made.finished(folder)
    assert made.make(folder, Control(heard)).digest == teachers.load(folder).digest and not heard.tests
    with pytest.raises(CheckpointError, match="seed: 1 -> 2"):
        squeezing(seed=2).make(folder)


@pytest.mark.parametrize("asked", [14, 24])  # within an epoch, and right after a test
def test_a_stopped_training_goes_on_bit_equal(whole, tmp_path, asked):
    steps = iter([None] * asked)
    with pytest.raises(Stopped):
        squeezing().make(tmp_path / "teacher", Control(should_stop=lambda: next(steps, signal.SIGTERM)))
    assert not squeezing().finished(tmp_path / "teacher")
    squeezing().make(tmp_path / "teacher")
    assert same(tmp_path / "teacher", whole[0])


class Deadly(Reporter):
    """Kills the process when its fourteenth checkpoint is to be written."""

    left = 14

    def saving(self, step):
        self.left -= 1
        if not self.left:
            os.kill(os.getpid(), signal.SIGKILL)


def killed(made: str, folder: pathlib.Path) -> None:
    """Has another process make a teacher and die of it; `made` is an expression of this module's names."""
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from jaxdd.core import backend;"
        "backend.use_compilation_cache(); from tests.run.chain.test_squeeze import *;"
        f"dataclasses.replace({made}, checkpoint_every=0).make({str(folder)!r}, Control(Deadly()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.slow
def test_a_killed_training_goes_on_bit_equal(whole, tmp_path):
    folder = tmp_path / "teacher"
    killed("squeezing()", folder)
    lines = (folder / "training" / "metrics.jsonl").read_text().splitlines()
    assert 1 <= len(lines) < 3 and json.loads(lines[-1])["epoch_loss"] > 0
    squeezing().make(folder)
    assert same(folder, whole[0])


def test_images_must_be_raw():
    digits = data.load("digits")
    made = squeezing()
    with pytest.raises(UsageError, match="standardised"):
        Squeezing.of(digits, data.fit(digits, kind="standardised"), made.network, RECIPE, architecture=WORDS)


def test_teachers_of_two_seeds_differ(whole, tmp_path):
    other = squeezing(seed=2).make(tmp_path)
    one = teachers.load(whole[0]).variables["params"]["Dense_0"]["kernel"]
    assert np.abs(one - other.variables["params"]["Dense_0"]["kernel"]).max() > 1e-3


def streamed(root: str | os.PathLike) -> Squeezing:
    """A teacher whose images are read while it is trained."""
    files = data.load(f"folder:{root}", resolution=8, stream="always")
    network = models.build("conv", image_shape=files.image_shape, classes=3, **OPTIONS)
    words = {**WORDS, "image_shape": list(files.image_shape), "classes": 3}
    recipe = dataclasses.replace(RECIPE, learning_rate=0.05, batch_size=12, augmentation="resized_crop", epochs=8)
    raw = data.fit(files, family="sre2l", kind="raw")
    return Squeezing.of(files, raw, network, recipe, architecture=words, test_every=2)


@pytest.mark.slow
def test_a_streamed_teacher_learns_and_killed_it_goes_on_bit_equal(tmp_path):
    pytest.importorskip("grain")
    from tests.data.test_large import write

    write(tmp_path / "data", 36)
    told, made = Heard(), streamed(tmp_path / "data")
    made.make(tmp_path / "whole", Control(told))
    heard = told.tests
    assert made.procedure.recipe.augmentation == "flip" and made.identity["recipe"]["augmentation"] == "resized_crop"
    assert [epoch for epoch, *_ in heard] == [2, 4, 6, 8] and heard[-1][1] < 0.8 * heard[0][1] and heard[-1][2] > 0.5
    folder = tmp_path / "killed"
    killed(f"streamed({str(tmp_path / 'data')!r})", folder)
    assert (folder / "training").is_dir() and not made.finished(folder)
    streamed(tmp_path / "data").make(folder)
    assert same(folder, tmp_path / "whole")
