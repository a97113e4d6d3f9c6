"""A command at work: its first and last words, and what takes its time before anything is computed."""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from jaxdd import __version__
from jaxdd.cli.flags.words import typed
from jaxdd.cli.screen.progress import Line
from jaxdd.cli.screen.screen import Screen
from jaxdd.core.errors import JaxddError
from jaxdd.data import Dataset, LargeDataset
from jaxdd.run import signals

S = TypeVar("S")
T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Session:
    """A command at work.

    Arguments:
        screen: where it is shown.
        should_stop: names a signal that was received.
    """

    screen: Screen
    should_stop: Callable[[], int | None]

    def header(self, what: str, *, notices: Sequence[str] = (), **facts: object) -> None:
        """Says what is going to be done, `facts` of it by name, and what the user should know."""
        self.screen.fact("jaxdd", f"{__version__}   {what}", "bold")
        self.screen.facts(**facts)
        for notice in notices:
            self.screen.note(typed(notice))

    def begin(self, start: Callable[[], S], read: Callable[[], T]) -> tuple[S, T]:
        """Starts JAX, then reads the data; returns what both give."""
        line = Line(self.screen, self.should_stop)
        with line.shown():
            line.doing("starting JAX")
            started = start()
            line.doing("reading the data")
            return started, read()

    def advise(self, command: str, **flags: Any) -> None:
        """Names the command that goes on from here, with those of its flags that have a value."""
        words = [word for name, value in flags.items() if value for word in (f"--{name}", str(value))]
        self.screen.fact("next", typed(f"`{command}` {shlex.join(words)}"))


@contextlib.contextmanager
def opened(screen: Screen | None = None, *, interruptible: bool = True) -> Iterator[Session]:
    """Opens a command at work; errors are kept in its log too.

    Arguments:
        screen: where it is shown; None for the terminal.
        interruptible: whether signals are heeded when it suits the work, and not at once.
    """
    screen = screen or Screen()
    heard = signals.caught() if interruptible else contextlib.nullcontext(lambda: None)
    try:
        with heard as should_stop:
            yield Session(screen, should_stop)
    except JaxddError as error:
        screen.record(f"error: {typed(str(error))}")
        raise
    finally:
        screen.close()


def data_line(dataset: Dataset, space: str) -> str:
    """Returns `digits: 1438 train and 359 test images, 8x8x1, 10 classes, standardised`."""
    shape = "x".join(map(str, dataset.image_shape))
    counts = f"{len(dataset.train_images)} train and {len(dataset.test_images)} test images"
    streamed = ", streamed" * isinstance(dataset, LargeDataset)
    return f"{dataset.name}: {counts}, {shape}, {dataset.classes} classes, {space}{streamed}"
