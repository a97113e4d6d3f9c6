"""How SRe2L, CDA, RDED, SRe2L++ and FADRM are evaluated: students that learn from a teacher's answers.

`soft`: E epochs of batches of B images, their last accuracy, and the best of `tests` during training (chosen by the
test images: that is what the authors' tables hold). `students_published` has the settings for a method, a
data set and a number of images per class; the equations are in `training.soft_labels`.

The baselines, as many real images chosen at random or by k-means, have the same teachers and the same recipe: at 50
images per class they come close to the best published sets, so no figure means anything without them.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jaxdd import models
from jaxdd.augment.replay import Show
from jaxdd.core.errors import DataError
from jaxdd.core.types import Examples, PyTree
from jaxdd.data.large import Parts
from jaxdd.data.registry import one_way
from jaxdd.evaluation.base import BaseRecipe, Subject, Training
from jaxdd.evaluation.settings import SoftSettings
from jaxdd.evaluation.students_published import published
from jaxdd.models.network import Network
from jaxdd.training.soft_labels import Labeller, SoftLabelTraining
from jaxdd.training.soft_losses import SoftLoss
from jaxdd.training.soft_views import Views
from jaxdd.training.trainer import accuracy

PADDING = 8  # the frame of padded crops is this part of an image's side: 4 of 32 pixels


@dataclasses.dataclass(frozen=True)
class SoftRecipe(SoftSettings, BaseRecipe):
    """Settings of students; see the module's header.

    Arguments:
        teachers: the networks that label, whose variables `protocol.evaluate` is given; no setting, since a folder of
            teachers says what they are.
    """

    compact: ClassVar[bool] = True

    teachers: tuple[Network, ...] = ()

    @classmethod
    def published(cls, method: str, dataset: str, ipc: int, **sizes: Any) -> SoftRecipe:
        """Returns the recipe that was published; arguments as in `students_published.published`."""
        return cls(**published(method, dataset, ipc, **sizes))

    @property
    def architecture(self) -> str:
        """The name of the student: as in the scripts, such as `resnet50`, or that of the network."""
        return models.called(self.eval_arch, self.depth)

    def network(self, image_shape: tuple[int, int, int], classes: int, dataset: str = "") -> Network:
        """Returns the architecture as PyTorch draws it; the ConvNet's blocks all have `width` channels."""
        return self.built(image_shape, classes, normalization=self.normalization, **models.AS_IN_PYTORCH)

    def training(self, network: Network, subject: Subject, *, augmented: bool = True) -> Training:
        """Returns the training of one student for E epochs."""
        views = self.views(subject)
        per_epoch = views.steps_per_epoch(subject.images)
        procedure = SoftLabelTraining(
            network,
            self.labeller(views.batch_size),
            views,
            self.epochs,
            optimizer=self.optimizer,
            learning_rate=self.eval_lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            decay_all=self.decay_all,
            schedule=self.schedule,
            slowdown=self.slowdown,
            warmup=min(self.warmup, self.epochs - 1),
            loss=SoftLoss(self.loss, self.temperature, self.squared, self.ce_weight),
            ema=self.ema,
            micro=_dividing(views.batch_size, self.micro),
            half=self.half,
            streamed=subject.labelled,
        )
        every = self.epochs // self.tests * per_epoch if self.tests > 1 else 0
        return Training(procedure, self.epochs * per_epoch, every, self.tests if every else 1)

    def views(self, subject: Subject) -> Views:
        """Returns the views of a set: which images a step sees, and how they are shown."""
        flip = self.flip if self.flip is not None else not one_way(subject.dataset)
        show = Show(
            size=subject.resolution,
            scale=(self.min_scale, 1.0) if self.crop == "resized" else None,
            padding=max(1, subject.resolution // PADDING) if self.crop == "padded" else 0,
            flip=flip,
            mix=self.mix,
            alpha=self.mix_alpha,
            patches=self.patches,
        )
        return Views(show, min(self.batch_size, subject.images), self.label_seed, self.pool, self.replacement)

    def labeller(self, batch: int) -> Labeller:
        """Returns the teachers, who label batches of this size."""
        return Labeller(self.teachers, self.batch_statistics, _dividing(batch, self.group), self.teacher_weights)

    def ways(self, subject: Subject) -> tuple[bool, ...]:
        """Returns the one way of training: augmented."""
        return (True,)

    def check(self, resolution: int) -> None:
        """Refuses images that cannot be cut into `patches`."""
        image = jax.ShapeDtypeStruct((2, resolution, resolution, 1), jnp.float32)
        views = self.views(Subject(2, resolution=resolution))
        jax.eval_shape(views.show.show, jax.random.key(0), image)

    def summary(self, training: Training) -> str:
        """Describes a training by its optimiser, steps, loss, mixing and the teachers' mode."""
        how = training.procedure
        assert isinstance(how, SoftLabelTraining)
        micro = f" by {how.micro}" if how.micro else ""
        loss = (
            f"{self.loss} T {self.temperature:g}{' x T^2' if self.squared else ''}" if self.loss == "kl" else self.loss
        )
        parts = [f"{'AdamW' if self.optimizer == 'adamw' else 'SGD'} {self.eval_lr:g}, {self.schedule}"]
        parts += [f"{training.steps} steps of {how.views.batch_size} images{micro}", f"soft labels, {loss}"]
        parts += [f"CE {self.ce_weight:g}"] * (self.ce_weight > 0) + [self.mix] * (self.mix != "none")
        parts += ["batch statistics"] * self.batch_statistics + [f"average {self.ema:g}"] * (self.ema > 0)
        return ", ".join(parts)


def teacher_accuracies(
    teachers: tuple[Network, ...], variables: tuple[PyTree, ...], test: Examples | Parts
) -> list[float]:
    """Returns each teacher's accuracy on the real test images, in [0, 1]; refuses one that knows no more than chance.

    Arguments:
        teachers: the networks.
        variables: of each.
        test: the real test images as the networks see them, or raw with constants (`data.test_examples`).

    Raises:
        DataError: one of them does not know the classes: they are in another order, or the pixels in another space.
    """
    shares = [accuracy(network, of_teacher, test) for network, of_teacher in zip(teachers, variables, strict=True)]
    for number, reached in enumerate(shares):
        chance = 1 / test.classes
        if reached < chance + 2 * math.sqrt(chance * (1 - chance) / len(test)):
            raise DataError(
                f"teacher {number} classifies {100 * reached:.2f} % of the test images, no more than by chance",
                where=f"{len(test)} test images of {test.classes} classes",
                expected="a teacher whose classes are in the data set's order, trained on pixels of the same space",
                remedy="squeeze one on this very data set; for one from elsewhere, compare class names and constants",
            )
    return shares


def _dividing(batch: int, most: int | None) -> int | None:
    """Returns the largest divisor of the batch from 2 to `most`; None, for the whole batch, where there is none."""
    if most is None or most >= batch:
        return None
    return max((size for size in range(2, most + 1) if batch % size == 0), default=None)
