"""Streams of data that do not fit on the device, read while a run goes on: batches by step number.

A `Stream` has the batch of every step, a pure function of the step's number: a run can begin at any step, and its
numbers depend neither on how many steps go into a dispatch nor on how many threads read. `run.loop` asks for the
batches of one dispatch while the device computes the one before; the procedure sees them in place of the resident
fields of the same names (`BatchRule("stream", size)`).

`ImageStream` reads image files, with grain (extra `stream`): infinitely many epochs in a row, each a shuffle of its own
by (seed, epoch); image i of this order stands in batch i // size, so a batch may hold the end of one epoch and the
beginning of the next. An image is decoded and cropped on the host, with draws that are a function of (seed, i):

    train    RandomResizedCrop as torchvision has it: PIL's antialiased bilinear resizing, uint8
    test     the shorter side resized, then the central square (`readers.images.shorter_side`)

What comes after (mirroring, standardising) is cheap on the device.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
import itertools
import math
import os
from collections.abc import Callable, Generator, Hashable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd.core.errors import DataError, UsageError
from jaxdd.core.io import expanded, printable
from jaxdd.core.procedure import Procedure
from jaxdd.core.types import Examples, PyTree
from jaxdd.data.dataset import require_two_classes
from jaxdd.data.readers import folder as folders
from jaxdd.data.readers import listing
from jaxdd.data.readers.images import Encoded, decode, shorter_side, tell_losses, to_channels
from jaxdd.data.readers.locate import require_grain

Batch = Mapping[str, Any]  # field of `Examples` -> what takes its place, numpy arrays

SCALE = (0.08, 1.0)  # of the image's area that a crop shows
RATIO = (3 / 4, 4 / 3)  # of a crop's width to its height
ATTEMPTS = 10


class Stream(abc.ABC):
    """Batches by step number. Subclasses need `batch` alone.

    Attributes:
        digest: one word for all that it holds; empty where that is not known.
    """

    digest: str = ""

    @abc.abstractmethod
    def batch(self, step: int) -> Batch:
        """Returns the batch of step number `step`: fields of `Examples`, of the same shapes at every step. Pure."""

    def batches(self, start: int) -> Iterator[Batch]:
        """Returns the batches from step `start` on; a subclass may prepare some ahead. It is closed when no more are
        needed."""
        return map(self.batch, itertools.count(start))

    @property
    def shapes(self) -> dict[str, Any]:
        """Every field's shape and type."""
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), dict(self.batch(0)))


@dataclasses.dataclass(frozen=True, eq=False)
class ImageStream(Stream):
    """Images decoded while they are needed; make it with `ImageStream.of_folder`.

    Its batches are `images [batch_size, resolution, resolution, 3]` uint8 and `labels [batch_size]` int32.

    Arguments:
        encoded: the images.
        labels: `[n]` int32 class indices.
        class_names: in label order.
        resolution: side in pixels of what is shown.
        batch_size: images per step.
        seed: of shuffles and crops, 0 <= seed < 2**32.
        scale: least and largest share of the image's area in a random crop; None for `crop` of every image.
        shuffle: whether every epoch has an order of its own; else it is that of the files.
        threads: that read ahead; 0 for none. No number depends on it.
        crop: makes of an image its central square, `[resolution, resolution, channels]`.

    Raises:
        UsageError: grain is not installed.
    """

    encoded: Encoded
    labels: np.ndarray
    class_names: tuple[str, ...]
    resolution: int
    batch_size: int
    seed: int = 0
    scale: tuple[float, float] | None = SCALE
    shuffle: bool = True
    threads: int = dataclasses.field(default_factory=lambda: os.cpu_count() or 1)
    crop: Callable[[np.ndarray, int], np.ndarray] = shorter_side

    def __post_init__(self):
        require_grain()

    @classmethod
    def of_folder(
        cls, folder: str | os.PathLike, split: str = "train", *, classes: Sequence[str] | None = None, **options: Any
    ) -> ImageStream:
        """Returns the images of a folder; lists them and reads none.

        Arguments:
            folder: in ImageNet's layout, `train/<class>/*.JPEG` beside `val/` (or `test/`, `validation/`).
            split: `train`, cropped at random in shuffled epochs; or `test`, central squares in the files' order.
            classes: class folders in label order, where others are left alone; None for all, by name.
            options: `resolution`, `batch_size` and more, as in `ImageStream`.

        Raises:
            DataError: no such folder, no images, or a class without any.
            UsageError: grain is not installed.
        """
        root = expanded(folder)
        train = root / "train"
        place = train if split == "train" else folders.test_folder(root) if root.is_dir() else None
        if not train.is_dir() or place is None:
            raise DataError(
                f"no folder of {split} images", where=str(root), expected=folders.LAYOUT, remedy="check the path"
            )
        names = folders.class_order(root, ()) if classes is None else tuple(classes)
        left = listing.Left()
        encoded, labels = folders.read_split(place, names, part=classes is not None, left=left)
        listing.tell(left, place)
        tell_losses(encoded, str(place))
        if classes is None:
            require_two_classes(names, str(place))
        empty = np.flatnonzero(np.bincount(labels, minlength=len(names)) == 0)
        if split == "train" and empty.size:
            raise DataError(
                f"{empty.size} of {len(names)} classes have no image",
                where=str(place / names[empty[0]]),
                expected="at least one image of every class",
                remedy="complete the folder, or remove those of classes that are not wanted",
            )
        if split != "train":
            options = {"scale": None, "shuffle": False, **options}
        return cls(encoded, labels, tuple(map(printable, names)), **options)

    def __len__(self) -> int:
        """Returns the number of images of an epoch."""
        return len(self.labels)

    @property
    def shapes(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes of images and labels."""
        image = (self.batch_size, self.resolution, self.resolution, 3)
        return {
            "images": jax.ShapeDtypeStruct(image, np.uint8),
            "labels": jax.ShapeDtypeStruct(image[:1], np.int32),
        }

    @property
    def steps_per_epoch(self) -> int:
        """Batches after which every image has been shown."""
        return math.ceil(len(self) / self.batch_size)

    @functools.cached_property
    def digest(self) -> str:
        """sha256 of the files' names, in order, and their labels."""
        return folders.digest(self.encoded, self.labels, self.class_names)

    def examples(self, constants: tuple[tuple[float, ...], tuple[float, ...]] | None = None) -> Examples:
        """Returns the resident part beside the stream: no image, but their shape, and the constants that standardise
        them."""
        shape = (0, self.resolution, self.resolution, 3)
        largest = int(np.bincount(self.labels).max())
        empty = jnp.zeros(shape, jnp.uint8), jnp.zeros(0, jnp.int32)
        return Examples(*empty, len(self.class_names), constants=constants, largest=largest)

    def batch(self, step: int) -> Batch:
        """Returns one batch, as `Stream.batch`; reads one image after another.

        Raises:
            DataError: a file is missing or damaged; names it.
        """
        first = step * self.batch_size
        return _stacked([self._shown[first + place] for place in range(self.batch_size)])

    def batches(self, start: int) -> Generator[Batch, None, None]:
        """Returns the same, read ahead by threads: at most two batches."""
        import grain

        options = grain.ReadOptions(self.threads, max(2 * self.batch_size, self.threads))
        shown = iter(self._shown[start * self.batch_size :].to_iter_dataset(options))
        try:
            while True:
                yield _stacked([next(shown) for _ in range(self.batch_size)])
        finally:
            shown.close()

    @functools.cached_property
    def _shown(self) -> Any:
        """Image number i of the infinitely many epochs, as grain's random-access data set."""
        import grain

        order = grain.MapDataset.range(len(self)).seed(self.seed)
        order = order.shuffle() if self.shuffle else order
        return order.repeat().random_map(self._show)

    def _show(self, index: int, random: np.random.Generator) -> dict[str, Any]:
        where = self.encoded.where(index)
        image = decode(self.encoded.read(index), where)
        if self.scale is None:
            image = self.crop(image, self.resolution)
        else:
            image = resized(image, window(random, *image.shape[:2], self.scale), self.resolution)
        return {"images": to_channels(image, 3, where), "labels": self.labels[index]}


def window(
    random: np.random.Generator, height: int, width: int, scale: tuple[float, float]
) -> tuple[int, int, int, int]:
    """Returns a window of a uniform share of the area and a log-uniform ratio: top, left, height and width in pixels.

    Of ten attempts the first that fits counts; else the largest central window with a permitted ratio. torchvision's
    `RandomResizedCrop.get_params`; `augment.imagenet.draw_boxes` is its like for images on the device.
    """
    for _ in range(ATTEMPTS):
        area = height * width * random.uniform(scale[0], scale[1])
        ratio = math.exp(random.uniform(math.log(RATIO[0]), math.log(RATIO[1])))
        h, w = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
        if 0 < h <= height and 0 < w <= width:
            return int(random.integers(height - h + 1)), int(random.integers(width - w + 1)), h, w
    h, w = min(height, round(width / RATIO[0])), min(width, round(height * RATIO[1]))
    return (height - h) // 2, (width - w) // 2, h, w


def resized(image: np.ndarray, box: tuple[int, int, int, int], resolution: int) -> np.ndarray:
    """Returns `[height, width, channels]` uint8 -> its window, resized by PIL to `[resolution, resolution, channels]`
    uint8."""
    from PIL import Image

    top, left, height, width = box
    shown = image[top : top + height, left : left + width]
    shown = Image.fromarray(shown[..., 0] if image.shape[-1] == 1 else shown)
    pixels = np.asarray(shown.resize((resolution, resolution), Image.Resampling.BILINEAR))
    return pixels.reshape(resolution, resolution, image.shape[-1])


def _stacked(shown: list[dict[str, Any]]) -> Batch:
    return {name: np.stack([each[name] for each in shown]) for name in shown[0]}


class Feed:
    """The batches of a run's steps, stacked by dispatch; nothing at all for a run without a stream.

    Arguments:
        stream: where they come from, or None.
        procedure: which asks for a stream, or for none.
        steps_per_dispatch: batches of a full dispatch.
        put: puts a tree on the devices; each of them gets whole batches.
        apart: whether each device steps on a network of its own.

    Raises:
        UsageError: a stream is missing or not asked for, its batches are of another size, or the devices were each to
            read batches of their own.
    """

    def __init__(
        self,
        stream: Stream | None,
        procedure: Procedure,
        steps_per_dispatch: int,
        put: Callable[[PyTree], PyTree],
        *,
        apart: bool = False,
    ):
        self._stream, self._room, self._put = stream, steps_per_dispatch, put
        self._batches: Iterator[Batch] = iter(())
        self._next = -1  # the step whose batch comes next
        _check(stream, procedure, apart=apart)
        self._shapes = {} if stream is None else stream.shapes
        for leaf in jax.tree.leaves(self._shapes):
            if leaf.shape[:1] != (procedure.batch_rule.size,):
                raise UsageError(
                    f"a stream whose batches hold arrays of shape {leaf.shape}",
                    where="stream",
                    expected=f"{procedure.batch_rule.size} rows, as the procedure's batch rule says",
                    remedy="let every array of a batch have that many rows",
                )

    @property
    def kind(self) -> Hashable:
        """Names, shapes and types of what comes: runs that differ in them need programs of their own. None: nothing."""
        if self._stream is None:
            return None
        leaves, tree = jax.tree.flatten(self._shapes)
        return tree, tuple((leaf.shape, str(leaf.dtype)) for leaf in leaves)

    def __call__(self, start: int, stop: int) -> dict[str, PyTree]:
        """Returns the batches of the steps `start` to `stop - 1` on the devices, each leaf `[steps_per_dispatch, ...]`.

        The rest of a dispatch that is cut short is zeros, which no step reads.

        Raises:
            TypeError: a batch is not of the shapes that the stream told.
        """
        if self._stream is None:
            return {}
        if start != self._next:
            self.close()
            self._batches = self._stream.batches(start)
        held = jax.tree.map(lambda leaf: np.zeros((self._room, *leaf.shape), leaf.dtype), self._shapes)
        for place in range(stop - start):
            batch = dict(next(self._batches))
            if jax.tree.map(_shape, batch) != jax.tree.map(_shape, self._shapes):
                raise TypeError(f"the stream's batch of step {start + place} has other shapes than it told")
            jax.tree.map(lambda room, leaf, place=place: room.__setitem__(place, leaf), held, batch)
        self._next = stop
        return self._put(held)

    def close(self) -> None:
        """Ends what reads ahead."""
        close = getattr(self._batches, "close", None)  # any iterator will do; only some have threads to end
        if close is not None:
            close()
        self._batches, self._next = iter(()), -1


def _check(stream: Stream | None, procedure: Procedure, *, apart: bool) -> None:
    """Refuses a stream that is missing or not asked for, or that devices would each read for themselves."""
    name, kind = type(procedure).__name__, procedure.batch_rule.kind
    if (kind == "stream") != (stream is not None):
        raise UsageError(
            f"{name} reads {'a stream and was given none' if stream is None else 'resident data, but has a stream'}",
            where=f"batch rule '{kind}'",
            remedy="pass stream=..." if stream is None else "leave out stream=...",
        )
    if stream is not None and apart:
        raise UsageError(
            "devices that each step on a network of their own cannot share a stream",
            where="`devices_mode=pool`",
            remedy="use `devices_mode=shard`",
        )


def _shape(leaf: Any) -> tuple:
    return tuple(leaf.shape), np.dtype(leaf.dtype)
