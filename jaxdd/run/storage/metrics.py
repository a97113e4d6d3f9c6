"""Metrics on disk: one JSON object per line and, if asked for, TensorBoard events."""

from __future__ import annotations

import importlib.util
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from jaxdd.core import io
from jaxdd.core.errors import UsageError


class MetricsFile:
    """`metrics.jsonl`: `{"step": 100, "loss": 0.5, ...}` per line, every step once, also in a run that was resumed.

    Arguments:
        path: the file.
        tensorboard: folder for TensorBoard events; None writes none.

    Raises:
        UsageError: TensorBoard is asked for, but tensorboardX is not installed.
    """

    def __init__(self, path: str | os.PathLike, tensorboard: str | os.PathLike | None = None):
        self._path, self._tensorboard = pathlib.Path(path), tensorboard
        self._events: Any = None
        self._first = 1  # the first step not yet written
        if tensorboard is not None and importlib.util.find_spec("tensorboardX") is None:
            raise UsageError(
                "TensorBoard events need tensorboardX", where="`tensorboard`", remedy="pip install 'jaxdd[tensorboard]'"
            )

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Appends one line in one system call, so a killed process leaves at most one torn line, at the end."""
        line = json.dumps({"step": step, **values}, allow_nan=False) + "\n"
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)
        if self._tensorboard is not None:
            self._write_events(step, values)

    def at(self, step: int) -> dict[str, float]:
        """Returns the last line's values if it is that of `step`, else none."""
        lines = self._path.read_text(errors="replace").splitlines() if self._path.is_file() else []
        if not lines or _step_of(lines[-1]) != step:
            return {}
        return {name: value for name, value in json.loads(lines[-1]).items() if name != "step"}

    def drop_after(self, step: int) -> None:
        """Removes the lines after `step`, which will be computed again, and a torn one."""
        self._first = step + 1
        text = self._path.read_text(errors="replace") if self._path.is_file() else ""
        kept = "".join(line for line in text.splitlines(keepends=True) if _step_of(line) <= step)
        if kept != text:
            io.write_atomically(self._path, kept)

    def close(self) -> None:
        """Flushes the TensorBoard events."""
        if self._events is not None:
            self._events.close()
            self._events = None

    def _write_events(self, step: int, values: Mapping[str, float]) -> None:
        if self._events is None:
            import tensorboardX  # half a second, and an extra

            self._events = tensorboardX.SummaryWriter(str(self._tensorboard), purge_step=self._first)
        for name, value in values.items():
            self._events.add_scalar(name, value, step)


def _step_of(line: str) -> float:
    """Returns the step of one line; infinity for a line that is not whole."""
    try:
        step = json.loads(line)["step"] if line.endswith("\n") else None
    except (ValueError, KeyError, TypeError):
        step = None
    return step if isinstance(step, int) else float("inf")
