"""Signals become a wish to stop, honoured at the next step boundary."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

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
