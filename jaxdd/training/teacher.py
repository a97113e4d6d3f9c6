"""Teachers: networks trained on the real images, whose statistics and labels the distilled images carry ("squeeze").

SGD on the mean cross-entropy (`training.sgd`), in shuffled epochs, the learning rate constant within one
(`schedules.by_epoch`):

    eta_e = eta (0.01 + 0.99 e / k)                      e < k: linear warm-up
    eta_e = eta/2 (1 + cos(pi (e - k) / (E - k)))        e >= k

| symbol | here            | meaning                     |
|--------|-----------------|-----------------------------|
| eta    | `learning_rate` | the largest rate            |
| e, E   | `epochs`        | epoch from 0; how many      |
| k      | `warmup_epochs` | epochs of warm-up           |

| augmentation   | of each image by itself, before it is standardised                                |
|----------------|------------------------------------------------------------------------------------|
| `resized_crop` | a window of 8 to 100 % of the area, resized to the image's own side; then `flip`   |
| `pad_crop`     | a window of the image's own side out of it with 4 black pixels around; then `flip` |
| `flip`         | mirrored with probability 1/2: for images that were cropped where they were read   |
| `none`         |                                                                                    |

An epoch is one permutation of the images; its last batch, which may lack some, is filled up from the permutation's
start. Source: SRe2L (arXiv 2306.13092) and CDA (2311.18838): zeyuanyin/tiny-imagenet for Tiny-ImageNet,
`squeeze_cifar.py` for the CIFARs. For ImageNet-1K they take torchvision's weights, for ImageNet-21K timm's: these are
imported (`models.imported`); our own recipe for ImageNet is torchvision's but for its schedule, which has steps.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int32, UInt32

from jaxdd.augment.imagenet import random_resized_crop
from jaxdd.augment.replay import padded_crop
from jaxdd.core.procedure import BatchRule, Procedure
from jaxdd.core.random import purpose_key
from jaxdd.core.types import Array, Examples, Key, Metrics, PyTree
from jaxdd.models.network import Network
from jaxdd.training import sgd
from jaxdd.training.recipe import Augmentation, TeacherRecipe

SCALE = (0.08, 1.0)  # of the area that `resized_crop` shows
PADDING = 4  # pixels around the image of which `pad_crop` shows a window


class SqueezeState(NamedTuple):
    """A teacher in training.

    Arguments:
        step: steps done.
        order: data of the key that the epochs' permutations come from.
        total: sum of the losses of this epoch's steps.
        trained: the network and its momentum.
    """

    step: Int32[Array, ""]
    order: UInt32[Array, " words"]
    total: Float[Array, ""]
    trained: sgd.Trained


@dataclasses.dataclass(frozen=True)
class Squeeze(Procedure[SqueezeState]):
    """Training of a teacher; its result is the network's variables.

    It reads the whole resident set, as uint8 or as floats in [0, 1], which its `constants` standardise; or, where
    `streamed`, the batches of a stream, shuffled by it.

    Arguments:
        network: what is trained.
        recipe: how.
        steps_per_epoch: batches that an epoch has.
        streamed: whether batches come from a stream.
    """

    network: Network
    recipe: TeacherRecipe
    steps_per_epoch: int
    streamed: bool = False

    @property
    def steps(self) -> int:
        """Number of steps of the whole training."""
        return self.recipe.epochs * self.steps_per_epoch

    @property
    def batch_rule(self) -> BatchRule:
        """The whole set, from which a step takes its rows; or the batches of a stream."""
        return BatchRule("stream", self.recipe.batch_size) if self.streamed else BatchRule("all")

    def init(self, key: Key, data: Examples) -> SqueezeState:
        """Returns a fresh network."""
        order = jax.random.key_data(purpose_key(key, "order"))
        trained = sgd.fresh(self.network, key, jnp.promote_types(data.dtype, jnp.float32))
        return SqueezeState(jnp.zeros((), jnp.int32), order, jnp.zeros(()), trained)

    def step(self, state: SqueezeState, batch: Examples, key: Key) -> tuple[SqueezeState, Metrics]:
        """Trains the teacher for one step; `batch.labels` are class indices.

        Returns:
            `loss` of this batch and `epoch_loss`, the mean since the epoch began, both before the step.
        """
        epoch, place = jnp.divmod(state.step, self.steps_per_epoch)
        if not self.streamed:
            chosen = {"count": len(batch), "size": self.recipe.batch_size}
            own = rows(jax.random.wrap_key_data(state.order), epoch, place, **chosen)
            batch = dataclasses.replace(batch, images=batch.take(own), labels=batch.labels[own])
        images = batch.standardise(augment(self.recipe.augmentation, key, batch.take(slice(None))))
        smooth = self.recipe.label_smoothing
        targets = (1 - smooth) * jax.nn.one_hot(batch.labels, batch.classes, dtype=images.dtype)
        trained, metrics = sgd.update(
            self.network,
            state.trained,
            images,
            targets + smooth / batch.classes,
            learning_rate=self.recipe.rate(epoch).astype(images.dtype),
            momentum=self.recipe.momentum,
            weight_decay=self.recipe.weight_decay,
        )
        total = jnp.where(place == 0, 0, state.total) + metrics["loss"].astype(state.total.dtype)
        told = {**metrics, "epoch_loss": total / (place + 1)}
        return SqueezeState(state.step + 1, state.order, total, trained), told

    def result(self, state: SqueezeState) -> PyTree:
        """Returns the trained variables."""
        return state.trained.variables


def rows(order: Key, epoch: Array | int, place: Array | int, *, count: int, size: int) -> Array:
    """Returns the rows of batch number `place` of an epoch over `count` images: `[size]` indices."""
    bits = jax.random.bits(jax.random.fold_in(order, epoch), (count,), jnp.uint32)
    return jnp.argsort(bits)[(place * size + jnp.arange(size)) % count]


def augment(name: Augmentation, key: Key, images: Array) -> Array:
    """Augments every image by itself.

    Arguments:
        name: see the module's table.
        images: `[n, side, side, channels]`, in a space where 0 is black.
    """
    if name == "none":
        return images
    if name == "resized_crop":
        images = random_resized_crop(purpose_key(key, "crop"), images, images.shape[1], SCALE)
    elif name == "pad_crop":
        images = padded_crop(purpose_key(key, "crop"), images, PADDING)
    mirrored = jax.random.bernoulli(purpose_key(key, "flip"), 0.5, (len(images), 1, 1, 1))
    return jnp.where(mirrored, images[:, :, ::-1], images)
