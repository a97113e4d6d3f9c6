"""Running commands: in this process, where a refusal costs milliseconds, or as a user does."""

from __future__ import annotations

import dataclasses
import pathlib
import resource
import subprocess
import sys

import pytest

from jaxdd.cli.main import main

ROOT = pathlib.Path(__file__).resolve().parents[2]
TINY = ["--width", "4", "--set", "pool_model_count=2", "--set", "batch_size=32", "--set", "checkpoint_iters=[1]"]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a command ended: exit code, both outputs, seconds of processor time."""

    code: int
    out: str
    err: str
    seconds: float = 0.0


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def call(capsys):
    """Runs a command in this process."""

    def run(*words: str) -> Outcome:
        code = main(list(words))
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


def command(*words: str, cwd: pathlib.Path) -> Outcome:
    """Runs `python <words>` in a folder; a name of a root script is found."""
    script, *rest = words
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, str(ROOT / script), *rest], cwd=cwd, capture_output=True, text=True, timeout=240
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Outcome(done.returncode, done.stdout, done.stderr, seconds)
