"""The few types that every floor shares."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int, Int32, PyTree, UInt8

Array = jax.Array
Key = jax.Array  # a typed PRNG key, as made by `jax.random.key`
Metrics = dict[str, jax.Array]  # name -> scalar, on device
More = TypeVar("More", bound="Examples")


class Moments(NamedTuple):
    """Moments of a batch in a batch normalisation, about its own running mean: averages, so those of equal parts of a
    batch average to those of the whole, and no large number is subtracted from a large one.

    Arguments:
        first: E[x - running mean], over images and pixels of the layer's input x.
        second: E[(x - running mean)^2]; the variance of the batch is `second - first**2`.
        variance: the running variance.
    """

    first: Float[Array, " channels"]
    second: Float[Array, " channels"]
    variance: Float[Array, " channels"]


class Answers(NamedTuple):
    """Teachers' answers to a batch of images.

    Arguments:
        logits: of every class, or of those in `classes` alone.
        classes: whose logits these are, where only some were kept; the others count as -inf.
    """

    logits: Float[Array, "batch kept"]
    classes: Int[Array, "batch kept"] | None = None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Examples:
    """Labelled images resident on the device, already preprocessed, and what several procedures read beside them.

    What one procedure alone reads stands in a subclass next to that procedure (`extended`).

    Arguments:
        images: in the space that the networks see; or raw in [0, 1], see `constants`, and then perhaps as uint8, a
            quarter of the memory: `take` gives floats in either case. Networks that are trained together on sets of
            their own (`training.ensemble`) have these stacked along one more axis.
        labels: class indices, or soft labels.
        classes: number of classes.
        constants: mean and standard deviation per channel with which raw images are standardised on their way into a
            network; None for images that are in the networks' space already.
        largest: images of the largest class; 0 if that is not known.
        first_images: those that a distilled set starts from, class-major, of the same space; None where its method
            chooses them.
        early_networks: variables of networks that were trained for a few epochs (AccDD, GA-DD), stacked; None where
            there are none.
        teachers: variables of each teacher, one tree for each network of the procedure; empty where none is asked.
        answers: of the teachers, read from disk for the batch of a step; None where the teachers are asked themselves.
    """

    images: Float[Array, "*sets n h w c"] | UInt8[Array, "*sets n h w c"]
    labels: Int32[Array, "*sets n"] | Float[Array, "*sets n classes"]
    classes: int = dataclasses.field(metadata={"static": True})
    constants: tuple[tuple[float, ...], tuple[float, ...]] | None = dataclasses.field(
        default=None, metadata={"static": True}
    )
    largest: int = dataclasses.field(default=0, metadata={"static": True})
    first_images: Float[Array, "p h w c"] | None = None
    early_networks: PyTree[Float[Array, "networks ..."]] | None = None
    teachers: tuple[PyTree[Float[Array, "..."]], ...] = ()
    answers: Answers | None = None

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """`(height, width, channels)`."""
        _, height, width, channels = self.images.shape
        return height, width, channels

    def __len__(self) -> int:
        return self.images.shape[0]

    @property
    def dtype(self) -> Any:
        """Type of the images that `take` gives."""
        return jnp.dtype(jnp.float32) if self.images.dtype == jnp.uint8 else self.images.dtype

    def extended(self, kind: type[More], **more: Any) -> More:
        """Returns these examples as a subclass.

        Arguments:
            kind: the subclass.
            more: the fields that it adds.
        """
        return kind(**{field.name: getattr(self, field.name) for field in dataclasses.fields(self)}, **more)

    def take(self, rows: Any) -> Array:
        """Returns some of the images, as floats.

        Arguments:
            rows: an index, a slice, or an integer array of any shape.

        Returns:
            `[*rows, height, width, channels]`; of images kept as uint8, exactly the numbers they stand for in [0, 1].
        """
        return _as_floats(self.images[rows])

    def standardise(self, images: Array) -> Array:
        """Standardises images of the space of `images`, or uint8, `[..., height, width, channels]`, as networks see
        them."""
        if self.constants is None:
            return images
        images = _as_floats(images)
        shape = (1,) * (images.ndim - 1) + (-1,)
        mean, std = (jnp.asarray(constant, images.dtype).reshape(shape) for constant in self.constants)
        return (images - mean) / std


def _as_floats(images: Array) -> Array:
    return images * jnp.float32(1 / 255) if images.dtype == jnp.uint8 else images
