"""`DistilledSet`: the one artefact that every method makes and everything else reads.

On disk it is a folder: `manifest.json` (format, meaning, provenance, and shape and sha256 of every shard) beside one
or more safetensors shards named by their content. The manifest is written last and atomically, so a reader sees the
old set or the whole new one, and a flipped bit is found.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from typing import Any, Literal, get_args

import numpy as np
import safetensors
import safetensors.numpy

from jaxdd.core import io
from jaxdd.core.errors import CheckpointError

FORMAT = 1
MAX_SHARD_BYTES = 16 << 30

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
        images: `[p, height, width, channels]` float32 in `space`; class-major, images of a class consecutive.
        labels: `[p, classes]` float32, learned and unnormalised; the argmax is the class.
        space: what the numbers in `images` mean: `raw` in [0, 1], `standardised` per channel,
            `zca` whitened, or `layernorm_zca`: centred and scaled to norm 1 each, then whitened.
        log_temperature: logits are multiplied by its exponential in the method's loss.
        decode: how stored images become training images.
        pixels: the images in true colours, `[p, height, width, channels]` float32 in [0, 1]; None until described.
        dataset: name of the data set it was distilled from.
        class_names: one name per class.
        preprocessing: name, constants and digest of the map from raw images to `space`; never matrices.
        recipe: settings of the evaluation recipe the method's paper uses.
        provenance: method, settings, seed, step, versions.
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

    def __post_init__(self):
        if self.images.ndim != 4 or self.labels.ndim != 2 or len(self.images) != len(self.labels):
            raise CheckpointError(
                f"images {self.images.shape} and labels {self.labels.shape} do not fit",
                expected="images [p, height, width, channels] and labels [p, classes]",
            )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self.labels.shape[1]

    @property
    def ipc(self) -> int:
        """Images per class."""
        return len(self.images) // self.classes

    def decoded(self) -> tuple[np.ndarray, np.ndarray]:
        """Training images and labels: those that the stored ones encode, then their mirror images if `decode.flip`."""
        images, labels, how = self.images, self.labels, self.decode
        if how.factor > 1:
            from jaxdd.core import formation

            images = np.asarray(formation.decode(images, how.factor, how.formation))
            labels = labels[formation.sources(len(self), how.factor, how.formation)]
        if not how.flip:
            return images, labels
        return np.concatenate([images, images[:, :, ::-1]]), np.concatenate([labels, labels])

    def replace(self, **changes: Any) -> DistilledSet:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def save(self, folder: str | os.PathLike) -> pathlib.Path:
        """Writes the set into `folder` and removes the shards of the set that was there before.

        Raises:
            CheckpointError: a value is not finite; nothing is written.
        """
        arrays: dict[str, Any] = {"images": self.images, "labels": self.labels}
        if self.pixels is not None:
            arrays["pixels"] = self.pixels
        arrays = {name: np.ascontiguousarray(array, np.float32) for name, array in arrays.items()}
        for name, array in arrays.items():
            if not np.isfinite(array).all() or not np.isfinite(self.log_temperature):
                raise CheckpointError(f"{name} holds values that are not finite", where=str(folder))
        folder = pathlib.Path(folder)
        payload = safetensors.numpy.save(arrays)
        digest = io.sha256(payload)
        shard = f"data-{digest[:12]}.safetensors"
        io.write_atomically(folder / shard, payload)
        meanings = [f.name for f in dataclasses.fields(self) if f.name not in ("images", "labels", "pixels")]
        shapes = {name: list(array.shape) for name, array in arrays.items()}
        manifest = {
            "jaxdd_format": FORMAT,
            **{name: getattr(self, name) for name in meanings},
            "decode": dataclasses.asdict(self.decode),
            "shards": [{"file": shard, "sha256": digest, "bytes": len(payload), "shapes": shapes}],
        }
        io.write_json(folder / "manifest.json", manifest)
        for stale in folder.glob("data-*.safetensors"):
            if stale.name != shard:
                stale.unlink()
        return folder

    @classmethod
    def load(cls, folder: str | os.PathLike) -> DistilledSet:
        """Reads a set and verifies checksum, shapes, types and finiteness.

        Arguments:
            folder: the folder that holds `manifest.json`, or that file itself.

        Raises:
            CheckpointError: missing, damaged, of another format, or not what the manifest says.
        """
        path = pathlib.Path(folder)
        path = path if path.name == "manifest.json" else path / "manifest.json"
        manifest = io.read_json(path)
        if not isinstance(manifest, dict) or manifest.get("jaxdd_format") != FORMAT:
            raise CheckpointError("not a distilled set of this version", where=str(path), expected=f"format {FORMAT}")
        try:
            fields: dict[str, Any] = {f.name: manifest[f.name] for f in dataclasses.fields(cls) if f.name in manifest}
            fields["decode"] = Decode(**manifest["decode"])
            fields["class_names"] = tuple(manifest["class_names"])
            fields["log_temperature"] = float(manifest["log_temperature"])
            if fields["space"] not in get_args(Space):
                raise ValueError(f"the space {fields['space']!r}")
            shards = [_read_shard(path.parent, entry) for entry in manifest["shards"]]
            names = ("images", "labels", "pixels") if "pixels" in shards[0] else ("images", "labels")
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise CheckpointError(f"the manifest lacks or garbles {error}", where=str(path)) from None
        fields |= {name: np.concatenate([shard[name] for shard in shards]) for name in names}
        return cls(**fields)


def _read_shard(folder: pathlib.Path, entry: dict[str, Any]) -> dict[str, np.ndarray]:
    path = folder / pathlib.PurePath(entry["file"]).name
    if not path.is_file():
        raise CheckpointError("a shard of the set is missing", where=str(path), remedy="copy the whole folder")
    size = path.stat().st_size
    if size != entry["bytes"] or size > MAX_SHARD_BYTES or io.sha256(path) != entry["sha256"]:
        raise CheckpointError(
            "a shard is not what the manifest says (cut, damaged or exchanged)",
            where=str(path),
            expected=f"{entry['bytes']} bytes with sha256 {entry['sha256'][:12]}...",
            remedy="copy it again from its source, or distil again",
        )
    try:
        arrays = safetensors.numpy.load(path.read_bytes())
    except (safetensors.SafetensorError, ValueError) as error:
        raise CheckpointError(f"not a safetensors file: {error}", where=str(path)) from None
    for name, shape in entry["shapes"].items():
        array = arrays.get(name)
        if array is None or list(array.shape) != shape or array.dtype != np.float32 or not np.isfinite(array).all():
            found = "nothing" if array is None else f"{array.dtype} {list(array.shape)}"
            wanted = f"finite float32 {shape}, found {found}"
            raise CheckpointError(f"'{name}' is wrong", where=str(path), expected=wanted)
    return arrays
