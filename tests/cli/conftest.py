"""Running commands: in this process, or in one of their own, as a user does."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import pytest

from jaxdd.cli.main import main
from tests.limits import TIMEOUT

ROOT = pathlib.Path(__file__).resolve().parents[2]
TINY = ["--width", "4", "--set", "depth=1", "pool_model_count=2", "batch_size=32", "checkpoint_iters=[1]"]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a command ended: exit code and both outputs."""

    code: int
    out: str
    err: str


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
    done = subprocess.run(
        [sys.executable, str(ROOT / script), *rest], cwd=cwd, capture_output=True, text=True, timeout=TIMEOUT
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


# What takes long, and what no refusal of arguments needs: libraries, and a device backend.
HEAVY = {"orbax", "sklearn", "scipy", "matplotlib", "PIL", "pyarrow", "grain", "tensorflow", "tensorflow_datasets"}
WEIGHED = """
import json, sys
from jaxdd.cli.main import main

heavy, commands = json.loads(sys.argv[1])
for script, *words in commands:
    code = main(words, script=script)
    bridge = sys.modules.get("jax._src.xla_bridge")
    started = ["a backend"] if bridge and bridge.backends_are_initialized() else []
    print(json.dumps([code, sorted(set(heavy) & set(sys.modules)) + started]))
"""


def weighed(*commands: list[str], cwd: pathlib.Path, heavy: set[str] = HEAVY) -> list[tuple[int, list[str]]]:
    """Runs commands, each a script's name and its words, one after another in one new process.

    Returns:
        The exit code of each, and what of `heavy` was imported by then; a started device backend counts.
    """
    words = [sys.executable, "-c", WEIGHED, json.dumps([sorted(heavy), commands])]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 0, done.stderr
    return [tuple(json.loads(line)) for line in done.stdout.splitlines() if line.startswith("[")]
