"""Folders of teachers: what is there is not overwritten by another."""

import numpy as np
import pytest

from jaxdd import models
from jaxdd.core.errors import CheckpointError
from jaxdd.run.chain import teachers as teachers
from jaxdd.run.chain.teachers import Teacher
from jaxdd.run.storage import networks


def teacher(folder, value: float) -> Teacher:
    kind = teachers.words(models.teacher_architecture("conv", 4), (8, 8, 1), 10)
    variables = {"params": {"Dense_0": {"bias": np.full(10, value, np.float32)}}}
    networks.add(folder, {"architecture": kind, "recipe": {"epochs": 1}}, variables, [0.5], 1)
    return teachers.load(folder)


def test_a_saved_teacher_is_whole_can_be_saved_again_and_replaces_no_other_one(tmp_path):
    one, other, place = teacher(tmp_path / "one", 1.0), teacher(tmp_path / "other", 2.0), tmp_path / "place"
    for _ in range(2):
        one.save(place)
        assert teachers.load(place).digest == one.digest
        assert (place / "manifest.json").read_bytes() == (tmp_path / "one" / "manifest.json").read_bytes()
    for refused in (other.save, other.refuse_other):
        with pytest.raises(CheckpointError, match="another teacher"):
            refused(place)
    assert teachers.load(place).digest == one.digest


def test_a_saved_teacher_whose_file_was_cut_is_saved_again(tmp_path):
    one, place = teacher(tmp_path / "one", 1.0), tmp_path / "place"
    one.save(place)
    (file,) = place.glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(CheckpointError):
        teachers.load(place)
    one.save(place)
    assert teachers.load(place).digest == one.digest
