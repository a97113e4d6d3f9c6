"""A data set that is too large for memory: image folders that are listed at once and read while they are needed.

`load(..., stream=...)` makes one. Whatever asks a `Dataset` for some of its images at a time, by a slice, indices or a
mask, has the same pixels of this one: choosing initial images, fitting constants, baselines. Two things go through all
images, and have ways of their own:

    train a network    `LargeDataset.stream`: shuffled, cropped on the host (`data.streaming`)
    test one           `test_examples`: the test images a part at a time, decoded once if memory has room for them
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd.core import backend
from jaxdd.core.errors import UsageError
from jaxdd.core.io import printable
from jaxdd.core.types import Examples
from jaxdd.data.dataset import Dataset, check_labels, require_classes
from jaxdd.data.device.preprocess import Preprocessing, examples
from jaxdd.data.readers import folder as folders
from jaxdd.data.readers.images import Encoded, decode_all, header, tell_losses
from jaxdd.data.streaming import SCALE, ImageStream

CHANNELS = 3
SHARE = 4  # what takes more than one part in so many of the machine's memory is not kept there
PART = 1000  # test images that are on the device together


def exceeds_memory(images: int, side: int) -> bool:
    """Returns whether so many images of `side` pixels, as uint8, are too large to be kept in memory."""
    return SHARE * images * side**2 * CHANNELS > backend.machine_bytes()


@dataclasses.dataclass(frozen=True, eq=False)
class ImageFiles:
    """Images that are decoded when they are asked for: `[n, side, side, 3]` uint8 to whoever takes some of them.

    Arguments:
        encoded: the files.
        resolution: side in pixels.
        crop: makes one image `[resolution, resolution, channels]`, as in `readers.images.decode_all`.
        kept: whether all are decoded at the first use and kept.
    """

    encoded: Encoded
    resolution: int
    crop: Callable[[np.ndarray, int], np.ndarray]
    kept: bool = False

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape, as of an array."""
        return self.encoded.count, self.resolution, self.resolution, CHANNELS

    def __len__(self) -> int:
        return self.encoded.count

    def __getitem__(self, rows: slice | np.ndarray | Sequence[int]) -> np.ndarray:
        """Returns `[m, side, side, 3]` uint8: the images of a slice, of indices or of a mask, as `load` would give
        them.

        Raises:
            DataError: one of them is missing or damaged; names it.
        """
        return self._all[rows] if self.kept else self._decoded(np.arange(len(self))[rows])

    @functools.cached_property
    def _all(self) -> np.ndarray:
        return self._decoded(np.arange(len(self)))

    def _decoded(self, rows: np.ndarray) -> np.ndarray:
        every = self.encoded
        some = Encoded(len(rows), lambda place: every.read(rows[place]), lambda place: every.where(rows[place]))
        return decode_all(some, self.resolution, CHANNELS, self.crop)

    def __array__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise UsageError(
            f"all {len(self)} images are asked for at once, and are not in memory",
            where="a data set that is streamed",
            expected="some of them at a time",
            remedy="`stream=never` reads all of them, on a machine that has the memory",
        )


@dataclasses.dataclass(frozen=True, eq=False)
class LargeDataset(Dataset):
    """A `Dataset` whose images are `ImageFiles`: they can be sliced, and not taken as a whole. Made by `load`."""

    @classmethod
    def of_files(
        cls,
        train: tuple[Encoded, np.ndarray],
        test: tuple[Encoded, np.ndarray],
        *,
        name: str,
        class_names: Sequence[str],
        resolution: int | None,
        crop: Callable[[np.ndarray, int], np.ndarray],
        where: str,
    ) -> LargeDataset:
        """Returns a data set of image files.

        Arguments:
            train, test: the files and `[n]` labels of both splits.
            name, class_names, where: as in `Dataset.of_arrays`.
            resolution: side in pixels to crop and resize to.
            crop: as in `ImageFiles`.

        Raises:
            UsageError: no resolution, or the images are grey, as far as a few of them tell.
            DataError: a class has no train image, or the first image is damaged.
        """
        first = header(train[0].read(0), train[0].where(0))
        if resolution is None:
            raise UsageError(
                "images that are read one by one need a size to be brought to",
                where=where,
                remedy=f"say which, e.g. `resolution={min(first[:2])}`",
            )
        some = range(0, train[0].count, max(1, train[0].count // 32))
        if not any(header(train[0].read(index), train[0].where(index))[2] == CHANNELS for index in some):
            raise UsageError(
                "grey images cannot be streamed",
                where=train[0].where(0),
                expected="colour images",
                remedy="convert them to RGB, or `stream=never`",
            )
        tell_losses(train[0], where)
        names = tuple(map(printable, class_names))
        labels = [check_labels(split_labels, files.count, names, where) for files, split_labels in (train, test)]
        require_classes(labels[0], names, where)
        kept = not exceeds_memory(test[0].count, resolution)
        images: Any = (ImageFiles(train[0], resolution, crop), ImageFiles(test[0], resolution, crop, kept))
        return cls(name, images[0], labels[0], images[1], labels[1], names)

    @functools.cached_property
    def digest(self) -> str:
        """sha256 of the size, and of the files' names, in order, and their labels: no image is read for it."""
        listing = folders.digest(self._files.encoded, self.train_labels, self.class_names)
        return hashlib.sha256(f"{self.train_images.shape}\n{listing}".encode()).hexdigest()

    @property
    def _files(self) -> ImageFiles:
        files: Any = self.train_images
        return files

    def stream(self, *, batch_size: int, seed: int, cropped: bool = True, **options: Any) -> ImageStream:
        """Returns the train images in shuffled epochs.

        Arguments:
            batch_size, seed, options: as in `ImageStream`.
            cropped: at random (RandomResizedCrop); else each image as `load` would give it.

        Raises:
            UsageError: grain is not installed.
        """
        files, scale = self._files, SCALE if cropped else None
        arguments = {"batch_size": batch_size, "seed": seed, "scale": scale, "crop": files.crop, **options}
        return ImageStream(files.encoded, self.train_labels, self.class_names, self.resolution, **arguments)


@dataclasses.dataclass(frozen=True, eq=False)
class Parts:
    """The test images of a large data set, a part at a time on the device; whoever iterates again gets them again.

    Arguments:
        dataset: whose they are.
        preprocessing: makes of them what networks see.
        dtype: of preprocessed images; raw ones are uint8.
    """

    dataset: LargeDataset
    preprocessing: Preprocessing
    dtype: Any = jnp.float32

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self.dataset.classes

    def __len__(self) -> int:
        return len(self.dataset.test_labels)

    def __iter__(self) -> Iterator[Examples]:
        """Returns `Examples` of `PART` images each; the last may have fewer."""
        fitted = self.preprocessing
        raw = fitted.space == "raw"
        constants = (fitted.mean, fitted.std) if raw else None
        dtype = jnp.uint8 if raw and np.dtype(self.dtype) == np.float32 else self.dtype
        for start in range(0, len(self), PART):
            rows = slice(start, start + PART)
            images = fitted.place(self.dataset.test_images[rows], dtype)
            labels = jax.device_put(self.dataset.test_labels[rows])
            yield Examples(images, labels, self.classes, constants=constants)


def test_examples(dataset: Dataset, preprocessing: Preprocessing, *, dtype: Any = jnp.float32) -> Examples | Parts:
    """Returns the test images, to measure networks on: resident on the device, or in parts of a large data set.

    Arguments:
        dataset, preprocessing, dtype: as in `device.preprocess.examples`.
    """
    if isinstance(dataset, LargeDataset):
        return Parts(dataset, preprocessing, dtype)
    return examples(dataset, preprocessing, "test", dtype=dtype)
