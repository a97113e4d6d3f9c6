"""Decoding, cropping and resizing."""

from __future__ import annotations

import contextlib
import io
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile

from jaxdd.core.errors import DataError
from jaxdd.data.readers import images as pixels

pytestmark = pytest.mark.quick


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_shrinking_averages_the_covered_area():
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (7, 7, 3), np.uint8)
    fine = np.repeat(np.repeat(image.astype(float), 3, 0), 3, 1)  # 21 x 21: every new pixel covers 7 x 7 of these
    exact = fine.reshape(3, 7, 3, 7, 3).mean((1, 3))
    np.testing.assert_allclose(pixels.resize(image, 3), exact, atol=0.5 + 1e-3)
    np.testing.assert_array_equal(pixels.resize(image[None], 3)[0], pixels.resize(image, 3))


def test_enlarging_is_bilinear_and_keeps_constants():
    ramp = np.broadcast_to(np.arange(0, 80, 10, dtype=np.uint8)[None, :, None], (8, 8, 1))
    large = pixels.resize(ramp, 16)
    np.testing.assert_array_equal(large[0, 1:-1, 0], np.rint(np.arange(2.5, 70, 5)))
    assert (pixels.resize(np.full((5, 5, 3), 200, np.uint8), 9) == 200).all()


def test_the_crop_is_centred_and_its_offset_truncated():
    image = np.arange(5 * 8, dtype=np.uint8).reshape(5, 8, 1)
    np.testing.assert_array_equal(pixels.square(image), image[:, 1:6])
    np.testing.assert_array_equal(pixels.square(image.swapaxes(0, 1)), image.swapaxes(0, 1)[1:6])


def test_every_usual_mode_is_decoded():
    grey = np.arange(16, dtype=np.uint8).reshape(4, 4) * 16
    colour = np.stack([grey, grey.T, 255 - grey], -1)
    for image, expected in [
        (Image.fromarray(grey), grey[..., None]),
        (Image.fromarray(colour), colour),
        (Image.fromarray(np.dstack([colour, grey])), colour),
        (Image.fromarray(colour).quantize(16), colour),
        (Image.fromarray(grey.astype(np.uint16) * 256 + 7), grey[..., None]),
        (Image.fromarray(grey > 100), 255 * (grey > 100)[..., None]),
    ]:
        data = _png(image)
        np.testing.assert_array_equal(pixels.decode(data, "x"), expected)
        assert pixels.header(data, "x") == expected.shape


def test_grey_becomes_colour_and_colour_becomes_grey_only_without_loss():
    grey = np.arange(16, dtype=np.uint8).reshape(4, 4, 1)
    np.testing.assert_array_equal(pixels.to_channels(grey, 3, "x"), np.repeat(grey, 3, -1))
    np.testing.assert_array_equal(pixels.to_channels(np.repeat(grey, 3, -1), 1, "x"), grey)
    with pytest.raises(DataError, match="colour image in a grey"):
        pixels.to_channels(np.dstack([grey, grey, 255 - grey]), 1, "x")


def _huge_png() -> bytes:
    """A few kilobytes that claim 60000 x 60000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = (60000).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    body = zlib.compress(bytes(10**6))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.fixture
def decoded(monkeypatch):
    """The sizes of all images whose pixels were asked for."""
    sizes, load = [], ImageFile.ImageFile.load

    def seen(image):
        sizes.append(image.size)
        return load(image)

    monkeypatch.setattr(ImageFile.ImageFile, "load", seen)
    return sizes


def test_hostile_images_are_refused_by_name_and_large_ones_not_decoded(decoded):
    whole = _png(Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)))
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n"
    for data in (b"", b"junk", whole[:40], whole[: len(whole) // 2], whole[:100] + bytes(50), _huge_png(), postscript):
        with pytest.raises(DataError) as caught:
            pixels.decode(data, "dir/a.png")
        assert caught.value.where == "dir/a.png"
    assert decoded and set(decoded) == {(32, 32)}  # neither the huge one nor a program in PostScript
    random = np.random.default_rng(1)
    for _ in range(200):  # flipped bytes: decoded or refused, nothing else
        broken = bytearray(whole)
        broken[random.integers(len(broken))] = random.integers(256)
        with contextlib.suppress(DataError):
            pixels.decode(bytes(broken), "a.png")


def test_images_of_several_sizes_need_a_resolution():
    blobs = [_png(Image.fromarray(np.zeros((size, size + 2, 3), np.uint8))) for size in (8, 9)]
    encoded = pixels.Encoded(2, blobs.__getitem__, lambda index: f"image {index}")
    with pytest.raises(DataError, match="give a resolution"):
        pixels.decode_all(encoded, None, None)
    assert pixels.decode_all(encoded, 4, None).shape == (2, 4, 4, 3)
