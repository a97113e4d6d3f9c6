"""`Storage`: the output folder of one run, which survives being killed at any moment and finds every damaged byte.

    config.json            the run's identity (what its numbers depend on) and the rest (what they do not)
    checkpoints/<step>/    one state as Orbax writes it, and manifest.json: a sha256 of every file, written last
    checkpoints/newest     number of the newest step whose manifest was written
    metrics.jsonl          every logged step once
    log.txt                left to cli/
    .lock                  held while the folder is open: there is one writer

Orbax makes a directory appear whole or not at all, but it does not look at contents: nine of ten flipped bits load
silently. So a step counts only with its manifest. Saving is synchronous: the state may be donated to the next step as
soon as `save` returns, and no step is ever made beyond a checkpoint that may still fail. (On 2 cores 0.1 s for 1 MB,
0.3 s for 60 MB and 2.1 s for 600 MB: under 1 % of the default interval.)

Where several processes make one run, all of them open the same folder (on a disk that they share) and save and load at
the same steps: process 0 holds the lock and does everything but give Orbax the other processes' part of the arrays.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import pathlib
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

import jaxdd
from jaxdd.core import io, shards, trees
from jaxdd.core.errors import CheckpointError, UsageError
from jaxdd.core.io import gigabytes
from jaxdd.core.trees import describe, differences
from jaxdd.core.types import PyTree
from jaxdd.run import devices
from jaxdd.run.storage import identity as identities


class MetricsFile:
    """`metrics.jsonl`: `{"step": 100, "loss": 0.5, ...}` per line, every step once, also in a run that was resumed.

    Arguments:
        path: the file.
        tensorboard: folder for TensorBoard events; None writes none.

    Raises:
        UsageError: TensorBoard is asked for, but tensorboardX is not installed.
    """

    def __init__(self, path: str | os.PathLike, tensorboard: str | os.PathLike | None = None):
        self._path, self._tensorboard = pathlib.Path(path), tensorboard
        self._events: Any = None
        self._first = 1  # the first step not yet written
        if tensorboard is not None and importlib.util.find_spec("tensorboardX") is None:
            raise UsageError(
                "TensorBoard events need tensorboardX", where="`tensorboard`", remedy="pip install 'jaxdd[tensorboard]'"
            )

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Appends one line in one system call, so a killed process leaves at most one torn line, at the end."""
        line = io.to_line({"step": step, **values})
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)
        if self._tensorboard is not None:
            self._write_events(step, values)

    def at(self, step: int) -> dict[str, float]:
        """Returns the last line's values if it is that of `step`, else none."""
        last = (io.of_line(self._lines()[-1]) if self._lines() else None) or {}
        return {name: value for name, value in last.items() if name != "step"} if last.get("step") == step else {}

    def drop_after(self, step: int) -> int:
        """Removes the lines after `step`, which will be computed again, and a torn one.

        Returns:
            How many others were damaged, which are removed too.
        """
        self._first = step + 1
        lines = self._lines()
        steps = [_step_of(line) for line in lines]
        if any(of is None or of > step for of in steps):
            kept = [line for line, of in zip(lines, steps, strict=True) if of is not None and of <= step]
            io.write_atomically(self._path, "".join(kept))
        return sum(of is None and line.endswith("\n") for line, of in zip(lines, steps, strict=True))

    def _lines(self) -> list[str]:
        return self._path.read_text(errors="replace").splitlines(keepends=True) if self._path.is_file() else []

    def close(self) -> None:
        """Flushes the TensorBoard events."""
        if self._events is not None:
            self._events.close()
            self._events = None

    def _write_events(self, step: int, values: Mapping[str, float]) -> None:
        if self._events is None:
            import tensorboardX  # half a second, and an extra

            self._events = tensorboardX.SummaryWriter(str(self._tensorboard), purge_step=self._first)
        for name, value in values.items():
            self._events.add_scalar(name, value, step)


def _step_of(line: str) -> int | None:
    """Returns the step of one line; None for a line that is not whole."""
    step = (io.of_line(line) or {}).get("step")
    return step if isinstance(step, int) else None


FORMAT = 1
KEPT = 2  # states on disk
GONE = ".checkpoints-discarded"  # states that are being removed: they do not count any more
FILES = ("config.json", "metrics.jsonl", "tests.jsonl", "evaluations.jsonl")  # of a run, beside its states


class Storage:
    """One run's output folder; use it as a context, and pass it to `loop.run` inside.

    Arguments:
        folder: created if it is not there.
        identity: what the run's numbers depend on (method, settings, data set, seed, ...), JSON values; a folder with
            another identity is refused.
        other: what they do not depend on (number of steps, devices, log options); remembered only.
        checkpoint_every: minutes between two checkpoints; 0 writes one after every dispatch.
        tensorboard: also write TensorBoard events, into `tensorboard/`.

    Attributes:
        folder: its absolute path.
        saved_step: step of the newest good checkpoint, or None.
        metrics: the metrics file.

    Raises:
        CheckpointError: on entering: the folder cannot be written, is in use, or belongs to another run.
        UsageError: TensorBoard is asked for and not installed.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        identity: Mapping[str, Any],
        other: Mapping[str, Any] | None = None,
        *,
        checkpoint_every: float = 5.0,
        tensorboard: bool = False,
    ):
        self.folder = io.absolute(folder)
        self.saved_step: int | None = None
        self.metrics = MetricsFile(self.folder / "metrics.jsonl", self.folder / "tensorboard" if tensorboard else None)
        self._identity, self._other = identities.as_json(identity), identities.as_json(other or {})
        self._facts = {"format": FORMAT, "run": identities.digest(self._identity)}
        self._states = self.folder / "checkpoints"
        self._interval = 60 * checkpoint_every
        self._saved_at = time.monotonic()
        self._other_versions: list[str] = []
        self._manager: Any = None
        self._links = contextlib.ExitStack()  # open as long as the manager
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Storage:
        devices.on_first(self._take)
        return self

    def _take(self) -> None:
        """Makes the folder this run's own."""
        with contextlib.ExitStack() as stack:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(io.folder_lock(self.folder))
                begun = (self.folder / "config.json").exists()
                self._claim()
                if begun:  # else what is there is not this run's
                    self._remove_leftovers()
            except OSError as error:
                raise io.unwritable(error.strerror, error.filename or self.folder) from None
            self._open = stack.pop_all()

    def __exit__(self, *exception: object) -> None:
        self._close_manager()
        self.metrics.close()
        self._open.close()

    def due(self) -> bool:
        """Returns whether it is time for the next checkpoint."""
        return time.monotonic() - self._saved_at >= self._interval

    def save(self, step: int, state: PyTree) -> None:
        """Writes the state after `step` steps, then its manifest; of the states before, the newest one stays.

        Raises:
            CheckpointError: the disk is full or refuses; the states that were there before still are.
        """
        devices.on_first(lambda: io.require_space(self.folder, trees.byte_size(state)))
        try:
            with _without_log():
                self._open_manager().save(step, args=_orbax().args.StandardSave(_stored(state)), force=True)
            devices.on_first(lambda: self._seal(step, state))
        except Exception as error:  # Orbax lets through whatever TensorStore raises: OSError, ValueError, ...
            self._close_manager()
            if devices.first_process():
                self._remove_leftovers()
            raise CheckpointError(
                f"the checkpoint of step {step} could not be written: {_in_short(error)}",
                where=f"{self._states} ({gigabytes(shutil.disk_usage(self.folder).free)} free)",
                expected=f"room for {gigabytes(trees.byte_size(state))} beside the states already there",
                remedy="make room and run the same command again: it continues from the checkpoint before",
            ) from error
        self.saved_step, self._saved_at = step, time.monotonic()

    def load(
        self, template: PyTree, warn: Callable[[str], None] = lambda text: None, places: PyTree = None
    ) -> tuple[int, PyTree] | None:
        """Reads the newest state whose every file is what its manifest says; None in a new folder.

        Arguments:
            template: the state's tree, shapes and types (`jax.eval_shape`).
            warn: told about each checkpoint that was passed over, and why.
            places: for each leaf, the sharding with which it comes back; None for one device.

        Returns:
            The number of finished steps and the state on its devices. Metrics after that step are dropped.

        Raises:
            CheckpointError: no checkpoint is usable although there were some, the state does not fit `template`, or
                there is no room for the checkpoints to come.
        """
        step = devices.on_first(lambda: self._usable(template, warn))
        if step is None:
            return None
        state = read_state(self._path(step), template, places)
        self.saved_step, self._saved_at = step, time.monotonic()
        return step, state

    def _usable(self, template: PyTree, warn: Callable[[str], None]) -> int | None:
        """Returns the newest step that can be loaded; metrics after it are dropped."""
        steps, newest = self._steps(), self._newest()
        io.require_space(self.folder, max(1, KEPT + 1 - len(steps)) * trees.byte_size(template))
        problems = [] if newest is None or newest in steps else [f"checkpoint of step {newest} is missing"]
        for step in steps:
            try:
                content = shards.verify_seal(self._path(step), step=step, **self._facts)
            except shards.Damaged as finding:
                problems.append(f"checkpoint of step {step}: {finding}")
                self._set_aside(step)
                continue
            for problem in problems:
                warn(f"{problem}; continuing from step {step} instead")
            self._require_fit(step, template, content["leaves"])
            for line in self._other_versions:
                warn(f"this run was begun with another version ({line}): its last bits may differ")
            if damaged := self.metrics.drop_after(step):
                warn(f"metrics.jsonl had {damaged} damaged lines, which are left out")
            io.write_atomically(self._states / "newest", str(step))
            return step
        if problems:
            raise CheckpointError(
                "no usable checkpoint is left" + "".join(f"\n  {problem}" for problem in problems),
                where=str(self._states),
                remedy="restore the folder from a copy, or delete it to start from the beginning",
            )
        self.metrics.drop_after(0)
        return None

    def _seal(self, step: int, state: PyTree) -> None:
        """Writes what makes the directory of this step count."""
        shards.seal(self._path(step), step=step, leaves=describe(state), **self._facts)
        io.write_atomically(self._states / "newest", str(step))

    def _claim(self) -> None:
        path = self.folder / "config.json"
        if self._steps() and not path.exists():
            raise CheckpointError(
                "checkpoints without config.json: their run is unknown",
                where=str(self.folder),
                remedy="put its config.json back, or choose another `output_dir`",
            )
        versions = {"jaxdd": jaxdd.__version__, "jax": jax.__version__}
        self._other_versions = identities.claim(path, self._identity, self._other, versions)

    def _remove_leftovers(self) -> None:
        """Deletes what a killed writer left: Orbax's temporary directories, steps without a manifest, partial files."""
        newest = self._newest() or 0
        for path in self._states.glob("*"):
            unfinished = path.name.isdigit() and int(path.name) > newest and not shards.is_sealed(path)
            if unfinished or re.match(r"\d+\.orbax-checkpoint-tmp", path.name):
                shutil.rmtree(path, ignore_errors=True)
        shutil.rmtree(self.folder / GONE, ignore_errors=True)
        for path in (self._states / "newest", *(self.folder / name for name in FILES)):
            for partial in path.parent.glob(f".{path.name}.*.partial"):
                partial.unlink(missing_ok=True)

    def _set_aside(self, step: int) -> None:
        """Keeps a damaged checkpoint for whoever wants to look at it, where Orbax does not count it."""
        aside = self._states / f"damaged-{step}"
        shutil.rmtree(aside, ignore_errors=True)
        self._path(step).rename(aside)

    def _require_fit(self, step: int, template: PyTree, stored: Mapping[str, str]) -> None:
        unlike = differences(describe(template), stored)
        if unlike:
            raise CheckpointError(
                f"the state on disk is not the one this program makes: {unlike[0]}",
                where=f"{self._path(step)}, {len(unlike)} of {len(stored)} arrays",
                remedy="use the version of jaxdd that wrote it, or another `output_dir`",
            )

    def _steps(self) -> list[int]:
        """Returns the steps that have a directory, newest first."""
        return sorted((int(path.name) for path in self._states.glob("*") if path.name.isdigit()), reverse=True)

    def _newest(self) -> int | None:
        # No checksum: every state says its own step, so a wrong number here can only bring a warning.
        path = self._states / "newest"
        text = path.read_text(errors="replace") if path.is_file() else ""
        return int(text) if text.isdigit() else None

    def _path(self, step: int) -> pathlib.Path:
        return self._states / str(step)

    def _open_manager(self) -> Any:
        if self._manager is None:
            options = _orbax().CheckpointManagerOptions(max_to_keep=KEPT, enable_async_checkpointing=False)
            self._states.mkdir(parents=True, exist_ok=True)
            states = self._links.enter_context(io.plainly_named(self._states))
            self._manager = _orbax().CheckpointManager(states, options=options)
        return self._manager

    def _close_manager(self) -> None:
        if self._manager is not None:
            with contextlib.suppress(Exception):  # after a failed save it raises that failure again
                self._manager.close()
            self._manager = None
            self._links.close()


def discard(folder: pathlib.Path) -> None:
    """Removes what a run has written into its folder, and the folder if nothing else is in it.

    Its states go first, and at once: a run that finds the folder half removed begins anew. The folder of a run that
    another process is making stays.
    """
    if not folder.is_dir():
        return
    with contextlib.suppress(OSError, CheckpointError), io.folder_lock(folder):
        shutil.rmtree(folder / GONE, ignore_errors=True)
        if (folder / "checkpoints").exists():
            (folder / "checkpoints").rename(folder / GONE)
        shutil.rmtree(folder / GONE, ignore_errors=True)
        for name in (*FILES, ".lock"):
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()


def _orbax() -> Any:
    import orbax.checkpoint  # half a second, which a run without a folder need not pay

    return orbax.checkpoint


@contextlib.contextmanager
def _without_log() -> Iterator[None]:
    """Silences Orbax, which logs the tracebacks of all its threads before it raises; the error of `save` says it
    all."""
    log = logging.getLogger("absl")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)


def read_state(folder: pathlib.Path, template: PyTree, places: PyTree = None) -> PyTree:
    """Reads the state in the folder of one step; what it holds is verified before, by its manifest.

    Arguments:
        folder: `<output folder>/checkpoints/<step>`.
        template: the state's tree, shapes and types.
        places: for each leaf, the sharding with which it comes back; None for one device.
    """
    leaves, tree = jax.tree.flatten(template)
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    lies = [here] * len(leaves) if places is None else jax.tree.leaves(places)
    each = list(zip(leaves, lies, strict=True))
    wanted = _stored([jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place) for leaf, place in each])
    with io.plainly_named(folder) as place, _orbax().StandardCheckpointer() as checkpointer:
        try:
            content = checkpointer.restore(place / "default", wanted)
        except Exception as error:  # as in `save`; what is on disk was verified
            raise CheckpointError(
                f"the state cannot be read: {_in_short(error)}",
                where=str(folder),
                expected="files that this user may read, and that stay while they are read",
                remedy="run the same command again, or copy the output folder to another disk",
            ) from error
    return tree.unflatten(
        content[_name(i)] if leaf.size else devices.place(np.zeros(leaf.shape, leaf.dtype), place)
        for i, (leaf, place) in enumerate(each)
    )


def _in_short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _stored(state: PyTree) -> dict[str, Any]:
    """Returns the leaves by number: any tree is then plain to Orbax. It refuses empty arrays, which need no storing."""
    return {_name(i): leaf for i, leaf in enumerate(jax.tree.leaves(state)) if leaf.size}


def _name(index: int) -> str:
    """Returns the name under which Orbax keeps leaf number `index`."""
    return f"leaf{index:05d}"
