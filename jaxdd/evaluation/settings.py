"""The settings of the evaluation recipes, without the functions; a module that imports no JAX."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

from jaxdd.core.config import Mix, Precision, SoftKind, setting


@dataclasses.dataclass(frozen=True)
class RecipeSettings:
    """Settings that all recipes have; see the others for their defaults."""

    protocol: ClassVar[str]  # the name that a set stores

    eval_arch: str = setting("conv", "architecture, such as conv, resnet, vgg or alexnet")
    width: int = setting(128, "channels of the network's first block", low=1)
    depth: int | None = setting(None, "blocks of the ConvNet; null: by resolution", low=1)
    models_to_test: int = setting(5, "networks trained, each from its own initialisation", low=1)
    precision: Precision = setting("float32", "activations in float32 or bfloat16; all else stays float32")


@dataclasses.dataclass(frozen=True)
class RcigSettings(RecipeSettings):
    """RCIG's protocol (`recipe.Recipe`)."""

    protocol: ClassVar[str] = "rcig"

    normalization: str = setting("identity", "identity, batch, instance, layer or group")
    eval_lr: float = setting(1e-4, "Adam learning rate after the warm-up", low=0)
    warmup_steps: int = setting(500, "steps of linear warm-up", low=0)
    steps: int | None = setting(None, "steps of the schedule; null: 1000 for exactly 10 images, else 2000", low=1)
    plain_steps: int | None = setting(
        None, "training steps without augmentation; null: 2.5 times `steps` as published", low=1
    )
    batch_size: int = setting(256, "training images per step, for sets of more than this many", low=1)
    test_aug: str | None = setting(
        "flip_color_crop_rotate_translate_cutout", "augmentation of the augmented runs; null: none of them"
    )


@dataclasses.dataclass(frozen=True)
class SgdSettings(RecipeSettings):
    """Settings that the protocols of the matching methods share (`matching.SgdRecipe`)."""

    normalization: str | None = setting(None, "identity, batch, instance, layer or group; null: as published")
    momentum: float = setting(0.9, "momentum of SGD", low=0, high=1)
    dsa_strategy: str | None = setting(None, 'augmentation, e.g. color_crop_flip; null: as published; "": none')
    epochs: int | None = setting(None, "epochs of training; null: as published", low=1)


@dataclasses.dataclass(frozen=True)
class IdcSettings(SgdSettings):
    """IDC's protocol (`matching.IdcRecipe`)."""

    protocol: ClassVar[str] = "idc"

    models_to_test: int = setting(3, "networks trained, each from its own initialisation", low=1)
    eval_lr: float | None = setting(None, "learning rate; null: 0.01, and 0.1 for 100 classes of ImageNet", low=0)
    weight_decay: float | None = setting(None, "null: 5e-4, and 1e-4 for 100 classes of ImageNet", low=0)
    batch_size: int | None = setting(None, "images per step; null: 64, and 128 for 100 classes of ImageNet", low=1)
    mixup: Literal["cut", "vanilla"] | None = setting(None, "cut: CutMix; vanilla: no mixing; null: as published")
    mix_p: float | None = setting(None, "probability of CutMix; null: 0.5, and 1 for ImageNet", low=0, high=1)
    mix_beta: float = setting(1.0, "both parameters of CutMix's Beta distribution", low=1e-3)
    same_compute: bool = setting(False, "divide the epochs by the number of images that one image decodes to")
    tests: int = setting(4, "tests during one training, the last one included", low=1)


@dataclasses.dataclass(frozen=True)
class DcSettings(SgdSettings):
    """DC's protocol (`matching.DcRecipe`)."""

    protocol: ClassVar[str] = "dc"

    models_to_test: int = setting(20, "networks trained, each from its own initialisation", low=1)
    dsa_strategy: str | None = setting(None, "DSA's and DM's augmentation, e.g. color_crop_flip; null: DC's")
    dc_aug: str | None = setting(
        None, 'e.g. crop_scale_rotate; null: as published, that for mnist and crop_noise with BatchNorm; "": none'
    )
    eval_lr: float = setting(0.01, "learning rate", low=0)
    weight_decay: float = setting(5e-4, "of all parameters", low=0)
    batch_size: int = setting(256, "images per step", low=1)


@dataclasses.dataclass(frozen=True)
class SoftSettings(RecipeSettings):
    """Students that learn from a teacher (`students.SoftRecipe`); the defaults are RDED's and CDA's for ImageNet-1K."""

    protocol: ClassVar[str] = "soft"

    eval_arch: str = setting("torchvision_resnet", "architecture of the students, e.g. torchvision_resnet or conv")
    normalization: str = setting("batch", "of the ConvNet: batch, identity, instance, layer or group")
    models_to_test: int = setting(3, "networks trained, each from its own initialisation", low=1)
    epochs: int = setting(300, "epochs of training", low=1)
    batch_size: int = setting(100, "images per step; all, where there are fewer", low=1)
    micro: int | None = setting(None, "images that a student's batch normalisation sees at once; null: all", low=1)
    optimizer: Literal["adamw", "sgd"] = setting("adamw", "adamw or sgd")
    eval_lr: float = setting(1e-3, "largest learning rate", low=0)
    momentum: float = setting(0.9, "momentum of SGD", low=0, high=1)
    weight_decay: float = setting(0.01, "weight decay", low=0)
    decay_all: bool = setting(False, "decay biases and normalisations too")
    schedule: Literal["cosine", "linear"] = setting("cosine", "how the rate falls, epoch by epoch: cosine or linear")
    slowdown: float = setting(1.0, "the schedule is stretched by this: with 2 it ends at half the rate", low=1)
    warmup: int = setting(0, "of the epochs, those in which the rate rises", low=0)
    loss: SoftKind = setting("kl", "against the teacher's logits: kl, mse or cosine")
    temperature: float = setting(20.0, "of both softmaxes of kl", low=1e-3)
    squared: bool = setting(False, "multiply kl by the square of the temperature")
    ce_weight: float = setting(0.0, "of the cross-entropy against hard labels, beside it", low=0)
    ema: float = setting(0.0, "decay of the parameters' average that is tested; 0: none", low=0, high=0.999999)
    crop: Literal["resized", "padded", "none"] = setting("resized", "resized, padded or none")
    min_scale: float = setting(0.08, "least share of the area that a resized crop shows", low=1e-3, high=1)
    flip: bool | None = setting(None, "mirror images at random; null: unless they mean something else then")
    mix: Mix = setting("cutmix", "cutmix, mixup or none")
    mix_alpha: float = setting(1.0, "both parameters of its Beta distribution", low=1e-3)
    patches: int = setting(1, "tiles per side that are shuffled, for mosaics", low=1)
    batch_statistics: bool = setting(False, "the teacher normalises by the batch that it labels (BSSL)")
    group: int | None = setting(None, "of so many images at a time; null: the whole batch", low=1)
    teacher_weights: tuple[float, ...] | None = setting(None, "of the teachers' logits in their sum; null: the mean")
    label_seed: int | None = setting(
        None, "of order, crops and mixes; null: each student its own. Stored labels need one", low=0, high=2**32 - 1
    )
    pool: int = setting(0, "epochs of labels that are used again and again; 0: each epoch has its own", low=0)
    replacement: bool = setting(False, "draw batches from the pool with replacement")
    half: bool = setting(False, "round an online teacher's logits as stored ones are")
    tests: int = setting(5, "tests during one training, the last one included", low=1)


ALL = (IdcSettings, DcSettings, RcigSettings, SoftSettings)  # where several know a setting, the first takes most values
