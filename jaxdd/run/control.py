"""Who hears about a run, what ends it early, and on which devices it lies: `Control`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from jaxdd.run.devices import Layout
from jaxdd.run.progress import Reporter


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
