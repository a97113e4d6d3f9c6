"""The dialects of `squeeze`, `recover`, `relabel` and `validate`, under the names of the SRe2L and CDA scripts.

What no flag gives is the preset's or the config file's, and without them what the script does, or what is published for
the data set.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from jaxdd.cli.flags import dialect
from jaxdd.cli.flags.dialect import Dialect, Kind, options
from jaxdd.cli.flags.shared import OTHERS, Common
from jaxdd.core import config as configs
from jaxdd.core.config import Layer, Value
from jaxdd.core.errors import UsageError, choose
from jaxdd.evaluation.settings import SoftSettings
from jaxdd.methods.recovery.settings import Recovery
from jaxdd.run.chain.settings import OF_SCRIPT, ChainSettings
from jaxdd.training.recipe import TeacherRecipe

SCRIPT: dict[str, Any] = {  # what recover_cda_*.py do where nothing is said
    "n_images": 1,
    "batch_size": 100,
    "iterations": 1000,
    "lr_img": 0.1,
    "r_bn": 0.05,
    "first_bn_multiplier": 10.0,
    "easy2hard_mode": "cosine",
    "milestone": 0.0,
    "tv_l2": 0.0,
    "l2_scale": 0.0,
}
MIXES = {"cutmix": 1.0, "mixup": 0.8, "none": 1.0}  # way of mixing -> its usual parameter


@options
class Shared(Common):
    """Options of all four commands.

    Arguments:
        preset: Published settings: cifar100, tiny, in1k or in21k, or digits; with --method, those of another method.
        config_path: Config file: a path, or the name of a packaged one such as cda/cda_tiny.
        set: Overrides a setting, e.g. crop=false, squeeze.epochs=10, recipe.ema=0.99; the value is JSON or a plain
            word.
        stream: Read a folder's images while they are needed: auto (if they would fill memory), always or never.
        checkpoint_every: Minutes between two checkpoints of the state.
        devices: Number of devices, or all, among which squeeze and recover split their batches; otherwise one.
    """

    preset: dialect.Name = None
    config_path: dialect.Path = None
    set: dialect.Assignments = ()
    stream: dialect.Stream = "auto"
    checkpoint_every: dialect.Minutes = 5.0
    devices: dialect.Devices = None


@options
class Squeeze(Shared):
    """Trains the teacher of SRe2L, CDA and their successors on the real images, or imports one.

    What is not said is as published for the data set. Running the same command again continues it.

    Arguments:
        output_dir: Folder of the teacher; otherwise ./teachers/<dataset>/<network>_<seed>.
        arch_path: Import these weights instead: a safetensors file with the names of torchvision or timm.
    """

    output_dir: dialect.Path = None
    arch_path: dialect.Path = None


@options
class Recover(Shared):
    """Synthesises images from a teacher: SRe2L, CDA, RDED, SRe2L++, FADRM.

    The flags are those of recover_cda_{tiny,in1k,in21k}.py and of SRe2L's data_synthesis.py. Running the same command
    again continues it; finished images are never made again.

    Arguments:
        exp_name: Name of the output folder, in --syn-data-path.
        syn_data_path: Where output folders are; the images lie in DIR/NAME/images.
        output_dir: Output folder, in place of the two above.
        store_best_images: Also write every image into the published folders,
            images/new<class>/class<class>_id<ipc>.jpg.
        store_last_images: The same under another name: the last iterate is what is kept, in the scripts too.
        arch_path: The teacher: a folder that squeeze made, or a safetensors file with the names of torchvision or timm.
            Of several each iteration takes the next, and their labels are averaged.
        ipc_start: First image of every class.
        verifier: Log the accuracy of a second network on the recovered images.
        verifier_arch: Its architecture; needed for a safetensors file.
        verifier_arch_path: The second network: a folder that squeeze made or a safetensors file.
        shard: Recover only part I of N, 0 to N - 1: such jobs may run anywhere at the same time, into one folder or
            several.
        merge: Only check that these folders hold every image, and make one set of them in the output folder.
    """

    exp_name: dialect.Usual = "test"
    syn_data_path: Annotated[str, Kind("DIR", dialect.STATED)] = "./syn-data"
    output_dir: dialect.Path = None
    store_best_images: dialect.Switch = False
    store_last_images: dialect.Switch = False
    arch_path: dialect.Paths = ()
    ipc_start: Annotated[int, Kind("N", dialect.STATED, 0)] = 0
    verifier: dialect.Switch = False
    verifier_arch: dialect.Usual = "mobilenet_v2"
    verifier_arch_path: dialect.Path = None
    shard: Annotated[str | None, Kind("I/N")] = None
    merge: dialect.Paths = ()


@options
class Labelled(Shared):
    """Options of the commands that make soft labels, or train by them.

    Arguments:
        dataset: The data set, where the set does not name its own.
        checkpoint_path: Output folder of recover.
        mix_type: cutmix, mixup or none.
        mixup: Both parameters of mixup's Beta distribution.
        cutmix: Both parameters of CutMix's Beta distribution; 1 as published.
    """

    dataset: dialect.Name = None
    checkpoint_path: dialect.Path = None
    mix_type: Annotated[str | None, Kind("TEXT", dialect.AS_PUBLISHED)] = None
    mixup: dialect.Number = None
    cutmix: dialect.Number = None

    @property
    def named(self) -> str | None:
        """The set as it is named."""
        return self.checkpoint_path or getattr(self, "train_dir", None)


@options
class Relabel(Labelled):
    """Stores the teacher's logits for every epoch of a student (FKD); crops and mixes are made again from the seed.

    Nothing has to be stored: validate asks the teacher itself where there are no labels.

    Arguments:
        output_dir: Where results of the set lie; otherwise in that folder.
        fkd_path: Folder of the labels; otherwise labels/ in the output folder.
        arch_name: The labeller's architecture, of a safetensors file; a folder knows its own.
        arch_path: The labellers: folders that squeeze made, or safetensors files; otherwise the set's own teachers.
        width: Channels of the labeller, of a safetensors file.
        max_scale_crops: Largest area of a crop; 1 is the only one that training knows.
        prune: Keep only the so many largest logits of each image.
        dry_run: Say how large the labels would be, and stop.
    """

    output_dir: dialect.Path = None
    fkd_path: dialect.Path = None
    arch_name: Annotated[str | None, Kind("NAME", "(default: resnet18)")] = None
    arch_path: dialect.Paths = ()
    width: dialect.Count = None
    max_scale_crops: dialect.Number = None
    prune: dialect.Count = None
    dry_run: dialect.Switch = False


@options
class Validate(Labelled):
    """Trains students on a recovered set by its soft labels, and on as many real images under the same recipe.

    The flags are those of train_FKD.py and train_KD.py; what is not said is the set's own recipe.

    Arguments:
        output_dir: Folder of eval.json; otherwise beside the set.
        save_name: Name of the result file, without .json.
        fkd_path: Folder of stored labels; otherwise labels/ beside the set, and without them the teacher labels online.
        online: Ask the teacher even where labels are stored.
        arch_path: The labellers: folders that squeeze made; otherwise those beside the labels or the set.
        model: The student: resnet18, resnet50, conv, ...; several as resnet18,resnet50.
        cos: The learning rate falls by a cosine, else linearly.
        sgd: SGD in place of AdamW.
        learning_rate: Learning rate of SGD.
        weight_decay: Weight decay of SGD.
        adamw_lr: Learning rate of AdamW.
        adamw_weight_decay: Weight decay of AdamW, of tensors with more than one axis.
        baselines: Also train on as many random real images, and on as many chosen by k-means.
        full_data: Also train on the whole data set, for comparison.
        train_dir: The same as --checkpoint_path, as in the script.
    """

    output_dir: dialect.Path = None
    save_name: dialect.Usual = "eval"
    fkd_path: dialect.Path = None
    online: dialect.Switch = False
    arch_path: dialect.Paths = ()
    model: Annotated[str | None, Kind("NAMES", dialect.AS_PUBLISHED)] = None
    cos: dialect.Choice = None
    sgd: dialect.Choice = None
    learning_rate: dialect.Number = None
    weight_decay: dialect.Number = None
    adamw_lr: dialect.Number = None
    adamw_weight_decay: dialect.Number = None
    baselines: dialect.Switch = True
    full_data: dialect.Switch = False
    train_dir: dialect.Path = None


def as_script(options: Recover, layer: Layer) -> tuple[Layer, Sequence[str]]:
    """Adds what the script does where neither settings nor a method are named."""
    usual = (
        options.preset
        or options.config_path
        or "method" in layer
        or layer.get("dataset_name", ("digits",))[0] == "digits"
    )
    return layer if usual else {**configs.layer(SCRIPT, OF_SCRIPT), **layer}, ()


def mixing(options: Labelled, layer: Layer) -> tuple[Layer, Sequence[str]]:
    """Adds how --mix-type, --cutmix and --mixup have images mixed.

    Raises:
        UsageError: an unknown way of mixing, or two.
    """
    alphas = {name: alpha for name in MIXES if (alpha := getattr(options, name, None)) is not None}
    if options.mix_type is not None:
        name = choose(options.mix_type.lower(), MIXES, kind="way of mixing", where="--mix-type")
        return {**layer, **configs.layer({"mix": name, "mix_alpha": alphas.get(name, MIXES[name])}, "--mix_type")}, ()
    if len(alphas) > 1:
        raise UsageError("two ways of mixing", where="--cutmix and --mixup", remedy="name one by --mix-type")
    chosen = {name: configs.layer({"mix": name, "mix_alpha": alpha}, f"--{name}") for name, alpha in alphas.items()}
    return {**layer, **next(iter(chosen.values()), {})}, ()


def of_students(options: Validate, layer: Layer) -> tuple[Layer, Sequence[str]]:
    """Adds the optimiser that --sgd, --cos and the rates of both optimisers mean.

    Raises:
        UsageError: as in `mixing`.
    """
    adamw = options.adamw_lr is not None or options.adamw_weight_decay is not None
    sgd = options.learning_rate is not None and not adamw if options.sgd is None else options.sgd
    said = options.sgd is not None or sgd or adamw  # else it is the set's own optimiser that --weight-decay is for
    meant = {
        "schedule": (None if options.cos is None else "cosine" if options.cos else "linear", "--cos"),
        "optimizer": (("sgd" if sgd else "adamw") if said else None, "--sgd"),
        "eval_lr": (options.learning_rate, "--learning_rate") if sgd else (options.adamw_lr, "--adamw_lr"),
        "weight_decay": (options.adamw_weight_decay, "--adamw_weight_decay")
        if said and not sgd
        else (options.weight_decay, "--weight_decay"),
    }
    recipe = {name: Value(*value) for name, value in meant.items() if value[0] is not None}
    return mixing(options, {**layer, **recipe})


_LOG = "everything is in log.txt, and the losses of every chunk in recovered/manifest.json"
_PROCESSES = "images are read by JAX's process; devices are chosen with --devices, parts of a job with --shard"
_SHOWN = {"workers": _PROCESSES, "print_freq": "progress is shown live"}
_DATASET = {"dataset": ("--dataset_name", "-d")}
_ARCHITECTURE = {"arch_name": ("--arch", "--model", "-a"), "arch_path": ("--teacher_path",)}
_CHAIN = {**OTHERS, **_DATASET, **_ARCHITECTURE}
_STUDENT = {"batch_size": "batch_size", "epochs": "epochs", "min_scale_crops": "min_scale", "fkd_seed": "label_seed"}

SQUEEZE = Dialect(
    Squeeze,
    settings={
        "dataset": "dataset_name",
        "arch_name": "arch_name",
        "width": "width",
        **{name: f"squeeze.{name}" for name in ("epochs", "batch_size", "momentum", "weight_decay")},
        "lr": "squeeze.learning_rate",
        "lr_warmup_epochs": "squeeze.warmup_epochs",
    },
    homes={"": (ChainSettings,), "squeeze": (TeacherRecipe,)},
    others={
        **_CHAIN,
        "batch_size": ("-b",),
        "lr": ("--learning_rate",),
        "weight_decay": ("--wd",),
        "workers": ("-j",),
    },
    no_effect={**_SHOWN, "lr_scheduler": "it is always the cosine"},
    hint=dialect.AS_PUBLISHED,
)
_RECOVERED = ("method", "jitter", "r_bn", "first_bn_multiplier", "tv_l2", "l2_scale", "easy2hard_mode", "milestone")
RECOVER = Dialect(
    Recover,
    settings={
        **{name: name for name in (*_RECOVERED, "batch_size", "arch_name", "width")},
        "dataset": "dataset_name",
        "iteration": "iterations",
        "lr": "lr_img",
        "ipc_end": "n_images",
    },
    homes={"": (Recovery, ChainSettings)},
    others={
        **_CHAIN,
        "ipc_end": ("--ipc", "--n_images"),
        "iteration": ("--iterations",),
        "jitter": ("--image_shifting",),
        "lr": ("--learning_rate",),
        "verifier_arch_path": ("--verifier_path",),
    },
    no_effect={"num_classes": "the data set says it", "G": _PROCESSES, "wandb_key": _LOG},
    called={"teacher": "arch_path"},
    hint="(default: the preset's, else the script's)",
    translate=as_script,
)
RELABEL = Dialect(
    Relabel,
    settings={**_STUDENT, "keep_epochs": "pool"},
    homes={"": (SoftSettings,)},
    others={**_CHAIN, "batch_size": ("-b",), "checkpoint_path": ("--data",), "workers": ("-j",)},
    no_effect={
        "use_fp16": "logits are always stored in 16 bits",
        "mode": "labels are saved by relabel and read by validate",
        **dict.fromkeys(("workers", "gpu"), _PROCESSES),
        **dict.fromkeys(("input_size", "resolution"), "the set's images say it"),
        "random_seed": "the labels' seed is --fkd-seed",
        "checkpoint_every": "every epoch is kept as soon as it is labelled",
    },
    switches=("use_fp16",),
    called={"teacher": "arch_path"},
    hint=dialect.AS_PUBLISHED,
    translate=mixing,
)
VALIDATE = Dialect(
    Validate,
    settings={
        **_STUDENT,
        "width": "width",
        "momentum": "momentum",
        "temperature": "temperature",
        "repeat": "models_to_test",
    },
    homes={"": (SoftSettings,)},
    others={
        **OTHERS,
        **_DATASET,
        "arch_path": ("--teacher_path",),
        "batch_size": ("-b",),
        "checkpoint_path": ("--data",),
        "learning_rate": ("--lr", "-lr"),
        "model": ("--arch_name", "-a"),
        "repeat": ("--models_to_test",),
        "temperature": ("-T",),
        "weight_decay": ("--wd",),
        "workers": ("-j",),
    },
    no_effect={
        "gradient_accumulation_steps": "the batch is what decides; --set micro=512 is what the script's 2 means",
        "start_epoch": "the same command continues by itself",
        "keep_topk": "it does nothing in the script either; --prune keeps the largest logits",
        "val_dir": "the test images come with --dataset and --data_path",
        "workers": _PROCESSES,
        **dict.fromkeys(("wandb_project", "wandb_api_key"), _LOG),
    },
    called={"teacher": "arch_path"},
    hint=dialect.AS_PUBLISHED,
    translate=of_students,
)
