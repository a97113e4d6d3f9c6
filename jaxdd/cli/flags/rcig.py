"""The dialects of `distill` and `eval`: the flags of the original RCIG scripts, with their names and meanings."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Annotated

from jaxdd.cli.flags import kinds
from jaxdd.cli.flags.dialect import Dialect
from jaxdd.cli.flags.kinds import Kind, options
from jaxdd.cli.flags.shared import OTHERS, Common, Run
from jaxdd.core.config import settings_of
from jaxdd.evaluation import settings as recipes
from jaxdd.methods import METHODS
from jaxdd.methods.rcig.settings import RCIGSettings
from jaxdd.run.settings import RunSettings


@options
class Distill(Run):
    """Distils a data set into a few synthetic images per class. Running the same command again resumes it.

    With --method NAME there is also a flag for every setting of that method: add --help.

    Arguments:
        stream: SRe2L's family: read images of a folder as they are needed: auto (if they would fill memory), always or
            never.
    """

    stream: kinds.Stream = "auto"


@options
class Eval(Common):
    """Trains fresh networks on a distilled set, and on as many real images, and measures them on the test set.

    Arguments:
        dataset_name: Data set that the set was distilled from; a set made here names it itself.
        output_dir: Folder of the result file; otherwise beside the checkpoint.
        zca_path: Folder where fitted ZCA transforms are kept; otherwise the user's cache folder.
        message: A note for the log.
        config_path: Config file: its evaluation recipe replaces the set's own.
        checkpoint_path: Output folder, distilled set, state of a run, or an original RCIG checkpoint file.
        save_name: Name of the result file, without .json.
        log_dir: Folder of log.txt; otherwise the folder of the result file.
        eval_arch: Architecture, such as conv, resnet, vgg or alexnet; several, with rows for each, as
            conv,resnet_idc,densenet.
        full_data: Also train on the whole data set, for comparison.
        baselines: Also train on as many random real images, and on as many chosen by k-means.
        stream: Read a folder's images while they are needed: auto (if they would fill memory), always or never.
    """

    dataset_name: kinds.Name = None
    output_dir: kinds.Path = None
    zca_path: kinds.Path = None
    message: Annotated[str, Kind("TEXT")] = "eval_log"
    config_path: kinds.Path = None
    checkpoint_path: kinds.Path = None
    save_name: kinds.Usual = "eval"
    log_dir: kinds.Path = None
    eval_arch: Annotated[str | None, Kind("NAMES", "(default: the set's recipe)")] = None
    full_data: kinds.Switch = False
    baselines: kinds.Switch = True
    stream: kinds.Stream = "auto"

    @property
    def architectures(self) -> tuple[str, ...]:
        """The architectures that are named."""
        return tuple(name.strip() for name in (self.eval_arch or "").split(",") if name.strip())


def with_method(language: Dialect[Distill], words: Sequence[str]) -> Dialect[Distill]:
    """Returns the language with a flag for every setting of the method that `--method` names."""
    named = re.search(r"(?:^| )--method[= ](\w+)", " ".join(words))
    if named is None or named[1] not in METHODS or METHODS[named[1]].is_chain:
        return language
    home = METHODS[named[1]].light
    more = {field.name: field.name for field in settings_of(home)}
    homes = {"": (RunSettings, home, RCIGSettings)}
    return dataclasses.replace(language, settings={**more, **language.settings}, homes=homes, grown=Dialect.grown)


_DISTILL = ("dataset_name", "n_images", "max_steps", "width", "method", "use_x64", "skip_tune", "naive_loss")
_EVAL = (
    *("width", "depth", "normalization", "eval_lr", "models_to_test"),
    *("epochs", "same_compute", "dsa_strategy", "mixup"),
)
_LOG = "log.txt and metrics.jsonl are always written"

DISTILL = Dialect(
    Distill,
    settings={name: name for name in (*_DISTILL, "init_random_noise")},
    homes={"": (RunSettings, RCIGSettings)},
    others={**OTHERS, "dataset_name": ("--dataset",), "n_images": ("--ipc", "--ipc_end")},
    no_effect={"train_log": _LOG, "train_img": "pictures are written at checkpoint_iters"},
    grown=with_method,
)
EVAL = Dialect(
    Eval,
    settings={name: name for name in _EVAL},
    homes={"": recipes.ALL},
    others={**OTHERS, "dataset_name": ("--dataset",), "checkpoint_path": ("--data",), "models_to_test": ("--repeat",)},
    no_effect={
        "train_log": "log.txt is always written",
        "train_img": "pictures are made by distill",
        "max_cycles": "it has none in the original either",
    },
    hint="(default: the set's recipe)",
)
