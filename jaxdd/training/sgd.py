"""Classifiers by stochastic gradient descent, exactly as PyTorch's SGD moves them (no dampening, no Nesterov).

    g     <- gradient of the mean cross-entropy + weight_decay * theta
    buf   <- momentum * buf + g                   buf = 0 before the first step
    theta <- theta - learning_rate * buf

| symbol | here                                                                   |
|--------|------------------------------------------------------------------------|
| theta  | `Trained.variables["params"]`: all of them, biases and normalisation too |
| buf    | `Trained.momentum`                                                     |

The learning rate stands outside the buffer, as in PyTorch: when it falls, the momentum gathered so far counts less at
once. This is what the gradient-matching methods train their networks by (DC arXiv 2006.05929, IDC 2205.14959).

Training a classifier by SGD on the cross-entropy, with augmentation and CutMix, as a `Procedure`.

The gradient-matching methods (DC arXiv 2006.05929, DSA 2102.08259, IDC 2205.14959 and what descends from it) train all
their networks so: on real data before and while they match gradients, on the distilled set when it is evaluated.

A batch is a uniform draw without replacement, another one at every step; the authors go through shuffled epochs, whose
last batch may be smaller. A single step is distributed alike; but here an image may come twice
within as many steps as an epoch has.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int32

from jaxdd import augment
from jaxdd.core import backend, trees
from jaxdd.core.procedure import BatchRule, Procedure
from jaxdd.core.random import purpose_key
from jaxdd.core.types import Array, Examples, Key, Metrics, PyTree
from jaxdd.models.network import Network
from jaxdd.training.schedules import multi_step


class Trained(NamedTuple):
    """A network in training.

    Arguments:
        variables: `params` and perhaps `batch_stats`.
        momentum: the buffer, shaped as `params`.
    """

    variables: PyTree[Float[Array, "..."]]
    momentum: PyTree[Float[Array, "..."]]

    @property
    def params(self) -> PyTree:
        """The parameters."""
        return self.variables["params"]


def fresh(network: Network, key: Key, dtype: Any = jnp.float32) -> Trained:
    """Returns a newly initialised network."""
    return at_rest(network.init(key, dtype))


def at_rest(variables: PyTree) -> Trained:
    """Returns a network with these variables and no momentum, as with a new optimiser."""
    return Trained(variables, trees.zeros_like(variables["params"]))


def cross_entropy(logits: Array, targets: Array) -> Array:
    """Returns the sum over images of `-sum_k targets_k log softmax(logits)_k`.

    Arguments:
        logits, targets: `[n, classes]`; targets are probabilities, one-hot for hard labels.
    """
    return -jnp.sum(targets * jax.nn.log_softmax(logits))


def update(
    network: Network,
    trained: Trained,
    images: Array,
    targets: Array,
    *,
    learning_rate: float | Array,
    momentum: float,
    weight_decay: float,
) -> tuple[Trained, Metrics]:
    """Trains a network for one step on the mean cross-entropy of one batch.

    Arguments:
        images: `[n, height, width, channels]`, in the space that the network sees.
        targets: `[n, classes]` probabilities.
        learning_rate, momentum, weight_decay: >= 0; the first may be a scalar on the device.

    Returns:
        The network after the step, and `loss`, the mean cross-entropy before it (without the weight decay).
    """
    count = len(targets)

    def gradient(batch: tuple[Array, Array]) -> tuple[tuple[Array, PyTree], PyTree]:
        images, targets = batch

        def loss(params: PyTree) -> tuple[Array, PyTree]:
            outputs = network.apply({**trained.variables, "params": params}, images, train=True)
            return cross_entropy(outputs.logits, targets) / count, outputs.variables

        return jax.value_and_grad(loss, has_aux=True)(trained.params)

    if "batch_stats" in trained.variables:  # which couple the images of a batch
        (value, variables), slope = gradient((images, targets))
    else:
        value, slope = backend.accumulate(lambda batch: _without_variables(gradient(batch)), (images, targets))
        variables = trained.variables
    return descend(
        Trained(variables, trained.momentum),
        slope,
        learning_rate=learning_rate,
        momentum=momentum,
        weight_decay=weight_decay,
    ), {"loss": value}


def descend(
    trained: Trained, gradient: PyTree, *, learning_rate: float | Array, momentum: float, weight_decay: float
) -> Trained:
    """Takes the step of the module's header, for a gradient without weight decay.

    Arguments:
        gradient: shaped as `params`, without the weight decay.
        learning_rate, momentum, weight_decay: as in `update`.
    """
    decayed = trees.add(gradient, trees.scale(weight_decay, trained.params))
    buffer = trees.add(trees.scale(momentum, trained.momentum), decayed)
    params = trees.subtract(trained.params, trees.scale(learning_rate, buffer))
    return Trained({**trained.variables, "params": params}, buffer)


def _without_variables(result: tuple[tuple[Array, PyTree], PyTree]) -> tuple[Array, PyTree]:
    (value, _), slope = result
    return value, slope


Kind = Literal["none", "diffaug", "dsa", "dc", "imagenet"]


class ClassifierState(NamedTuple):
    """All that a training holds.

    Arguments:
        step: steps done.
        trained: the network and its momentum.
    """

    step: Int32[Array, ""]
    trained: Trained


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
        return ClassifierState(jnp.zeros((), jnp.int32), fresh(self.network, key, _type_of(data)))

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
        trained, metrics = update(
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
