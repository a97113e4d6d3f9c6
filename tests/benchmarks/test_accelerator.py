"""The rows for an accelerator: done once, within the minutes there are, recorded apart from the committed results."""

import argparse
import importlib.util
import pathlib
import sys

import pytest

from benchmarks import accelerator, record
from tests.limits import TIMEOUT

KEEPS = (
    "import os, pathlib; p = pathlib.Path(os.environ['JAXDD_RESULTS']); p.mkdir(parents=True); (p / 'a.json').touch()"
)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a row that is a piece of Python, with some minutes left, on a clock that stands still."""
    monkeypatch.setattr(accelerator.time, "monotonic", lambda: 0.0)
    flags = argparse.Namespace(output_dir=str(tmp_path), data_path="DATA", torch_python=None, quick=False)

    def told(code: str, minutes: float = TIMEOUT / 60) -> str:
        monkeypatch.setattr(accelerator.Row, "words", lambda *_: [sys.executable, "-c", code])
        row = accelerator.Row("row", minutes=0.01)
        return accelerator.run("row", row, flags, 60 * minutes)

    return told


@pytest.mark.slow
def test_a_row_is_run_once(run, tmp_path):
    assert run(KEEPS).startswith("done in")
    assert (tmp_path / "results" / "row" / "a.json").is_file()
    assert run("raise SystemExit(1)") == "done before"


@pytest.mark.slow
def test_what_does_not_fit_is_left_and_what_fails_is_told(run, tmp_path):
    assert run(KEEPS, minutes=0.001).startswith("left for the next call: needs 0.01 minutes")
    assert run("print('why'); raise SystemExit(3)") == "failed (3): see row.log"
    assert (tmp_path / "row.log").read_text() == "why\n"
    assert run("pass") == "failed (0): see row.log"  # nothing was recorded
    assert run(f"import time; time.sleep({TIMEOUT})", minutes=0.02) == "out of time: see row.log"
    assert run(KEEPS).startswith("done in")


def test_rows_name_benchmarks_and_their_flags(tmp_path):
    flags = argparse.Namespace(output_dir=str(tmp_path / "a b"), data_path="DATA", torch_python="PY", quick=False)
    for name, row in accelerator.ROWS.items():
        words = row.words(flags)
        spec = importlib.util.find_spec(words[2])
        assert spec is not None and spec.origin is not None, name
        text = pathlib.Path(spec.origin).read_text()
        for flag in (word[2:] for word in words if word.startswith("--")):
            assert f'"--{flag}"' in text or f'"{flag}"' in text, (name, flag)
        assert row.minutes < 9, "what fits into no call of the documented length is never run"
        assert ("--data_path" in words, "--torch_python" in words) == (row.data, row.torch)
    assert str(tmp_path / "a b" / "dream") in accelerator.ROWS["dream"].words(flags)


@pytest.mark.slow
def test_the_commit_is_known_without_a_history(monkeypatch, tmp_path):
    monkeypatch.setattr(record, "HOME", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setenv("JAXDD_COMMIT", "abc")
    assert record.commit() == "abc"
