"""Encoded images -> uint8 arrays of one shape. The only place that decodes, crops or resizes.

The crop is the original's: the largest centred square, its offset truncated to whole pixels. Shrinking averages the
area that each new pixel covers (as `tf.image.resize(method="area")`), rounded to uint8; enlarging is bilinear.
Subsets of ImageNet are shrunk first and cropped then, as torchvision does it (`shorter_side`).
Bytes are hostile until decoded: few formats, caps on size before any allocation, every decoder fault a `DataError`.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import io
import os
import pathlib
import warnings
from collections.abc import Callable

import numpy as np

from jaxdd.core.errors import DataError

FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
MAX_BYTES = 256 * 2**20  # of one encoded image
MAX_PIXELS = 64 * 10**6  # of one decoded image
_GREY_MODES = ("1", "L", "LA", "I;16", "I;16B")
_CHUNK = 256


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
    """Returns the bytes of one image file, size checked first."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise DataError(
                f"image file of {size} bytes",
                where=str(path),
                expected=f"at most {MAX_BYTES} bytes",
                remedy="shrink the image, or take it out of the folder",
            )
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read an image: {error.strerror}", where=str(path), remedy="check the file") from None


def header(data: bytes, where: str) -> tuple[int, int, int]:
    """Returns `(height, width, channels)` of an encoded image without decoding it."""
    with _opened(data, where) as image:
        return image.height, image.width, 1 if image.mode in _GREY_MODES else 3


def decode(data: bytes, where: str) -> np.ndarray:
    """Returns `[height, width, channels]` uint8 of one encoded image; transparency and orientation tags are dropped."""
    with _opened(data, where) as image:
        try:
            if image.mode.startswith("I;16"):
                return (np.asarray(image) >> 8).astype(np.uint8)[..., None]
            if image.mode in _GREY_MODES:
                return np.asarray(image.convert("L"))[..., None]
            return np.asarray(image.convert("RGB"))
        except Exception as error:  # whatever a decoder makes of hostile bytes
            raise _unreadable(error, where) from None


def _opened(data: bytes, where: str):
    """Returns a PIL image whose header, and nothing else, has been read and checked."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
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
    if image.mode in ("I", "F"):
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
    rows = np.einsum("rh,...hwc->...rwc", weights, images.astype(np.float32), optimize=True)
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
    parts = [resize(images[start : start + 1024], resolution) for start in range(0, len(images), 1024)]
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
) -> np.ndarray:
    """Returns `[count, resolution, resolution, channels]` uint8: all images decoded, cropped, resized; several threads.

    Arguments:
        encoded: the images.
        resolution: side to resize to; `None`: the images' own, which must be one.
        channels: 1 or 3; `None`: 3 as soon as one image is coloured.
        crop: makes one image `[resolution, resolution, channels]`: `central_area` or `shorter_side`.

    Raises:
        DataError: an image is unreadable, too large, or coloured in a grey set; names it.
    """
    if not resolution or not channels:
        resolution, channels = survey(encoded, resolution, channels)
    out = np.empty((encoded.count, resolution, resolution, channels), np.uint8)

    threads = os.cpu_count() or 1
    chunk = max(1, min(_CHUNK, encoded.count // threads))  # so that all of them have some

    def fill(start: int) -> None:
        for index in range(start, min(start + chunk, encoded.count)):
            where = encoded.where(index)
            image = crop(decode(encoded.read(index), where), resolution)
            out[index] = to_channels(image, channels, where)

    pool = concurrent.futures.ThreadPoolExecutor(threads)
    try:
        for _ in pool.map(fill, range(0, encoded.count, chunk)):
            pass
    finally:
        pool.shutdown(cancel_futures=True)  # a broken image ends it at once
    return out
