"""What images lose on the way to 8 bits of grey or RGB is told in one line; nothing is told where nothing is lost."""

from __future__ import annotations

import io
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from jaxdd.core.errors import DataError, Notice
from jaxdd.data import load
from jaxdd.data.readers import images as pixels
from jaxdd.data.readers.losses import Losses

pytestmark = pytest.mark.quick

RANDOM = np.random.default_rng(0)
COLOUR = RANDOM.integers(0, 256, (8, 8, 3), np.uint8)
GREY = COLOUR[..., 0]


def encoded(image: np.ndarray | Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def turned(kind: str, orientation: int = 6) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(COLOUR, kind, exif=exif)


def deep_png(image: np.ndarray) -> bytes:
    """A PNG of 16 bits per channel, which PIL does not write in colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    height, width, _ = image.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in image.astype(np.uint16) * 257)
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([16, 2, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


OPAQUE = np.dstack([COLOUR, np.full((8, 8), 255, np.uint8)])
CASES = {
    "JPEG orientation": (turned("JPEG"), "orientation"),
    "PNG orientation": (turned("PNG"), "orientation"),
    "WebP orientation": (turned("WEBP"), "orientation"),
    "TIFF orientation, which PIL obeys": (turned("TIFF"), None),
    "upright": (turned("JPEG", 1), None),
    "transparent": (encoded(np.dstack([COLOUR, GREY])), "transparency"),
    "transparent grey": (encoded(np.dstack([GREY, GREY])), "transparency"),
    "transparent colour of a palette": (encoded(Image.fromarray(COLOUR).quantize(9), transparency=3), "transparency"),
    "opaque": (encoded(OPAQUE), None),
    "16 bits grey": (encoded(GREY.astype(np.uint16) * 16), "depth"),
    "16 bits colour": (deep_png(COLOUR), "depth"),
    "16 bits TIFF": (encoded(GREY.astype(np.uint16) * 16, "TIFF"), "depth"),
    "16 bits PGM": (b"P5 8 8 65535\n" + (GREY.astype(np.uint16) * 16).astype(">u2").tobytes(), "depth"),
    "animated GIF": (encoded(GREY, "GIF", save_all=True, append_images=[Image.fromarray(255 - GREY)]), "frames"),
    "pages": (encoded(GREY, "TIFF", save_all=True, append_images=[Image.fromarray(GREY)]), "frames"),
    "plain": (encoded(COLOUR, "JPEG"), None),
}


@pytest.mark.parametrize("case", CASES)
def test_a_loss_is_counted_where_there_is_one(case):
    data, expected = CASES[case]
    losses = Losses()
    image = pixels.decode(data, "a.png", losses)
    assert losses.images == ({expected: 1} if expected else {})
    assert image.shape == pixels.header(data, "a.png")
    if "16 bits" in case:
        np.testing.assert_array_equal(image, COLOUR if "colour" in case else GREY[..., None] >> 4)


def test_a_set_tells_all_its_losses_in_one_line(tmp_path, arrays, write_folder):
    root = write_folder(tmp_path / "set", arrays)
    (root / "train" / "ant" / "x.jpg").write_bytes(turned("JPEG"))
    (root / "test" / "bee" / "y.png").write_bytes(CASES["transparent"][0])
    (root / "test" / "cat" / "y.png").write_bytes(CASES["16 bits grey"][0])
    with pytest.warns(Notice) as told:
        load(f"folder:{root}")
    text = str(told[0].message)
    assert len(told) == 1 and "\n" not in text and str(root / "test" / "bee" / "y.png") in text
    for words in (
        "1 have an EXIF orientation",
        "1 have transparent pixels",
        "1 have 16 bits",
        f"reach {16 * int(GREY.max())} only",
    ):
        assert words in text
    with pytest.warns(Notice, match=r"a sample of .*EXIF orientation"):
        load(f"folder:{root}", stream="always", resolution=8)


def test_values_that_fill_16_bits_get_no_advice():
    losses = Losses()
    pixels.decode(encoded(GREY.astype(np.uint16) * 257), "a", losses)
    with pytest.warns(Notice) as told:
        losses.tell("here")
    assert "scale" not in str(told[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Losses().tell("here")


def test_filters_of_warnings_are_left_as_they_were_by_threads(monkeypatch):
    monkeypatch.setattr(pixels.os, "cpu_count", lambda: 8)
    before, blob = list(warnings.filters), encoded(COLOUR)
    pixels.decode_all(pixels.Encoded(400, lambda index: blob, str), 8, 3)
    assert warnings.filters == before


def test_large_images_are_decoded_and_shrunk_in_parts_to_the_same_pixels(monkeypatch):
    image = RANDOM.integers(0, 256, (50, 64, 3), np.uint8)
    blobs = [encoded(image), encoded(image[..., 0]), encoded(image[..., 0].astype(np.uint16) * 256)]
    whole = [pixels.decode(blob, "a") for blob in blobs]
    small = [pixels.central_area(decoded, 7) for decoded in whole]
    monkeypatch.setattr(pixels, "LARGE", 300)
    for blob, decoded, shrunk in zip(blobs, whole, small, strict=True):
        np.testing.assert_array_equal(pixels.decode(blob, "a"), decoded)
        np.testing.assert_array_equal(pixels.central_area(decoded, 7), shrunk)


def test_more_pixels_than_allowed_are_refused_by_name(tmp_path, arrays, write_folder, monkeypatch):
    root = write_folder(tmp_path / "set", arrays)
    large = root / "train" / "ant" / "x.png"
    large.write_bytes(encoded(np.zeros((30, 40), np.uint8)))
    monkeypatch.setattr(pixels, "MAX_PIXELS", 1199)
    with pytest.raises(DataError, match="40 x 30 pixels") as caught:
        load(f"folder:{root}", resolution=8)
    assert caught.value.where == str(large)


def test_more_images_than_memory_are_refused_before_they_are_decoded(monkeypatch):
    from jaxdd.core import backend

    monkeypatch.setattr(backend, "machine_bytes", lambda: 2**31)
    many = pixels.Encoded(10**6, lambda index: b"", lambda index: "dir/0.png")
    with pytest.raises(DataError, match="take 46 GiB") as caught:
        pixels.decode_all(many, 128, 3)
    assert "stream=always" in caught.value.remedy
