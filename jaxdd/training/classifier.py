"""Training a classifier by SGD on the cross-entropy, with augmentation and CutMix, as a `Procedure`.

The gradient-matching methods (DC arXiv 2006.05929, DSA 2102.08259, IDC 2205.14959 and what descends from it) train all
their networks so: on real data before and while they match gradients, on the distilled set when it is evaluated.

A batch is a uniform draw without replacement, another one at every step; the authors go through shuffled epochs, whose
last batch may be smaller. A single step is distributed alike; but here an image may come twice
within as many steps as an epoch has.
"""

from __future__ import annotations

import dataclasses
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Int32

from jaxdd import augment
from jaxdd.core.procedure import BatchRule, Procedure
from jaxdd.core.random import purpose_key
from jaxdd.core.types import Array, Examples, Key, Metrics, PyTree
from jaxdd.models.network import Network
from jaxdd.training import sgd
from jaxdd.training.schedules import multi_step

Kind = Literal["none", "diffaug", "dsa", "dc", "imagenet"]


class ClassifierState(NamedTuple):
    """All that a training holds.

    Arguments:
        step: steps done.
        trained: the network and its momentum.
    """

    step: Int32[Array, ""]
    trained: sgd.Trained


@dataclasses.dataclass(frozen=True)
class ClassifierTraining(Procedure[ClassifierState]):
    """SGD on the mean cross-entropy; its result is the network's variables.

    Arguments:
        network: what is trained.
        learning_rate: before the first milestone.
        milestones: steps at which the rate is multiplied by `factor`.
        factor: see `milestones`.
        restart: whether the momentum is lost at every milestone too: DC makes a new optimiser there.
        momentum, weight_decay: of `sgd`.
        batch_size: examples per step; None for all.
        kind: which family's augmentation: IDC's `diffaug`, DSA's `dsa`, DC's `dc`, `imagenet` crops and colours, or
            `none`.
        strategy: for all but `imagenet`, such as `color_crop_flip_scale_rotate`; every image has its own draws.
        resolution: side of the images in pixels, which augmentations scale with.
        mix_p: probability that a batch goes through CutMix.
        mix_beta: both parameters of the Beta distribution of its share.
    """

    network: Network
    learning_rate: float = 0.01
    milestones: tuple[int, ...] = ()
    factor: float = 0.2
    restart: bool = False
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch_size: int | None = None
    kind: Kind = "none"
    strategy: str = ""
    resolution: int = 32
    mix_p: float = 0.0
    mix_beta: float = 1.0

    @property
    def batch_rule(self) -> BatchRule:
        """The whole set, or a uniform batch."""
        return BatchRule("all") if self.batch_size is None else BatchRule("uniform", self.batch_size)

    def init(self, key: Key, data: Examples) -> ClassifierState:
        """Returns a fresh network."""
        return ClassifierState(jnp.zeros((), jnp.int32), sgd.fresh(self.network, key, _type_of(data)))

    def step(self, state: ClassifierState, batch: Examples, key: Key) -> tuple[ClassifierState, Metrics]:
        """Trains for one step; `batch.labels` are class indices `[n]` or probabilities `[n, classes]`.

        Images with `constants` are standardised on their way into the network.
        """
        targets, augmented = probabilities(batch), augmentation(self.kind, self.strategy, self.resolution)
        if self.kind == "imagenet":  # which works on pixels
            images = batch.standardise(augmented(purpose_key(key, "augment"), batch.images))
        else:
            images = augmented(purpose_key(key, "augment"), batch.standardise(batch.images))
        if self.mix_p:
            mixing = {"probability": self.mix_p, "beta": self.mix_beta}
            images, targets = augment.cutmix(purpose_key(key, "cutmix"), images, targets, **mixing)
        trained = state.trained
        if self.restart:
            fresh = jnp.isin(state.step, jnp.asarray(self.milestones))
            trained = trained._replace(momentum=jax.tree.map(lambda m: jnp.where(fresh, 0, m), trained.momentum))
        trained, metrics = sgd.update(
            self.network,
            trained,
            images,
            targets,
            learning_rate=multi_step(self.learning_rate, milestones=self.milestones, factor=self.factor)(state.step),
            momentum=self.momentum,
            weight_decay=self.weight_decay,
        )
        return ClassifierState(state.step + 1, trained), metrics

    def result(self, state: ClassifierState) -> PyTree:
        """Returns the trained variables."""
        return state.trained.variables


def probabilities(batch: Examples) -> Array:
    """Returns the labels as `[n, classes]`: one-hot where they are class indices, else as they are."""
    if batch.labels.ndim == 2:
        return batch.labels
    return jax.nn.one_hot(batch.labels, batch.classes, dtype=_type_of(batch))


def augmentation(kind: Kind, strategy: str, resolution: int) -> augment.Augmentation:
    """Returns the augmentation that a training's settings name.

    Raises:
        UsageError: an unknown operation in the strategy.
    """
    if kind == "diffaug":
        return augment.diffaug(strategy, resolution, siamese=False)
    if kind == "dsa":
        return augment.dsa(strategy, resolution, siamese=False)
    if kind == "dc":
        return augment.dc(strategy)
    if kind == "imagenet":
        return augment.imagenet(resolution)
    return lambda key, images: images


def _type_of(data: Examples) -> jnp.dtype:
    """Returns the type of parameters and targets: that of the images, but at least float32."""
    return jnp.promote_types(data.images.dtype, jnp.float32)
