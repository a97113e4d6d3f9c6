"""What every benchmark does: timing by medians, one JSON file of results, one JSON line at the end.

Long benchmarks consist of cells, each kept in a file of its own as soon as it is finished (`finished`, `keep`).
"""

from __future__ import annotations

import itertools
import json
import os
import pathlib
import platform
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax

HOME = pathlib.Path(__file__).resolve().parent
RESULTS = pathlib.Path(os.environ.get("JAXDD_RESULTS", HOME / "results"))


def median_seconds(step: Callable[[], Any], repeats: int) -> float:
    """Median wall time of `step`, whose result is waited for; one call before does not count."""
    jax.block_until_ready(step())
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(step())
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def spread(values: Sequence[float]) -> dict[str, float | int]:
    """Mean, sample standard deviation and standard error of the mean; the latter two are 0 for a single value."""
    std = statistics.stdev(values) if len(values) > 1 else 0.0
    found = {"mean": statistics.fmean(values), "std": std, "standard_error": std / len(values) ** 0.5}
    return {**{name: round(value, 3) for name, value in found.items()}, "count": len(values)}


def finished(path: pathlib.Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """The figures of a cell that was measured with these very settings; None if there is none."""
    if not path.exists():
        return None
    cell = json.loads(path.read_text())
    return cell["figures"] if cell["settings"] == json.loads(json.dumps(settings)) else None


def keep(path: pathlib.Path, settings: dict[str, Any], figures: dict[str, Any]) -> None:
    """Writes a finished cell, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps({"settings": settings, "figures": figures}, indent=2) + "\n")
    partial.replace(path)


def save(name: str, figures: dict[str, Any], settings: dict[str, Any]) -> None:
    """Writes `results/<name>.json` with device, versions, command and commit, and prints the figures as one line."""
    record = {
        "benchmark": name,
        "command": f"python -m benchmarks.{pathlib.Path(sys.argv[0]).stem} " + shlex.join(_words(sys.argv[1:])),
        "settings": {name: _nameless(value) for name, value in settings.items()},
        "figures": figures,
        "device": f"{jax.devices()[0].device_kind} x {jax.device_count()}",
        "cores": os.cpu_count(),
        "environment": {name: os.environ[name] for name in ("GLIBC_TUNABLES", "XLA_FLAGS") if name in os.environ},
        "load_before": LOAD,
        "versions": {"jax": jax.__version__, "python": platform.python_version()},
        "commit": BEGAN_AT,
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(figures))


def commit() -> str:
    """The commit that is measured, with a + where files differ; `JAXDD_COMMIT` where the history did not come along."""
    try:
        head, changed = (
            subprocess.run(["git", *words], cwd=HOME, capture_output=True, text=True, check=True).stdout.strip()
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain"])
        )
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("JAXDD_COMMIT", "unknown")
    return head + "+" * bool(changed)


LOAD, BEGAN_AT = round(os.getloadavg()[0], 2), commit()  # when the benchmark began


def _words(words: list[str]) -> list[str]:
    """A command line without the paths of one machine: folders that are read are DATA, the one that is written OUT."""
    pairs = itertools.pairwise(["", *words])
    return ["OUT" if before == "--output_dir" else str(_nameless(word)) for before, word in pairs]


def _nameless(value: Any) -> Any:
    """Paths of one machine say nothing on another."""
    if not isinstance(value, str) or not os.path.isabs(value):
        return "DATA" if isinstance(value, str) and os.path.isdir(value) else value
    return "DATA" if os.path.isdir(value) else pathlib.Path(value).name.upper()
