"""The flags of `condense` and `pretrain`, under the names of the IDC, AccDD, DREAM and GA-DD scripts.

A flag for every setting of `methods.condensation.settings`, with its help, is made from the settings themselves; flags
of the scripts that nothing here needs are made from `NO_EFFECT` and accepted with a notice.
"""

from __future__ import annotations

import dataclasses
import functools
import typing
from collections.abc import Iterable
from typing import Annotated, Any

import tyro

from jaxdd.cli.flags import kinds
from jaxdd.cli.flags.kinds import T
from jaxdd.cli.flags.shared import Run

NAMES = {"initial": "init"}  # setting -> flag, where the scripts' name is another one
SHORT = {  # flag -> its short forms
    "aug_type": ("-a",),
    "factor": ("-f",),
    "net_type": ("-n",),
    "slct_type": ("-s",),
    "load_memory": ("-l",),
    "workers": ("-j",),
    "print_freq": ("-p",),
}
OWN = ("n_images", "width")  # settings whose flags are written out below
OF_NETWORKS = (  # settings that `pretrain` has too
    *("net_type", "norm_type", "depth", "lr", "momentum", "weight_decay", "batch_real"),
    *("aug_type", "mixup_net", "mix_p", "beta", "precision"),
)

_EVALUATION = "it belongs to eval.py"
_ONE_FOLDER = "networks lie in folders that pretrain.py names"
NO_EFFECT: dict[str, tuple[type, str]] = {  # flag -> its kind, and why
    "load_memory": (bool, "data sets always lie in memory"),
    "workers": (str, "images are read once, not by workers"),
    "print_freq": (str, "progress is shown live; --log_every says how often metrics are kept"),
    "verbose": (bool, "everything is in log.txt"),
    "test": (bool, "eval.py tests what was made"),
    "time": (bool, "times are always told"),
    "tinyimagenet_dir": (str, "its files are looked for in DIR/tiny_imagenet/ of --data_dir DIR"),
    "pt_num": (str, "one epoch of every network is kept, the best"),
    "model_num": (str, "all networks of the folders are used"),
    "pretrain_num": (str, _ONE_FOLDER),
    "model_file2": (str, _ONE_FOLDER),
    "model_file3": (str, _ONE_FOLDER),
    "x": (str, "it belongs to a plot"),
    "y": (str, "it belongs to a plot"),
    "epochs": (str, _EVALUATION),
    "batch_size": (str, f"{_EVALUATION}, as --set batch_size=N"),
    "pretrained": (bool, "networks of an evaluation are new ones"),
    "save_ckpt": (bool, "networks of an evaluation are not kept"),
    "mixup": (str, _EVALUATION),
    "slct_type": (str, "eval.py tests the set that it is given"),
    "dsa": (bool, f"{_EVALUATION}, as --dsa_strategy"),
    "dsa_strategy": (str, _EVALUATION),
    "rrc": (bool, "eval.py crops large images as published"),
    "same_compute": (bool, _EVALUATION),
    "name": (str, "--tag and --output_dir name the output folder"),
}

_LIST = tyro.conf.UseAppendAction[tuple[str, ...]]


@dataclasses.dataclass(frozen=True)
class Matching:
    """Flags of both commands.

    Arguments:
        dataset: cifar10, cifar100, svhn, mnist, fashion, tinyimagenet, imagenet, ..., or your own as folder:DIR; else
            digits.
        nclass: Classes of imagenet, 10 if not said; all other data sets know theirs.
        nclass_sub: Classes of a part of imagenet; its networks tell these apart, the authors' all --nclass.
        phase: Which part of imagenet's classes, from 0.
        dseed: Chooses imagenet's classes at random by this seed; 0: the published ones.
        imagenet_dir: Folder of ImageNet, with train/ and val/; otherwise --data_path.
        width: Channels of the networks in units of 128; --set width=N gives their number.
    """

    dataset: Annotated[str | None, kinds.shown("NAME", "", "-d")] = None
    nclass: kinds.OptionalInt = None
    nclass_sub: kinds.OptionalInt = None
    phase: kinds.OptionalInt = None
    dseed: kinds.OptionalInt = None
    imagenet_dir: kinds.Path = None
    width: Annotated[float | None, kinds.shown("X", kinds.AS_PUBLISHED)] = None


@dataclasses.dataclass(frozen=True)
class Condense(Run, Matching):
    """Distils a data set by matching gradients or features: DC, DSA, DM, IDC, AccDD, DREAM, DREAM+, GA-DD.

    What is not said is as published for the method and the data set. Running the same command again resumes it.

    Arguments:
        output_dir: Output folder, also --save_dir; otherwise ./output_dir/<method>_<dataset>_<ipc>, with factor and
            tag.
        config_path: Config file: a path, or the name of a packaged one such as matching/dream_cifar10_10.
        max_steps: Inner iterations in all, in place of --niter; raising it continues a finished run.
        method: dc, dsa, dm, idc, accdd, dream, dream_plus or ga; otherwise accdd with --model_path, dream without.
        ipc: Images per class.
        niter: Outer iterations; of idc, dream and dream_plus in units of 100 inner iterations, as in their scripts.
        model_path: Folders of networks trained beforehand; otherwise those in ./pretrained, where the method needs
            them.
        pretrain: Train such networks first, as far as pretrain.py's default folder lacks them.
        pt_from: Start from networks trained for so many epochs (idc too); as published 2, and 10 for ImageNet.
        val_interval: Evaluate the set every so many outer iterations and keep the best in OUTPUT/best; slow on a CPU.
        reproduce: Published settings, which are the defaults here.
        tag: A word for the name of the output folder.
    """

    output_dir: kinds.Path = None
    config_path: kinds.Path = None
    max_steps: kinds.ConfigInt = None
    method: kinds.ConfigText = None
    ipc: Annotated[int | None, kinds.shown("N", "(default: the config's, else 1)", "-i")] = None
    niter: Annotated[int | None, kinds.shown("N", kinds.AS_PUBLISHED)] = None
    model_path: Annotated[_LIST, kinds.shown("DIR", "(one or several)")] = ()
    pretrain: kinds.Switch = False
    pt_from: kinds.OptionalInt = None
    val_interval: kinds.OptionalInt = None
    reproduce: kinds.Switch = False
    tag: kinds.Text = None


@dataclasses.dataclass(frozen=True)
class Pretrain(Matching):
    """Trains networks on the real images for a few epochs, as AccDD and GA-DD start from them.

    What is not said is as published for the data set. Running the same command again trains what is missing.

    Arguments:
        data_path: Folder with local files in DIR/<dataset>/, also --data_dir; otherwise TensorFlow Datasets' folder.
        output_dir: Folder of the networks; otherwise ./pretrained/<dataset>/<network>_<seed>.
        pt_from: Epochs; as published 2, and 10 for ImageNet.
        repeat: How many networks.
        random_seed: Seed of every random choice, also --seed.
        set: Overrides a setting; the value is JSON or a plain word.
        resolution: Side in pixels that images are resized to, also --size; otherwise the data set's own.
        devices: Number of devices; networks are trained on one.
        reproduce: Published settings, which are the defaults here.
        debug: Show the traceback of an error.
    """

    data_path: kinds.Path = None
    output_dir: kinds.Path = None
    pt_from: kinds.OptionalInt = None
    repeat: kinds.Int = 5
    random_seed: kinds.Int = 0
    set: Annotated[_LIST, kinds.shown("KEY=VALUE", "(repeatable)")] = ()
    resolution: kinds.OptionalInt = None
    devices: kinds.OptionalInt = None
    reproduce: kinds.Switch = False
    debug: kinds.Switch = False


@functools.cache
def condense() -> type[Condense]:
    """Returns `Condense` with a flag for every setting."""
    from jaxdd.core.config import settings_of
    from jaxdd.methods.condensation.settings import CondensationSettings

    return _with(Condense, [field.name for field in settings_of(CondensationSettings)])


@functools.cache
def pretrain() -> type[Pretrain]:
    """Returns `Pretrain` with a flag for every setting of the networks' training."""
    return _with(Pretrain, OF_NETWORKS)


def flag_of(setting: str) -> str:
    """Returns the flag that gives a setting."""
    return NAMES.get(setting, setting)


def _with(flags: type[T], names: Iterable[str]) -> type[T]:
    """Returns `flags` with more of them: one for each setting named, and those that have no effect."""
    from jaxdd.methods.condensation.settings import CondensationSettings

    fields = {field.name: field for field in dataclasses.fields(CondensationSettings)}
    hints, more = typing.get_type_hints(CondensationSettings), {}
    for name in names:
        if name not in OWN:
            text, forms = _sentence(fields[name].metadata["help"]), SHORT.get(flag_of(name), ())
            more[flag_of(name)] = kinds.made(_kind(hints[name]), text, kinds.AS_PUBLISHED, *forms)
    taken = {field.name for field in dataclasses.fields(flags)} | set(more)  # pyright: ignore[reportArgumentType]
    for name, (kind, why) in NO_EFFECT.items():
        if name not in taken:
            text = _sentence(f"Accepted as in the scripts; has no effect here: {why}")
            more[name] = kinds.made(kind, text, "", *SHORT.get(name, ()))
    return kinds.extended(flags, more)


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _kind(annotation: Any) -> type:
    """Returns bool, int, float or str."""
    options = [option for option in (typing.get_args(annotation) or (annotation,)) if option is not type(None)]
    return options[0] if options[0] in (bool, int, float) else str
