"""The picture: the right pixels in the right places, for few and many classes, grey and coloured."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from jaxdd.core.distilled import DistilledSet
from jaxdd.core.errors import CheckpointError
from jaxdd.publish.grid import grid

pytestmark = pytest.mark.quick


def flat_set(classes: int, ipc: int, size: int, channels: int = 3, **changes) -> DistilledSet:
    """A set whose every image is one colour of its own, so that the picture can be read back."""
    count = classes * ipc
    shades = np.random.default_rng(0).permutation(250)[:count] if count <= 250 else np.arange(count) % 250
    colours = np.stack([shades, (shades * 7 + 3) % 250, (shades * 13 + 90) % 250][:channels], -1) / 255
    pixels = np.ones((count, size, size, channels), np.float32) * colours[:, None, None].astype(np.float32)
    labels = np.eye(classes, dtype=np.float32)[np.repeat(np.arange(classes), ipc)]
    facts = {"dataset": "flat", "provenance": {"method": "rcig", "step": 7}}
    return DistilledSet(images=pixels - 0.5, labels=labels, space="zca", pixels=pixels, **(facts | changes))


def read(path) -> np.ndarray:
    """The picture: `[height, width, 3]`, or `[height, width]` if it is grey."""
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture)


def packed(colours: np.ndarray) -> np.ndarray:
    """Colours `[..., 3]` as single integers."""
    return colours.astype(np.int32) @ np.array([1, 256, 65536], np.int32)


def tiles(picture: np.ndarray, distilled: DistilledSet, shown: int) -> np.ndarray:
    """Left, top, width and height of every image, found by its colour; class by class."""
    assert distilled.pixels is not None
    found, here = [], packed(picture)
    for index, colour in enumerate(packed(np.rint(255 * distilled.pixels[:, 0, 0]))):
        if index % distilled.ipc < shown:
            rows, columns = np.nonzero(here == colour)
            assert len(rows), f"image {index} is not in the picture"
            found.append((columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1))
    return np.array(found).reshape(distilled.classes, shown, 4)


@pytest.mark.parametrize("size, factor", [(8, 12), (28, 3), (32, 3), (128, 1)])
def test_one_row_per_class_and_one_column_per_image(tmp_path, size, factor):
    distilled = flat_set(10, 4, size)
    picture = read(grid(distilled, tmp_path / "deep" / "grid.png"))
    found = tiles(picture, distilled, 4)
    assert (found[..., 2:] == size * factor).all()
    left, top = found[..., 0], found[..., 1]
    assert (np.ptp(top, axis=1) == 0).all() and (np.diff(left, axis=1) == size * factor + 4).all()
    for column in np.unique(left[:, 0]):
        assert (np.diff(top[left[:, 0] == column, 0]) == size * factor + 4).all()
    assert (picture[:, :20] == 255).all()


def test_one_image_per_class_makes_a_contact_sheet_without_holes(tmp_path):
    distilled = flat_set(10, 1, 32)
    found = tiles(read(grid(distilled, tmp_path / "grid.png")), distilled, 1)[:, 0]
    assert len(set(found[:, 0])) == 5 and len(set(found[:, 1])) == 2
    assert [tuple(row) for row in found[:, [1, 0]]] == sorted(tuple(row) for row in found[:, [1, 0]])


@pytest.mark.parametrize("classes, ipc", [(1, 1), (2, 3), (100, 1), (200, 6)])
def test_many_classes_give_a_picture_of_sensible_shape(tmp_path, classes, ipc):
    names = tuple(f"a very long class name, with a synonym {i}" for i in range(classes))
    height, width, _ = read(grid(flat_set(classes, ipc, 32, class_names=names), tmp_path / "grid.png")).shape
    assert 0.5 < width / height < 3 or classes == 1
    assert max(width, height) < 3200


def test_grey_images_give_a_grey_picture(tmp_path):
    distilled = flat_set(10, 2, 8, channels=1)
    picture = read(grid(distilled, tmp_path / "grid.png"))
    assert picture.ndim == 2
    assert (picture == np.rint(255 * np.ravel(distilled.pixels)[0])).sum() >= 96 * 96


def test_the_limit_is_kept_and_told(tmp_path):
    distilled = flat_set(3, 20, 8)
    few, many = (read(grid(distilled, tmp_path / "grid.png", per_class_limit=limit)) for limit in (2, 20))
    tiles(many, distilled, 20)
    tiles(few, distilled, 2)
    with pytest.raises(AssertionError, match="image 2 is not in the picture"):
        tiles(few, distilled, 3)


def test_values_outside_the_unit_interval_are_clipped(tmp_path):
    pixels = np.full((2, 8, 8, 1), 5.0, np.float32)
    pixels[0] = -3
    distilled = DistilledSet(images=pixels, labels=np.eye(2, dtype=np.float32), pixels=pixels)
    assert (read(grid(distilled, tmp_path / "grid.png")) == 0).sum() >= 96 * 96


def test_the_same_set_gives_the_same_bytes_and_nothing_is_left_beside(tmp_path):
    distilled = flat_set(10, 1, 8, class_names=tuple("abcdefghij"))
    first = grid(distilled, tmp_path / "grid.png").read_bytes()
    assert grid(distilled, tmp_path / "grid.png").read_bytes() == first
    assert [path.name for path in tmp_path.iterdir()] == ["grid.png"]


def test_raw_images_need_no_pixels_but_others_do(tmp_path):
    distilled = flat_set(2, 1, 8)
    raw = DistilledSet(images=distilled.images + 0.5, labels=distilled.labels, space="raw")
    assert grid(raw, tmp_path / "raw.png").is_file()
    with pytest.raises(CheckpointError, match="no true colours"):
        grid(distilled.replace(pixels=None), tmp_path / "zca.png")
    with pytest.raises(CheckpointError, match="2 channels"):
        grid(raw.replace(images=raw.images[..., :2]), tmp_path / "two.png")
    assert not (tmp_path / "zca.png").exists()


def test_sets_with_unequal_classes_are_grouped_by_label(tmp_path):
    distilled = flat_set(2, 2, 8)
    assert distilled.pixels is not None
    uneven = distilled.replace(
        images=distilled.images[:3], labels=distilled.labels[[1, 0, 1]], pixels=distilled.pixels[:3]
    )
    assert grid(uneven, tmp_path / "grid.png").is_file()


def test_the_title_names_no_folder_of_the_users(tmp_path):
    names = ("folder:/home/somebody/pictures/birds", "folder:birds")
    pictures = [read(grid(flat_set(3, 1, 8, dataset=name), tmp_path / f"{len(name)}.png")) for name in names]
    np.testing.assert_array_equal(*pictures)
