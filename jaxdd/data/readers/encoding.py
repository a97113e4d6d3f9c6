"""uint8 arrays -> encoded images, as the large-scale methods publish them; the inverse is `images.decode`.

What is relabelled and trained on is the picture as published: a JPEG is decoded again before anything looks at it.
"""

from __future__ import annotations

import io
from typing import Literal, get_args

import numpy as np

from jaxdd.core.errors import choose
from jaxdd.data.readers.images import decode

Store = Literal["jpg", "png"]
QUALITY = 75  # of a JPEG: PIL's default, with which the published sets were written


def truncate(pixels: np.ndarray) -> np.ndarray:
    """Returns floats, cut to the [0, 1] scale, as uint8: 255 x without its fraction, as published (not rounded)."""
    return (np.clip(np.asarray(pixels, np.float32), 0, 1) * np.float32(255)).astype(np.uint8)


def encode(image: np.ndarray, store: Store = "jpg", quality: int = QUALITY) -> bytes:
    """Returns one image as the bytes of a file.

    Arguments:
        image: `[height, width, channels]` uint8, channels 1 or 3.
        store: `jpg`, which loses something, or `png`.
        quality: of a JPEG, 1 to 95.

    Raises:
        UsageError: another kind of file.
    """
    from PIL import Image

    choose(store, get_args(Store), kind="kind of image file", where="store")
    buffer = io.BytesIO()
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    if store == "jpg":
        picture.save(buffer, "JPEG", quality=quality)
    else:
        picture.save(buffer, "PNG")
    return buffer.getvalue()


def as_published(pixels: np.ndarray, store: str, quality: int) -> tuple[np.ndarray, list[bytes]]:
    """Returns images as readers of the files will see them, and the files; for `none`, the images as they are and no
    files.

    Arguments:
        pixels: `[n, side, side, channels]` uint8.
        store, quality: as in `encode`.
    """
    if store == "none":
        return pixels, []
    files = [encode(image, store, quality) for image in pixels]  # pyright: ignore[reportArgumentType]
    return np.stack([decode(file, "an image just encoded") for file in files]), files
