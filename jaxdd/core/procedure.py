"""`Procedure`: what everything that runs is. Three pure functions, as an optax transformation is two.

    init(key, data)          -> state     one pytree that holds everything
    step(state, batch, key)  -> state, metrics
    result(state)            -> what the procedure is for: a distilled set, trained variables, ...

A procedure is a frozen dataclass whose fields are its hyper-parameters. It owns no loop, no file and no print:
`run.loop` drives it, and because state is one pytree, checkpointing, resuming, sharding and buffer donation need to
know nothing about the method.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, Generic, Literal, Protocol, TypeVar

from jaxdd.core.types import Examples, Key, Metrics, PyTree

State = TypeVar("State")


@dataclasses.dataclass(frozen=True)
class BatchRule:
    """What one step reads.

    Arguments:
        kind: `uniform` (`size` examples without replacement within a step), `class` (`size` examples of every class)
            or `all` (the whole resident set, in order).
        size: number of examples (per class for `class`); unused for `all`.
    """

    kind: Literal["uniform", "class", "all"] = "uniform"
    size: int = 0


@dataclasses.dataclass(frozen=True)
class Event:
    """Something that happens every `period` steps only: a pure state-to-state function, jitted on its own.

    Arguments:
        name: shown in the log.
        period: it runs before every step whose number is a multiple of `period` (step 0 included).
        apply: `(state, data, key) -> state`.
    """

    name: str
    period: int
    apply: Callable[[PyTree, Examples, Key], PyTree]


class Procedure(abc.ABC, Generic[State]):
    """See the module's header. Subclasses are frozen dataclasses and are never subclassed themselves."""

    @property
    @abc.abstractmethod
    def batch_rule(self) -> BatchRule:
        """What one step reads from the resident data."""

    @abc.abstractmethod
    def init(self, key: Key, data: Examples) -> State:
        """The state before step 0."""

    @abc.abstractmethod
    def step(self, state: State, batch: Examples, key: Key) -> tuple[State, Metrics]:
        """One step. Pure, jittable; `key` is a function of (seed, step) alone."""

    @abc.abstractmethod
    def result(self, state: State) -> Any:
        """What the procedure has made so far."""

    def events(self) -> tuple[Event, ...]:
        """What happens only every k steps."""
        return ()


class Runner(Protocol):
    """How floors below `run/` have a procedure driven: the loop itself, handed in by the caller."""

    def __call__(self, procedure: Procedure, data: Examples, *, steps: int, seed: int) -> Any:
        """Runs `steps` steps and returns `procedure.result(state)`."""
        ...
