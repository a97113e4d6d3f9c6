"""The screen: lines, tables and one live line; and the same in log.txt, without the live line."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import io
import pathlib
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TextIO

import rich.box
import rich.console
import rich.live
import rich.spinner
import rich.table
import rich.text

from jaxdd.core.io import duration
from jaxdd.evaluation.protocol import Row
from jaxdd.run.control import Reporter, Stopped

LOG_WIDTH = 110
QUIET_AT_FIRST, QUIET_AT_MOST, GROWTH = 1.0, 30.0, 1.5  # seconds between two lines of progress on a pipe


class Screen:
    """The terminal (or the pipe), and a log file as soon as there is one.

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
        self._log = open(path, "a", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115 (closed in `close`)
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


LONG = 3600.0  # seconds from which a user is told how to make it shorter
WORTH_SAYING = 0.5  # seconds of compilation or saving below which nothing is said afterwards
BAR = 20


class Line(Reporter):
    """A line of progress on a screen.

    `remedies` make it shorter; `kept` says what a signal leaves, and how it goes on.

    Arguments:
        screen: where.
        should_stop: says whether a signal was received, which the line then tells at once.
        steps: number of steps in all.
    """

    remedies = "fewer --max_steps, a smaller --width or a GPU"
    kept = ""

    def __init__(self, screen: Screen, should_stop: Callable[[], int | None] = lambda: None, steps: int = 0):
        self._steps = steps
        self._screen, self._should_stop = screen, should_stop
        self._doing, self._since = "starting", time.monotonic()
        self._metrics: dict[str, float] = {}
        self._text = ""
        self.begun_at, self.ended_at = 0, 0  # steps
        self.compiling_seconds = 0.0

    @contextlib.contextmanager
    def shown(self) -> Iterator[Line]:
        """Keeps the line on the terminal while this is open; says at the end what a signal leaves."""
        try:
            with self._screen.live(self._now, self.above):
                yield self
        except Stopped:
            if self.kept:
                self._screen.say(f"stopped: {self.kept}", "bold")
            raise

    def above(self) -> Any:
        """Returns what a terminal shows above the line; None for nothing."""
        return None

    def doing(self, what: str) -> None:
        """Notes that something has begun that takes a while."""
        self._doing, self._since = what, time.monotonic()

    def compiling(self, name: str) -> None:
        self.doing(f"compiling '{name}'")
        self._screen.progress(f"compiling '{name}' ...", last=True)

    def compiled(self, name: str, seconds: float) -> None:
        self.doing("running")
        self.compiling_seconds += seconds
        if seconds >= WORTH_SAYING:
            self._screen.progress(f"compiled '{name}' in {duration(seconds)}", last=True)

    def estimate(self, seconds_per_step: float, total_seconds: float) -> None:
        self._estimated(pace(seconds_per_step), total_seconds)

    def progress(
        self, step: int, steps: int, metrics: Mapping[str, float], seconds_per_step: float, remaining_seconds: float
    ) -> None:
        self._metrics = dict(metrics) or self._metrics
        self._step(step, steps, seconds_per_step, remaining_seconds)

    def saving(self, step: int) -> None:
        self.doing(f"saving step {step}")
        self._screen.record(f"saving step {step}")

    def saved(self, step: int, seconds: float) -> None:
        self._doing = ""
        self._screen.record(f"saved step {step} in {duration(seconds)}")

    def begins(self, piece: object, number: int, pieces: int) -> None:
        self.doing(f"{piece} {number + 1} of {pieces}")

    def notice(self, name: str, text: str) -> None:
        self._screen.fact(name, text)

    def evaluating(self, step: int) -> None:
        """Notes that the set of one step is evaluated on the way."""
        self.doing(f"evaluating step {step}")
        self._screen.progress(f"evaluating step {step} ...", last=True)

    def resumed(self, step: int) -> None:
        self.begun_at = step
        if step < self._steps:
            self._screen.say(f"continuing after step {step}")

    def finished(self, step: int) -> None:
        self.ended_at = step

    def warning(self, text: str) -> None:
        self._screen.note(text)

    def _step(self, step: int, steps: int, seconds_per_step: float, left: float) -> None:
        numbers = "  ".join(shown_metric(name, self._metrics[name]) for name in SHOWN if name in self._metrics)
        text = f"step {step}/{steps}  {numbers}  {pace(seconds_per_step)}  {duration(left)} left"
        self._done(step, steps, text, last=step == steps)

    def _done(self, done: int, of: int, text: str, *, last: bool = False) -> None:
        """Tells how much is done, on a terminal as a bar too."""
        filled = min(BAR, BAR * done // max(of, 1))
        self._doing, self._text = "", f"{'━' * filled}{'─' * (BAR - filled)} {text}"
        self._screen.progress(text, last=last)

    def _estimated(self, each: str, seconds: float) -> None:
        """Tells what one piece of the work takes, and the whole."""
        self._screen.say(f"{each}: about {duration(seconds)} in all", "bold")
        if seconds > LONG:
            self._screen.note(f"that is more than an hour: {self.remedies} make it shorter")

    def _now(self) -> str:
        if self._should_stop():
            return "stopping after this step (a second Ctrl-C stops at once)"
        elapsed = time.monotonic() - self._since
        return f"{self._doing}  {duration(elapsed)}" if self._doing else self._text


SHOWN = ("loss", "accuracy")


def shown_metric(name: str, value: float) -> str:
    """Returns `loss 0.412` or `accuracy 78.1 %`."""
    return f"{name} {100 * value:.1f} %" if name == "accuracy" else f"{name} {value:.4g}"


def pace(seconds_per_step: float) -> str:
    """Returns `0.031 s/step`."""
    return f"{seconds_per_step:.3g} s/step" if seconds_per_step == seconds_per_step else "? s/step"


class Trainings(Line):
    """The line of many trainings, or other pieces of work, that are made one after the other.

    Arguments:
        screen, should_stop: as in `Line`.
        planned: the number of steps of each, in order.
    """

    remedies = "fewer --models_to_test, a smaller --width or a GPU"

    def __init__(self, screen: Screen, should_stop: Callable[[], int | None], planned: Sequence[int]):
        super().__init__(screen, should_stop)
        self._planned, self._number = planned, 0
        self.rows: list[Row] = []  # finished ones, which a terminal shows as a table that grows
        self._pure = 0.0  # seconds of finished trainings, compilation left out
        self._began = time.monotonic()

    def above(self) -> Any:
        return table(self.rows) if self.rows else None

    def ends(self, piece: object, facts: Mapping[str, Any]) -> None:
        if isinstance(piece, Row):
            self.rows.append(piece)
            other = f", {piece.architecture}" if piece.architecture != self.rows[0].architecture else ""
            self._screen.finding(f"{label(piece)}{other}: {percent(piece)}")
        else:
            reached = "  ".join(f"{100 * accuracy:.1f}" for accuracy in facts["accuracies"])
            kept = f"test accuracy {reached} % by epoch, the one of epoch {facts['epoch']} is kept"
            self._screen.say(f"{piece} {facts['number'] + 1}: {kept}")

    def begins(self, piece: object, number: int, pieces: int) -> None:
        if self._number:
            self._pure = time.monotonic() - self._began - self.compiling_seconds
        else:
            self._began = time.monotonic()
        self._number = number + 1
        self.doing(f"network {self._number} of {len(self._planned)}")

    def estimate(self, seconds_per_step: float, total_seconds: float) -> None:
        if self._number == 1:
            super().estimate(seconds_per_step, seconds_per_step * sum(self._planned))

    def _step(self, step: int, steps: int, seconds_per_step: float, left: float) -> None:
        before, after = sum(self._planned[: self._number - 1]), sum(self._planned[self._number :])
        overall = self._pure / before if before else seconds_per_step
        left += after * overall
        where = f"network {self._number} of {len(self._planned)}, step {step}/{steps}"
        self._done(before + step, sum(self._planned), f"{where}  {pace(seconds_per_step)}  {duration(left)} left")


class Teaching(Line):
    """The line of a teacher's training.

    Arguments:
        screen, should_stop, steps: as in `Line`.
        told: what is said of it when it begins.
    """

    remedies = "fewer --epochs, a smaller --width or a GPU"
    kept = "the state is kept; the same command continues it"

    def __init__(self, screen: Screen, should_stop: Callable[[], int | None], steps: int, told: str):
        super().__init__(screen, should_stop, steps)
        self._told = told

    def begins(self, piece: object, number: int, pieces: int) -> None:
        self._screen.fact("teacher", self._told)

    def ends(self, piece: object, facts: Mapping[str, Any]) -> None:
        reached = f"loss {facts['loss']:.3f}, test accuracy {100 * facts['accuracy']:.1f} %"
        self._screen.finding(f"epoch {facts['epoch']}: {reached}")


class Chunks(Line):
    """The line of a recovery, chunk after chunk, each in one or several stages.

    Arguments:
        screen, should_stop: as in `Line`.
        planned: steps of each chunk, of all its stages together.
        images: of a chunk.
    """

    remedies = "fewer --iteration, --shard on several machines or a GPU"
    kept = "finished chunks and the state are kept; the same command continues"

    def __init__(self, screen: Screen, should_stop: Callable[[], int | None], planned: Sequence[int], images: int):
        super().__init__(screen, should_stop, sum(planned))
        self._planned, self._images = planned, images
        self._number, self._before, self._told = 0, 0, False  # of the chunk; steps of finished stages; the estimate

    def begins(self, piece: object, number: int, pieces: int) -> None:
        if isinstance(piece, str):  # the choice of initial images
            self.doing(f"choosing {piece} {number + 1} of {pieces}")
        else:
            self._number, self._before = number, sum(self._planned[:number])
            self.doing(f"{piece}, {number + 1} of {pieces}")

    def ends(self, piece: object, facts: Mapping[str, Any]) -> None:
        self._screen.progress(f"{piece}: {duration(facts['seconds'])}  {_numbers(facts['losses'])}", last=True)

    def estimate(self, seconds_per_step: float, total_seconds: float) -> None:
        if not self._told:
            self._told = True
            left = seconds_per_step * (self._steps - self._before)
            self._estimated(f"{1000 * seconds_per_step / self._images:.3g} ms per image-iteration", left)

    def resumed(self, step: int) -> None:
        self._screen.say(f"continuing chunk {self._number + 1} after {step} iterations of its stage")

    def _step(self, step: int, steps: int, seconds_per_step: float, left: float) -> None:
        done = self._before + step
        left = seconds_per_step * (self._steps - done)
        where = f"chunk {self._number + 1} of {len(self._planned)}, step {step}/{steps}"
        self._done(done, self._steps, f"{where}  {_numbers(self._metrics)}  {duration(left)} left")

    def finished(self, step: int) -> None:
        self._before += step  # a stage


class Epochs(Line):
    """The line of a labelling, epoch after epoch.

    Arguments:
        screen, should_stop: as in `Line`.
        epochs: how many there are.
    """

    remedies = "fewer --epochs, --keep_epochs or a GPU, or no stored labels at all,"
    kept = "finished epochs are kept; the same command continues"

    def __init__(self, screen: Screen, should_stop: Callable[[], int | None], epochs: int):
        super().__init__(screen, should_stop, epochs)
        self._first: tuple[int, float] | None = None  # the first new epoch, and when it was ready

    def estimate(self, seconds_per_step: float, total_seconds: float) -> None:
        """Says nothing: `ends` tells how long one epoch takes."""

    def _step(self, step: int, steps: int, seconds_per_step: float, left: float) -> None:
        """Says nothing within an epoch."""

    def ends(self, piece: object, facts: Mapping[str, Any]) -> None:
        epoch, share = facts["number"], facts["own_class"]
        first, began = self._first = self._first or (epoch, time.monotonic())
        made, left = epoch - first, self._steps - epoch - 1
        each = (time.monotonic() - began) / made if made else float("nan")
        if made == 1 and each * left > LONG:
            self._screen.note(f"about {duration(each * left)} are left: {self.remedies} make it shorter")
        text = f"epoch {epoch + 1}/{self._steps}  own class {100 * share:.1f} %  {duration(each * left)} left"
        self._done(epoch + 1, self._steps, text, last=not left)


def _numbers(named: Mapping[str, float]) -> str:
    """Returns `ce 2.58  loss 2.94`."""
    return "  ".join(f"{name} {value:.4g}" for name, value in named.items())


def label(row: Row) -> str:
    """Returns the name of what a row was trained on."""
    return f"{row.name} + augmentation" if row.augmented else row.name


def percent(row: Row) -> str:
    """Returns `53.9 +- 1.0 %`."""
    return f"{100 * row.mean:.1f} +- {100 * row.std:.1f} %"


def table(rows: Sequence[Row]) -> rich.table.Table:
    """Returns the rows with mean, standard deviation and every run; architectures and best tests where there are
    several."""
    several, tested = len({row.architecture for row in rows}) > 1, any(row.best for row in rows)
    mixed = len({row.augmented for row in rows}) > 1  # else the head says how all were trained
    shown = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
    shown.add_column("trained on")
    if several:
        shown.add_column("network")
    shown.add_column("test accuracy", justify="right")
    if tested:
        shown.add_column("best test", justify="right")
    shown.add_column("each network")
    for row in rows:
        runs = "  ".join(f"{100 * accuracy:.1f}" for accuracy in row.runs)
        ours = row.name == rows[0].name
        best = percent(dataclasses.replace(row, runs=row.best)) if row.best else ""
        name = label(row) if mixed else row.name
        cells = (name, *[row.architecture] * several, percent(row), *[best] * tested, runs)
        shown.add_row(*cells, style="bold" if ours else "")
    return shown
