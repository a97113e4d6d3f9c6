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
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Generic, Literal, NamedTuple, Protocol, TypeVar

import flax.linen as nn
import numpy as np

from jaxdd.core import backend
from jaxdd.core.config import Implied
from jaxdd.core.distilled import DistilledSet, Space
from jaxdd.core.random import purpose_key
from jaxdd.core.types import Array, Examples, Key, Metrics, PyTree

State = TypeVar("State")


@dataclasses.dataclass(frozen=True)
class BatchRule:
    """The rule by which a step's batch is drawn.

    Arguments:
        kind: `uniform` (`size` examples without replacement within a step), `class` (`size` examples of every class),
            `all` (the whole resident set, in order) or `stream` (the resident set, with what the run's stream has for
            the step in place of the fields that it names).
        size: number of examples (per class for `class`); unused for `all`.
    """

    kind: Literal["uniform", "class", "all", "stream"] = "uniform"
    size: int = 0


@dataclasses.dataclass(frozen=True)
class Event:
    """Something that happens every `period` steps only: a pure state-to-state function, jitted on its own.

    Arguments:
        name: shown in the log.
        period: it runs before every step whose number is a multiple of `period` (step 0 included).
        apply: `(state, data, key) -> state`.
        times: how often in a row, each time with a key of its own.
    """

    name: str
    period: int
    apply: Callable[[PyTree, Examples, Key], PyTree]
    times: int = 1


@dataclasses.dataclass(frozen=True)
class Part:
    """A stretch of a step: a pure state-to-state function that runs several times in a row.

    Arguments:
        name: shown in the log; decides the key.
        times: how often.
        apply: `(state, batch, key, index) -> state`; `index` counts from 0, an int32 scalar. The key is the same every
            time, so that choices need not depend on how often it is: `index` is folded in where they should.
    """

    name: str
    times: int
    apply: Callable[[PyTree, Any, Key, Array], PyTree]

    def key(self, step: Key) -> Key:
        """Returns the key of this part, from that of the step."""
        return purpose_key(step, self.name)


class Procedure(abc.ABC, Generic[State]):
    """Three pure functions; see the module's header. Subclasses are frozen dataclasses and are never subclassed
    themselves.

    Attributes:
        per_device: names of the state's parts whose leading axis may lie on the devices one by one (`core.sharding`).
    """

    per_device: ClassVar[tuple[str, ...]] = ()

    @property
    @abc.abstractmethod
    def batch_rule(self) -> BatchRule:
        """The rule by which a step's batch is drawn from the resident data."""

    @abc.abstractmethod
    def init(self, key: Key, data: Examples) -> State:
        """Returns the state before step 0."""

    @abc.abstractmethod
    def step(self, state: State, batch: Examples, key: Key) -> tuple[State, Metrics]:
        """Returns one step. Pure, jittable; `key` is a function of (seed, step) alone."""

    @abc.abstractmethod
    def result(self, state: State) -> Any:
        """Returns the result so far."""

    def events(self, data: Examples) -> tuple[Event, ...]:
        """Returns the events that happen only every k steps.

        Arguments:
            data: what the run reads, or its shapes.
        """
        return ()

    def parts(self, data: Examples) -> tuple[Part, ...]:
        """Returns the parts of a step that is several stretches; then `step` is `in_parts`.

        One program of the whole step is best for accelerators. A CPU is better served by a small program for each
        part, which the loop dispatches as often as the part says: nothing then stands inside a loop of XLA's.

        Arguments:
            data: what the run reads, or its shapes.
        """
        return ()

    def metrics(self, state: State) -> Metrics:
        """Returns the metrics after a step, for procedures that have `parts`."""
        return {}


def in_parts(procedure: Procedure[State], state: State, batch: Examples, key: Key) -> tuple[State, Metrics]:
    """Returns one step of a procedure that has `parts`, as one program."""
    for part in procedure.parts(batch):

        def once(i: Array, state: State, part: Part = part) -> State:
            return part.apply(state, batch, part.key(key), i)

        state = backend.loop(part.times, once, state)
    return state, procedure.metrics(state)


class Demand(NamedTuple):
    """The memory that one step needs on each device beside the state and the data: an estimate from shapes alone.

    Arguments:
        bytes: at the most that it holds at a time; 0 if the method does not tell.
        note: how memory is kept bounded, e.g. `chunks of 125 images`; empty if it need not be.
        remedy: which settings would lower it.
    """

    bytes: int = 0
    note: str = ""
    remedy: str = "lower n_images, batch_size or width"


class Method(Procedure[State]):
    """A procedure whose result is a distilled set: what commands and `jaxdd.distill` take.

    Here a method says all that they need to know of it; they ask for no method by name.

    Attributes:
        family: whose normalisation constants it uses, a key of `data.registry.CONSTANTS`.
        n_images: images per class of its result (ipc): a setting that every method has.
        memory_limit: GB of each device's memory that a run may use; a setting where a method has it, None for all.
    """

    family: ClassVar[str] = "rcig"
    n_images: int
    memory_limit: float | None = None

    @property
    def kind(self) -> Space | None:
        """The space that its images live in; None for the family's own."""
        return None

    @abc.abstractmethod
    def result(self, state: State) -> DistilledSet:
        """Returns the set distilled so far; what it means (data set, preprocessing, recipe) is added to it later."""

    @abc.abstractmethod
    def describe(self, image_shape: tuple[int, int, int], classes: int) -> str:
        """Describes the networks in one line, e.g. `ConvNet, depth 3, width 128, pool of 30`.

        Raises:
            JaxddError: it cannot work with images of this shape.
        """

    @classmethod
    def implied(cls, values: Mapping[str, Any]) -> Implied:
        """Returns the settings that those of a config file, flags included, imply.

        Arguments:
            values: as given; types and ranges are not checked yet.
        """
        return Implied({})

    @property
    def needs_float64(self) -> bool:
        """Whether it makes float64 arrays, which JAX refuses by default."""
        return False

    def notices(self) -> tuple[str, ...]:
        """Returns notices about these settings for the user."""
        return ()

    def demand(self, image_shape: tuple[int, int, int], classes: int) -> Demand:
        """Returns the memory that one step needs, for dry runs and for refusing early what cannot fit."""
        return Demand()

    @property
    def protocol(self) -> str:
        """The protocol by which its set is evaluated, unless told otherwise."""
        return "rcig"

    def recipe(self, protocol: str) -> dict[str, Any]:
        """Returns the settings of an evaluation recipe that follow from the method's own: networks of its size.

        Arguments:
            protocol: of the recipe.
        """
        sizes = {name: getattr(self, name, None) for name in ("width", "depth")}
        return {name: size for name, size in sizes.items() if size is not None}

    def outline(self) -> Method[State]:
        """Returns the same state and step for a dry run, without what only takes long to trace."""
        return self


def by_name(value: Any) -> Any:
    """Returns the settings of a procedure by name, with those of all that it is made of; JSON types.

    Raises:
        TypeError: a setting has no form in JSON.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): by_name(inner) for key, inner in value.items()}
    if isinstance(value, tuple | list):
        return [by_name(inner) for inner in value]
    if isinstance(value, nn.Module):
        names = [field.name for field in dataclasses.fields(value) if field.name not in ("parent", "name")]
        return {"module": type(value).__name__, **{name: by_name(getattr(value, name)) for name in names}}
    if dataclasses.is_dataclass(value):
        return {field.name: by_name(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return np.dtype(value).name  # or a TypeError


class Runner(Protocol):
    """How floors below `run/` have a procedure driven: the loop itself, handed in by the caller."""

    def __call__(self, procedure: Procedure, data: Examples, *, steps: int, seed: int, stream: Any = None) -> Any:
        """Runs `steps` steps and returns `procedure.result(state)`; `stream` as its batch rule asks for one."""
        ...
