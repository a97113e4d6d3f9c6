"""Reading the distilled sets that the RCIG authors published: flax checkpoints in MessagePack.

Only nested maps of small integers and of float arrays are accepted, whose shapes must agree with their bytes. Nothing
in the file names a type to construct, so nothing in it can run.
"""

from __future__ import annotations

import math
import pathlib
from typing import Any

import msgpack
import numpy as np

from jaxdd.core.distilled import Decode, DistilledSet
from jaxdd.core.errors import CheckpointError

MAX_BYTES = 4 << 30
NDARRAY, SCALAR = 1, 3  # flax's MessagePack extension types that occur in such files
DTYPES = ("float32", "float64", "float16", "int32", "int64", "uint32")
NAMES = {"images": "x_proto", "labels": "y_proto", "log_temperature": "log_temp"}


def is_rcig_checkpoint(path: pathlib.Path) -> bool:
    """Returns whether `path` is one file that begins like a MessagePack map."""
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        first = file.read(1)
    return bool(first) and (0x81 <= first[0] <= 0x8F or first[0] in (0xDE, 0xDF))


def load_rcig_checkpoint(path: str | pathlib.Path, *, dataset: str = "", flip: bool = True) -> DistilledSet:
    """Reads the averaged set of an original RCIG checkpoint file.

    Arguments:
        path: a file such as `checkpoint_15000`.
        dataset: name of the data set it was distilled from; the file does not say.
        flip: whether it was distilled with the mirror images; the file does not say.

    Returns:
        The set in the original's space: ZCA for colour, standardised for grey images. It carries no digest.

    Raises:
        CheckpointError: not such a file, or damaged.
    """
    path = pathlib.Path(path)
    tree = _unpack(path)
    average = tree.get("ema_average") if isinstance(tree, dict) else None
    if not isinstance(average, dict) or not set(NAMES.values()) <= average.keys():
        raise CheckpointError(
            "not an RCIG checkpoint: it has no averaged prototypes",
            where=str(path),
            expected="a map with ema_average/x_proto, y_proto and log_temp",
            remedy="name the checkpoint file that RCIG's distill_dataset.py wrote",
        )
    step = tree.get("step")
    arrays = [average[name] for name in NAMES.values()] + [np.asarray(step) if type(step) is int else step]
    if not (all(isinstance(array, np.ndarray) for array in arrays) and _fit(*arrays)):
        raise CheckpointError(
            "the prototypes or the step are not what they should be",
            where=f"{path}, ema_average",
            expected="finite images [p, height, width, 1 or 3], labels [p, classes], one temperature, an integer step",
            remedy="copy the file again from its source",
        )
    images, labels, temperature, step = (np.asarray(array) for array in arrays)
    return DistilledSet(
        images=images.astype(np.float32),
        labels=labels.astype(np.float32),
        space="zca" if images.shape[-1] == 3 else "standardised",
        log_temperature=float(temperature.reshape(())),
        decode=Decode(flip=flip),
        dataset=dataset,
        provenance={"method": "rcig", "origin": "original checkpoint", "file": path.name, "step": int(step)},
    )


def _fit(images: np.ndarray, labels: np.ndarray, temperature: np.ndarray, step: np.ndarray) -> bool:
    floats = all(np.issubdtype(a.dtype, np.floating) for a in (images, labels, temperature))
    return (
        images.ndim == 4
        and images.size > 0
        and images.shape[-1] in (1, 3)
        and labels.ndim == 2
        and labels.shape[1] > 0
        and len(labels) == len(images)
        and temperature.size == 1
        and step.ndim == 0
        and np.issubdtype(step.dtype, np.integer)
        and floats
        and all(np.isfinite(a).all() for a in (images, labels, temperature))
    )


def _unpack(path: pathlib.Path) -> Any:
    if path.stat().st_size > MAX_BYTES:
        raise CheckpointError(
            "the file is too large for a distilled set",
            where=str(path),
            expected="at most 4 GiB",
            remedy="check that this is the file of the distilled set, not of the whole training",
        )
    try:
        return msgpack.unpackb(path.read_bytes(), ext_hook=_array, raw=False, strict_map_key=True)
    except (ValueError, TypeError, msgpack.exceptions.UnpackException, RecursionError) as error:
        raise CheckpointError(
            f"not a readable MessagePack file: {str(error) or type(error).__name__}",
            where=str(path),
            remedy="download the checkpoint again",
        ) from None


def _array(code: int, data: bytes) -> np.ndarray:
    if code not in (NDARRAY, SCALAR):
        raise ValueError(f"extension type {code} does not belong in a checkpoint")
    shape, dtype, buffer = msgpack.unpackb(data, raw=True)
    name = dtype.decode() if isinstance(dtype, bytes) else str(dtype)
    if name not in DTYPES or any(not isinstance(n, int) or n < 0 for n in shape):
        raise ValueError(f"an array of type {name[:20]} and shape {str(shape)[:40]}")
    if math.prod(shape) * np.dtype(name).itemsize != len(buffer):
        raise ValueError(f"{len(buffer)} bytes for an array of type {name} and shape {shape}")
    return np.frombuffer(buffer, dtype=name).reshape(shape)
