"""The dialects of `condense` and `pretrain`, under the names of the IDC, AccDD, DREAM and GA-DD scripts.

Every setting of the matching methods has a flag.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from jaxdd.cli.flags import dialect
from jaxdd.cli.flags.dialect import Dialect, Kind, options
from jaxdd.cli.flags.shared import OTHERS, Common, Run
from jaxdd.core.config import Layer, Value, settings_of
from jaxdd.core.errors import UsageError, choose
from jaxdd.methods import MATCHING
from jaxdd.methods.condensation.settings import CondensationSettings
from jaxdd.run.settings import RunSettings

WIDTH = 128  # channels that --width counts in
MOST_WIDTH = 8  # above, channels are meant, as with the other commands
NETWORKS = {"resnetap": "resnet_ap"}  # as a README writes it
CLASSES = 10  # of ImageNet, unless --nclass says otherwise
IMAGENET = ("phase", "nclass_sub", "dseed")  # flags that choose classes of it
REPRODUCED = "--reproduce is accepted: published settings are the defaults"


@options
class Matching(Common):
    """Options of both commands.

    Arguments:
        data_path: Folder with local files in DIR/<dataset>/; otherwise TensorFlow Datasets' folder.
        dataset: cifar10, cifar100, svhn, mnist, fashion, tinyimagenet, imagenet, ..., or your own as folder:DIR; else
            digits.
        nclass: Classes of imagenet, 10 if not said; all other data sets know theirs.
        nclass_sub: Classes of a part of imagenet; its networks tell these apart, the authors' all --nclass.
        phase: Which part of imagenet's classes, from 0.
        dseed: Chooses imagenet's classes at random by this seed; 0: the published ones.
        imagenet_dir: Folder of ImageNet, with train/ and val/; otherwise --data_path.
        width: Channels of the networks in units of 128; --set width=N gives their number.
        pt_from: Start from networks trained for so many epochs (idc too); as published 2, and 10 for ImageNet.
        reproduce: Published settings, which are the defaults here.
    """

    data_path: dialect.Path = None
    dataset: dialect.Name = None
    nclass: Annotated[int | None, Kind("N")] = None
    nclass_sub: Annotated[int | None, Kind("N")] = None
    phase: Annotated[int | None, Kind("N")] = None
    dseed: Annotated[int | None, Kind("N")] = None
    imagenet_dir: dialect.Path = None
    width: dialect.Number = None
    pt_from: Annotated[int | None, Kind("N", low=-1, high=10**6)] = None
    reproduce: dialect.Switch = False

    def where(self, dataset: str) -> str | None:
        """Returns where local files of a data set are looked for."""
        return self.imagenet_dir if self.imagenet_dir and dataset.startswith("imagenet") else self.data_path


@options
class Condense(Matching, Run):
    """Distils a data set by matching gradients or features: DC, DSA, DM, IDC, AccDD, DREAM, DREAM+, GA-DD.

    What is not said is as published for the method and the data set. Running the same command again resumes it.

    Arguments:
        output_dir: Output folder; otherwise ./output_dir/<method>_<dataset>_<ipc>, with factor and
            tag.
        config_path: Config file: a path, or the name of a packaged one such as matching/dream_cifar10_10.
        niter: Outer iterations; of idc, dream and dream_plus in units of 100 inner iterations, as in their scripts.
        model_path: Folders of networks trained beforehand; otherwise those in ./pretrained, where the method needs
            them.
        pretrain: Train such networks first, as far as pretrain.py's default folder lacks them.
        val_interval: Evaluate the set every so many outer iterations and keep the best in OUTPUT/best; slow on a CPU.
        tag: A word for the name of the output folder.
    """

    output_dir: dialect.Path = None
    config_path: dialect.Path = None
    niter: Annotated[int | None, Kind("N", dialect.AS_PUBLISHED, 1, dialect.MOST)] = None
    model_path: dialect.Paths = ()
    pretrain: dialect.Switch = False
    val_interval: dialect.Count = None
    tag: dialect.Text = None


@options
class Pretrain(Matching):
    """Trains networks on the real images for a few epochs, as AccDD and GA-DD start from them.

    What is not said is as published for the data set. Running the same command again trains what is missing.

    Arguments:
        output_dir: Folder of the networks; otherwise ./pretrained/<dataset>/<network>_<seed>.
        pt_from: Epochs; as published 2, and 10 for ImageNet.
        repeat: How many networks.
    """

    output_dir: dialect.Path = None
    pt_from: Annotated[int | None, Kind("N", low=1, high=10**6)] = None
    repeat: Annotated[int, Kind("N", dialect.STATED, 1, 1000)] = 5


def of_condense(options: Condense, layer: Layer) -> tuple[Layer, Sequence[str]]:
    """Adds the method, and where its networks come from.

    Raises:
        UsageError: flags that contradict each other.
    """
    layer, told = as_meant(options, layer)
    if options.niter is not None and "max_steps" in layer:
        raise UsageError("the length is given twice", where="--niter and --max_steps", remedy="keep one of the two")
    source = "--model_path" if options.model_path else "--pt_from" if (options.pt_from or 0) > 0 else None
    if source:
        layer["source"] = Value("pretrained", source)
    if "method" in layer:
        choose(layer["method"].value, MATCHING, kind="matching method", where=layer["method"].origin)
    elif not options.config_path:
        method, named = ("accdd", "is") if options.model_path else ("dream", "is not")
        layer["method"] = Value(method, "--method")
        told.append(f"the method is {method}, as --model_path {named} given; --method names another")
    return layer, told


def of_pretrain(options: Pretrain, layer: Layer) -> tuple[Layer, Sequence[str]]:
    """Adds the method whose networks are trained: AccDD trains those of all."""
    layer, told = as_meant(options, layer)
    return {**layer, "method": Value("accdd", "--method")}, told


def as_meant(options: Matching, layer: Layer) -> tuple[dict[str, Value], list[str]]:
    """Returns what both commands take from their flags, and what to tell.

    Raises:
        UsageError: a width that is none, or classes of a data set that has them all.
    """
    meant = dict(layer)
    if options.dataset is not None:
        meant["dataset_name"] = Value(_dataset(options), "--dataset")
    if options.width is not None:
        if options.width > MOST_WIDTH:
            raise UsageError(
                f"a network of {round(WIDTH * options.width)} channels",
                where=f"--width {options.width:g}",
                expected=f"a multiple of the published {WIDTH} channels, as in the scripts, up to {MOST_WIDTH}",
                remedy=f"--set width={round(options.width)} for as many channels",
            )
        meant["width"] = Value(round(WIDTH * options.width), "--width")
    for name, words in {"net_type": NETWORKS, "aug_type": {"none": None}, "net_aug": {"none": None}}.items():
        if name in meant and meant[name].value in words:
            meant[name] = Value(words[meant[name].value], meant[name].origin)
    if "fix_iter" in meant and meant["fix_iter"].value == -1:  # the scripts' default, which means 1
        del meant["fix_iter"]
    return meant, [REPRODUCED] * options.reproduce


def _dataset(options: Matching) -> str:
    """Returns the data set's name; of ImageNet, with the classes that several flags choose (`data.registry`)."""
    if options.dataset == "imagenet":
        count = max(options.nclass_sub or 0, 0) or options.nclass or CLASSES
        return f"imagenet{count}:{max(options.phase or 0, 0)}:{max(options.dseed or 0, 0)}"
    for name in IMAGENET:
        if (getattr(options, name) or 0) > 0:
            raise UsageError(
                f"{options.dataset} comes as a whole",
                where=f"--{name}",
                expected="--dataset imagenet, of which it chooses classes",
                remedy="leave it out",
            )
    return str(options.dataset)


_EVALUATION = "it belongs to eval.py"
_ONE_FOLDER = "networks lie in folders that pretrain.py names"
_PLOT = "it belongs to a plot"
_NO_EFFECT = {
    "load_memory": "data sets always lie in memory",
    "workers": "images are read once, not by workers",
    "print_freq": "progress is shown live; --log_every says how often metrics are kept",
    "verbose": "everything is in log.txt",
    "test": "eval.py tests what was made",
    "time": "times are always told",
    "tinyimagenet_dir": "its files are looked for in DIR/tiny_imagenet/ of --data_dir DIR",
    "pt_num": "one epoch of every network is kept, the best",
    "model_num": "all networks of the folders are used",
    **dict.fromkeys(("pretrain_num", "model_file2", "model_file3"), _ONE_FOLDER),
    **dict.fromkeys(("x", "y"), _PLOT),
    **dict.fromkeys(("epochs", "mixup", "dsa_strategy", "same_compute"), _EVALUATION),
    "batch_size": f"{_EVALUATION}, as --set batch_size=N",
    "pretrained": "networks of an evaluation are new ones",
    "save_ckpt": "networks of an evaluation are not kept",
    "slct_type": "eval.py tests the set that it is given",
    "dsa": f"{_EVALUATION}, as --dsa_strategy",
    "rrc": "eval.py crops large images as published",
    "name": "--tag and --output_dir name the output folder",
}
_SWITCHES = ("load_memory", "verbose", "test", "time", "pretrained", "save_ckpt", "dsa", "rrc", "same_compute")
_OTHERS = {
    **OTHERS,
    "dataset": ("--dataset_name", "-d"),
    "aug_type": ("-a",),
    "net_type": ("-n",),
    "slct_type": ("-s",),
    "load_memory": ("-l",),
    "workers": ("-j",),
    "print_freq": ("-p",),
    "lr": ("--learning_rate",),
    "weight_decay": ("--wd",),
}
_OF_NETWORKS = (  # settings that `pretrain` has too
    *("net_type", "norm_type", "depth", "lr", "momentum", "weight_decay", "batch_real"),
    *("aug_type", "mixup_net", "mix_p", "beta", "precision"),
)
_SCRIPT = {"initial": "init", "n_images": "ipc"}  # setting -> flag, where the scripts' name is another one
_EVERY = [field.name for field in settings_of(CondensationSettings) if field.name != "width"]
_DIALECT: dict[str, Any] = {
    "homes": {"": (CondensationSettings, RunSettings)},
    "switches": _SWITCHES,
    "hint": dialect.AS_PUBLISHED,
}

CONDENSE = Dialect(
    Condense,
    settings={_SCRIPT.get(name, name): name for name in (*_EVERY, "method", "max_steps")},
    others={**_OTHERS, "factor": ("-f",), "ipc": ("--ipc_end", "--n_images", "-i")},
    no_effect=_NO_EFFECT,
    called={"networks": "model_path", "dataset_name": "dataset", "width": "width"},
    translate=of_condense,
    **_DIALECT,
)
PRETRAIN = Dialect(
    Pretrain,
    settings={name: name for name in _OF_NETWORKS},
    others={**_OTHERS, "repeat": ("--models_to_test",)},
    no_effect=_NO_EFFECT,
    called={"dataset_name": "dataset"},
    translate=of_pretrain,
    **_DIALECT,
)
