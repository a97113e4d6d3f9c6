"""Options that several commands have, and other names of flags that all of them know."""

from __future__ import annotations

from typing import Annotated, Literal

from jaxdd.cli.flags import dialect
from jaxdd.cli.flags.dialect import Kind, options

OTHERS = {  # flag -> its names in several authors' scripts
    "data_path": ("--data_dir",),
    "output_dir": ("--save_dir",),
    "random_seed": ("--seed",),
    "resolution": ("--size",),
}


@options
class Common:
    """Options of all commands.

    Arguments:
        data_path: Folder with local files in DIR/<dataset_name>/; otherwise TensorFlow Datasets' folder.
        output_dir: Output folder; otherwise ./output_dir/<dataset>_<images per class>.
        random_seed: Seed of every random choice.
        set: Overrides a setting, and flags too; the value is JSON or a plain word.
        resolution: Side in pixels that images are resized to; otherwise the data set's own.
        devices: Number of devices, or all; otherwise one.
        debug: Show the traceback of an error.
    """

    data_path: dialect.Path = None
    output_dir: dialect.Path = None
    random_seed: dialect.Seed = 0
    set: dialect.Assignments = ()
    resolution: dialect.Side = None
    devices: dialect.Devices = None
    debug: dialect.Switch = False


@options
class Run(Common):
    """Options of the commands that distil by one long run.

    Arguments:
        zca_path: Folder where fitted ZCA transforms are kept; otherwise the user's cache folder.
        message: A note for the log and for config.json.
        init_from: Start from a distilled set: the output folder of another run, or the set's own.
        config_path: Config file: a path, or the name of a packaged one; otherwise the digits' for the method.
        log_dir: Folder of log.txt; otherwise the output folder.
        checkpoint_every: Minutes between two checkpoints of the state.
        log_every: Steps between two lines of metrics; otherwise 1 on a CPU and 10 on an accelerator.
        devices_mode: shard: split every batch, the numbers stay; pool: average the gradients of one network per device.
        distributed: Join the processes that Slurm, Kubernetes, Cloud TPU or Open MPI started; all their devices are
            used.
        coordinator_address: Join processes that were started by hand: the address of the first one.
        num_processes: How many processes were started by hand.
        process_id: Which of them this is, from 0.
        dry_run: Say what would be done and what it needs, and stop.
    """

    zca_path: dialect.Path = None
    message: dialect.Text = None
    init_from: dialect.Path = None
    config_path: dialect.Path = None
    log_dir: dialect.Path = None
    checkpoint_every: dialect.Minutes = 5.0
    log_every: dialect.Count = None
    devices_mode: Annotated[Literal["shard", "pool"], Kind("MODE", dialect.STATED)] = "shard"
    distributed: dialect.Switch = False
    coordinator_address: Annotated[str | None, Kind("HOST:PORT")] = None
    num_processes: Annotated[int | None, Kind("N", low=1, high=2**16)] = None
    process_id: Annotated[int | None, Kind("N", low=0, high=2**16 - 1)] = None
    dry_run: dialect.Switch = False
