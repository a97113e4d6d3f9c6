"""Hugging Face's parquet layout: a column `image` or `img` of {bytes, path}, a column `label` of class indices."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import numpy as np

from jaxdd.core.errors import DataError
from jaxdd.data.readers.images import MAX_BYTES, Encoded

IMAGE_COLUMNS = ("image", "img")
LABEL_COLUMNS = ("label", "labels", "fine_label")
LAYOUT = "train*.parquet and test*.parquet (or val*.parquet): image or img = {bytes, path}, label = class index"


def split_files(folder: pathlib.Path) -> dict[str, list[pathlib.Path]]:
    """Returns the train and test files of a folder or of its `data/` subfolder; an empty list where there are none."""
    files: dict[str, list[pathlib.Path]] = {"train": [], "test": []}
    for place in (folder, folder / "data"):
        files["train"] = files["train"] or sorted(place.glob("train*.parquet"))
        for prefix in ("test", "val"):
            files["test"] = files["test"] or sorted(place.glob(prefix + "*.parquet"))
    return files


def read_split(files: list[pathlib.Path]) -> tuple[Encoded, np.ndarray, tuple[str, ...] | None]:
    """Returns the encoded images, `[n]` labels and class names (where the schema tells) of one split.

    Raises:
        DataError: pyarrow is missing, a file is damaged, or a column is missing, null or of another type.
    """
    import_pyarrow(str(files[0]))
    import pyarrow as pa

    blobs, labels, owners = [], [], []
    names = None
    for path in files:
        table = _table(path)
        image, label = _columns(path, table.schema)
        names = names or class_names(table.schema, label)
        column, target = table.column(image).combine_chunks(), table.column(label)
        if isinstance(column, pa.ChunkedArray):  # an empty column stays chunked
            column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
        blob = column.field("bytes") if pa.types.is_struct(column.type) else column
        if target.null_count or blob.null_count or column.null_count:
            raise DataError("null images or labels", where=str(path), expected=LAYOUT, remedy="embed every image")
        blobs.append(blob)
        labels.append(target.to_numpy())
        owners.append(path)
    starts = np.cumsum([0, *map(len, labels)])

    def locate(index: int) -> tuple[int, int]:
        part = int(np.searchsorted(starts, index, side="right")) - 1
        return part, index - int(starts[part])

    def read(index: int) -> bytes:
        part, row = locate(index)
        return blobs[part][row].as_py()

    def where(index: int) -> str:
        part, row = locate(index)
        return f"{owners[part]}, row {row}"

    return Encoded(int(starts[-1]), read, where), np.concatenate(labels), names


def import_pyarrow(where: str) -> None:
    """Raises `DataError` naming the extra if pyarrow is not installed."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise DataError(
            "parquet files need pyarrow", where=where, remedy="pip install 'jaxdd[parquet]', or use another layout"
        ) from None


def read_labels(files: list[pathlib.Path]) -> tuple[np.ndarray, tuple[str, ...] | None, bytes]:
    """Returns `[n]` labels, class names and one encoded image of a split: a dry run needs no more."""
    import_pyarrow(str(files[0]))
    import pyarrow.parquet as pq

    labels, names = [], None
    for path in files:
        schema = _schema(path)
        _, label = _columns(path, schema)
        names = names or class_names(schema, label)
        labels.append(_table(path, [label]).column(label).to_numpy())
    image, _ = _columns(files[0], _schema(files[0]))
    try:
        batch = next(pq.ParquetFile(files[0]).iter_batches(1, columns=[image]))
        value = batch.column(0)[0].as_py()
    except Exception as error:
        raise _damaged(files[0], error) from None
    return np.concatenate(labels), names, value["bytes"] if isinstance(value, dict) else value


def _table(path: pathlib.Path, columns: list[str] | None = None) -> Any:
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        metadata = file.metadata
        declared = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
        if declared > 64 * MAX_BYTES or declared > max(MAX_BYTES, 150 * path.stat().st_size):
            raise DataError(
                f"the file claims to unpack to {declared} bytes",
                where=str(path),
                expected=LAYOUT,
                remedy="download the file again, or split it into smaller ones",
            )
        return file.read(columns=columns or list(_columns(path, file.schema_arrow)))
    except DataError:
        raise
    except Exception as error:  # pyarrow raises its own kinds, OSError and more on hostile bytes
        raise _damaged(path, error) from None


def _schema(path: pathlib.Path) -> Any:
    import pyarrow.parquet as pq

    try:
        return pq.read_schema(path)
    except Exception as error:
        raise _damaged(path, error) from None


def _columns(path: pathlib.Path, schema: Any) -> tuple[str, str]:
    """Returns names of the image and label columns."""
    import pyarrow as pa

    image = next((name for name in IMAGE_COLUMNS if name in schema.names), None)
    label = next((name for name in LABEL_COLUMNS if name in schema.names), None)
    if image is not None and label is not None:
        kind = schema.field(image).type
        if pa.types.is_struct(kind):
            kind = next((field.type for field in kind.fields if field.name == "bytes"), None)
        binary = kind is not None and (pa.types.is_binary(kind) or pa.types.is_large_binary(kind))
        if binary and pa.types.is_integer(schema.field(label).type):
            return image, label
    raise DataError(
        f"columns {', '.join(f'{field.name}: {field.type}' for field in schema)}",
        where=str(path),
        expected=LAYOUT,
        remedy="rename or convert the columns",
    )


def class_names(schema: Any, label: str) -> tuple[str, ...] | None:
    """Class names from the schema: `class_names` (a JSON list), or Hugging Face's description of the features."""
    metadata = schema.metadata or {}
    try:
        if b"class_names" in metadata:
            names = json.loads(metadata[b"class_names"])
        else:
            features = json.loads(metadata.get(b"huggingface", b"{}")).get("info", {}).get("features", {})
            names = features.get(label, {}).get("names")
        return tuple(map(str, names)) if isinstance(names, list) and names else None
    except (ValueError, AttributeError, RecursionError):
        return None


def _damaged(path: pathlib.Path, error: Exception) -> DataError:
    return DataError(
        f"not a readable parquet file: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
        where=str(path),
        expected=LAYOUT,
        remedy="download the file again",
    )
