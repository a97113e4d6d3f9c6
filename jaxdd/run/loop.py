"""THE loop: it owns time. Steps, events, metrics, observers, checkpoints and stopping happen here only.

What a step reads is drawn inside its program (`programs`), by step number; the matching methods draw for themselves.

Step numbers count finished steps, except as the argument of a key: step `i` (from 0) samples with
`key_for(seed, "batch", i)` and runs with `key_for(seed, "step", i)`; an event before it, with `"event/<name>"`. Nothing
else is random and nothing else enters a program, so on CPU a run that was stopped and continued is bit-equal to one
that was not; on a GPU, as far as XLA chooses the same kernels again.

One dispatch is always under way while the host looks at the one before it: the device never waits for metrics, and a
signal never waits for more than two dispatches (three where several processes run together: they vote on it within a
dispatch). No transfer is hidden in a dispatch: what a program reads is put on its devices before, or it is an error.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import jax
import numpy as np

from jaxdd.core import backend, trees
from jaxdd.core.errors import DivergedError, UsageError
from jaxdd.core.procedure import Procedure
from jaxdd.core.types import Array, Examples, Metrics, PyTree
from jaxdd.data.streaming import Feed, Stream
from jaxdd.run import devices
from jaxdd.run.control import Pace, Reporter, Stopped
from jaxdd.run.devices import Layout, choose
from jaxdd.run.programs import Program, Programs, Repeated, Turns, programs_for, template
from jaxdd.run.storage.checkpoint import Storage


class Observer(Protocol):
    """A look at the result so far. `result` may share the state's buffers: copy what is kept beyond the call."""

    def __call__(self, step: int, result: Any, metrics: Mapping[str, float]) -> None:
        """Looks at a result; `metrics` are those of the last finished step, and none at step 0."""


def run(procedure: Procedure, data: Examples, *, steps: int, seed: int, **options: Any) -> Any:
    """Drives `procedure` for `steps` steps and returns `procedure.result` of the last state.

    Arguments:
        procedure, data, steps, seed, options: as in `final_state`.

    Raises:
        DivergedError, UsageError, CheckpointError, Stopped: as in `final_state`.
    """
    state, _ = final_state(procedure, data, steps=steps, seed=seed, **options)
    return procedure.result(state)


def final_state(
    procedure: Procedure,
    data: Examples,
    *,
    steps: int,
    seed: int,
    observers: Iterable[Observer] = (),
    observe_at: Iterable[int] = (),
    storage: Storage | None = None,
    log_every: int = 100,
    should_stop: Callable[[], int | None] | None = None,
    reporter: Reporter | None = None,
    steps_per_dispatch: int | None = None,
    layout: Layout | None = None,
    stream: Stream | None = None,
) -> tuple[PyTree, int]:
    """Drives `procedure` until `steps` steps are finished, continuing what `storage` holds.

    Arguments:
        procedure: what to run; it is compiled once per process for data of one shape.
        data: the resident examples.
        steps: number of steps in all, those of earlier runs in the same storage included.
        seed: 0 <= seed < 2**32.
        observers: called at `observe_at` and after the last step.
        observe_at: numbers of finished steps; 0 is the initial state. A run that goes on from such a step calls them
            once more, with what was logged there: the signal that stopped it may have come in between.
        storage: the opened output folder; None keeps everything in memory.
        log_every: metrics of every `log_every`-th step, and of the last one, are fetched, checked and reported.
        should_stop: asked at every step boundary; a signal number ends the run there, saved.
        reporter: hears about progress.
        steps_per_dispatch: steps in one compiled program; None decides by device.
        layout: how the run lies on several devices; None for one device, or all those of several processes.
        stream: what a procedure whose batch rule is `stream` reads beside `data`.

    Returns:
        The state on its devices, and the number of finished steps: more than `steps` if the storage was further.

    Raises:
        DivergedError: a logged metric, or the state about to be saved or observed, is not finite.
        UsageError: `steps`, `seed` or `log_every` is out of range, the procedure cannot be laid out so, or it has a
            stream and asks for none, or the other way round.
        ConfigError: the networks of the procedure cannot be shared out among the devices.
        CheckpointError: the storage holds no usable state of this run.
        Stopped: `should_stop` named a signal.
    """
    _require_range("steps", steps, 0, 2**31)
    _require_range("seed", seed, 0, 2**32)
    _require_range("log_every", log_every, 1, 2**31)
    layout = layout or Layout(tuple(choose()))
    per_dispatch = steps_per_dispatch or backend.steps_per_dispatch()
    feed = Feed(stream, procedure, per_dispatch, layout.put, apart=layout.several and layout.mode == "pool")
    data = layout.put(data)
    course = _Course(
        procedure=procedure,
        programs=programs_for(procedure, data, per_dispatch, layout, feed.kind),
        layout=layout,
        data=data,
        feed=feed,
        steps=steps,
        seed=layout.put(np.uint32(seed)),
        observers=tuple(observers),
        observe_at=frozenset((*observe_at, steps)),
        storage=storage,
        log_every=log_every,
        reporter=reporter or Reporter(),
        should_stop=should_stop or (lambda: None),
    )
    with backend.quiet_blas(), contextlib.closing(feed):
        course.begin()
        while course.step < steps:
            signal = course.signal()
            if signal:
                course.save()
                course.reporter.stopped(course.step, signal)
                raise Stopped(signal, course.step)
            course.advance()
        course.save()
    course.reporter.finished(course.step)
    return course.state, course.step


def _require_range(name: str, value: int, low: int, high: int) -> None:
    if not low <= value < high:
        raise UsageError(
            f"{name} is out of range",
            where=f"{name} = {value}",
            expected=f"{low} to {high - 1}",
            remedy=f"give {name} a value in that range",
        )


@dataclasses.dataclass
class _Course:
    """One run under way: the state on the device and how far it has come."""

    procedure: Procedure
    programs: Programs
    layout: Layout
    data: Examples
    feed: Feed
    steps: int
    seed: Array
    observers: tuple[Observer, ...]
    observe_at: frozenset[int]
    storage: Storage | None
    log_every: int
    reporter: Reporter
    should_stop: Callable[[], int | None]
    state: PyTree = None
    step: int = 0
    begun_at: int = 0  # the step this run started or continued from
    finite_at: int = 0  # the last step whose metrics were seen to be finite
    in_flight: tuple[int, Metrics, Array] | None = None  # step, metrics and end of the newest dispatch
    voted: tuple[int, int] = (0, 0)  # signal and whether to save, as several processes agreed on them
    pace: Pace = dataclasses.field(default_factory=Pace)

    def begin(self) -> None:
        """Restores the newest state of the storage, or makes the initial one."""
        if self.storage is not None:
            shapes = template(self.procedure, self.data)
            places = self.layout.of_state(self.procedure, shapes)
            saved = self.storage.load(shapes, self.reporter.warning, places)
            if saved is not None:
                self.step, self.state = saved
                self.begun_at = self.finite_at = self.step
                self.reporter.resumed(self.step)
                if self.step in self.observe_at:
                    self._observe(self.storage.metrics.at(self.step))
                return
        self.programs.init.ready(self.reporter, self.data, self.seed)
        with jax.transfer_guard("disallow"):
            self.state = self.programs.init(self.data, self.seed)
        if 0 in self.observe_at:
            self._observe({})

    def signal(self) -> int | None:
        """Returns the number of the signal that ends the run here, if one does."""
        return self.voted[0] if devices.several_processes() else self.should_stop()

    def advance(self) -> None:
        """Makes one dispatch: from here to the next boundary."""
        boundary = self._next_boundary()
        start, stop = self.layout.put((np.int32(self.step), np.int32(boundary)))
        for period, program in zip(self.programs.periods, self.programs.events, strict=True):
            if self.step % period == 0:
                self.state = self._call(program, start)
        streamed, votes = self.feed(self.step, boundary), self._votes()
        others = (streamed, *votes) if streamed or votes else ()  # () as in a dry run, which shares the programs
        self.state, metrics, end = self._call(self.programs.advance, start, stop, *others)
        self._settle()
        self.step, self.in_flight = boundary, (boundary, metrics, end)
        if self.step in self.observe_at:
            self._observe(self._settle())
        if self.storage is not None and (self.voted[1] if devices.several_processes() else self.storage.due()):
            self.save()

    def save(self) -> None:
        """Writes a checkpoint, unless this step is on disk already or there is no storage."""
        self._settle()
        self.voted = (self.voted[0], 0)
        if self.storage is None or self.step in (0, self.storage.saved_step):
            return
        with self.pace.paused():
            self._require_finite("no checkpoint was written")
            self.reporter.saving(self.step)
            start = time.perf_counter()
            self.storage.save(self.step, self.state)
        self.reporter.saved(self.step, time.perf_counter() - start)

    def _next_boundary(self) -> int:
        """Returns the first step after this one at which the host has something to do, or a full dispatch ends."""
        periods = (self.log_every, *self.programs.periods)
        marks = [self.steps, self.step + self.programs.steps_per_dispatch]
        marks += [self.step - self.step % period + period for period in periods]
        return min(marks + [step for step in self.observe_at if step > self.step])

    def _call(self, program: Program | Repeated | Turns, *others: Any) -> Any:
        arguments = (self.state, self.data, self.seed, *others)
        with self.pace.paused():
            program.ready(self.reporter, *arguments)
        with jax.transfer_guard("disallow"):
            return program(*arguments)

    def _votes(self) -> tuple[Array, ...]:
        """Returns this process's votes on stopping and saving; none where there is no other process."""
        if not devices.several_processes():
            return ()
        due = self.storage is not None and self.storage.due()
        return (devices.voted((self.should_stop() or 0, int(due)), self.layout.mesh),)

    def _settle(self) -> dict[str, float]:
        """Waits for the newest dispatch and reports it; returns its metrics if they were wanted on the host."""
        if self.in_flight is None:
            return {}
        (step, on_device, end), self.in_flight = self.in_flight, None
        jax.block_until_ready(end)
        if devices.several_processes():
            signal, save = jax.device_get(end)
            self.voted = (int(signal), int(save))
        if self.pace.mark(step):
            per_step = self.pace.seconds_per_step
            self.reporter.estimate(per_step, per_step * (self.steps - self.begun_at))
        logged = step % self.log_every == 0 or step == self.steps
        metrics = self._fetch(step, on_device) if logged or step in self.observe_at else {}
        if logged and self.storage is not None and devices.first_process():
            self.storage.metrics.write(step, metrics)
        if logged or self.pace.ticked():
            per_step = self.pace.seconds_per_step
            self.reporter.progress(
                step, self.steps, metrics if logged else {}, per_step, per_step * (self.steps - step)
            )
        return metrics

    def _fetch(self, step: int, on_device: Metrics) -> dict[str, float]:
        metrics = {name: float(value) for name, value in jax.device_get(on_device).items()}
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise DivergedError(
                    f"metric '{name}' is {value}",
                    where=f"steps {self.finite_at + 1} to {step}",
                    expected="a finite number",
                    remedy=self._remedy(),
                )
        self.finite_at = step
        return metrics

    def _observe(self, metrics: Mapping[str, float]) -> None:
        if not self.observers:
            return
        with self.pace.paused():
            self._require_finite("no result was handed on")
            result = self.procedure.result(self.state)
            for observer in self.observers:
                observer(self.step, result, metrics)

    def _require_finite(self, consequence: str) -> None:
        """Refuses a state with a NaN, which must never reach a file: one fused check on the device, one small read."""
        finite = jax.device_get(self.programs.finite(self.state))
        bad = [path for (path, _), good in zip(trees.paths(self.state), finite, strict=True) if not good]
        if bad:
            raise DivergedError(
                f"'{bad[0]}' in the state is not finite; {consequence}",
                where=f"step {self.step}, {len(bad)} of {len(finite)} arrays",
                remedy=self._remedy(),
            )

    def _remedy(self) -> str:
        kept = self.storage.saved_step if self.storage is not None else None
        advice = "lower the learning rate or look at the step named"
        return advice if kept is None else f"{advice}; the state of step {kept} is still in the output folder"
