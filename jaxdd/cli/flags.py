"""The flags of `distill` and `eval`: one typed field each, whose doc line is its help text.

Those of the original RCIG scripts are all there, with their names, meanings and defaults; None in place of a default
means that the config file, or the distilled set, decides. `matching_flags` has those of the matching methods.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Annotated

import tyro

_CONFIG = "(default: the config's)"
_SET = "(default: the set's recipe)"


def default(value: str) -> str:
    """How the help states a value."""
    return f"(default: {value})"


def shown(metavar: str, hint: str | Callable[[str], str] = "", short: str = ""):
    """How the help shows a flag: a word for its value, a remark, and a letter that stands for it."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint=hint, aliases=(f"-{short}",) if short else None)


ConfigText = Annotated[str | None, shown("TEXT", _CONFIG)]
ConfigInt = Annotated[int | None, shown("N", _CONFIG)]
ConfigSwitch = Annotated[bool | None, shown("[BOOL]", _CONFIG)]
RecipeText = Annotated[str | None, shown("TEXT", _SET)]
RecipeInt = Annotated[int | None, shown("N", _SET)]
RecipeSwitch = Annotated[bool | None, shown("[BOOL]", _SET)]
RecipeNumber = Annotated[float | None, shown("X", _SET)]
Text = Annotated[str | None, shown("TEXT")]
Path = Annotated[str | None, shown("PATH")]
OptionalInt = Annotated[int | None, shown("N")]
Int = Annotated[int, shown("N", default)]
Number = Annotated[float, shown("X", default)]
Switch = Annotated[bool, shown("[BOOL]")]
Assignments = Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], shown("KEY=VALUE", "(repeatable)")]


@dataclasses.dataclass(frozen=True)
class Run:
    """What every command that distils has."""

    data_path: Path = None
    """Folder with local files in DIR/<dataset_name>/; otherwise TensorFlow Datasets' folder."""
    zca_path: Path = None
    """Folder where fitted ZCA transforms are kept; otherwise the user's cache folder."""
    random_seed: Int = 0
    """Seed of every random choice."""
    message: Text = None
    """A note for the log and for config.json."""
    output_dir: Path = None
    """Output folder; otherwise ./output_dir/<dataset>_<images per class>."""
    init_from: Path = None
    """Start from a distilled set: the output folder of another run, or the set's own."""
    config_path: Path = None
    """Config file: a path, or the name of a packaged one; otherwise the digits' for the method."""
    log_dir: Path = None
    """Folder of log.txt; otherwise the output folder."""
    max_steps: ConfigInt = None
    """Steps in all; raising it continues a finished run."""
    set: Assignments = ()
    """Overrides a key of the config file, and flags too; the value is JSON or a plain word."""
    resolution: OptionalInt = None
    """Side in pixels that images are resized to; otherwise the data set's own."""
    checkpoint_every: Number = 5.0
    """Minutes between two checkpoints of the state."""
    log_every: OptionalInt = None
    """Steps between two lines of metrics; otherwise 1 on a CPU and 10 on an accelerator."""
    devices: OptionalInt = None
    """Number of devices, or all; otherwise one."""
    devices_mode: Annotated[str, shown("MODE", default)] = "shard"
    """shard: split every batch, the numbers stay; pool: average the gradients of one network per device."""
    distributed: Switch = False
    """Join the processes that Slurm, Kubernetes, Cloud TPU or Open MPI started; all their devices are used."""
    coordinator_address: Annotated[str | None, shown("HOST:PORT")] = None
    """Join processes that were started by hand: the address of the first one."""
    num_processes: OptionalInt = None
    """How many processes were started by hand."""
    process_id: OptionalInt = None
    """Which of them this is, from 0."""
    dry_run: Switch = False
    """Say what would be done and what it needs, and stop."""
    debug: Switch = False
    """Show the traceback of an error."""


@dataclasses.dataclass(frozen=True)
class Distill(Run):
    """Distils a data set into a few synthetic images per class. Running the same command again resumes it."""

    dataset_name: ConfigText = None
    """Data set: digits, mnist, cifar10, ..., or your own as folder:DIR, npz:FILE or parquet:DIR."""
    train_log: Text = None
    """Accepted as in the original; has no effect here: log.txt and metrics.jsonl are always written."""
    train_img: Text = None
    """Accepted as in the original; has no effect here: pictures are written at checkpoint_iters."""
    width: ConfigInt = None
    """Channels of the networks' first block."""
    n_images: ConfigInt = None
    """Images per class."""
    use_x64: ConfigSwitch = None
    """Form and factorise the kernel matrix in float64."""
    skip_tune: ConfigSwitch = None
    """Keep the adam solver's two learning rates instead of tuning them first."""
    naive_loss: ConfigSwitch = None
    """Plain squared loss instead of kernel ridge regression (selects the adam solver)."""
    init_random_noise: ConfigSwitch = None
    """Start from noise instead of real images."""
    method: ConfigText = None
    """The method, e.g. rcig or frepo; an unknown name lists all of them."""
    stream: Annotated[str, shown("MODE", default)] = "auto"
    """SRe2L's family: read images of a folder as they are needed: auto (if they would fill memory), always or never."""


@dataclasses.dataclass(frozen=True)
class Eval:
    """Trains fresh networks on a distilled set, and on as many real images, and measures them on the test set."""

    dataset_name: ConfigText = None
    """Data set that the set was distilled from; a set made here names it itself."""
    data_path: Path = None
    """Folder with local files in DIR/<dataset_name>/; otherwise TensorFlow Datasets' folder."""
    zca_path: Path = None
    """Folder where fitted ZCA transforms are kept; otherwise the user's cache folder."""
    train_log: Text = None
    """Accepted as in the original; has no effect here: log.txt is always written."""
    train_img: Text = None
    """Accepted as in the original; has no effect here."""
    width: RecipeInt = None
    """Channels of the networks' first block; 128 as published."""
    depth: RecipeInt = None
    """Blocks of the ConvNet; by resolution as published."""
    normalization: RecipeText = None
    """identity, batch, instance, layer or group."""
    eval_lr: RecipeNumber = None
    """Learning rate; of Adam 1e-4, of SGD (idc, dc) 0.01 as published."""
    random_seed: Int = 0
    """Seed of the networks and of the baselines."""
    message: Text = "eval_log"
    """A note for the log."""
    output_dir: Path = None
    """Folder of the result file; otherwise beside the checkpoint."""
    max_cycles: Int = 1000
    """Accepted as in the original, where it has no effect either."""
    config_path: Path = None
    """Config file: its evaluation recipe replaces the set's own."""
    checkpoint_path: Path = None
    """Output folder, distilled set, state of a run, or an original RCIG checkpoint file."""
    save_name: Annotated[str, shown("NAME", default)] = "eval"
    """Name of the result file, without .json."""
    log_dir: Path = None
    """Folder of log.txt; otherwise the folder of the result file."""
    eval_arch: RecipeText = None
    """Architecture, such as conv, resnet, vgg or alexnet; several, with rows for each, as conv,resnet_idc,densenet."""
    models_to_test: RecipeInt = None
    """Networks trained per row, also --repeat; 5 as published (idc 3, dc 20)."""

    epochs: RecipeInt = None
    """Epochs of training (idc, dc)."""
    same_compute: RecipeSwitch = None
    """Divide the epochs by the number of images that one image decodes to (idc)."""
    dsa_strategy: RecipeText = None
    """Augmentation, e.g. color_crop_flip_scale_rotate, or none (idc, dc)."""
    mixup: RecipeText = None
    """cut: CutMix; vanilla: no mixing (idc)."""

    full_data: Switch = False
    """Also train on the whole data set, for comparison."""
    baselines: Switch = True
    """Also train on as many random real images, and on as many chosen by k-means."""
    set: Assignments = ()
    """Overrides a field of the recipe, e.g. steps=300 or test_aug=null."""
    resolution: OptionalInt = None
    """Side in pixels that images are resized to; otherwise the set's own."""
    stream: Annotated[str, shown("MODE", default)] = "auto"
    """Read a folder's images while they are needed: auto (if they would fill memory), always or never."""
    devices: OptionalInt = None
    """Number of devices; otherwise one."""
    debug: Switch = False
    """Show the traceback of an error."""
