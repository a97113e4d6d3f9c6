"""`Dataset`: two labelled splits of uint8 images on the host, checked once and then trusted everywhere."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int32, UInt8

from jaxdd.core.errors import DataError
from jaxdd.core.io import printable


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """A labelled image set as bytes became arrays. Build it with `load` or `Dataset.of_arrays`, which check it.

    Arguments:
        name: name in the registry, `folder:...`, or whatever the user calls it.
        train_images: `[n, side, side, channels]` uint8, channels 1 or 3; read-only, as all arrays here are.
        train_labels: `[n]` int32 in `0 .. classes-1`.
        test_images: `[m, side, side, channels]` uint8.
        test_labels: `[m]` int32.
        class_names: one per class, in label order.
    """

    name: str
    train_images: UInt8[np.ndarray, "n side side channels"]
    train_labels: Int32[np.ndarray, " n"]
    test_images: UInt8[np.ndarray, "m side side channels"]
    test_labels: Int32[np.ndarray, " m"]
    class_names: tuple[str, ...]

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """`(height, width, channels)`."""
        _, height, width, channels = self.train_images.shape
        return height, width, channels

    @property
    def resolution(self) -> int:
        """Side in pixels."""
        return self.train_images.shape[1]

    @functools.cached_property
    def digest(self) -> str:
        """sha256 of the train images and labels: what preprocessing depends on."""
        hasher = hashlib.sha256(repr(self.train_images.shape).encode())
        hasher.update(self.train_images)
        hasher.update(self.train_labels)
        return hasher.hexdigest()

    @classmethod
    def of_arrays(
        cls,
        train_images: np.ndarray,
        train_labels: np.ndarray,
        test_images: np.ndarray,
        test_labels: np.ndarray,
        *,
        name: str = "arrays",
        class_names: Sequence[str] | None = None,
        where: str = "the arrays given",
    ) -> Dataset:
        """Returns a data set from plain arrays, checked.

        Arguments:
            train_images: `[n, side, side, channels]` or `[n, side, side]`; uint8, any integers in 0..255, or floats
                in [0, 1], which are rounded to the nearest of the 256 levels (half to even).
            train_labels: `[n]` or `[n, 1]` integers in `0 .. classes-1`; every class has at least one train image.
            test_images: as `train_images`, same side and channels.
            test_labels: as `train_labels`; a class may be missing here.
            name: shown in messages and written into artefacts.
            class_names: two or more; default: the label numbers, as many as the largest train label tells.
            where: file or folder the arrays come from, for messages.

        Raises:
            DataError: anything else; says what was found and what was expected.
        """
        images = {"train": train_images, "test": test_images}
        labels = {"train": train_labels, "test": test_labels}
        images = {split: as_uint8(value, f"{where} ({split} images)") for split, value in images.items()}
        if images["train"].shape[1:] != images["test"].shape[1:]:
            raise DataError(
                "train and test images differ in shape",
                where=where,
                expected=f"test images of shape {images['train'].shape[1:]}, found {images['test'].shape[1:]}",
                remedy="crop and resize both splits alike (load a folder with a resolution, or give one shape)",
            )
        known = tuple(printable(str(name)) for name in class_names) if class_names is not None else None
        train_y = check_labels(labels["train"], len(images["train"]), known, f"{where} (train labels)")
        names = known or tuple(str(index) for index in range(int(train_y.max()) + 1))
        test_y = check_labels(labels["test"], len(images["test"]), names, f"{where} (test labels)")
        require_classes(train_y, names, where)
        return cls(name, _frozen(images["train"]), train_y, _frozen(images["test"]), test_y, names)


def require_two_classes(names: Sequence[str], where: str) -> None:
    """Refuses a data set of one class: nothing can be told apart, and every network would be right."""
    if len(names) == 1:
        raise DataError(
            f"a data set of one class, '{printable(str(names[0]))}'",
            where=where,
            expected="two or more classes",
            remedy="check the labels; a folder's classes are the folders in train/ (train/train/ is one level more)",
        )


def require_classes(labels: np.ndarray, names: Sequence[str], where: str) -> None:
    """Refuses fewer than two classes, and a class without a train image; arguments as in `check_labels`."""
    require_two_classes(names, where)
    missing = np.setdiff1d(np.arange(len(names)), labels)
    if missing.size:
        shown = ", ".join(f"{index} ({names[index]})" for index in missing[:5])
        raise DataError(
            f"{missing.size} of {len(names)} classes have no train image: {shown}",
            where=where,
            expected="at least one train image of every class",
            remedy="complete the download, or number the labels 0 .. classes-1 without gaps",
        )


def check_shape(shape: Sequence[int], where: str, *, square: bool = True) -> None:
    """Refuses a shape that is not that of images: `[n, height, width]` or `[n, height, width, channels]`.

    Arguments:
        shape: as stored.
        where: for messages.
        square: whether height and width must be equal.
    """
    height, width, channels = (*shape[1:], 1)[:3] if len(shape) in (3, 4) else (0, 0, 0)
    if channels in (1, 3) and 0 not in shape and (height == width or not square):
        return
    remedy = "move the channel axis last, and crop or pad the images to squares"
    if len(shape) == 4 and shape[1] in (1, 3) and channels not in (1, 3):
        remedy = "the channels come first here, and belong last: images.transpose(0, 2, 3, 1)"
    elif channels == 4:
        remedy = "the fourth channel is transparency: images[..., :3]"
    raise DataError(
        f"an image array of shape {tuple(shape)}",
        where=where,
        expected="[images, side, side, channels] with 1 or 3 channels, square and not empty",
        remedy=remedy,
    )


def as_uint8(images: np.ndarray, where: str, *, square: bool = True) -> np.ndarray:
    """Returns images as `[n, side, side, channels]` uint8; rules as in `Dataset.of_arrays`.

    Arguments:
        images, where: see there.
        square: False if height and width may differ, as they will be cropped.
    """
    images = np.asarray(images)
    check_shape(images.shape, where, square=square)
    if images.ndim == 3:
        images = images[..., None]
    if images.dtype == np.uint8:
        return images
    top = {"u": 255, "i": 255, "f": 1.0}.get(images.dtype.kind)
    low, high = (images.min(), images.max()) if top is not None else (0, 0)
    if top is None or not (low >= 0 and high <= top):  # NaN fails both comparisons
        actual = images.dtype if top is None else f"{images.dtype} from {low} to {high}"
        raise DataError(
            f"pixels of type {actual}",
            where=where,
            expected="uint8, integers in 0..255, or finite floats in [0, 1]",
            remedy="make 0 and 255 of them"
            if images.dtype.kind == "b"
            else "undo any normalisation and scale them first",
        )
    return (images if top == 255 else np.rint(images * 255)).astype(np.uint8)


def check_labels(labels: np.ndarray, count: int, names: tuple[str, ...] | None, where: str) -> np.ndarray:
    """Returns labels as read-only `[count]` int32; rules as in `Dataset.of_arrays`."""
    labels = np.asarray(labels)
    if labels.ndim == 2 and labels.shape[1] == 1:  # Keras stores CIFAR's labels as a column
        labels = labels[:, 0]
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise DataError(
            f"labels of shape {labels.shape} and type {labels.dtype}",
            where=where,
            expected=f"{count} integers, one per image",
            remedy=label_remedy(labels, count),
        )
    top = len(names) - 1 if names else count - 1
    if labels.min() < 0 or labels.max() > top:
        raise DataError(
            f"labels run from {labels.min()} to {labels.max()}",
            where=where,
            expected=f"0 .. {top}" + ("" if names else " at most (no more classes than images)"),
            remedy="a negative label usually means an unlabelled split; otherwise check the class list",
        )
    return _frozen(labels.astype(np.int32))


def label_remedy(labels: np.ndarray, count: int) -> str:
    """Returns what to do about labels that are not `[count]` integers."""
    if labels.dtype.kind == "b":
        return "true and false are no class indices: labels.astype(int)"
    if labels.dtype.kind in "iuf" and labels.shape[:1] == (count,) and labels.ndim == 2:
        return "one class per image: of one-hot rows labels.argmax(1); images of several classes cannot be used"
    if labels.dtype.kind == "f" and labels.shape == (count,):
        return "store class indices as integers: labels.astype(int)"
    if labels.dtype.kind in "iu":
        return "give as many labels as images, in the same order"
    return "store class indices, not one-hot rows or names"


def _frozen(array: np.ndarray) -> np.ndarray:
    """Returns a read-only contiguous view: the digest of a data set must stay true."""
    view = np.ascontiguousarray(array).view()
    view.setflags(write=False)
    return view
