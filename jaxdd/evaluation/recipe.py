"""Evaluation recipes: how networks are trained on a distilled set. The defaults are the RCIG paper's protocol."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from jaxdd import models
from jaxdd.core.config import ConfigFile, build, setting
from jaxdd.core.precision import Precision
from jaxdd.models.network import Network
from jaxdd.training.trainer import NetworkTraining


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The published protocol: Adam, linear warm-up, cosine to 1 %, five networks, without and with augmentation."""

    eval_arch: str = setting("conv", "architecture: conv, resnet, vgg or alexnet")
    width: int = setting(128, "channels of the network's first block", low=1)
    depth: int | None = setting(None, "blocks of the ConvNet; null: by resolution", low=1)
    normalization: str = setting("identity", "identity, batch, instance, layer or group")
    eval_lr: float = setting(1e-4, "Adam learning rate after the warm-up", low=0)
    warmup_steps: int = setting(500, "steps of linear warm-up", low=0)
    steps: int | None = setting(None, "steps of the schedule; null: 1000 for exactly 10 images, else 2000", low=1)
    plain_steps: int | None = setting(
        None, "training steps without augmentation; null: 2.5 times `steps` as published", low=1
    )
    batch_size: int = setting(256, "training images per step, for sets of more than this many", low=1)
    models_to_test: int = setting(5, "networks trained, each from its own initialisation", low=1)
    test_aug: str | None = setting(
        "flip_color_crop_rotate_translate_cutout", "augmentation of the augmented runs; null: none of them"
    )
    precision: Precision = setting("float32", "activations in float32 or bfloat16; all else stays float32")

    @classmethod
    def of(cls, stored: Mapping[str, Any], **overrides: Any) -> Recipe:
        """The recipe stored with a set, with the overrides that are not None.

        Raises:
            ConfigError: an unknown name, a wrong type or a value out of range.
        """
        given = {name: value for name, value in overrides.items() if value is not None}
        return build(ConfigFile("recipe", {**stored, **given}), {"recipe": cls})["recipe"]

    def network(self, image_shape: tuple[int, int, int], classes: int) -> Network:
        """The architecture; always with ReLU, whatever the set was distilled with."""
        return models.build(
            self.eval_arch,
            image_shape=image_shape,
            classes=classes,
            width=self.width,
            depth=self.depth if self.eval_arch == "conv" else None,
            normalization=self.normalization,
            precision=self.precision,
        )

    def training(self, network: Network, stored: int, *, augmented: bool) -> tuple[NetworkTraining, int]:
        """One training as a procedure, and its number of steps.

        Arguments:
            stored: images in the set before mirroring; the published step and batch rules count these.
            augmented: with `test_aug`, else without augmentation, where training goes on after the schedule's end.
        """
        schedule = self.steps or (1000 if stored == 10 else 2000)
        procedure = NetworkTraining(
            network,
            learning_rate=self.eval_lr,
            warmup_steps=self.warmup_steps,
            schedule_steps=schedule,
            batch_size=self.batch_size if stored > self.batch_size else None,
            augment=self.test_aug if augmented else None,
            resolution=network.image_shape[0],
        )
        return procedure, schedule if augmented else self.plain_steps or schedule * 5 // 2
