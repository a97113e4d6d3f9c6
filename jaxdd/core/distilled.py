"""`DistilledSet`: the one artefact that every method makes and everything else reads.

On disk it is a folder: `manifest.json` (format, meaning, provenance, and shape and sha256 of every shard) beside one
or more safetensors shards named by their content, each with consecutive images. The manifest is written last and
atomically, so a reader sees the old set or the whole new one, and a flipped bit is found.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import re
from typing import Any, Literal, get_args

import numpy as np

from jaxdd.core import io, shards
from jaxdd.core.errors import CheckpointError, garbled

FORMAT = 1
AGAIN = "copy the whole folder again from its source, or distil again"
SHARD_BYTES = 1 << 30  # beyond which a set is written as several
TYPES = {"images": ("float32", "uint8"), "labels": ("float32", "int32"), "pixels": ("float32",)}

Space = Literal["raw", "standardised", "zca", "layernorm_zca"]


@dataclasses.dataclass(frozen=True)
class Decode:
    """How stored images become training images.

    Arguments:
        flip: the set is used together with its horizontal mirror images (same labels).
        factor: every stored image encodes this many squared (`core.formation`).
        formation: `single`, or `multi` for those of all smaller factors too.
    """

    flip: bool = False
    factor: int = 1
    formation: Literal["single", "multi"] = "single"


@dataclasses.dataclass(frozen=True)
class DistilledSet:
    """A distilled image set.

    Arguments:
        images: `[p, height, width, channels]` float32 in `space`; class-major, images of a class consecutive. Raw ones
            may be uint8, a quarter of the size: they stand for x / 255.
        labels: `[p, classes]` float32, learned and unnormalised; the argmax is the class. Or `[p]` int32, the classes
            themselves: of a great many classes far smaller.
        space: what the numbers in `images` mean: `raw` in [0, 1], `standardised` per channel,
            `zca` whitened, or `layernorm_zca`: centred and scaled to norm 1 each, then whitened.
        log_temperature: logits are multiplied by its exponential in the method's loss.
        decode: how stored images become training images.
        pixels: the images in true colours, `[p, height, width, channels]` float32 in [0, 1]; None until described.
        dataset: name of the data set it was distilled from.
        class_names: one name per class; with labels `[p]` they say how many classes there are.
        preprocessing: name, constants and digest of the map from raw images to `space`; never matrices.
        recipe: settings of the evaluation recipe the method's paper uses.
        provenance: method, settings, seed, step, versions.
        teachers: whose soft labels students learn (`run.chain.teachers.Teacher`), in memory alone: they are not saved.
    """

    images: np.ndarray
    labels: np.ndarray
    space: Space = "raw"
    log_temperature: float = 0.0
    decode: Decode = Decode()
    pixels: np.ndarray | None = None
    dataset: str = ""
    class_names: tuple[str, ...] = ()
    preprocessing: dict[str, Any] = dataclasses.field(default_factory=dict)
    recipe: dict[str, Any] = dataclasses.field(default_factory=dict)
    provenance: dict[str, Any] = dataclasses.field(default_factory=dict)
    teachers: tuple[Any, ...] = dataclasses.field(default=(), compare=False, repr=False)

    def __post_init__(self):
        indices = self.labels.ndim == 1 and bool(self.class_names) and self.labels.dtype.kind in "iu"
        fits = self.images.ndim == 4 and len(self.images) == len(self.labels)
        if not fits or not (indices or self.labels.ndim == 2):
            raise CheckpointError(
                f"images {self.images.shape} and labels {self.labels.shape} do not fit",
                expected="images [p, height, width, channels] and labels [p, classes], or [p] integers and class names",
                remedy="give one label row or one class number for each image",
            )
        if self.images.dtype == np.uint8 and self.space != "raw":
            raise CheckpointError(
                f"uint8 images in the space '{self.space}'",
                expected="floats, or the space 'raw'",
                remedy="divide by 255 and preprocess first, or pass space='raw'",
            )
        if indices and len(self) and not 0 <= self.labels.min() <= self.labels.max() < self.classes:
            raise CheckpointError(
                f"labels from {self.labels.min()} to {self.labels.max()}",
                expected=f"0 .. {self.classes - 1}",
                remedy="number the classes from 0, in the order of class_names",
            )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names) if self.labels.ndim == 1 else self.labels.shape[1]

    @property
    def ipc(self) -> int:
        """Images per class."""
        return len(self.images) // self.classes

    @property
    def class_indices(self) -> np.ndarray:
        """`[p]` int32: the class of every image."""
        return self.labels if self.labels.ndim == 1 else np.argmax(self.labels, axis=1).astype(np.int32)

    @property
    def colours(self) -> np.ndarray | None:
        """The images in true colours, `[p, height, width, channels]` float32 in [0, 1]; None if nothing tells them."""
        images = self.pixels if self.pixels is not None or self.space != "raw" else self.images
        return None if images is None else as_floats(images)

    def decoded(self, *, compact: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Returns training images and labels: those that the stored ones encode, then their mirror images if
        `decode.flip`.

        Arguments:
            compact: what is stored as uint8 images and as class indices stays so, as far as nothing is interpolated.

        Returns:
            `[n, height, width, channels]` float32 and `[n, classes]` float32, one-hot where class indices are stored.
        """
        images, labels, how = self.images, self.labels, self.decode
        if not compact or how.factor > 1:
            images = as_floats(images)
        if not compact and labels.ndim == 1:
            labels = np.eye(self.classes, dtype=np.float32)[labels]
        if how.factor > 1:
            from jaxdd.core import formation

            images = np.asarray(formation.decode(images, how.factor, how.formation))
            labels = labels[formation.sources(len(self), how.factor, how.formation)]
        if not how.flip:
            return images, labels
        return np.concatenate([images, images[:, :, ::-1]]), np.concatenate([labels, labels])

    def replace(self, **changes: Any) -> DistilledSet:
        """Returns a copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def save(self, folder: str | os.PathLike) -> pathlib.Path:
        """Writes the set into `folder` and removes the shards that the manifest of the set there before names.

        Raises:
            CheckpointError: a value is not finite; nothing is written.
        """
        arrays: dict[str, Any] = {"images": self.images, "labels": self.labels}
        if self.pixels is not None:
            arrays["pixels"] = self.pixels
        arrays = {name: _as_stored(name, array) for name, array in arrays.items()}
        folder = io.absolute(folder)
        pieces = [slice(start, start + self._per_shard) for start in range(0, max(1, len(self)), self._per_shard)]
        for name, array in arrays.items():
            if not all(map(_finite, (array[piece] for piece in pieces))) or not np.isfinite(self.log_temperature):
                raise CheckpointError(
                    f"{name} holds values that are not finite",
                    where=str(folder),
                    remedy="the run has diverged: lower its rates, or go back to an earlier state",
                )
        before = _shards_of(folder)
        entries = [_write_shard(folder, {name: array[piece] for name, array in arrays.items()}) for piece in pieces]
        meanings = [f.name for f in dataclasses.fields(self) if f.name not in (*TYPES, "teachers")]
        manifest = {
            "jaxdd_format": FORMAT,
            **{name: getattr(self, name) for name in meanings},
            "decode": dataclasses.asdict(self.decode),
            "shards": entries,
        }
        io.write_json(folder / "manifest.json", manifest)
        for stale in before - {entry["file"] for entry in entries}:
            (folder / stale).unlink(missing_ok=True)
        return folder

    @property
    def _per_shard(self) -> int:
        """Images of one shard."""
        arrays = (self.images, self.labels, *(() if self.pixels is None else (self.pixels,)))
        return max(1, SHARD_BYTES * max(1, len(self)) // max(1, sum(array.nbytes for array in arrays)))

    @classmethod
    def load(cls, folder: str | os.PathLike) -> DistilledSet:
        """Reads a set and verifies checksum, shapes, types and finiteness.

        Arguments:
            folder: the folder that holds `manifest.json`, or that file itself.

        Raises:
            CheckpointError: missing, damaged, of another format, or not what the manifest says.
        """
        path = io.absolute(folder)
        path = path if path.name == "manifest.json" else path / "manifest.json"
        manifest = io.read_manifest(path, "jaxdd_format", (FORMAT,), "distilled set", AGAIN)
        try:
            fields: dict[str, Any] = {f.name: manifest[f.name] for f in dataclasses.fields(cls) if f.name in manifest}
            fields["decode"] = Decode(**manifest["decode"])
            fields["class_names"] = tuple(manifest["class_names"])
            fields["log_temperature"] = float(manifest["log_temperature"])
            if fields["space"] not in get_args(Space):
                raise ValueError(f"the space {fields['space']!r}")
            parts = [_read_shard(path.parent, entry) for entry in manifest["shards"]]
            names = ("images", "labels", "pixels") if "pixels" in parts[0] else ("images", "labels")
            fields |= {name: _joined([part[name] for part in parts]) for name in names}
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise garbled(error, path, AGAIN) from None
        return cls(**fields)


def as_floats(images: np.ndarray) -> np.ndarray:
    """Returns images as floats; of uint8 ones the numbers that they stand for, to the bit as `Examples.take` gives
    them."""
    return images * np.float32(1 / 255) if images.dtype == np.uint8 else images


def _as_stored(name: str, array: np.ndarray) -> np.ndarray:
    """Returns an array in one of the types that a shard may hold: the first of `TYPES`, unless it has another of
    them."""
    kept = "int32" if name == "labels" and array.ndim == 1 else str(array.dtype)
    return np.ascontiguousarray(array, kept if kept in TYPES[name] else TYPES[name][0])


def _finite(array: np.ndarray) -> bool:
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    if len({part.dtype for part in parts}) > 1:
        raise ValueError("shards of several types")
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _shards_of(folder: pathlib.Path) -> set[str]:
    """Returns the names of the shards of the set in a folder; none where its manifest is missing or damaged."""
    with contextlib.suppress(CheckpointError, KeyError, TypeError):
        manifest = io.read_manifest(folder / "manifest.json", "jaxdd_format", (FORMAT,), "distilled set", AGAIN)
        names = {shards.path_of(folder, entry).name for entry in manifest["shards"]}
        return {name for name in names if re.fullmatch(r"data-[0-9a-f]{12}\.safetensors", name)}
    return set()


def _write_shard(folder: pathlib.Path, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Writes one shard; returns its entry in the manifest."""
    shapes = {name: list(array.shape) for name, array in arrays.items()}
    types = {name: str(array.dtype) for name, array in arrays.items()}
    return {**shards.write(folder, "data", arrays), "shapes": shapes, "types": types}


def _read_shard(folder: pathlib.Path, entry: dict[str, Any]) -> dict[str, np.ndarray]:
    arrays = shards.read(folder, entry, "a shard of the set", AGAIN)
    for name, shape in entry["shapes"].items():
        array, dtype = arrays.get(name), entry.get("types", {}).get(name, "float32")  # the only one there was once
        known = array is not None and array.dtype == dtype and dtype in TYPES[name]
        if array is None or not known or list(array.shape) != shape or not _finite(array):
            actual = "nothing" if array is None else f"{array.dtype} {list(array.shape)}"
            wanted = f"finite {dtype} {shape}, found {actual}"
            where = str(shards.path_of(folder, entry))
            raise CheckpointError(f"'{name}' is wrong", where=where, expected=wanted, remedy=AGAIN)
    return arrays
