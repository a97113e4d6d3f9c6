"""`Dataset.of_arrays`: what it takes, what it refuses, and its digest."""

from __future__ import annotations

import numpy as np
import pytest

from jaxdd.core.errors import DataError
from jaxdd.data import Dataset

pytestmark = pytest.mark.quick


def test_arrays_of_every_accepted_kind_become_the_same_set(arrays):
    x, y, tx, ty = arrays
    made = Dataset.of_arrays(x, y, tx, ty, class_names=["a", "b", "c"])
    assert made.image_shape == (8, 8, 3) and made.resolution == 8 and made.classes == 3
    assert made.train_images.dtype == np.uint8 and made.train_labels.dtype == np.int32
    for images, labels in [(x / 255, y[:, None]), (x.astype(np.int64), y.astype(np.uint8))]:
        other = Dataset.of_arrays(images, labels, tx.astype(np.float32) / 255, ty)
        np.testing.assert_array_equal(other.train_images, x)
        np.testing.assert_array_equal(other.test_images, tx)
        assert other.digest == made.digest and other.class_names == ("0", "1", "2")
    grey = Dataset.of_arrays(x[..., 0], y, tx[..., 0], ty)
    assert grey.image_shape == (8, 8, 1)


def test_the_digest_follows_the_train_split_and_the_arrays_are_read_only(arrays):
    x, y, tx, ty = arrays
    made = Dataset.of_arrays(x, y, tx, ty)
    changed = x.copy()
    changed[3, 1, 2, 0] ^= 1
    assert Dataset.of_arrays(changed, y, tx, ty).digest != made.digest
    assert Dataset.of_arrays(x, np.roll(y, 1), tx, ty).digest != made.digest
    assert Dataset.of_arrays(x, y, changed[:6], ty).digest == made.digest
    with pytest.raises(ValueError, match="read-only"):
        made.train_images[0, 0, 0, 0] = 1
    x[0] = 0  # the caller's own array stays writable


BROKEN = {
    "shape": (lambda x, y: (x[..., :2], y), "1 or 3 channels"),
    "not square": (lambda x, y: (x[:, :4], y), "square"),
    "empty": (lambda x, y: (x[:0], y[:0]), "not empty"),
    "normalised": (lambda x, y: (x / 255 * 4 - 2, y), "finite floats in"),
    "NaN": (lambda x, y: (np.where(x == x[0, 0, 0, 0], np.nan, x / 255), y), "finite"),
    "too wide": (lambda x, y: (x.astype(np.int32) * 2, y), "0..255"),
    "object": (lambda x, y: (x.astype(object), y), "uint8"),
    "one-hot": (lambda x, y: (x, np.eye(3)[y]), "one per image"),
    "float labels": (lambda x, y: (x, y.astype(float)), "one per image"),
    "fewer labels": (lambda x, y: (x, y[:-1]), "12 integers"),
    "negative label": (lambda x, y: (x, np.where(y == 2, -1, y)), "0 .. "),
    "gap": (lambda x, y: (x, np.where(y == 1, 2, y)), "every class"),
    "huge label": (lambda x, y: (x, np.where(y == 2, 2**30, y)), "no more classes than images"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_broken_arrays_are_refused_with_place_expectation_and_remedy(arrays, fault):
    change, expected = BROKEN[fault]
    x, y, tx, ty = arrays
    with pytest.raises(DataError) as caught:
        Dataset.of_arrays(*change(x, y), tx, ty, where="my.npz")
    assert "my.npz" in caught.value.where and expected in caught.value.expected and caught.value.remedy


def test_test_labels_outside_the_train_classes_and_other_shapes_are_refused(arrays):
    x, y, tx, ty = arrays
    with pytest.raises(DataError, match=r"0 \.\. 2"):
        Dataset.of_arrays(x, y, tx, ty + 1)
    with pytest.raises(DataError, match="differ in shape"):
        Dataset.of_arrays(x, y, tx[:, :4, :4], ty)


def test_refusals_say_what_to_do_about_labels_and_pixels_as_they_are(arrays):
    x, y, tx, ty = arrays
    for labels, remedy in (
        (y > 0, "labels.astype(int)"),
        (y.astype(float), "labels.astype(int)"),
        (np.eye(3, dtype=int)[y], "labels.argmax(1)"),
        (y[:-1], "as many labels as images"),
        (np.array(["a", "b", "c"])[y], "class indices"),
    ):
        with pytest.raises(DataError) as caught:
            Dataset.of_arrays(x, labels, tx, ty)
        assert remedy in caught.value.remedy
    for images, remedy in (
        (x.transpose(0, 3, 1, 2), "transpose(0, 2, 3, 1)"),
        (x > 9, "0 and 255"),
        (x * -1.0, "undo"),
    ):
        with pytest.raises(DataError) as caught:
            Dataset.of_arrays(images, y, tx, ty)
        assert remedy in caught.value.remedy


def test_one_class_is_refused_and_two_are_enough(arrays):
    x, y, tx, ty = arrays
    with pytest.raises(DataError, match="one class, '0'"):
        Dataset.of_arrays(x, y * 0, tx, ty * 0)
    with pytest.raises(DataError, match="one class, 'ant'"):
        Dataset.of_arrays(x, y * 0, tx, ty * 0, class_names=["ant"])
    assert Dataset.of_arrays(x, y % 2, tx, ty % 2).classes == 2
