"""Folders of teachers: what is there is not overwritten by another."""

import numpy as np
import pytest

from jaxdd.core.errors import CheckpointError
from jaxdd.run.chain import teacher as teachers
from jaxdd.run.storage import networks

pytestmark = pytest.mark.quick

ABOUT = {"architecture": {"name": "conv", "image_shape": [8, 8, 1], "classes": 10}, "seed": 0}


def teacher(folder, value: float):
    networks.add(folder, ABOUT, {"params": {"kernel": np.full((2, 2), value, np.float32)}}, [0.5], 1)
    return folder


def test_a_copy_is_whole_can_be_repeated_and_replaces_no_other_teacher(tmp_path):
    one, other, place = teacher(tmp_path / "one", 1.0), teacher(tmp_path / "other", 2.0), tmp_path / "place"
    for _ in range(2):
        teachers.copy(one, place)
        assert networks.load(place).digest == networks.load(one).digest
    with pytest.raises(CheckpointError, match="another teacher"):
        teachers.copy(other, place)
    assert networks.load(place).digest == networks.load(one).digest
