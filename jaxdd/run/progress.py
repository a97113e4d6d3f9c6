"""Progress of a run: numbers through a `Reporter`, never text on a terminal. cli/ draws them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

TICK = 1.0  # seconds between two reports of progress while no step is logged


class Reporter:
    """Hears what the loop does, and says nothing; subclasses override what they show.

    Steps are numbers of finished steps; times are seconds of the wall clock.
    """

    def compiling(self, name: str) -> None:
        """Hears that the program `name` is about to be compiled."""

    def compiled(self, name: str, seconds: float) -> None:
        """Hears that it is compiled; no step was made in that time."""

    def estimate(self, seconds_per_step: float, total_seconds: float) -> None:
        """Hears, once, after the second dispatch, how long the steps that remained at the start of this run take in
        all."""

    def progress(
        self, step: int, steps: int, metrics: Mapping[str, float], seconds_per_step: float, remaining_seconds: float
    ) -> None:
        """Hears of every logged step with its metrics; about once a second in between with no metrics."""

    def saving(self, step: int) -> None:
        """Hears that a checkpoint is about to be written."""

    def saved(self, step: int, seconds: float) -> None:
        """Hears that it is on disk with its checksums; the loop stood still for `seconds`."""

    def resumed(self, step: int) -> None:
        """Hears that the run continues after `step` finished steps."""

    def begins(self, piece: object, number: int, pieces: int) -> None:
        """Hears that piece `number`, from 0, of `pieces` begins: a network, a chunk, the initial images of a class."""

    def ends(self, piece: object, facts: Mapping[str, Any]) -> None:
        """Hears that a piece is finished: an epoch that was tested, a chunk, a network; with the facts known of it."""

    def notice(self, name: str, text: str) -> None:
        """Hears something worth telling that is no warning, such as where a finished teacher was taken from."""

    def warning(self, text: str) -> None:
        """Hears something that the user should know, such as a damaged checkpoint that was passed over."""

    def finished(self, step: int) -> None:
        """Hears that all steps are made; more than asked for if an earlier run in the same folder went further."""

    def stopped(self, step: int, signal: int) -> None:
        """Hears that a signal ended the run after `step` steps; its state is saved if it has a folder."""


class Pace:
    """Seconds per step, from the moments at which dispatches were seen to end."""

    def __init__(self):
        self._start: tuple[int, float] | None = None  # (step, moment) the average counts from
        self._ticked = time.perf_counter()
        self.seconds_per_step = float("nan")

    def mark(self, step: int) -> bool:
        """Notes that step number `step` has just ended; returns whether this gave the first measurement."""
        now, first = time.perf_counter(), self.seconds_per_step != self.seconds_per_step
        if self._start is None:
            self._start = (step, now)  # the first dispatch pays for transfers and warm-up: it only starts the clock
            return False
        self.seconds_per_step = (now - self._start[1]) / (step - self._start[0])
        return first

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves out time in which no step is made: a checkpoint, an observer, a compilation."""
        began = time.perf_counter()
        yield
        if self._start is not None:
            self._start = (self._start[0], self._start[1] + time.perf_counter() - began)

    def ticked(self) -> bool:
        """Returns whether progress was last reported long enough ago; if so, this counts as a report."""
        now = time.perf_counter()
        due = now - self._ticked >= TICK
        if due:
            self._ticked = now
        return due
