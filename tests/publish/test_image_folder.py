"""Image files as published: names, what truncation and a JPEG leave, and folders that other code made."""

import io

import numpy as np
import pytest
from PIL import Image

from jaxdd.core.errors import DataError, UsageError
from jaxdd.data.readers.encoding import encode, truncate
from jaxdd.publish import image_folder

pytestmark = pytest.mark.quick


def pictures(count: int = 4, channels: int = 3) -> np.ndarray:
    """Smooth pictures, of which a JPEG keeps something."""
    wave = np.linspace(0, 3, 8)[:, None, None] + np.linspace(0, 2, 8)[None, :, None] + np.arange(channels)
    return np.stack([0.5 + 0.5 * np.sin(wave + i) for i in range(count)]).astype(np.float32)


def test_png_files_hold_the_truncated_numbers_by_class_and_number(tmp_path):
    images, labels, numbers = pictures(), np.array([2, 0, 2, 1]), np.array([1, 0, 0, 0])
    image_folder.write(tmp_path, images, labels, numbers, classes=3, store="png")
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.glob("*/*")) == [
        "new000/class000_id000.png",
        "new001/class001_id000.png",
        "new002/class002_id000.png",
        "new002/class002_id001.png",
    ]
    found = image_folder.read(tmp_path)
    np.testing.assert_array_equal(found.labels, [0, 1, 2, 2])
    np.testing.assert_array_equal(found.ipc_indices, [0, 0, 0, 1])
    np.testing.assert_array_equal(
        found.images, np.floor(255 * images[[1, 3, 2, 0]].astype(np.float64)).astype(np.uint8)
    )


def test_a_jpeg_is_pil_s_at_its_default_quality_and_is_read_as_it_decodes(tmp_path):
    pixels = truncate(pictures(1))
    image_folder.write(tmp_path, pixels, np.array([7]), np.array([3]), classes=10)
    (file,) = tmp_path.glob("new007/class007_id003.jpg")
    buffer = io.BytesIO()
    Image.fromarray(pixels[0]).save(buffer, "JPEG")  # which says no quality
    assert file.read_bytes() == buffer.getvalue()
    found = image_folder.read(tmp_path).images
    np.testing.assert_array_equal(found[0], np.asarray(Image.open(buffer)))
    assert (found != pixels).any(), "the picture should be one that a JPEG changes"


def test_bytes_that_are_known_are_written_as_they_are(tmp_path):
    pixels = truncate(pictures(2))
    files = [encode(image, "jpg", 95) for image in pixels]
    for _ in range(2):  # the second time they are there already
        image_folder.write(tmp_path, pixels, np.array([0, 1]), np.array([0, 0]), classes=2, encoded=files)
    assert [path.read_bytes() for path in sorted(tmp_path.glob("*/*"))] == files
    assert not list(tmp_path.rglob("*.partial"))


def test_the_published_names():
    names = [str(image_folder.path_of(7, 12, classes)) for classes in (10, 1000, 10450)]
    assert names == ["new007/class007_id012.jpg"] * 2 + ["new00007/class00007_id012.jpg"]


def test_folders_of_other_code_are_read_and_foreign_files_passed_over(tmp_path):
    pixels = truncate(pictures(2))
    (tmp_path / "00011").mkdir()
    (tmp_path / "new002").mkdir()
    (tmp_path / "00011" / "class00011_id00004.png").write_bytes(encode(pixels[0], "png"))
    (tmp_path / "new002" / "class002_id000.JPEG").write_bytes(encode(pixels[1]))
    (tmp_path / "new002" / "notes.txt").write_text("no image")
    found = image_folder.read(tmp_path)
    assert list(found.labels) == [2, 11] and list(found.ipc_indices) == [0, 4]
    np.testing.assert_array_equal(found.images[1], pixels[0])


def test_grey_images_have_one_channel(tmp_path):
    pixels = truncate(pictures(2, channels=1))
    image_folder.write(tmp_path, pixels, np.array([0, 1]), np.array([0, 0]), classes=2, store="png")
    np.testing.assert_array_equal(image_folder.read(tmp_path).images, pixels)


def test_what_cannot_be_read_or_written_is_refused(tmp_path):
    with pytest.raises(DataError, match="no images"):
        image_folder.read(tmp_path)
    with pytest.raises(UsageError, match="kind of image file"):
        image_folder.write(tmp_path, pictures(1), np.array([0]), np.array([0]), classes=1, store="gif")  # pyright: ignore
    image_folder.write(tmp_path, pictures(1), np.array([0]), np.array([0]), classes=1, store="png")
    image_folder.write(tmp_path, pictures(1), np.array([0]), np.array([0]), classes=1, store="jpg")
    with pytest.raises(DataError, match="two images"):
        image_folder.read(tmp_path)
    (tmp_path / "new000" / "class000_id000.png").unlink()
    (tmp_path / "new000" / "class000_id000.jpg").write_bytes(b"\xff\xd8 cut")
    with pytest.raises(DataError, match="decode"):
        image_folder.read(tmp_path)


def test_truncation_cuts_to_the_scale_and_does_not_round():
    np.testing.assert_array_equal(
        truncate(np.array([-0.2, 0.0, 0.9999 / 255, 1.7 / 255, 1.0, 1.3])), [0, 0, 0, 1, 255, 255]
    )
