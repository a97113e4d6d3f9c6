"""The flags that every command that distils has, under the names of the original RCIG scripts."""

from __future__ import annotations

import dataclasses
from typing import Annotated

from jaxdd.cli.flags import kinds


@dataclasses.dataclass(frozen=True)
class Run:
    """Flags of every command that distils.

    Arguments:
        data_path: Folder with local files in DIR/<dataset_name>/; otherwise TensorFlow Datasets' folder.
        zca_path: Folder where fitted ZCA transforms are kept; otherwise the user's cache folder.
        random_seed: Seed of every random choice.
        message: A note for the log and for config.json.
        output_dir: Output folder; otherwise ./output_dir/<dataset>_<images per class>.
        init_from: Start from a distilled set: the output folder of another run, or the set's own.
        config_path: Config file: a path, or the name of a packaged one; otherwise the digits' for the method.
        log_dir: Folder of log.txt; otherwise the output folder.
        max_steps: Steps in all; raising it continues a finished run.
        set: Overrides a key of the config file, and flags too; the value is JSON or a plain word.
        resolution: Side in pixels that images are resized to; otherwise the data set's own.
        checkpoint_every: Minutes between two checkpoints of the state.
        log_every: Steps between two lines of metrics; otherwise 1 on a CPU and 10 on an accelerator.
        devices: Number of devices, or all; otherwise one.
        devices_mode: shard: split every batch, the numbers stay; pool: average the gradients of one network per device.
        distributed: Join the processes that Slurm, Kubernetes, Cloud TPU or Open MPI started; all their devices are
            used.
        coordinator_address: Join processes that were started by hand: the address of the first one.
        num_processes: How many processes were started by hand.
        process_id: Which of them this is, from 0.
        dry_run: Say what would be done and what it needs, and stop.
        debug: Show the traceback of an error.
    """

    data_path: kinds.Path = None
    zca_path: kinds.Path = None
    random_seed: kinds.Int = 0
    message: kinds.Text = None
    output_dir: kinds.Path = None
    init_from: kinds.Path = None
    config_path: kinds.Path = None
    log_dir: kinds.Path = None
    max_steps: kinds.ConfigInt = None
    set: kinds.Assignments = ()
    resolution: kinds.OptionalInt = None
    checkpoint_every: kinds.Number = 5.0
    log_every: kinds.OptionalInt = None
    devices: kinds.OptionalInt = None
    devices_mode: Annotated[str, kinds.shown("MODE", kinds.default)] = "shard"
    distributed: kinds.Switch = False
    coordinator_address: Annotated[str | None, kinds.shown("HOST:PORT")] = None
    num_processes: kinds.OptionalInt = None
    process_id: kinds.OptionalInt = None
    dry_run: kinds.Switch = False
    debug: kinds.Switch = False
