"""Preprocessing and its inverse: pixels -> the space the networks see, fitted once on the train split.

    raw            x in [0, 1]
    standardised   (x - mean) / std per channel
    zca            standardised, then whitened (`jaxdd.data.device.zca`)
    layernorm_zca  standardised, every image centred and scaled to norm 1, then whitened: KIP's form

The constants belong to (family of methods, data set): see `jaxdd.data.registry.CONSTANTS`.

Preprocessing on the device: uint8 pixels go there once, and one compiled program makes of them what networks see.

    standardised   x scale + shift                 one affine map per channel
    zca            (standardised - mu) W           W = U diag(s^-1/2) U', in full float32, chunk by chunk
    layernorm_zca  unit(standardised) W            each image centred and scaled to norm 1

The numbers are those of `Preprocessing.apply`, which computes on the host, to float32 rounding.

Raw images may stay uint8 on the device, where a quarter of the memory counts: 13 000 images of 224 pixels are 2 GB, and
8 GB as float32. What is taken of them becomes float32 on the way (`Examples.take`), with the same numbers to the bit.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd.core import backend
from jaxdd.core.errors import DataError, UsageError, choose
from jaxdd.core.io import sha256
from jaxdd.core.types import Array, Examples
from jaxdd.data import registry
from jaxdd.data.dataset import Dataset
from jaxdd.data.device.zca import BLOCK, REGULARISATION, Zca, cached, fit_zca, from_blocks, stride, to_blocks
from jaxdd.data.registry import Space

_CHUNK = 10_000  # images scaled at once
_COUNTED = 10**7  # pixels counted at once


@dataclasses.dataclass(frozen=True, eq=False)
class Preprocessing:
    """A fitted preprocessing; make it with `fit`.

    Arguments:
        family: whose constants these are.
        dataset: name of the data set it was fitted on.
        space: `raw`, `standardised`, `zca` or `layernorm_zca`.
        image_shape: `(side, side, channels)`.
        mean: per channel, on the [0, 1] scale.
        std: per channel, on the [0, 1] scale.
        digest: hash of the constants and, if it whitens, of the train split: equal digests mean equal numbers.
        zca: the whitening, for `zca` and `layernorm_zca` only.
    """

    family: str
    dataset: str
    space: Space
    image_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    digest: str
    zca: Zca | None = None

    def apply(self, images: np.ndarray) -> np.ndarray:
        """Brings pixels into the space that networks see.

        Arguments:
            images: `[n, side, side, channels]` uint8, or floats on the [0, 1] scale (not clipped).

        Returns:
            `[n, side, side, channels]` float32.

        Raises:
            DataError: another shape, or floats that are clearly not on the [0, 1] scale.
        """
        images = self._checked(images)
        if images.dtype.kind == "f" and images.size and float(np.abs(images).max()) > 2:
            raise DataError(
                f"float pixels up to {np.abs(images).max():g}",
                where="preprocessing",
                expected="floats on the [0, 1] scale, or uint8",
                remedy="divide by 255, or undo an earlier normalisation",
            )
        scaled = _standardise(images, self.mean, self.std, self.space)
        return self.zca.whiten(scaled) if self.zca else scaled

    def place(self, pixels: np.ndarray, dtype: Any = jnp.float32) -> Array:
        """Returns the same on the device, to float32 rounding: `[n, side, side, channels]` uint8 -> resident images.

        Arguments:
            pixels: the images.
            dtype: of the result, float32 or bfloat16; or uint8, for raw images alone: the pixels as they are.

        Raises:
            DataError: another shape.
        """
        if dtype == jnp.uint8:
            return jax.device_put(self._checked(pixels))
        scale, shift = _affine(self.mean, self.std, self.space, unit=255.0)
        return place(self._checked(pixels), scale, shift, self.zca, dtype)

    def invert(self, images: Any) -> np.ndarray:
        """Returns the space the networks see -> float32 pixels on the [0, 1] scale, not clipped (see `clip`).

        Arguments:
            images: `[n, side, side, channels]` floats.

        Returns:
            `[n, side, side, channels]`; of `layernorm_zca`, with the mean brightness and contrast of train images.
        """
        images = self._checked(images).astype(np.float32)
        if self.zca:
            images = self.zca.colour(images)
        if self.space == "raw":
            return images
        return images * np.asarray(self.std, np.float32) + np.asarray(self.mean, np.float32)

    def describe(self) -> dict[str, Any]:
        """Returns the record of an artefact: name, constants and digest, ready for JSON; never a matrix."""
        return {
            "family": self.family,
            "dataset": self.dataset,
            "space": self.space,
            "resolution": self.image_shape[0],
            "channels": self.image_shape[2],
            "mean": list(self.mean),
            "std": list(self.std),
            "zca_regularisation": REGULARISATION if self.zca else None,
            "zca_blocks": _block_form(self.image_shape[0]) if self.zca else None,
            "digest": self.digest,
        }

    @classmethod
    def of_raw(cls, described: Mapping[str, Any]) -> Preprocessing:
        """Returns what an artefact of raw images records, without the data: the inverse of `describe`.

        Raises:
            DataError: a record of other images, or none.
        """
        try:
            side, channels = int(described["resolution"]), int(described["channels"])
            family, dataset = (str(described[name]) for name in ("family", "dataset"))
            mean, std = (tuple(map(float, described[name])) for name in ("mean", "std"))
            if described["space"] != "raw":
                raise ValueError(f"the space {described['space']!r}")
            return cls(family, dataset, "raw", (side, side, channels), mean, std, str(described["digest"]))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"the set's preprocessing lacks or garbles {error}",
                where="preprocessing",
                expected="that of raw images, as recover writes it",
                remedy="take a set that was recovered from a teacher",
            ) from None

    def _checked(self, images: Any) -> np.ndarray:
        images = np.asarray(images)
        if images.shape[1:] != self.image_shape or (images.dtype != np.uint8 and images.dtype.kind != "f"):
            raise DataError(
                f"images of shape {images.shape} and type {images.dtype}",
                where=f"preprocessing fitted on {self.dataset}",
                expected=f"[n, {', '.join(map(str, self.image_shape))}] uint8 or float",
                remedy="load the images at the same resolution and with the same channels",
            )
        return images


def clip(pixels: np.ndarray) -> np.ndarray:
    """Cuts pixels to the [0, 1] scale."""
    return np.clip(pixels, 0.0, 1.0)


def fit(
    dataset: Dataset,
    *,
    family: str = "rcig",
    kind: Space | None = None,
    cache_folder: str | os.PathLike | None = None,
) -> Preprocessing:
    """Fits the preprocessing of a family of methods on the train split.

    Arguments:
        dataset: the data set.
        family: whose published constants to use: `rcig`, `idc`, `dc` or `kip`; where it published none they are
            computed.
        kind: the space; default as RCIG: `zca` for colour (above 64 pixels only multiples of 64), `standardised`
            for grey; `standardised` for the other families.
        cache_folder: where ZCA transforms are kept; default the user's cache folder.

    Raises:
        UsageError: unknown family or kind.
        DataError: ZCA at a resolution it has no block form for.

    Source:
        RCIG `dataloader.py` and `ops.py`; `layernorm_zca`: KIP `nn_training.ipynb`.
    """
    kind = _default_kind(dataset, family) if kind is None else kind
    choose(kind, get_args(Space), kind="preprocessing", where="kind")
    mean, std = registry.statistics(family, dataset.name) or channel_statistics(dataset.train_images)
    constants = {"space": kind, "shape": dataset.image_shape}
    if kind != "raw":
        constants |= {"mean": mean, "std": std}
    whitens = kind in ("zca", "layernorm_zca")
    if whitens:
        constants |= {"regularisation": REGULARISATION, "blocks": stride(dataset.resolution), "data": dataset.digest}
    digest = sha256(json.dumps(constants, sort_keys=True).encode())
    transform = None
    if whitens:

        def standardised(start: int, stop: int) -> np.ndarray:
            return _standardise(dataset.train_images[start:stop], mean, std, kind)

        count, layernorm = len(dataset.train_images), kind == "layernorm_zca"
        make = functools.partial(fit_zca, standardised, count, dataset.image_shape, layernorm=layernorm)
        transform = cached(digest, cache_folder, make, dataset.image_shape)
    return Preprocessing(family, dataset.name, kind, dataset.image_shape, mean, std, digest, transform)


def channel_statistics(images: np.ndarray) -> registry.Statistics:
    """Returns per-channel mean and (population) standard deviation of uint8 images on the [0, 1] scale, to six digits.

    A channel that never varies gets standard deviation 1.
    """
    values = np.arange(256) / 255
    counts = np.zeros((images.shape[-1], 256), np.int64)
    step = max(1, _COUNTED // math.prod(images.shape[1:3]))  # `bincount` makes eight bytes of each
    for start in range(0, len(images), step):
        part = images[start : start + step]
        counts += [np.bincount(part[..., channel].ravel(), minlength=256) for channel in range(images.shape[-1])]
    shares = counts / counts.sum(axis=1, keepdims=True)
    mean = shares @ values
    std = np.sqrt((shares * (values - mean[:, None]) ** 2).sum(axis=1))
    rounded = [[round(float(value), 6) for value in row] for row in (mean, np.where(std < 1e-6, 1.0, std))]
    return tuple(rounded[0]), tuple(rounded[1])


def examples(
    dataset: Dataset,
    preprocessing: Preprocessing,
    split: Literal["train", "test"] = "train",
    *,
    dtype: Any = jnp.float32,
    resident: Literal["float32", "uint8"] | None = None,
) -> Examples:
    """Returns one split, preprocessed on the device and resident there.

    Arguments:
        dataset: the data set.
        preprocessing: fitted on it, or on another one of the same image shape.
        split: `train` or `test`.
        dtype: of the images, float32 or bfloat16.
        resident: as what raw float32 images are kept; `uint8` takes a quarter of the memory and gives the same numbers
            (`Examples.take`). `None`: float32, but uint8 for raw images that would fill the device
            (`resident.resident_type`).

    Returns:
        `Examples` with `[n, side, side, channels]` images and `[n]` int32 labels; raw images come with the constants
        that standardise them.

    Raises:
        UsageError: an unknown split or residence, or `uint8` for images that are preprocessed or are to be bfloat16.
    """
    choose(split, ("train", "test"), kind="split", where="split")
    images = dataset.train_images if split == "train" else dataset.test_images
    labels = dataset.train_labels if split == "train" else dataset.test_labels
    constants = (preprocessing.mean, preprocessing.std) if preprocessing.space == "raw" else None
    largest = int(np.bincount(labels, minlength=dataset.classes).max())
    kept = _kept(resident, images.shape, preprocessing.space, dtype)
    placed = preprocessing.place(images, kept)
    return Examples(placed, jax.device_put(labels), dataset.classes, constants=constants, largest=largest)


def _kept(resident: str | None, shape: tuple[int, ...], space: Space, dtype: Any) -> np.dtype:
    """Returns the type of the images on the device; see `examples`."""
    if resident is None:
        return resident_type(shape, space, dtype)
    choose(resident, ("float32", "uint8"), kind="residence of images", where="resident")
    if resident == "uint8" and not (space == "raw" and np.dtype(dtype) == np.float32):
        raise UsageError(
            f"{space} images of type {np.dtype(dtype)}, to be kept as uint8",
            where="resident",
            expected="raw images that are used as float32",
            remedy="leave it out, or use the preprocessing 'raw'",
        )
    return np.dtype(np.uint8 if resident == "uint8" else dtype)


def _standardise(images: np.ndarray, mean: tuple[float, ...], std: tuple[float, ...], space: Space) -> np.ndarray:
    """Returns float32 `(x - mean) / std` (or `x` for `raw`) from uint8 or [0, 1] floats, one affine map per channel."""
    scale, shift = _affine(mean, std, space, unit=255.0 if images.dtype.kind == "u" else 1.0)
    out = np.empty(images.shape, np.float32)
    for start in range(0, len(images), _CHUNK):
        np.multiply(images[start : start + _CHUNK], scale, out=out[start : start + _CHUNK], casting="unsafe")
    out += shift
    return out


def _affine(
    mean: tuple[float, ...], std: tuple[float, ...], space: Space, *, unit: float
) -> tuple[np.ndarray, np.ndarray]:
    """Returns scale and shift per channel, float32, from pixels between 0 and `unit`."""
    if space == "raw":
        mean, std = (0.0,), (1.0,)
    scale = (1 / (unit * np.asarray(std))).astype(np.float32)
    return scale, (-np.asarray(mean) / np.asarray(std)).astype(np.float32)


def _default_kind(dataset: Dataset, family: str) -> Space:
    if family != "rcig" or dataset.image_shape[2] == 1:
        return "standardised"
    whole = dataset.resolution <= BLOCK or dataset.resolution % BLOCK == 0
    return "zca" if whole else "standardised"


def _block_form(side: int) -> str | None:
    step = stride(side)
    return None if step == 1 else f"checkerboard {step}x{step} blocks of {BLOCK} px"


CHUNK_BYTES = 64 << 20  # of float32 images that are under way at once, beside the uint8 and the finished ones


def resident_type(shape: Sequence[int], space: str, dtype: Any = jnp.float32) -> Any:
    """Returns the type in which images are best kept on the device: uint8 for raw ones that would fill it as float32.

    Arguments:
        shape: `(n, side, side, channels)` of all images.
        space: the preprocessing's; only raw images can stay uint8.
        dtype: what they are otherwise; of bfloat16, none stays uint8.
    """
    large = 4 * math.prod(shape) > backend.working_memory()
    return np.dtype(np.uint8 if space == "raw" and np.dtype(dtype) == np.float32 and large else dtype)


def place(pixels: np.ndarray, scale: np.ndarray, shift: np.ndarray, zca: Zca | None, dtype: Any = jnp.float32) -> Array:
    """Returns preprocessed images, resident on the device; the pixels are freed there again.

    Arguments:
        pixels: `[n, side, side, channels]` uint8.
        scale, shift: `[channels]` or `[1]` float32, on the scale of the pixels.
        zca: the whitening that follows, if any.
        dtype: of the result, float32 or bfloat16; computed in float32.

    Returns:
        `[n, side, side, channels]`.
    """
    shape = pixels.shape[1:]
    chunk = max(1, min(len(pixels), CHUNK_BYTES // (4 * int(np.prod(shape)))))
    channels = [np.broadcast_to(constant, shape[-1:]) for constant in (scale, shift)]
    whitening = None if zca is None else (zca.mean, zca.whitening)
    arguments = jax.device_put((pixels, *channels, whitening))  # explicitly: nothing is transferred by the way
    return _preprocess(*arguments, layernorm=zca is not None and zca.contrast is not None, chunk=chunk, dtype=dtype)


@functools.partial(jax.jit, static_argnames=("layernorm", "chunk", "dtype"))
def _preprocess(
    pixels: Array, scale: Array, shift: Array, whitening: Any, *, layernorm: bool, chunk: int, dtype: Any
) -> Array:
    count, *shape = pixels.shape

    def one(part: Array) -> Array:
        images = part.astype(jnp.float32) * scale[None, None, None] + shift[None, None, None]
        if whitening is None:
            return images.astype(dtype)
        mean, matrix = whitening
        centred: Any = _unit(images) if layernorm else images - mean[None]
        blocks: Any = jnp.matmul(to_blocks(centred), matrix, precision=jax.lax.Precision.HIGHEST)
        whitened: Any = from_blocks(blocks, tuple(shape))
        return whitened.astype(dtype)

    def body(i: Array, done: Array) -> Array:
        # The last chunk overlaps the one before, so that all are of one size; both write the same numbers there.
        start = jnp.minimum(i * chunk, count - chunk)
        part = one(jax.lax.dynamic_slice_in_dim(pixels, start, chunk))
        return jax.lax.dynamic_update_slice_in_dim(done, part, start, axis=0)

    return backend.loop(-(-count // chunk), body, jnp.empty(pixels.shape, dtype), unroll=False)


def _unit(images: Array) -> Array:
    """Centres each image and scales it to norm 1; one of equal numbers becomes 0."""
    centred = images - images.mean(axis=(1, 2, 3), keepdims=True)
    norm = jnp.sqrt(jnp.sum(centred**2, axis=(1, 2, 3), keepdims=True))
    return centred / jnp.where(norm > 0, norm, 1)
