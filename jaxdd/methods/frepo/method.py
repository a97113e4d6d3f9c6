"""FRePo: dataset distillation using neural feature regression with pooling (arXiv 2206.00719).

One outer step, at one network p of a pool, on a batch of real images X_t with labels Y_t, one-hot minus 1/k:

    features  phi, what p's classifier reads; by the running statistics if p normalises by batch. phi(X_t) is constant
    kernels   K = phi(X) phi(X)^T and K_t = phi(X_t) phi(X)^T, with X mirrored (and Y repeated) first if `use_flip`
    predicted P = K_t (K + lambda tr(K) / n I)^-1 Y, as if p's classifier were trained on (X, Y) to convergence
    loss      mean_i |P_i - Y_t,i|^2 / 2 - mean_j min(top1(Y_j) - top2(Y_j), 1 / k), the margins without mirror images
    update    LAMB on X and Y, its rate falling to a tenth along a cosine over `schedule_steps`
    pool      p makes one Adam step on the updated (X, Y), not mirrored; past `max_online_steps` a fresh one replaces it

| paper           | here                                                                     |
|-----------------|--------------------------------------------------------------------------|
| S = (X_s, Y_s)  | `Prototypes`; Y starts at (one-hot - 1/k) / sqrt(k / 10)                 |
| lambda          | `ridge`                                                                  |
| M, K (max. age) | `pool_model_count`, `max_online_steps`                                   |

As in the authors' code, networks start untrained but their ages are staggered (0, 10, 20, ... of 100), so that they are
replaced one by one; and a network that is replaced makes no step. What differs: their published sets are those of the
best test accuracy along the way, here it is the last one; their kernels and solves may run in TF32, here never; they
draw real images from a shuffled stream, here every batch is an independent draw. Their evaluation trains on the stored
images with augmentation that mirrors some of them, so the set's `decode` does not ask for mirror images.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float, Int, Int32, Shaped

from jaxdd import models
from jaxdd.core import sharding, trees
from jaxdd.core.distilled import DistilledSet
from jaxdd.core.procedure import BatchRule, Method
from jaxdd.core.random import purpose_key
from jaxdd.core.types import Array, Examples, Key, Metrics, PyTree
from jaxdd.data.device.sampling import first_images
from jaxdd.kernels.meta_gradient import label_margin
from jaxdd.kernels.ridge import Ridge, kernel
from jaxdd.methods.frepo.settings import FRePoSettings
from jaxdd.models.network import Network
from jaxdd.training import pool

FINAL_RATE = 0.1  # share of the learning rate that is left at the end of the schedule


class Prototypes(NamedTuple):
    """Learned parts of a distilled set.

    Arguments:
        images: X, class-major.
        labels: Y.
    """

    images: Float[Array, "p h w c"]
    labels: Float[Array, "p classes"]


class FRePoState(NamedTuple):
    """All that a run holds.

    Arguments:
        prototypes: what is learned.
        optimizer: LAMB's state.
        pool: the networks, stacked.
    """

    prototypes: Prototypes
    optimizer: PyTree[Shaped[Array, "..."]]
    pool: pool.Member


class Draws(NamedTuple):
    """Every random choice of one outer step.

    Arguments:
        model: index into the pool.
        rows: stored images that the network trains on; None for all.
        renewal: key of the network that may replace it.
    """

    model: Int32[Array, ""]
    rows: Int[Array, " m"] | None
    renewal: Key


@dataclasses.dataclass(frozen=True)
class FRePo(FRePoSettings, Method[FRePoState]):
    """The functions of FRePo; its settings are the fields of `FRePoSettings`."""

    per_device: ClassVar[tuple[str, ...]] = ("pool",)

    @property
    def batch_rule(self) -> BatchRule:
        """A uniform batch of real images."""
        return BatchRule("uniform", self.batch_size)

    @property
    def needs_float64(self) -> bool:
        """Whether the kernel matrix is float64."""
        return self.use_x64

    def network(self, image_shape: tuple[int, int, int], classes: int) -> Network:
        """Returns the architecture of the pool."""
        return models.build(
            "conv",
            image_shape=image_shape,
            classes=classes,
            width=self.width,
            depth=self.depth,
            normalization=self.normalization,
            norm_first=True,
            precision=self.precision,
        )

    def describe(self, image_shape: tuple[int, int, int], classes: int) -> str:
        """Describes the networks."""
        return f"{self.network(image_shape, classes)}, {self.normalization} norm, pool of {self.pool_model_count}"

    def init(self, key: Key, data: Examples) -> FRePoState:
        """Returns the state with real images, scaled centred labels, and a pool of new networks of staggered ages."""
        chosen = first_images(data, self.n_images, purpose_key(key, "synthetic"))
        images, k = chosen.images, data.classes
        labels = (jax.nn.one_hot(chosen.labels, k, dtype=images.dtype) - 1 / k) / np.sqrt(k / 10).astype(images.dtype)
        prototypes = Prototypes(images, labels)
        count = self.pool_model_count
        networks = pool.fill(self.network(data.image_shape, k), purpose_key(key, "pool"), count, images.dtype)
        ages = jnp.arange(count, dtype=jnp.int32) * (self.max_online_steps // count)
        return FRePoState(prototypes, self._optimizer().init(prototypes), networks._replace(age=ages))

    def step(self, state: FRePoState, batch: Examples, key: Key) -> tuple[FRePoState, Metrics]:
        """Takes one outer step on one batch of real images."""
        return self.update(state, batch, self.draw(key, stored=len(state.prototypes.images)))

    def result(self, state: FRePoState) -> DistilledSet:
        """Returns the images and labels as they are."""
        images, labels = state.prototypes
        return DistilledSet(np.asarray(images, np.float32), np.asarray(labels, np.float32))

    def draw(self, key: Key, *, stored: int) -> Draws:
        """Draws all random choices of one outer step, from one key.

        Arguments:
            stored: images in the synthetic set, before mirroring.
        """
        rows, size = None, self.pool_train_batch_size
        if size < stored:
            rows = jax.random.choice(purpose_key(key, "pool rows"), stored, (size,), replace=False)
        model = jax.random.randint(purpose_key(key, "model"), (), 0, sharding.share(self.pool_model_count))
        return Draws(model, rows, purpose_key(key, "renewal"))

    def update(self, state: FRePoState, batch: Examples, draws: Draws) -> tuple[FRePoState, Metrics]:
        """Takes one outer step with every random choice given; deterministic."""
        network = self.network(batch.image_shape, batch.classes)
        member = trees.take(state.pool, draws.model)
        gradient, metrics = sharding.mean(self.meta_gradient(network, member, state.prototypes, batch))
        update, optimizer = self._optimizer().update(gradient, state.optimizer, state.prototypes)
        prototypes = trees.add(state.prototypes, update)
        member = self._train_member(network, member, prototypes, draws)
        return FRePoState(prototypes, optimizer, trees.put(state.pool, draws.model, member)), metrics

    def meta_gradient(
        self, network: Network, member: pool.Member, prototypes: Prototypes, batch: Examples
    ) -> tuple[Prototypes, Metrics]:
        """Returns the gradient of the loss in the images and labels at one network, and metrics."""
        real = network.apply(member.variables, batch.images).features
        targets = jax.nn.one_hot(batch.labels, batch.classes, dtype=real.dtype) - 1 / batch.classes

        def loss(prototypes: Prototypes) -> tuple[Array, Metrics]:
            images, labels = self.expand(prototypes)
            predicted = self.predict(real, network.apply(member.variables, images).features, labels)
            squared = jnp.mean(jnp.sum((predicted - targets) ** 2, axis=-1)) / 2
            margin = label_margin(labels[: len(prototypes.labels)], 1.0)
            accuracy = jnp.mean(jnp.argmax(predicted, -1) == batch.labels)
            return squared - margin, {"squared_loss": squared, "margin": margin, "accuracy": accuracy}

        (value, metrics), gradient = jax.value_and_grad(loss, has_aux=True)(prototypes)
        return gradient, {"loss": value, **metrics, "gradient_norm": trees.norms(gradient).images}

    def expand(self, prototypes: Prototypes) -> Prototypes:
        """Returns the set as the regression sees it: the stored images, then their mirror images if `use_flip`."""
        images, labels = prototypes
        labels = labels if self.learn_labels else jax.lax.stop_gradient(labels)
        if not self.use_flip:
            return Prototypes(images, labels)
        return Prototypes(jnp.concatenate([images, images[:, :, ::-1]]), jnp.concatenate([labels, labels]))

    def predict(self, real: Array, features: Array, labels: Array) -> Array:
        """Returns K_t (K + lambda tr(K) / n I)^-1 Y.

        Arguments:
            real: features of real images, `[m, d]`.
            features: of synthetic images, `[n, d]`.
            labels: `[n, k]`.

        Returns:
            `[m, k]`.
        """
        lam = self.ridge * jnp.sum(features**2) / len(features)  # tr(K), without forming K twice
        weights = Ridge.of(features, lam, double=self.use_x64).solve(labels)
        return jnp.matmul(kernel(real, features), weights, precision=jax.lax.Precision.HIGHEST)

    def _train_member(self, network: Network, member: pool.Member, prototypes: Prototypes, draws: Draws) -> pool.Member:
        rows = slice(None) if draws.rows is None else draws.rows
        batch = prototypes.images[rows], prototypes.labels[rows]
        trained = pool.train(network, member, 1, lambda _: batch, learning_rate=self.pool_learning_rate, summed=True)
        # Who had trained more than the limit before this step is replaced instead of being trained: the step is made
        # in any case, since convolutions under a condition are slow on CPU, and thrown away.
        return pool.renew(network, trained, draws.renewal, limit=self.max_online_steps + 2)

    def _optimizer(self) -> optax.GradientTransformation:
        schedule = optax.cosine_decay_schedule(self.proto_learning_rate, self.schedule_steps, alpha=FINAL_RATE)
        return optax.lamb(schedule)
