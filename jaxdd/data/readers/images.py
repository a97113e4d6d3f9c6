"""Encoded images -> uint8 arrays of one shape. The only place that decodes, crops or resizes.

The crop is the original's: the largest centred square, its offset truncated to whole pixels. Shrinking averages the
area that each new pixel covers (as `tf.image.resize(method="area")`), rounded to uint8; enlarging is bilinear.
Subsets of ImageNet are shrunk first and cropped then, as torchvision does it (`shorter_side`).
Bytes are hostile until decoded: few formats, caps on size before any allocation, every decoder fault a `DataError`.
What an image loses on the way to 8 bits of grey or RGB is counted in `losses.Losses`, and told.

Losses of images on their way to 8 bits of grey or RGB: counted while they are decoded, told in one line.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import functools
import io
import os
import pathlib
import threading
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxdd.core.errors import DataError, Notice
from jaxdd.core.io import printable
from jaxdd.data.readers.files import require_memory, require_regular

ORIENTATION = 0x0112  # EXIF's tag; 1: as stored
BITS = 0x0102  # TIFF's tag: bits per sample
SAYING = {
    "orientation": "have an EXIF orientation, by which they are not turned",
    "transparency": "have transparent pixels, which show the colour below",
    "alpha": "have a channel of transparency, which is left out",
    "depth": "have 16 bits per channel, of which the upper 8 are kept",
    "frames": "have several frames, of which the first is taken",
}


class Losses:
    """How many images lost what, and the first of them; threads may count together."""

    def __init__(self):
        self.images: dict[str, int] = {}
        self.first: dict[str, str] = {}
        self.largest = 0  # of 16-bit values, their upper 8 bits
        self._lock = threading.Lock()

    def note(self, image: Any, data: bytes, where: str, *, decoded: bool = True) -> None:
        """Counts what a PIL image has that its pixels as uint8 have not.

        Arguments:
            image: decoded or not.
            data: its bytes.
            where: names it.
            decoded: if not, whether any pixel is transparent is not known.
        """
        losses = [name for name, has in (_LOST if decoded else _TOLD_BY_HEADER).items() if has(image, data)]
        with self._lock:
            for name in losses:
                self.images[name] = self.images.get(name, 0) + 1
                self.first[name] = min(self.first.get(name, where), where)  # whichever thread came first
            if decoded and "depth" in losses and image.mode.startswith("I"):
                self.largest = max(self.largest, int(image.getextrema()[1]))

    def tell(self, where: str) -> None:
        """Says in one line what has been lost, if anything has."""
        if not self.images:
            return
        clauses = [f"{self.images[name]} {SAYING[name]} (first: {self.first[name]})" for name in sorted(self.images)]
        hint = ""
        if 0 < self.largest < 2**15:
            hint = f"; 16-bit values reach {self.largest} only: scale them to 0..65535 first"
        warnings.warn(printable(f"images in {where}: " + "; ".join(clauses) + hint), Notice, stacklevel=2)


def _is_turned(image: Any, data: bytes) -> bool:
    if image.format == "TIFF" or not any("exif" in str(key).lower() for key in image.info):
        return False  # PIL turns a TIFF itself
    with contextlib.suppress(Exception):  # tags are as hostile as pixels; a broken one turns nothing
        return image.getexif().get(ORIENTATION, 1) in range(2, 9)
    return False


def _is_transparent(image: Any, data: bytes) -> bool:
    if "transparency" in image.info:
        return image.mode.startswith("I") or image.convert("RGBA").getchannel("A").getextrema()[0] < 255
    bands = image.getbands()
    return bands[-1] in ("A", "a") and image.getchannel(bands[-1]).getextrema()[0] < 255


def _has_alpha(image: Any, data: bytes) -> bool:
    return "transparency" in image.info or image.getbands()[-1] in ("A", "a")


def _is_deep(image: Any, data: bytes) -> bool:
    if image.mode.startswith("I"):
        return True
    if image.format == "PNG":
        return data[24:25] == b"\x10"  # the depth in PNG's first chunk
    return image.format == "TIFF" and max(image.tag_v2.get(BITS, (8,))) > 8


def _has_frames(image: Any, data: bytes) -> bool:
    if image.format == "MPO":
        return False  # a photograph whose further pictures are not for the eye
    with contextlib.suppress(Exception):
        return bool(getattr(image, "is_animated", False))
    return False


_LOST = {
    "orientation": _is_turned,
    "transparency": _is_transparent,
    "depth": _is_deep,
    "frames": _has_frames,
}
_TOLD_BY_HEADER = {"orientation": _is_turned, "alpha": _has_alpha, "depth": _is_deep, "frames": _has_frames}


FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "JPEG2000")
SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jfif", ".jpe", ".webp", ".bmp", ".tif", ".tiff", ".gif"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".jp2"),
)
MAX_BYTES = 256 * 2**20  # of one encoded image
MAX_PIXELS = 64 * 10**6  # of one decoded image
LARGE = 4 * 10**6  # pixels from which an image is decoded alone and resized in parts, so that memory suffices
_GREY_MODES = ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "I;16N")
_CHUNK = 256
_ALONE = threading.Lock()
_FILTERS = threading.Lock()  # Python's filters of warnings are one for all threads: two that change them lose some


@dataclasses.dataclass(frozen=True)
class Encoded:
    """Encoded images that are read one by one.

    Arguments:
        count: how many.
        read: `index -> bytes`.
        where: `index -> str`, names the image in messages.
    """

    count: int
    read: Callable[[int], bytes]
    where: Callable[[int], str]


def read_file(path: pathlib.Path) -> bytes:
    """Returns the bytes of one image file, its kind and size checked first."""
    size = require_regular(path, "an image")
    if size > MAX_BYTES:
        raise DataError(
            f"image file of {size} bytes",
            where=str(path),
            expected=f"at most {MAX_BYTES} bytes",
            remedy="shrink the image, or take it out of the folder",
        )
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read an image: {error.strerror}", where=str(path), remedy="check the file") from None


def header(data: bytes, where: str, losses: Losses | None = None) -> tuple[int, int, int]:
    """Returns `(height, width, channels)` of an encoded image without decoding it; `losses` as in `decode`."""
    with _opened(data, where) as image:
        if losses is not None:
            losses.note(image, data, where, decoded=False)
        return image.height, image.width, 1 if image.mode in _GREY_MODES else 3


def decode(data: bytes, where: str, losses: Losses | None = None) -> np.ndarray:
    """Returns `[height, width, channels]` uint8 of one encoded image: its first frame, without transparency, not turned
    by its orientation tag, of 16 bits the upper 8; `losses` counts these."""
    with _opened(data, where) as image:
        large = image.width * image.height > LARGE
        with _ALONE if large else contextlib.nullcontext():
            try:
                pixels = _in_strips(image) if large else _as_uint8(image)
                if losses is not None:
                    losses.note(image, data, where)
                return pixels
            except Exception as error:  # whatever a decoder makes of hostile bytes
                raise _unreadable(error, where) from None


def _in_strips(image: Any) -> np.ndarray:
    """Returns the same as `_as_uint8`, of a part after the other: converting all at once takes four times as much."""
    image.load()
    height = max(1, LARGE // image.width)
    edges = range(0, image.height, height)
    strips = (_as_uint8(image.crop((0, top, image.width, min(top + height, image.height)))) for top in edges)
    first = next(strips)
    pixels = np.empty((image.height, *first.shape[1:]), np.uint8)
    pixels[: len(first)] = first
    for top, strip in zip(edges[1:], strips, strict=True):
        pixels[top : top + len(strip)] = strip
    return pixels


def _as_uint8(image: Any) -> np.ndarray:
    if image.mode.startswith("I"):  # 16 bits
        return (np.asarray(image) >> 8).clip(0, 255).astype(np.uint8)[..., None]
    if image.mode in _GREY_MODES:
        return np.asarray(image.convert("L"))[..., None]
    return np.asarray(image.convert("RGB"))


def _opened(data: bytes, where: str):
    """Returns a PIL image whose header, and nothing else, has been read and checked."""
    from PIL import Image

    try:
        with _FILTERS, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # our own cap on pixels is stricter than PIL's warning
            image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Exception as error:
        raise _unreadable(error, where) from None
    if image.width * image.height > MAX_PIXELS:
        raise DataError(
            f"an image of {image.width} x {image.height} pixels",
            where=where,
            expected=f"at most {MAX_PIXELS} pixels",
            remedy="shrink the image, or take it out of the folder",
        )
    if image.mode == "F" or (image.mode == "I" and image.format != "PPM"):
        raise DataError(
            f"an image of mode {image.mode}",
            where=where,
            expected="8 or 16 bits per channel",
            remedy="convert the image to PNG or JPEG",
        )
    return image


def _unreadable(error: Exception, where: str) -> DataError:
    reason = str(error).split(" <_io")[0] or type(error).__name__
    return DataError(
        f"cannot decode an image: {reason}",
        where=where,
        expected="a whole " + ", ".join(FORMATS[:-1]) + f" or {FORMATS[-1]} image",
        remedy="download the file again, or remove it",
    )


def square(images: np.ndarray) -> np.ndarray:
    """Returns the largest centred square of `[..., height, width, channels]`, offset truncated."""
    height, width = images.shape[-3:-1]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return images[..., top : top + side, left : left + side, :]


@functools.lru_cache(maxsize=1024)
def _resampling(old: int, new: int) -> np.ndarray:
    """Returns `[new, old]` float32 rows of weights: overlapped area when shrinking, bilinear when enlarging."""
    scale = old / new
    if new <= old:
        edges = np.arange(new + 1) * scale
        pixels = np.arange(old)
        overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
        weights = np.clip(overlap, 0, None) / scale
    else:
        centres = np.clip((np.arange(new) + 0.5) * scale - 0.5, 0, old - 1)
        weights = np.clip(1 - np.abs(centres[:, None] - np.arange(old)), 0, None)
    return weights.astype(np.float32)


def resize(images: np.ndarray, resolution: int) -> np.ndarray:
    """Returns `[..., side, side, channels]` uint8 -> `[..., resolution, resolution, channels]` uint8."""
    side = images.shape[-2]
    if side == resolution:
        return images
    weights = _resampling(side, resolution)
    step = side if images.ndim > 3 or side**2 <= LARGE else max(1, LARGE // side)
    parts = [images[..., start : start + step, :] for start in range(0, side, step)]
    parts = [np.einsum("rh,...hwc->...rwc", weights, part.astype(np.float32), optimize=True) for part in parts]
    rows = np.concatenate(parts, axis=-2) if len(parts) > 1 else parts[0]
    return np.rint(np.einsum("sw,...rwc->...rsc", weights, rows, optimize=True)).clip(0, 255).astype(np.uint8)


def central_area(image: np.ndarray, resolution: int) -> np.ndarray:
    """Returns `[height, width, channels]` uint8 -> its largest central square, resized."""
    return resize(square(image), resolution)


def shorter_side(image: np.ndarray, resolution: int) -> np.ndarray:
    """Returns `[height, width, channels]` uint8 -> the shorter side resized to `resolution`, then the central square.

    Source:
        torchvision's `Resize` and `CenterCrop` of PIL images: antialiased bilinear, the longer side truncated, the
        offset rounded half to even.
    """
    from PIL import Image

    height, width, channels = image.shape
    short = min(height, width)
    if short != resolution:
        sides = int(resolution * width / short), int(resolution * height / short)
        resized = Image.fromarray(image[..., 0] if channels == 1 else image).resize(sides, Image.Resampling.BILINEAR)
        image = np.asarray(resized).reshape(sides[1], sides[0], channels)
    top, left = (round((side - resolution) / 2) for side in image.shape[:2])
    return image[top : top + resolution, left : left + resolution]


def to_channels(images: np.ndarray, channels: int, where: str) -> np.ndarray:
    """Makes grey RGB where RGB is asked for; colour becomes grey only if it loses nothing.

    Raises:
        DataError: a coloured image in a grey data set.
    """
    channels_there = images.shape[-1]
    if channels_there == channels:
        return images
    if channels_there == 1:
        return np.repeat(images, channels, axis=-1)
    if not (images[..., :1] == images).all():
        raise DataError(
            "a colour image in a grey data set",
            where=where,
            expected="1 channel, or 3 equal ones",
            remedy="convert the images to grey, or load all of them as your own set (folder:, npz:, parquet:)",
        )
    return images[..., :1]


def fit_arrays(images: np.ndarray, resolution: int | None, channels: int | None, where: str) -> np.ndarray:
    """Crops, resizes and converts a whole `[n, height, width, channels]` uint8 array."""
    images = square(images)
    if channels:
        images = to_channels(images, channels, where)
    if not resolution or images.shape[1] == resolution:
        return images
    step = max(1, min(1024, 2**28 // max(1, images[0].size)))  # so that they take 1 GiB as floats
    parts = [resize(images[start : start + step], resolution) for start in range(0, len(images), step)]
    return np.concatenate(parts)


def survey(encoded: Encoded, resolution: int | None, channels: int | None) -> tuple[int, int]:
    """Returns the resolution and channels that fit all images, from their headers alone, where they are not given.

    Raises:
        DataError: the images differ in size and no resolution was given.
    """
    shapes = [header(encoded.read(index), encoded.where(index)) for index in range(encoded.count)]
    if resolution is None:
        odd = next((index for index, shape in enumerate(shapes) if shape[:2] != shapes[0][:2]), None)
        if odd is not None:
            raise DataError(
                f"the images differ in size: {shapes[0][:2]} and {shapes[odd][:2]}",
                where=encoded.where(odd),
                expected="one size, or a resolution to crop and resize to",
                remedy="give a resolution, for example `resolution=32` or `resolution=64`",
            )
        resolution = min(shapes[0][:2])
    return resolution, channels or max(shape[2] for shape in shapes)


def decode_all(
    encoded: Encoded,
    resolution: int | None,
    channels: int | None,
    crop: Callable[[np.ndarray, int], np.ndarray] = central_area,
    losses: Losses | None = None,
) -> np.ndarray:
    """Returns `[count, resolution, resolution, channels]` uint8: all images decoded, cropped, resized; several threads.

    Arguments:
        encoded: the images.
        resolution: side to resize to; `None`: the images' own, which must be one.
        channels: 1 or 3; `None`: 3 as soon as one image is coloured.
        crop: makes one image `[resolution, resolution, channels]`: `central_area` or `shorter_side`.
        losses: counts what images lose.

    Raises:
        DataError: an image is unreadable, too large, or coloured in a grey set; names it. All are too many for memory.
    """
    if not resolution or not channels:
        resolution, channels = survey(encoded, resolution, channels)
    require_memory(
        encoded.count * resolution**2 * channels,
        f"{encoded.count} images of {resolution} x {resolution} pixels",
        encoded.where(0) if encoded.count else "",
        "ask for a smaller resolution, or read the images of a folder while they are needed: `stream=always`",
    )
    out = np.empty((encoded.count, resolution, resolution, channels), np.uint8)

    threads = os.cpu_count() or 1
    chunk = max(1, min(_CHUNK, encoded.count // threads))  # so that all of them have some

    def fill(start: int) -> None:
        for index in range(start, min(start + chunk, encoded.count)):
            where = encoded.where(index)
            image = crop(decode(encoded.read(index), where, losses), resolution)
            out[index] = to_channels(image, channels, where)

    pool = concurrent.futures.ThreadPoolExecutor(threads)
    try:
        for _ in pool.map(fill, range(0, encoded.count, chunk)):
            pass
    finally:
        pool.shutdown(cancel_futures=True)  # a broken image ends it at once
    return out


def tell_losses(encoded: Encoded, where: str, count: int = 16) -> None:
    """Says what images lose that are read later, from the headers of `count` of them, evenly chosen; a damaged one says
    so when it is read."""
    losses = Losses()
    for index in range(0, encoded.count, max(1, encoded.count // count)):
        with contextlib.suppress(DataError):
            header(encoded.read(index), encoded.where(index), losses)
    losses.tell(f"a sample of {where}")
