"""The picture of a distilled set: every class with its name and its images, in true colours.

One image per class makes a contact sheet, the name below each image. More make one row per class, the name on the
left; many classes stand in several columns, read downwards. Pixels are repeated, never interpolated, so that what is
seen is what is stored.
"""

from __future__ import annotations

import dataclasses
import io
import math
import os
import pathlib

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from jaxdd.core.distilled import DistilledSet
from jaxdd.core.errors import CheckpointError
from jaxdd.core.io import write_atomically

PAPER, INK, FAINT = 255, 34, 120  # grey levels of background, names and small print
MARGIN, GAP, GUTTER = 28, 4, 28  # pixels around everything, between images, between columns of classes
TITLE, SMALL, NAME = 24, 14, 14  # font sizes
FEW_CLASSES = 20  # up to this many, images are large and up to 10 per class are shown
MAX_NAME = 150  # pixels a name may take before it is cut
ASPECT = 1.4  # width over height that the columns of classes aim at


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where things stand, in pixels.

    Arguments:
        shown: images per class in the picture.
        tile: `(width, height)` of one enlarged image.
        name: width kept for a name at the left of a row; 0 on a contact sheet.
        cell: `(width, height)` of one class, its name included, gaps not.
        gaps: `(horizontal, vertical)` between two classes.
        columns: columns of classes.
        rows: rows of classes.
        across: classes are read row by row (contact sheet), not column by column.
    """

    shown: int
    tile: tuple[int, int]
    name: int
    cell: tuple[int, int]
    gaps: tuple[int, int]
    columns: int
    rows: int
    across: bool

    def corner(self, index: int) -> tuple[int, int]:
        """Returns left and top of class `index`, relative to the first class."""
        if self.across:
            row, column = divmod(index, self.columns)
        else:
            column, row = divmod(index, self.rows)
        return column * (self.cell[0] + self.gaps[0]), row * (self.cell[1] + self.gaps[1])

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of all classes together."""
        width = self.columns * (self.cell[0] + self.gaps[0]) - self.gaps[0]
        return width, self.rows * (self.cell[1] + self.gaps[1]) - self.gaps[1]


def grid(distilled: DistilledSet, path: str | os.PathLike, *, per_class_limit: int | None = None) -> pathlib.Path:
    """Writes the picture of a distilled set as PNG, atomically.

    Arguments:
        distilled: a set with `pixels`, or one whose images are raw. Images with one channel give a grey PNG.
        path: the file to write.
        per_class_limit: most images shown per class, at least 1; by default 10, or 5 for more than 20 classes.

    Returns:
        The path of the file.

    Raises:
        CheckpointError: the set has no true colours, or none of the numbers of channels 1 and 3.
    """
    pixels = _true_colours(distilled)
    groups = _by_class(distilled, pixels)
    names = _short_names(distilled)
    limit = per_class_limit or (10 if distilled.classes <= FEW_CLASSES else 5)
    layout = _arrange(max(len(group) for group in groups), limit, pixels.shape[1:3], names)
    title, details = _captions(distilled, layout.shown)

    top = MARGIN + TITLE + SMALL + 26
    widest = max(layout.size[0], _font(TITLE, bold=True).getlength(title), _font(SMALL).getlength(details))
    size = (math.ceil(widest) + 2 * MARGIN, top + layout.size[1] + MARGIN)
    canvas = Image.new("RGB" if pixels.shape[-1] == 3 else "L", size, (PAPER,) * 3 if pixels.shape[-1] == 3 else PAPER)
    draw = ImageDraw.Draw(canvas)
    _write(draw, (MARGIN, MARGIN), title, _font(TITLE, bold=True), INK)
    _write(draw, (MARGIN, MARGIN + TITLE + 8), details, _font(SMALL), FAINT)
    left = (size[0] - layout.size[0]) // 2 if layout.across else MARGIN
    for index, (name, group) in enumerate(zip(names, groups, strict=True)):
        x, y = layout.corner(index)
        _draw_class(canvas, draw, layout, (left + x, top + y), name, group)

    buffer = io.BytesIO()
    canvas.save(buffer, "PNG")
    write_atomically(path, buffer.getvalue())
    return pathlib.Path(path)


def _draw_class(canvas, draw, layout: Layout, corner: tuple[int, int], name: str, group: np.ndarray) -> None:
    x, y = corner
    width, height = layout.tile
    font = _font(NAME)
    if layout.across:
        centred = x + (layout.cell[0] - font.getlength(name)) / 2
        _write(draw, (round(centred), y + height + 5), name, font, INK)
        x += (layout.cell[0] - width) // 2
    else:
        x += layout.name
        _write(draw, (round(x - 10 - font.getlength(name)), y + (height - NAME) // 2 - 1), name, font, INK)
    for number, image in enumerate(group[: layout.shown]):
        shade = np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)
        tile = Image.fromarray(shade if shade.shape[-1] == 3 else shade[..., 0])
        canvas.paste(tile.resize(layout.tile, Image.Resampling.NEAREST), (x + number * (width + GAP), y))


def _arrange(ipc: int, limit: int, image: tuple[int, int], names: list[str]) -> Layout:
    """Chooses enlargement, images per class and columns of classes."""
    shown = min(ipc, limit)
    few = len(names) <= FEW_CLASSES
    wanted = (128 if shown == 1 else 96) if few else (96 if shown == 1 else 64)
    factor = max(1, round(wanted / max(image)))
    tile = (image[1] * factor, image[0] * factor)
    longest = math.ceil(max(_font(NAME).getlength(name) for name in names))
    if shown == 1:
        across, name, gaps = True, 0, (16, 14)
        cell = (max(tile[0], longest), tile[1] + NAME + 8)
    else:
        across, name, gaps = False, longest + 10, (GUTTER, GAP)
        cell = (name + shown * (tile[0] + GAP) - GAP, tile[1])

    def shape(columns: int) -> tuple[int, int]:
        rows = math.ceil(len(names) / columns)
        return columns * (cell[0] + gaps[0]), rows * (cell[1] + gaps[1])

    def badness(columns: int) -> float:
        width, height = shape(columns)
        holes = -len(names) % columns
        return abs(math.log(width / height / ASPECT)) + 2 * holes / len(names)

    columns = min(range(1, len(names) + 1), key=badness)
    rows = math.ceil(len(names) / columns)
    return Layout(shown, tile, name, cell, gaps, math.ceil(len(names) / rows), rows, across)


def _captions(distilled: DistilledSet, shown: int) -> tuple[str, str]:
    """Returns the title, and the line of details below it."""
    plural = "image" if distilled.ipc == 1 else "images"
    kind, colon, place = distilled.dataset.partition(":")
    text = colon + (pathlib.PurePath(place).name if "/" in place else place)  # a picture to share names no folders
    title = f"{kind + text or 'distilled set'}, {distilled.ipc} {plural} per class"
    facts = []
    if method := distilled.provenance.get("method"):
        facts.append(str(method).upper())
    if (step := distilled.provenance.get("step")) is not None:
        facts.append(f"step {step}")
    height, width = distilled.images.shape[1:3]
    facts.append(f"{width} x {height} pixels")
    if (factor := distilled.decode.factor) > 1:
        facts.append(f"{factor} x {factor} training images in each")
    if shown < distilled.ipc:
        facts.append(f"the first {shown} of {distilled.ipc} images of each class")
    return title, "   ".join(facts)


def _true_colours(distilled: DistilledSet) -> np.ndarray:
    pixels = distilled.colours
    if pixels is None:
        raise CheckpointError(
            f"the set holds no true colours, only images in the space '{distilled.space}'",
            expected="`pixels`, which distilling adds at the end",
            remedy="distil again, or undo the preprocessing yourself and pass distilled.replace(pixels=...)",
        )
    if pixels.shape[-1] not in (1, 3):
        raise CheckpointError(
            f"cannot picture images with {pixels.shape[-1]} channels",
            expected="1 or 3 channels",
            remedy="pass a set with one channel (grey) or three (red, green, blue)",
        )
    return np.asarray(pixels, np.float32)


def _by_class(distilled: DistilledSet, pixels: np.ndarray) -> list[np.ndarray]:
    if len(distilled) % distilled.classes == 0:
        return list(pixels.reshape(distilled.classes, -1, *pixels.shape[1:]))
    return [pixels[distilled.class_indices == index] for index in range(distilled.classes)]


def _short_names(distilled: DistilledSet) -> list[str]:
    """Returns the class names as pictured: the first of several synonyms, without underscores, cut if long."""
    names = distilled.class_names or tuple(f"class {index}" for index in range(distilled.classes))
    allowed = MAX_NAME if distilled.classes <= FEW_CLASSES else 0.8 * MAX_NAME
    short = []
    for name in names:
        text = str(name).split(",")[0].replace("_", " ").strip()
        whole = text
        while text and _font(NAME).getlength(text + "\N{HORIZONTAL ELLIPSIS}") > allowed:
            text = text[:-1]
        short.append(whole if _font(NAME).getlength(whole) <= allowed else text.rstrip() + "\N{HORIZONTAL ELLIPSIS}")
    return short


def _font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Returns the typeface that matplotlib brings, so that pictures look the same everywhere."""
    file = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(pathlib.Path(matplotlib.get_data_path()) / "fonts" / "ttf" / file, size)


def _write(draw: ImageDraw.ImageDraw, corner: tuple[int, int], text: str, font, shade: int) -> None:
    draw.text(corner, text, font=font, fill=(shade,) * 3 if draw.mode == "RGB" else shade)
