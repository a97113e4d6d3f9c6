"""KIP: kernel inducing points, dataset distillation by kernel ridge regression (arXiv 2011.00050, 2107.13034).

One step, on real images (X_t, Y_t), equally many of every class, with labels one-hot minus 1/k:

    A    = K_ss + lambda tr(K_ss) / n I                     n synthetic images (X_s, y_s)
    pred = K_ts A^-1 y_s                                    kernel ridge regression, synthetic to real images
    loss = 1/2 mean (pred - Y_t)^2                          over images and classes
    X_s <- Adam(X_s, d loss / d X_s)                        and y_s, where labels are `learned`

Label solve (`labels = solved`) leaves the images as they are and takes the labels that minimise the loss over the whole
train split, in closed form: y_s = A K_ts^+ Y_t. One step does it; further ones change nothing.

| paper         | here                                                                        |
|---------------|-----------------------------------------------------------------------------|
| K             | `kernels.infinite.InfiniteKernel`: NTK or NNGP of an infinitely wide network |
| lambda        | `ridge`                                                                     |
| X_s, y_s      | `Support`                                                                   |
| X_t, Y_t      | the batch, `batch_per_class` images of every class                          |

From the authors' notebook (google-research `kip/KIP.ipynb`) differs: images and Adam's moments are float32, only the
kernels and the solve are float64; its augmentation of targets, which its own demonstration leaves off, is left out.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float, Shaped

from jaxdd.core import sharding, trees
from jaxdd.core.config import build, layer
from jaxdd.core.distilled import DistilledSet, Space
from jaxdd.core.errors import ConfigError
from jaxdd.core.precision import exact_products, float64
from jaxdd.core.procedure import BatchRule, Method
from jaxdd.core.random import purpose_key
from jaxdd.core.types import Array, Examples, Key, Metrics, PyTree
from jaxdd.data.dataset import Dataset
from jaxdd.data.device.preprocess import Preprocessing
from jaxdd.data.device.sampling import first_images
from jaxdd.kernels.infinite import InfiniteKernel
from jaxdd.kernels.ntk_compat import require_neural_tangents
from jaxdd.kernels.ridge import Ridge
from jaxdd.methods.kip.settings import KIPSettings


class Support(NamedTuple):
    """Learned parts of a distilled set.

    Arguments:
        images: X_s, class-major.
        labels: y_s.
    """

    images: Float[Array, "n h w c"]
    labels: Float[Array, "n classes"]


class KIPState(NamedTuple):
    """All that a run holds: the learned parts, and Adam's state."""

    support: Support
    optimizer: PyTree[Shaped[Array, "..."]]


@dataclasses.dataclass(frozen=True)
class KIP(KIPSettings, Method[KIPState]):
    """The functions of KIP; its settings are the fields of `KIPSettings`."""

    family: ClassVar[str] = "kip"

    @property
    def batch_rule(self) -> BatchRule:
        """Equally many real images of every class; the whole data set for solved labels."""
        return BatchRule("all") if self.labels == "solved" else BatchRule("class", self.batch_per_class)

    @property
    def kind(self) -> Space:
        """The space of the images: standardised per channel, or KIP's whitening."""
        return self.preprocess

    @property
    def needs_float64(self) -> bool:
        """Whether the kernels are float64."""
        return self.use_x64

    def describe(self, image_shape: tuple[int, int, int], classes: int) -> str:
        """Describes the kernel, and what becomes of the labels.

        Raises:
            UsageError: neural-tangents is not installed.
            ConfigError: the images are too small for so many blocks.
        """
        require_neural_tangents()
        self.kernel_fn.require_fits(image_shape)
        return f"{self.kernel_fn}; labels {self.labels}"

    @property
    def kernel_fn(self) -> InfiniteKernel:
        """The kernel that the settings name."""
        return InfiniteKernel(
            self.architecture,
            self.kernel_depth,
            self.kernel,
            leading_conv=self.leading_conv,
            global_pooling=self.global_pooling,
            chunk=self.kernel_chunk,
        )

    def init(self, key: Key, data: Examples) -> KIPState:
        """Returns the state with real images, and labels one-hot minus 1/k."""
        chosen = first_images(data, self.n_images, purpose_key(key, "synthetic"))
        support = Support(chosen.images, _centred(chosen))
        return KIPState(support, self._optimizer().init(support))

    def step(self, state: KIPState, batch: Examples, key: Key) -> tuple[KIPState, Metrics]:
        """Takes one step of Adam, or solves for the labels."""
        del key  # nothing is random but the batch
        batch = sharding.rows(batch)
        if self.labels == "solved":
            support = state.support._replace(labels=self.solve_labels(state.support.images, batch))
            return state._replace(support=support), self.loss(support, batch)[1]
        gradient, metrics = jax.grad(self.loss, has_aux=True)(state.support, batch)
        update, optimizer = self._optimizer().update(sharding.mean(gradient), state.optimizer)
        return KIPState(trees.add(state.support, update), optimizer), metrics

    def result(self, state: KIPState) -> DistilledSet:
        """Returns the images and labels as they are."""
        support = state.support
        return DistilledSet(np.asarray(support.images, np.float32), np.asarray(support.labels, np.float32))

    def loss(self, support: Support, batch: Examples) -> tuple[Array, Metrics]:
        """Returns 1/2 mean (pred - Y_t)^2, and the metrics of the batch."""
        if self.labels != "learned":
            support = support._replace(labels=jax.lax.stop_gradient(support.labels))
        predicted = self.predict(support, batch.images)
        loss = 0.5 * jnp.mean((predicted - _centred(batch)) ** 2)
        accuracy = jnp.mean(jnp.argmax(predicted, axis=1) == batch.labels)
        return loss, {"loss": loss, "accuracy": accuracy}

    def predict(self, support: Support, images: Array) -> Array:
        """Returns K_ts A^-1 y_s, the labels predicted for other images.

        Arguments:
            support: the synthetic images and labels.
            images: `[m, height, width, channels]`, in the same space.

        Returns:
            `[m, classes]`, float64 if `use_x64`; the largest entry names the class.
        """
        return self.apply(self.weights(support), support.images, images)

    def weights(self, support: Support) -> Array:
        """Returns A^-1 y_s, `[n, classes]`."""
        matrix = self._regularised(support.images)
        factor = jnp.linalg.cholesky(jax.lax.stop_gradient(matrix))
        return Ridge(matrix, factor).solve(self._wide(support.labels))

    def apply(self, weights: Array, synthetic: Array, images: Array) -> Array:
        """Returns K_ts `weights`, `[m, classes]`."""
        with exact_products():
            return self.kernel_fn(self._wide(images), self._wide(synthetic)) @ weights

    def solve_labels(self, synthetic: Array, batch: Examples) -> Array:
        """Returns A K_ts^+ Y_t, the labels of least loss on the batch, `[n, classes]` in the images' type."""
        cross = self.kernel_fn(self._wide(batch.images), self._wide(synthetic))
        weights = jnp.linalg.lstsq(cross, _centred(batch).astype(cross.dtype))[0]
        with exact_products():
            return (self._regularised(synthetic) @ weights).astype(synthetic.dtype)

    def _regularised(self, images: Array) -> Array:
        matrix = self.kernel_fn(self._wide(images))
        return matrix + self.ridge * jnp.trace(matrix) / len(matrix) * jnp.eye(len(matrix), dtype=matrix.dtype)

    def _wide(self, array: Array) -> Array:
        return array.astype(jnp.float64) if self.use_x64 else array

    def _optimizer(self) -> optax.GradientTransformation:
        return optax.adam(self.learning_rate)


def kernel_accuracy(
    distilled: DistilledSet,
    dataset: Dataset,
    preprocessing: Preprocessing,
    method: KIP | None = None,
    *,
    chunk: int = 1000,
) -> float:
    """Returns the accuracy of kernel ridge regression from a distilled set on the real test images, as KIP measures it.

    Arguments:
        distilled: the set; any method's.
        dataset: the real data.
        preprocessing: the map into the set's space.
        method: whose kernel; default the one that the set was made with.
        chunk: test images at once.

    Returns:
        Accuracy in [0, 1].

    Raises:
        ConfigError: the set was not made by KIP, and no method is given.
        UsageError: neural-tangents is not installed.
    """
    method = method or made_with(distilled)
    with float64(method.use_x64):
        support = Support(*(jnp.asarray(array) for array in distilled.decoded()))
        weights = jax.jit(method.weights)(support)
        classify = jax.jit(lambda images: jnp.argmax(method.apply(weights, support.images, images), axis=1))
        correct = 0
        for start in range(0, len(dataset.test_images), chunk):
            images = preprocessing.apply(dataset.test_images[start : start + chunk])
            predicted = np.asarray(classify(jnp.asarray(images)))
            correct += int((predicted == dataset.test_labels[start : start + chunk]).sum())
    return correct / len(dataset.test_images)


def made_with(distilled: DistilledSet) -> KIP:
    """Returns the KIP method that a set was made with, from its provenance.

    Raises:
        ConfigError: it was another one than KIP.
    """
    made = distilled.provenance
    if made.get("method") != "kip":
        raise ConfigError(
            f"the set was made by '{made.get('method', 'unknown')}', which says nothing of a kernel",
            where="kernel accuracy",
            expected="a set made by KIP, or a method that names the kernel",
            remedy="give a method, e.g. KIP(architecture='fc', kernel_depth=1)",
        )
    return build([layer(made["settings"], "the set's provenance")], {"kip": KIP})["kip"]


def _centred(examples: Examples) -> Array:
    """Returns `[n, classes]` labels one-hot minus 1/k, in the images' type."""
    return jax.nn.one_hot(examples.labels, examples.classes, dtype=examples.images.dtype) - 1 / examples.classes
