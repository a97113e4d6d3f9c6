"""The flags of `squeeze`, `recover`, `relabel` and `validate`, under the names of the SRe2L and CDA scripts.

None in place of a default means that the preset or the config file decides, and without them the script's default in
`SCRIPT`, or what is published for the data set. Flags of the scripts that nothing here needs are taken, with a notice.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any

import tyro

from jaxdd.cli.flags import kinds
from jaxdd.cli.flags.kinds import T

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

_LOG = "everything is in log.txt, and the losses of every chunk in recovered/manifest.json"
_PROCESSES = "images are read by JAX's process; devices are chosen with --devices, parts of a job with --shard"
NO_EFFECT = {  # flag -> why
    "G": _PROCESSES,
    "gpu": _PROCESSES,
    "workers": _PROCESSES,
    "wandb_key": _LOG,
    "wandb_project": _LOG,
    "wandb_api_key": _LOG,
    "mode": "labels are saved by relabel and read by validate",
    "use_fp16": "logits are always stored in 16 bits",
    "keep_topk": "it does nothing in the script either; --prune keeps the largest logits",
    "num_classes": "the data set says it",
    "input_size": "the set's images say it",
    "start_epoch": "the same command continues by itself",
    "gradient_accumulation_steps": "the batch is what decides; --set micro=512 is what the script's 2 means",
    "val_dir": "the test images come with --dataset and --data_path",
    "lr_scheduler": "it is always the cosine",
    "print_freq": "progress is shown live",
}


def _ignoring(*names: str) -> Callable[[type[T]], type[T]]:
    """Adds flags of the scripts that have no effect."""

    def more(name: str) -> Any:
        text, nothing = f"Accepted as in the script: {NO_EFFECT[name]}.", "(no effect here)"
        if name == "workers":
            return kinds.made(str, text, nothing, "-j", metavar="N")
        return kinds.made(bool if name == "use_fp16" else str, text, nothing)

    return lambda flags: kinds.extended(flags, {name: more(name) for name in names})


@dataclasses.dataclass(frozen=True)
class Shared:
    """Flags of all four commands.

    Arguments:
        dataset: cifar10, cifar100, tiny_imagenet, imagenet1k, imagenet10, or your own as folder:DIR, npz:FILE,
            parquet:DIR.
        data_path: Folder with local files in DIR/<dataset>/, also --data_dir; otherwise TensorFlow Datasets' folder.
        preset: Published settings: cifar100, tiny, in1k or in21k, or digits; with --method, those of another method.
        config_path: Config file: a path, or the name of a packaged one such as cda/cda_tiny.
        set: Overrides a setting, e.g. crop=false, squeeze.epochs=10, recipe.ema=0.99; the value is JSON or a plain
            word.
        random_seed: Seed of every random choice, also --seed.
        resolution: Side in pixels that images are resized to, also --size; otherwise the data set's own.
        stream: Read a folder's images while they are needed: auto (if they would fill memory), always or never.
        checkpoint_every: Minutes between two checkpoints of the state.
        devices: Number of devices, or all, among which squeeze and recover split their batches; otherwise one.
        debug: Show the traceback of an error.
    """

    dataset: Annotated[str | None, kinds.shown("NAME", "(default: the preset's, else digits)", "-d")] = None
    data_path: kinds.Path = None
    preset: Annotated[str | None, kinds.shown("NAME")] = None
    config_path: kinds.Path = None
    set: kinds.Assignments = ()
    random_seed: kinds.Int = 0
    resolution: kinds.OptionalInt = None
    stream: Annotated[str, kinds.shown("MODE", kinds.default)] = "auto"
    checkpoint_every: kinds.Number = 5.0
    devices: kinds.OptionalInt = None
    debug: kinds.Switch = False


@_ignoring("lr_scheduler", "workers", "print_freq")
@dataclasses.dataclass(frozen=True)
class Squeeze(Shared):
    """Trains the teacher of SRe2L, CDA and their successors on the real images, or imports one.

    What is not said is as published for the data set. Running the same command again continues it.

    Arguments:
        output_dir: Folder of the teacher; otherwise ./teachers/<dataset>/<network>_<seed>.
        arch_name: resnet18, resnet34, resnet50, resnet101, vit or conv, also --model.
        arch_path: Import these weights instead: a safetensors file with the names of torchvision or timm.
        width: Channels: of a ResNet 128 stands for the published ones, 64 to 512.
        epochs: Epochs of training.
        batch_size: Images per step.
        lr: Learning rate of SGD after the warm-up.
        momentum: Momentum of SGD.
        weight_decay: Weight decay.
        lr_warmup_epochs: Epochs of linear warm-up.
    """

    output_dir: kinds.Path = None
    arch_name: Annotated[str | None, kinds.shown("NAME", kinds.AS_PUBLISHED, "-a")] = None
    arch_path: kinds.Path = None
    width: kinds.PublishedInt = None
    epochs: kinds.PublishedInt = None
    batch_size: Annotated[int | None, kinds.shown("N", kinds.AS_PUBLISHED, "-b")] = None
    lr: kinds.PublishedNumber = None
    momentum: kinds.PublishedNumber = None
    weight_decay: kinds.PublishedNumber = None
    lr_warmup_epochs: kinds.PublishedInt = None


@_ignoring("num_classes", "G", "wandb_key")
@dataclasses.dataclass(frozen=True)
class Recover(Shared):
    """Synthesises images from a teacher: SRe2L, CDA, RDED, SRe2L++, FADRM.

    The flags are those of recover_cda_{tiny,in1k,in21k}.py and of SRe2L's data_synthesis.py. Running the same command
    again continues it; finished images are never made again.

    Arguments:
        method: sre2l, cda, rded, sre2l_pp or fadrm, with what it has published for the data set; else CDA's script.
        exp_name: Name of the output folder, in --syn-data-path.
        syn_data_path: Where output folders are; the images lie in DIR/NAME/images.
        output_dir: Output folder, in place of the two above.
        store_best_images: Also write every image into the published folders,
            images/new<class>/class<class>_id<ipc>.jpg.
        store_last_images: The same under another name: the last iterate is what is kept, in the scripts too.
        batch_size: Distinct classes that are recovered together; the statistics' group is --set statistics_group=N.
        iteration: Iterations for every image.
        lr: Learning rate of Adam on the images, which falls to 0 by a cosine.
        jitter: Images are rolled by 0 to so many pixels (32; small images 4), also --image_shifting.
        r_bn: Weight of the batch normalisations' statistics.
        first_bn_multiplier: Weight of the first one among them.
        tv_l2: Weight of the total variation.
        l2_scale: Weight of the images' norms.
        easy2hard_mode: How the least crop falls from the whole image to 0.08: step, linear or cosine.
        milestone: By which share of the iterations, in [0, 1]; 0, the script's default, is SRe2L.
        arch_name: The teacher's architecture: resnet18, resnet34, resnet50, resnet101, vit or conv.
        arch_path: The teacher: a folder that squeeze made, or a safetensors file with the names of torchvision or timm.
            Of several each iteration takes the next, and their labels are averaged.
        width: Channels of the teacher; a folder knows its own.
        ipc_start: First image of every class.
        ipc_end: One after the last image of every class, also --ipc.
        verifier: Log the accuracy of a second network on the recovered images.
        verifier_arch: Its architecture; needed for a safetensors file.
        verifier_arch_path: The second network: a folder that squeeze made or a safetensors file, also --verifier-path.
        shard: Recover only part I of N, 0 to N - 1: such jobs may run anywhere at the same time, into one folder or
            several.
        merge: Only check that these folders hold every image, and make one set of them in the output folder.
    """

    method: Annotated[str | None, kinds.shown("NAME", "(default: the config's, else cda)")] = None
    exp_name: Annotated[str, kinds.shown("NAME", kinds.default)] = "test"
    syn_data_path: Annotated[str, kinds.shown("DIR", kinds.default)] = "./syn-data"
    output_dir: kinds.Path = None
    store_best_images: kinds.Switch = False
    store_last_images: kinds.Switch = False
    batch_size: kinds.ScriptInt = None
    iteration: kinds.ScriptInt = None
    lr: kinds.ScriptNumber = None
    jitter: kinds.ScriptInt = None
    r_bn: kinds.ScriptNumber = None
    first_bn_multiplier: kinds.ScriptNumber = None
    tv_l2: kinds.ScriptNumber = None
    l2_scale: kinds.ScriptNumber = None
    easy2hard_mode: Annotated[str | None, kinds.shown("MODE", kinds.AS_IN_SCRIPT)] = None
    milestone: kinds.ScriptNumber = None
    arch_name: Annotated[str | None, kinds.shown("NAME", kinds.AS_PUBLISHED, "-a")] = None
    arch_path: kinds.Paths = ()
    width: kinds.PublishedInt = None
    ipc_start: kinds.Int = 0
    ipc_end: Annotated[int | None, kinds.shown("N", "(default: the preset's or the method's, else 1)")] = None
    verifier: kinds.Switch = False
    verifier_arch: Annotated[str, kinds.shown("NAME", kinds.default)] = "mobilenet_v2"
    verifier_arch_path: kinds.Path = None
    shard: Annotated[str | None, kinds.shown("I/N")] = None
    merge: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], kinds.shown("DIR", "(one or several)")] = ()


@dataclasses.dataclass(frozen=True)
class Labelled(Shared):
    """Flags of the commands that make soft labels, or train by them.

    Arguments:
        checkpoint_path: Output folder of recover, also --data.
        min_scale_crops: Smallest area of a crop.
        fkd_seed: Seed of crops, flips, mixes and of the order.
        mix_type: cutmix, mixup or none.
        mixup: Both parameters of mixup's Beta distribution.
        cutmix: Both parameters of CutMix's Beta distribution; 1 as published.
    """

    checkpoint_path: kinds.Path = None
    min_scale_crops: kinds.PublishedNumber = None
    fkd_seed: kinds.PublishedInt = None
    mix_type: kinds.PublishedText = None
    mixup: kinds.PublishedNumber = None
    cutmix: kinds.PublishedNumber = None


@_ignoring("use_fp16", "mode", "workers", "input_size", "gpu")
@dataclasses.dataclass(frozen=True)
class Relabel(Labelled):
    """Stores the teacher's logits for every epoch of a student (FKD); crops and mixes are made again from the seed.

    Nothing has to be stored: validate asks the teacher itself where there are no labels.

    Arguments:
        output_dir: Where results of the set lie; otherwise in that folder.
        fkd_path: Folder of the labels; otherwise labels/ in the output folder.
        arch_name: The labeller's architecture, of a safetensors file; a folder knows its own.
        arch_path: The labellers: folders that squeeze made, or safetensors files; otherwise the set's own teachers.
        width: Channels of the labeller, of a safetensors file.
        batch_size: Images per batch, the same as in training.
        epochs: Epochs to label.
        max_scale_crops: Largest area of a crop; 1 is the only one that training knows.
        prune: Keep only the so many largest logits of each image.
        keep_epochs: Store the labels of so many epochs, which training then goes through again and again.
        dry_run: Say how large the labels would be, and stop.
    """

    output_dir: kinds.Path = None
    fkd_path: kinds.Path = None
    arch_name: Annotated[str | None, kinds.shown("NAME", "(default: resnet18)", "-a")] = None
    arch_path: kinds.Paths = ()
    width: kinds.PublishedInt = None
    batch_size: Annotated[int | None, kinds.shown("N", kinds.AS_PUBLISHED, "-b")] = None
    epochs: kinds.PublishedInt = None
    max_scale_crops: kinds.PublishedNumber = None
    prune: kinds.OptionalInt = None
    keep_epochs: kinds.OptionalInt = None
    dry_run: kinds.Switch = False


@_ignoring(
    "gradient_accumulation_steps", "start_epoch", "keep_topk", "val_dir", "workers", "wandb_project", "wandb_api_key"
)
@dataclasses.dataclass(frozen=True)
class Validate(Labelled):
    """Trains students on a recovered set by its soft labels, and on as many real images under the same recipe.

    The flags are those of train_FKD.py and train_KD.py; what is not said is the set's own recipe.

    Arguments:
        output_dir: Folder of eval.json; otherwise beside the set.
        save_name: Name of the result file, without .json.
        fkd_path: Folder of stored labels; otherwise labels/ beside the set, and without them the teacher labels online.
        online: Ask the teacher even where labels are stored.
        arch_path: The labellers: folders that squeeze made; otherwise those beside the labels or the set, also
            --teacher-path.
        model: The student: resnet18, resnet50, conv, ...; several as resnet18,resnet50.
        width: Channels of the student.
        batch_size: Images per step.
        epochs: Epochs of training.
        cos: The learning rate falls by a cosine, else linearly.
        sgd: SGD in place of AdamW.
        learning_rate: Learning rate of SGD, also --lr.
        momentum: Momentum of SGD.
        weight_decay: Weight decay of SGD.
        adamw_lr: Learning rate of AdamW.
        adamw_weight_decay: Weight decay of AdamW, of tensors with more than one axis.
        temperature: Temperature of both softmaxes.
        repeat: Students for each row, also --models_to_test.
        baselines: Also train on as many random real images, and on as many chosen by k-means.
        full_data: Also train on the whole data set, for comparison.
        train_dir: The same as --checkpoint_path, as in the script.
    """

    output_dir: kinds.Path = None
    save_name: Annotated[str, kinds.shown("NAME", kinds.default)] = "eval"
    fkd_path: kinds.Path = None
    online: kinds.Switch = False
    arch_path: kinds.Paths = ()
    model: Annotated[str | None, kinds.shown("NAME", kinds.AS_PUBLISHED, "-a")] = None
    width: kinds.PublishedInt = None
    batch_size: Annotated[int | None, kinds.shown("N", kinds.AS_PUBLISHED, "-b")] = None
    epochs: kinds.PublishedInt = None
    cos: Annotated[bool | None, kinds.shown("[BOOL]", kinds.AS_PUBLISHED)] = None
    sgd: Annotated[bool | None, kinds.shown("[BOOL]", kinds.AS_PUBLISHED)] = None
    learning_rate: Annotated[float | None, kinds.shown("X", kinds.AS_PUBLISHED, "-lr")] = None
    momentum: kinds.PublishedNumber = None
    weight_decay: kinds.PublishedNumber = None
    adamw_lr: kinds.PublishedNumber = None
    adamw_weight_decay: kinds.PublishedNumber = None
    temperature: Annotated[float | None, kinds.shown("X", kinds.AS_PUBLISHED, "-T")] = None
    repeat: kinds.PublishedInt = None
    baselines: kinds.Switch = True
    full_data: kinds.Switch = False
    train_dir: kinds.Path = None
