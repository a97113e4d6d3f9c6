"""Who hears about a run (`Reporter`), what ends it early (signals), and on which devices it lies: `Control`.

Numbers go through a `Reporter`, never text to a terminal: `cli/` draws them. Signals become a wish to stop, honoured at
the next step boundary.
"""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxdd.run.devices import Layout

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(Exception):  # noqa: N818 (it is no error)
    """A signal ended a run early, after its state was saved.

    Arguments:
        signal: the signal's number.
        step: steps finished by then.
    """

    def __init__(self, signal: int, step: int):
        self.signal, self.step = signal, step
        super().__init__(f"stopped by signal {signal} after step {step}")

    @property
    def exit_code(self) -> int:
        """The code that a shell expects: 143 after SIGTERM, 130 after SIGINT."""
        return 128 + self.signal


@contextlib.contextmanager
def caught() -> Iterator[Callable[[], int | None]]:
    """Notes SIGINT, SIGTERM and SIGHUP within this block instead of obeying them; pass what it yields as `should_stop`.

    A second SIGINT raises `KeyboardInterrupt` at once. Outside the main thread, where Python can install no handler,
    nothing changes. The handlers that were there before are put back. A signal that is ignored already stays ignored:
    `nohup` and a shell's `&` mean it.

    Yields:
        A function that returns the first signal received, or None.
    """
    received: list[int] = []

    def note(number, frame):
        if number == signal.SIGINT and signal.SIGINT in received:
            signal.default_int_handler(number, frame)
        received.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    heard = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    previous = {number: signal.signal(number, note) for number in heard}
    try:
        yield lambda: received[0] if received else None
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


TICK = 1.0  # seconds between two reports of progress while no step is logged


class Reporter:
    """A listener to what the loop does, which says nothing; subclasses override what they show.

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


def never() -> int | None:
    """Returns None: no signal was received."""
    return None


@dataclasses.dataclass(frozen=True, eq=False)
class Control:
    """A reporter, a wish to stop and devices: all that the maker of a run is given beside the run itself.

    Arguments:
        reporter: hears about the run.
        should_stop: returns the number of a signal that was received, or None; a signal ends the run, saved.
        layout: the devices; None for one, or for all those of several processes.
    """

    reporter: Reporter = dataclasses.field(default_factory=Reporter)
    should_stop: Callable[[], int | None] = never
    layout: Layout | None = None

    @property
    def options(self) -> dict[str, Any]:
        """The three as arguments of `loop.final_state`."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
