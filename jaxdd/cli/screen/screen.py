"""The screen: lines, tables and one live line; and the same in log.txt, without the live line."""

from __future__ import annotations

import contextlib
import datetime
import io
import pathlib
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, TextIO

import rich.console
import rich.live
import rich.spinner
import rich.text

LOG_WIDTH = 110
QUIET_AT_FIRST, QUIET_AT_MOST, GROWTH = 1.0, 30.0, 1.5  # seconds between two lines of progress on a pipe


class Screen:
    """Prints to the terminal (or the pipe), and into a log file as soon as there is one.

    Arguments:
        stream: where to print; the standard output.
    """

    def __init__(self, stream: TextIO | None = None):
        self.console = rich.console.Console(file=stream, highlight=False, soft_wrap=True)
        self._log: TextIO | None = None
        self._waiting: list[str] = []  # what was said before there was a log file
        self._live: rich.live.Live | None = None
        self._interval, self._spoken = QUIET_AT_FIRST, float("-inf")

    def say(self, text: str, style: str = "") -> None:
        """Prints one line."""
        self.console.print(rich.text.Text(text, style=style))
        self.record(text)

    def fact(self, name: str, text: str, style: str = "") -> None:
        """Prints one line of the header or of the closing words: a name in a column of its own, and a text."""
        self.console.print(rich.text.Text(f"{name:<10}", style="bold cyan").append(text, style=style or "default"))
        self.record(f"{name:<10}{text}")

    def facts(self, **texts: object) -> None:
        """Prints several such lines, by name; those without a text are left out."""
        for name, text in texts.items():
            if text:
                self.fact(name, str(text))

    def note(self, text: str) -> None:
        """Prints something that the user should know."""
        self.fact("note", text, "yellow")

    def show(self, renderable: Any) -> None:
        """Prints a table."""
        self.console.print(renderable)
        paper = rich.console.Console(file=io.StringIO(), width=LOG_WIDTH, highlight=False)
        paper.print(renderable)
        self.record(paper.file.getvalue().rstrip("\n"))  # pyright: ignore[reportAttributeAccessIssue]

    def record(self, text: str) -> None:
        """Writes into the log alone."""
        if self._log is None:
            self._waiting.append(text)
            return
        with contextlib.suppress(OSError):  # a full disk is reported by whoever writes what matters
            self._log.write(text + "\n")
            self._log.flush()

    def log_to(self, path: pathlib.Path) -> None:
        """Writes everything into this file too from now on, after what was said before."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._log = open(path, "a", encoding="utf-8")  # noqa: SIM115 (closed in `close`)
        moment = datetime.datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
        waiting, self._waiting = self._waiting, []
        for text in (f"--- {moment}  {shlex.join(sys.argv)}", *waiting):
            self.record(text)

    def close(self) -> None:
        """Closes the log file."""
        if self._log is not None:
            self._log.close()
            self._log = None

    @contextlib.contextmanager
    def live(self, line: Callable[[], str], above: Callable[[], Any] = lambda: None) -> Iterator[None]:
        """Shows on a terminal, while this is open, the text that `line` returns now, below everything that is said.

        Arguments:
            line: the text.
            above: a table between what was said and the line; None for none.
        """
        if not self.console.is_terminal:
            yield
            return
        view = _Line(line, above)
        with rich.live.Live(view, console=self.console, refresh_per_second=8, transient=True, redirect_stderr=False):
            yield

    def progress(self, text: str, *, last: bool = False) -> None:
        """Prints one line of progress on a pipe and in the log, less and less often; a terminal has its live line."""
        now = time.monotonic()
        if not last and now - self._spoken < self._interval:
            return
        self._interval = QUIET_AT_FIRST if last else min(self._interval * GROWTH, QUIET_AT_MOST)
        self._spoken = now
        self.finding(text)

    def finding(self, text: str) -> None:
        """Prints one line on a pipe and in the log; a terminal shows it above its live line."""
        if not self.console.is_terminal:
            self.console.print(rich.text.Text(text))
        self.record(text)


class _Line:
    """Asks for the text each time it is drawn, cut to the width of the terminal."""

    def __init__(self, line: Callable[[], str], above: Callable[[], Any]):
        self._line, self._above = line, above
        self._spinner = rich.spinner.Spinner("dots", style="cyan")

    def __rich_console__(self, console: rich.console.Console, options: rich.console.ConsoleOptions):
        text = rich.text.Text(self._line(), no_wrap=True, overflow="ellipsis")
        text.truncate(max(console.width - 3, 10), overflow="ellipsis")
        self._spinner.update(text=text)
        if (above := self._above()) is not None:
            yield above
        yield self._spinner
