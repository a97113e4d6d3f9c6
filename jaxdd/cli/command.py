"""A command at work: its first and last words, signals, and what takes its time before anything is computed.

A command is a dialect (`cli.flags`), a function of `cli.settings`, and a module of `cli.commands` that makes jobs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import shlex
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar

import jax

from jaxdd import __version__
from jaxdd.cli.flags.dialect import typed
from jaxdd.cli.screen.progress import Line
from jaxdd.cli.screen.screen import Screen
from jaxdd.core import backend
from jaxdd.core.errors import JaxddError, Notice, UsageError
from jaxdd.data import Dataset, LargeDataset
from jaxdd.run import control
from jaxdd.run.devices import Layout, choose, several_processes

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

    def begin(
        self, devices: int | str | None, read: Callable[[], T], mode: Literal["shard", "pool"] = "shard"
    ) -> tuple[Layout, str, T]:
        """Starts JAX, then reads the data; returns how a run lies on the devices, that in words, and what was read.

        Arguments:
            devices: how many, or all; None for one.
            read: reads.
            mode: as in `run.devices.Layout`.

        Raises:
            UsageError: fewer devices are there.
        """
        line = Line(self.screen, self.should_stop)
        with line.shown():
            line.doing("starting JAX")
            with contextlib.suppress(OSError):  # a home folder that cannot be written to: compile every time
                backend.use_compilation_cache()
            layout = Layout(tuple(choose(devices)), mode)
            line.doing("reading the data")
            return layout, _in_words(layout), read()

    def advise(self, command: str, **flags: Any) -> None:
        """Names the command that goes on from here, with those of its flags that have a value."""
        words = [word for name, value in flags.items() if value for word in (f"--{name}", str(value))]
        self.screen.fact("next", typed(f"`{command}` {shlex.join(words)}"))


@dataclasses.dataclass(frozen=True)
class Job:
    """Work whose arguments were checked.

    Arguments:
        what: it, in a few words.
        work: does it and tells of it.
        notices: what the user should know before it begins.
        facts: more to say before, by name.
        interruptible: whether signals are heeded when it suits the work, and not at once.
        shown: whether this process tells of it; of several processes one does.
    """

    what: str
    work: Callable[[Session], None]
    notices: Sequence[str] = ()
    facts: Mapping[str, object] = dataclasses.field(default_factory=dict)
    interruptible: bool = True
    shown: bool = True

    def perform(self) -> None:
        """Says what is going to be done, and does it; errors are kept in its log too.

        Raises:
            JaxddError: anything a user can mend.
            Stopped: by a signal.
        """
        screen = Screen(None if self.shown else io.StringIO())
        heard = control.caught() if self.interruptible else contextlib.nullcontext(lambda: None)
        try:
            with heard as should_stop, warnings.catch_warnings():
                warnings.showwarning = _noting(screen, warnings.showwarning)
                screen.fact("jaxdd", f"{__version__}   {self.what}", "bold")
                screen.facts(**self.facts)
                for notice in self.notices:
                    screen.note(typed(notice))
                self.work(Session(screen, should_stop))
        except JaxddError as error:
            screen.record(f"error: {typed(str(error))}")
            raise
        finally:
            screen.close()


def _noting(screen: Screen, otherwise: Callable[..., Any]) -> Callable[..., None]:
    """Returns how warnings are shown: those that are a `Notice` as a note on the screen."""

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, Notice):
            screen.note(typed(str(message)))
        else:
            otherwise(message, category, *where, **more)

    return show


def _in_words(layout: Layout) -> str:
    """Returns `cpu (2 cores), jax 0.10.2`, and the like."""
    first, count = layout.devices[0], len(layout.devices)
    name = f"cpu ({os.cpu_count()} cores)" if first.platform == "cpu" else first.device_kind
    several = f", {jax.process_count()} processes" if several_processes() else ""
    mode = f", {layout.mode}" if layout.several else ""
    return (f"{count} x " if layout.several else "") + f"{name}, jax {jax.__version__}{mode}{several}"


def require_one_device(devices: int | str | None) -> None:
    """Refuses several devices for what runs on one.

    Raises:
        UsageError: more are asked for.
    """
    if devices not in (None, 1):
        raise UsageError(
            "networks are evaluated on one device",
            where=f"--devices {devices}",
            remedy="leave --devices out; start one command per device for different sets or seeds",
        )


def data_line(dataset: Dataset, space: str) -> str:
    """Returns `digits: 1438 train and 359 test images, 8x8x1, 10 classes, standardised`."""
    shape = "x".join(map(str, dataset.image_shape))
    counts = f"{len(dataset.train_images)} train and {len(dataset.test_images)} test images"
    streamed = ", streamed" * isinstance(dataset, LargeDataset)
    return f"{dataset.name}: {counts}, {shape}, {dataset.classes} classes, {space}{streamed}"
