"""Metrics on disk: one JSON object per line and, if asked for, TensorBoard events."""

from __future__ import annotations

import importlib.util
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
        line = io.to_line({"step": step, **values})
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)
        if self._tensorboard is not None:
            self._write_events(step, values)

    def at(self, step: int) -> dict[str, float]:
        """Returns the last line's values if it is that of `step`, else none."""
        last = (io.of_line(self._lines()[-1]) if self._lines() else None) or {}
        return {name: value for name, value in last.items() if name != "step"} if last.get("step") == step else {}

    def drop_after(self, step: int) -> int:
        """Removes the lines after `step`, which will be computed again, and a torn one.

        Returns:
            How many others were damaged, which are removed too.
        """
        self._first = step + 1
        lines = self._lines()
        steps = [_step_of(line) for line in lines]
        if any(of is None or of > step for of in steps):
            kept = [line for line, of in zip(lines, steps, strict=True) if of is not None and of <= step]
            io.write_atomically(self._path, "".join(kept))
        return sum(of is None and line.endswith("\n") for line, of in zip(lines, steps, strict=True))

    def _lines(self) -> list[str]:
        return self._path.read_text(errors="replace").splitlines(keepends=True) if self._path.is_file() else []

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


def _step_of(line: str) -> int | None:
    """Returns the step of one line; None for a line that is not whole."""
    step = (io.of_line(line) or {}).get("step")
    return step if isinstance(step, int) else None
