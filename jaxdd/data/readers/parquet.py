"""Hugging Face's parquet layout: a column `image` or `img` of {bytes, path}, a column `label` of indices or names.

A column is read in batches, as Arrow holds at most 2 GiB of bytes in an array. What is stored once for many rows in a
dictionary is refused if it unfolds to far more than the file.
"""

from __future__ import annotations

import contextlib
import json
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxdd.core.errors import DataError
from jaxdd.core.io import printable
from jaxdd.data.readers import labels as naming
from jaxdd.data.readers.files import require_memory, require_regular
from jaxdd.data.readers.images import MAX_BYTES, Encoded
from jaxdd.data.readers.parquet_files import split_files

__all__ = ["LAYOUT", "Columns", "import_pyarrow", "read_labels", "read_split", "split_files"]

IMAGE_COLUMNS = ("image", "img")
LABEL_COLUMNS = ("label", "labels", "fine_label")
LAYOUT = "train*.parquet and test*.parquet (or val*.parquet): image or img = {bytes, path}, label = class index or name"
MAX_RATIO = 150  # unpacked to packed, beyond MAX_BYTES
BATCH_BYTES = 2**27  # of images in a batch; Arrow holds 2**31 in one array


class Columns(NamedTuple):
    """Names of the columns of images and labels; `None`: those that the layout knows."""

    image: str | None = None
    label: str | None = None


USUAL = Columns()


class _Labels(NamedTuple):
    """Labels of one file: integers, the names of the classes if they are told, and whether the file has names alone."""

    values: np.ndarray
    names: tuple[str, ...] | None
    text: bool


def read_split(
    files: list[pathlib.Path], columns: Columns = USUAL
) -> tuple[Encoded, np.ndarray, tuple[str, ...] | None]:
    """Returns the encoded images, `[n]` labels and class names (where the schema or the labels tell) of one split.

    Raises:
        DataError: pyarrow is missing, a file is damaged, or a column is missing, null or of another type.
    """
    import_pyarrow(str(files[0]))
    parts: list[Any] = []  # Arrow arrays
    owners: list[tuple[pathlib.Path, int]] = []  # of each part: its file and first row there
    labelled: list[_Labels] = []
    tables = [_Table(path, columns) for path in files]
    remedy = "unpack the images into folders, which can be read while they are needed: `stream=always`"
    require_memory(sum(table.bytes for table in tables), "the images of these files", str(files[0].parent), remedy)
    for table in tables:
        path, first = table.path, 0
        for part in table.images():
            parts.append(part)
            owners.append((path, first))
            first += len(part)
        labelled.append(table.labels())
        if len(labelled[-1].values) != first:
            raise _damaged(path, ValueError(f"{first} images and {len(labelled[-1].values)} labels"))
    labels, names = _joined(labelled, files)
    starts = np.cumsum([0, *map(len, parts)])

    def locate(index: int) -> tuple[int, int]:
        place = int(np.searchsorted(starts, index, side="right")) - 1
        return place, int(index) - int(starts[place])

    def read(index: int) -> bytes:
        place, row = locate(index)
        return parts[place][row].as_py()

    def where(index: int) -> str:
        place, row = locate(index)
        path, first = owners[place]
        return f"{path}, row {first + row}"

    return Encoded(int(starts[-1]), read, where), labels, names


def _joined(parts: list[_Labels], files: list[pathlib.Path]) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """Returns the labels of all files as indices into one list of class names."""
    base = next((part.names for part in parts if part.names), None)
    if any(part.text for part in parts):
        if not all(part.text for part in parts):
            raise DataError(
                "labels are names in some files and numbers in others",
                where=str(files[0].parent),
                expected=LAYOUT,
                remedy="write all files in one way",
            )
        base = naming.class_order({name for part in parts for name in part.names or ()})
    if base:
        parts = [
            part._replace(values=naming.align(part.values, part.names or base, base, str(path)))
            for part, path in zip(parts, files, strict=True)
        ]
    return np.concatenate([part.values for part in parts]), base


def import_pyarrow(where: str) -> None:
    """Imports pyarrow, or refuses with the name of the extra that installs it."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise DataError(
            "parquet files need pyarrow", where=where, remedy="pip install 'jaxdd[parquet]', or use another layout"
        ) from None


def read_labels(
    files: list[pathlib.Path], columns: Columns = USUAL
) -> tuple[np.ndarray, tuple[str, ...] | None, bytes]:
    """Returns `[n]` labels, class names and one encoded image of a split: a dry run needs no more."""
    import_pyarrow(str(files[0]))
    tables = [_Table(path, columns) for path in files]
    labels, names = _joined([table.labels() for table in tables], files)
    for table in tables:
        for part in table.images(1):
            return labels, names, part[0].as_py()
    raise DataError("no images", where=str(files[0]), expected=LAYOUT, remedy="download the files again")


class _Table:
    """One file: its columns by batches.

    Arguments:
        path: the file.
        columns: names of the columns, where they are given.

    Raises:
        DataError: see `read_split`.
    """

    def __init__(self, path: pathlib.Path, columns: Columns):
        import pyarrow as pa

        self.path = path
        self.size = require_regular(path, "a parquet file")
        self.image = self.label = ""
        with self._open() as file:
            self.schema, metadata = file.schema_arrow, file.metadata
            groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
            declared = sum(group.total_byte_size for group in groups)
            if declared > 64 * MAX_BYTES or declared > self._most():
                raise self._bomb(declared)
            self.image, self.label = _columns(path, self.schema, columns)
            self.text = not pa.types.is_integer(_values(self.schema.field(self.label).type))
            self._plan(metadata)

    def _plan(self, metadata: Any) -> None:
        """Decides how many rows are read together, and whether a dictionary could unfold to too much."""
        groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
        chunks = [group.column(index) for group in groups for index in range(group.num_columns)]
        chunks = [chunk for chunk in chunks if chunk.path_in_schema == self.image]
        self.bytes = sum(chunk.total_uncompressed_size for chunk in chunks)
        average = self.bytes // max(1, metadata.num_rows)
        largest = max((_dictionary_bytes(chunk) for chunk in chunks), default=0)  # no entry is longer than all
        self.rows = max(1, min(1024, BATCH_BYTES // max(1, average), 2 * BATCH_BYTES // max(1, largest)))
        self.foldable = largest * metadata.num_rows > self._most()

    def images(self, rows: int = 0) -> Iterator[Any]:
        """Returns the images as Arrow arrays of bytes; of at most `rows`, if that is given."""
        total = 0
        if self.foldable and not rows:
            self._measure()
        for array in self._batches(self.image, rows or self.rows):
            blob = self._bytes(array)
            total += _unfolded(blob)
            if total > self._most():
                raise self._bomb(total)
            yield blob

    def _measure(self) -> None:
        """Refuses dictionaries that unfold to too much, without unfolding them, where Arrow can read them as such."""
        import pyarrow as pa

        total = 0
        with contextlib.suppress(pa.ArrowNotImplementedError):  # a chunk with a dictionary and plain values
            for array in self._batches(self.image, self.rows, [self.image]):
                total += _unfolded(self._bytes(array))
                if total > self._most():
                    raise self._bomb(total)

    def _bytes(self, array: Any) -> Any:
        import pyarrow as pa

        blob = array.field("bytes") if pa.types.is_struct(array.type) else array
        if array.null_count or blob.null_count:
            raise self._nulls()
        return blob

    def labels(self) -> _Labels:
        """Returns the labels; names become indices in the order in which they come."""
        import pyarrow as pa

        parts, index = [np.zeros(0, np.int64)], {}
        for array in self._batches(self.label, 2**16, [self.label] * self.text):
            if array.null_count:
                raise self._nulls()
            if not self.text:
                parts.append(array.to_numpy())
                continue
            array = array if pa.types.is_dictionary(array.type) else array.dictionary_encode()
            used, places = np.unique(array.indices.to_numpy(), return_inverse=True)
            words = array.dictionary.take(pa.array(used)).to_pylist()
            if None in words:
                raise self._nulls()
            parts.append(np.array([index.setdefault(printable(word), len(index)) for word in words], np.int64)[places])
        names = tuple(index) if self.text else class_names(self.schema, self.label)
        return _Labels(np.concatenate(parts), names, self.text)

    def _batches(self, column: str, rows: int, packed: Sequence[str] = ()) -> Iterator[Any]:
        """Returns one column, part by part; of a struct only what is asked for.

        Arguments:
            column: its path.
            rows: at most so many in a part.
            packed: columns that stay dictionaries, as they are stored.

        Raises:
            ArrowNotImplementedError: the images cannot stay a dictionary.
            DataError: the file is damaged.
        """
        with self._open(packed) as file:
            batches = file.iter_batches(rows, columns=[column])
            while True:
                batch = next(batches, None)
                if batch is None:
                    return
                yield batch.column(0)

    @contextlib.contextmanager
    def _open(self, packed: Sequence[str] = ()) -> Iterator[Any]:
        """Opens the file; by its handle, as Arrow refuses names that are not UTF-8."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with open(self.path, "rb") as handle:
                yield pq.ParquetFile(handle, read_dictionary=list(packed), pre_buffer=False)  # which keeps what it read
        except DataError:
            raise
        except Exception as error:  # pyarrow raises its own kinds, OSError and more on hostile bytes
            if packed == [self.image] and isinstance(error, pa.ArrowNotImplementedError):
                raise
            raise _damaged(self.path, error) from None

    def _most(self) -> int:
        return max(MAX_BYTES, MAX_RATIO * self.size)

    def _bomb(self, size: int) -> DataError:
        return DataError(
            f"the file of {self.size} bytes unpacks to {size} bytes or more",
            where=str(self.path),
            expected=f"at most {min(self._most(), 64 * MAX_BYTES)} bytes",
            remedy="download the file again, or split it into smaller ones",
        )

    def _nulls(self) -> DataError:
        return DataError("null images or labels", where=str(self.path), expected=LAYOUT, remedy="embed every image")


def _columns(path: pathlib.Path, schema: Any, wanted: Columns) -> tuple[str, str]:
    """Returns names of the image column, `image.bytes` if it is a struct, and of the label column."""
    import pyarrow as pa

    image = wanted.image or next((name for name in IMAGE_COLUMNS if name in schema.names), None)
    label = wanted.label or next((name for name in LABEL_COLUMNS if name in schema.names), None)
    if image and label and {image, label} <= set(schema.names):
        kind, place = schema.field(image).type, image
        if pa.types.is_struct(kind):
            kind, place = next((field.type for field in kind.fields if field.name == "bytes"), None), f"{image}.bytes"
        kind = None if kind is None else _values(kind)
        binary = kind is not None and (pa.types.is_binary(kind) or pa.types.is_large_binary(kind))
        if binary and _is_label(schema.field(label).type):
            return place, label
    names = f", with image_column={wanted.image or '...'} and label_column={wanted.label or '...'}"
    raise DataError(
        f"columns {', '.join(f'{field.name}: {field.type}' for field in schema)}",
        where=str(path),
        expected=LAYOUT + (names if any(wanted) else ""),
        remedy="rename or convert the columns, or name them: parquet:DIR?image_column=NAME&label_column=NAME",
    )


def _dictionary_bytes(chunk: Any) -> int:
    """Returns an upper bound on the dictionary of a column chunk, in bytes; 0 if it has none."""
    if chunk.dictionary_page_offset is None:
        return 0
    packed = max(0, chunk.data_page_offset - chunk.dictionary_page_offset)
    return max(0, chunk.total_uncompressed_size - max(0, chunk.total_compressed_size - packed))


def _unfolded(blob: Any) -> int:
    """Returns the bytes of all images of an Arrow array, those of a dictionary as often as they stand."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_dictionary(blob.type):
        return blob.nbytes
    lengths = pc.call_function("binary_length", [blob.dictionary]).to_numpy().astype(np.int64)
    return int(lengths[blob.indices.to_numpy()].sum())


def _values(kind: Any) -> Any:
    import pyarrow as pa

    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _is_label(kind: Any) -> bool:
    import pyarrow as pa

    kind = _values(kind)
    return pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)


def class_names(schema: Any, label: str) -> tuple[str, ...] | None:
    """Returns the schema's class names: `class_names` (a JSON list), or Hugging Face's description of the features."""
    metadata = schema.metadata or {}
    try:
        if b"class_names" in metadata:
            names = json.loads(metadata[b"class_names"])
        else:
            features = json.loads(metadata.get(b"huggingface", b"{}")).get("info", {}).get("features", {})
            names = features.get(label, {}).get("names")
        return tuple(printable(str(name)) for name in names) if isinstance(names, list) and names else None
    except (ValueError, AttributeError, RecursionError):
        return None


def _damaged(path: pathlib.Path, error: Exception) -> DataError:
    return DataError(
        f"not a readable parquet file: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
        where=str(path),
        expected=LAYOUT,
        remedy="download the file again",
    )
