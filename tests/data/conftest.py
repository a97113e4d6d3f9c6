"""Small data sets on disk, made in the test."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest


def encode(image: np.ndarray, kind: str = "PNG", **options) -> bytes:
    """An encoded image from `[h, w]`, `[h, w, 1]` or `[h, w, 3]` uint8."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(buffer, kind, **options)
    return buffer.getvalue()


def make_split(count: int, side: int = 8, channels: int = 3, classes: int = 3, seed: int = 0):
    """`[count, side, side, channels]` uint8 noise and labels 0, 1, .., classes-1, 0, ..."""
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (count, side, side, channels), np.uint8)
    return images, np.arange(count, dtype=np.int64) % classes


@pytest.fixture
def arrays():
    """x_train, y_train, x_test, y_test of a tiny RGB set of three classes."""
    return (*make_split(12), *make_split(6, seed=1))


@pytest.fixture
def write_npz():
    """Writes a Keras-layout npz file; keyword arguments replace or add members."""

    def write(path, arrays, **members):
        named = dict(zip(("x_train", "y_train", "x_test", "y_test"), arrays, strict=True)) | members
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **named)
        return path

    return write


@pytest.fixture
def write_folder():
    """Writes `<root>/train/<name>/*.png` and `<root>/<test>/<name>/*.png`."""

    def write(root, arrays, names=("ant", "bee", "cat"), test="test"):
        for split, images, labels in (("train", *arrays[:2]), (test, *arrays[2:])):
            for index, (image, label) in enumerate(zip(images, labels, strict=True)):
                place = root / split / names[label]
                place.mkdir(parents=True, exist_ok=True)
                (place / f"{index:04d}.png").write_bytes(encode(image))
        return root

    return write


@pytest.fixture
def write_parquet():
    """Writes Hugging Face parquet files; `metadata` goes into the schema."""
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")

    def write(root, arrays, column="image", names=None, huggingface=False, test="test"):
        root.mkdir(parents=True, exist_ok=True)
        metadata = {}
        if names and huggingface:
            features = {"label": {"names": list(names), "_type": "ClassLabel"}}
            metadata = {"huggingface": json.dumps({"info": {"features": features}})}
        elif names:
            metadata = {"class_names": json.dumps(list(names))}
        for split, images, labels in (("train", *arrays[:2]), (test, *arrays[2:])):
            blobs = [{"bytes": encode(image), "path": f"{index}.png"} for index, image in enumerate(images)]
            kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
            table = pa.table({column: pa.array(blobs, kind), "label": pa.array(labels)})
            pq.write_table(table.replace_schema_metadata(metadata), root / f"{split}-00000-of-00001.parquet")
        return root

    return write
