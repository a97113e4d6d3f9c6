"""Losses of images on their way to 8 bits of grey or RGB: counted while they are decoded, told in one line."""

from __future__ import annotations

import contextlib
import threading
import warnings
from typing import Any

from jaxdd.core.errors import Notice
from jaxdd.data.readers.files import printable

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
