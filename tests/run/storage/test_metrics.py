"""Lines of numbers: each whole and as it was written, or left out and told."""

from __future__ import annotations

import json

import pytest

from jaxdd.core import io
from jaxdd.core.errors import CheckpointError
from jaxdd.run.evaluating import Validation
from jaxdd.run.storage.checkpoint import MetricsFile

pytestmark = pytest.mark.quick


@pytest.fixture
def file(tmp_path):
    """Three steps, and what holds them."""
    path = tmp_path / "metrics.jsonl"
    made = MetricsFile(path)
    for step in (1, 2, 3):
        made.write(step, {"loss": 0.5 / step, "rate": 1e-05})
    return path, made


def test_a_line_is_json_and_comes_back(file):
    path, made = file
    lines = path.read_text().splitlines()
    assert [list(json.loads(line)) for line in lines] == [["step", "loss", "rate", "crc32"]] * 3
    assert made.at(3) == {"loss": 0.5 / 3, "rate": 1e-05} and made.at(2) == {}


def test_a_flipped_bit_of_a_line_is_seen():
    content = {"step": 12, "loss": 1.5e-05, "runs": [0.25, 0.5], "flag": None}
    whole = io.to_line(content).encode()
    assert io.of_line(whole.decode()) == content
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << (bit % 8)
        same = whole[bit // 8 : bit // 8 + 1] == b"e" and damaged[bit // 8 : bit // 8 + 1] == b"E"  # the same number
        assert io.of_line(damaged.decode(errors="replace")) in ([None, content] if same else [None]), bit


@pytest.mark.parametrize("line", ['{"step": 1}\n', '{"step": 1, "loss": 2}\n', '{"step": 1, "name": "digits"}\n'])
def test_a_line_of_before_has_no_checksum(line):
    assert io.of_line(line) == json.loads(line)


@pytest.mark.parametrize("line", ['{"step": 1}', "{", "7\n", "null\n", "\n", ""])
def test_what_is_no_line(line):
    assert io.of_line(line) is None


def test_lines_after_a_step_and_a_torn_one_go_and_damaged_ones_are_counted(file):
    path, made = file
    with open(path, "a") as log:
        log.write('{"step": 4')
    assert made.drop_after(2) == 0
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2]
    path.write_text(path.read_text().replace('"step": 1', '"step": 0'))
    assert made.drop_after(2) == 1
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [2]


def test_a_damaged_line_of_evaluations_is_refused(tmp_path):
    path = tmp_path / "evaluations.jsonl"
    path.write_text(io.to_line({"step": 1, "mean": 0.5}) + io.to_line({"step": 2, "mean": 0.25}))
    nothing: list = [None, None]
    assert [told["step"] for told in Validation(1, tmp_path, *nothing).told()] == [1, 2]
    path.write_text(path.read_text().replace("0.25", "0.75"))
    with pytest.raises(CheckpointError, match="a damaged line") as refusal:
        Validation(1, tmp_path, *nothing).told()
    assert refusal.value.where == str(path)
