"""`distill --dry_run`: what a run needs, told by its shapes, its compiled step and its first steps."""

from __future__ import annotations

import pathlib

from jaxdd.cli.screen.screen import Screen, duration
from jaxdd.core import backend
from jaxdd.core.io import gigabytes
from jaxdd.run.devices import Layout
from jaxdd.run.distillation import Distillation
from jaxdd.run.plan import Plan, Trial
from jaxdd.run.storage.identity import require_writable


def tell(screen: Screen, run: Distillation, layout: Layout, folder: pathlib.Path) -> None:
    """Says what the run needs; makes a few steps to know, and writes nothing.

    Arguments:
        screen: where to say it.
        run: complete but not begun.
        layout: the devices it would run on.
        folder: where it would be kept.

    Raises:
        ConfigError: it cannot fit into a device's memory.
        CheckpointError: its folder cannot be written, or has too little room.
    """
    needs = run.plan(layout, count_operations=True)
    _tell_sizes(screen, run, needs)
    require_writable(folder, needs.disk_bytes)
    run.require_memory(layout)
    screen.say("compiling the step and making a few on the real data ...")
    _tell_costs(screen, run, needs, run.trial(layout))
    screen.say("dry run: nothing was written", "bold")


def _tell_sizes(screen: Screen, run: Distillation, needs: Plan) -> None:
    shape = "x".join(map(str, run.dataset.image_shape))
    screen.fact("set", f"{run.dataset.classes * run.method.n_images} images of {shape}")
    each = needs.network_parameters // needs.networks
    screen.fact("networks", f"{needs.network_parameters:,} numbers in the pool's networks, {each:,} in each")
    parts = ", ".join(f"{part.name} {part.bytes / 1e6:,.1f}" for part in needs.parts)
    screen.fact("state", f"{needs.state_bytes / 1e6:,.1f} MB: {parts}; the data {needs.data_bytes / 1e6:,.1f} MB")
    screen.fact("disk", f"{needs.disk_bytes / 1e6:,.1f} MB at most for checkpoints")
    step = f", {gigabytes(needs.demand.bytes)} of it within a step" if needs.demand.bytes else ""
    device = gigabytes(backend.memory_bytes())
    screen.fact("estimate", f"{gigabytes(needs.peak_bytes)} from shapes alone{step}; the device has {device}")


def _tell_costs(screen: Screen, run: Distillation, needs: Plan, trial: Trial) -> None:
    if trial.peak_bytes is not None and trial.temporary_bytes is not None:
        inside = f"{gigabytes(trial.temporary_bytes)} of it within a step"
        screen.fact("memory", f"{gigabytes(trial.peak_bytes)} at the peak of the compiled step, {inside}")
    if needs.operations_per_step == needs.operations_per_step:
        screen.fact("work", f"{needs.operations_per_step / 1e9:,.1f} GFLOP per step (loops of unknown length once)")
    which = f"mean of {trial.steps - 1} after the first" if trial.steps > 1 else "the first, which warms up"
    screen.fact("step", f"{trial.seconds_per_step:,.3g} s ({which}), after {trial.compile_seconds:,.1f} s of compiling")
    screen.fact("total", f"about {duration(run.steps * trial.seconds_per_step)} for {run.steps} steps")
