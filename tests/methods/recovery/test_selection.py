"""What a teacher chooses: against literal loops over images, crops and pixels."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd.augment.imagenet import Boxes, draw_boxes
from jaxdd.core import backend
from jaxdd.core.errors import ConfigError
from jaxdd.core.random import purpose_key
from jaxdd.core.types import Examples
from jaxdd.methods.recovery import selection
from tests.run.chain.tiny import CLASSES, SIDE, teacher

CONSTANTS = ((0.5, 0.4, 0.3), (0.2, 0.25, 0.3))


def of_class(count: int = 13, label: int = 2) -> Examples:
    """Random images of one class, as they lie on the host."""
    random = np.random.default_rng(3)
    images = random.integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)
    return Examples(images, np.full(count, label, np.int32), CLASSES, CONSTANTS)  # pyright: ignore[reportArgumentType]


@functools.cache
def one_by_one():
    """The teacher's logits, compiled for one image."""
    own = teacher()
    return jax.jit(lambda images: own.network.apply(own.variables, images).logits)


def literal_loss(images: np.ndarray, label: int) -> float:
    """The teacher's cross-entropy of one image `[side, side, 3]` in its own space."""
    logits = np.asarray(one_by_one()(jnp.asarray(images[None], jnp.float32))[0], np.float64)
    return float(np.log(np.exp(logits).sum()) - logits[label])


def literal_crop(image: np.ndarray, top: int, left: int, height: int, width: int, size: int) -> np.ndarray:
    """Cut out, then every pixel of the result as a mean weighted by a triangle, first along rows, then columns."""

    def shorter(rows: np.ndarray) -> np.ndarray:
        scale = len(rows) / size
        out = []
        for i in range(size):
            weights = [max(0.0, 1 - abs(j + 0.5 - (i + 0.5) * scale) / max(scale, 1.0)) for j in range(len(rows))]
            out.append(sum(w * row for w, row in zip(weights, rows, strict=True)) / sum(weights))
        return np.stack(out)

    window = image[top : top + height, left : left + width].astype(np.float64)
    return shorter(shorter(window).swapaxes(0, 1)).swapaxes(0, 1)


def standardised(pixels: np.ndarray) -> np.ndarray:
    return (pixels - np.asarray(CONSTANTS[0])) / np.asarray(CONSTANTS[1])


def literal_mosaics(key, images: Examples, ipc: int, factor: int, candidates: int, crops: int) -> np.ndarray:
    """RDED written out, with the draws of the engine."""
    rows = np.asarray(jax.random.permutation(purpose_key(key, "candidates"), len(images)))[:candidates]
    shape, size = (len(rows) * crops, SIDE, SIDE, 3), SIDE // factor
    boxes = draw_boxes(purpose_key(key, "crops"), shape, (0.08, 1.0), (1.0, 1.0))
    kept = []
    for place, row in enumerate(rows):
        scored = []
        for i in range(crops):
            box = [int(each[place * crops + i]) for each in boxes]
            assert box[2] == box[3], "crops are square"
            crop = literal_crop(np.asarray(images.images[row]) / 255, *box, size=size)
            canvas, corner = np.zeros((SIDE, SIDE, 3)), (SIDE - size) // 2
            canvas[corner : corner + size, corner : corner + size] = standardised(crop)
            scored.append((literal_loss(canvas, int(images.labels[row])), i, crop))
        kept.append(min(scored, key=lambda found: found[:2])[::2])
    ranked = [crop for _, crop in sorted(kept, key=lambda found: found[0])]
    mosaics = np.zeros((ipc, SIDE, SIDE, 3))
    for cell in range(factor**2):
        i, j = divmod(cell, factor)
        for image in range(ipc):
            mosaics[image, i * size : (i + 1) * size, j * size : (j + 1) * size] = ranked[cell * ipc + image]
    return mosaics


@pytest.mark.fast("1-9")
@pytest.mark.parametrize(("factor", "candidates"), [(1, 9), (2, 13)])
def test_mosaics_are_those_of_literal_loops(factor, candidates, monkeypatch):
    monkeypatch.setattr(selection, "BATCH", 12)  # several batches, the last of which overlaps the one before
    monkeypatch.setattr(backend, "rows_at_once", lambda count: count)
    own, images, key = teacher(), of_class(), jax.random.key(5)
    how = {"factor": factor, "candidates": candidates, "crops": 3}
    found = selection.mosaics(key, own.network, own.variables, images, 2, **how)
    np.testing.assert_allclose(found, literal_mosaics(key, images, 2, **how), atol=2e-6)
    assert 0 <= float(found.min()) <= float(found.max()) <= 1 + 1e-6


@pytest.mark.slow
def test_a_choice_depends_on_its_key_and_not_on_the_batches(monkeypatch):
    own, images = teacher(), of_class()
    how = {"factor": 1, "candidates": 13, "crops": 2}
    whole = selection.mosaics(jax.random.key(0), own.network, own.variables, images, 3, **how)
    monkeypatch.setattr(backend, "rows_at_once", lambda count: 10)
    cut = selection.mosaics(jax.random.key(0), own.network, own.variables, images, 3, **how)
    np.testing.assert_allclose(whole, cut, atol=1e-6)
    other = selection.mosaics(jax.random.key(1), own.network, own.variables, images, 3, **how)
    assert np.abs(np.asarray(whole - other)).max() > 0.1


def test_medium_images_stand_around_the_median_of_the_true_class_s_probability():
    own, images = teacher(), of_class(11)
    losses = [literal_loss(standardised(np.asarray(image) / 255), 2) for image in images.images]
    ranked = sorted(range(11), key=lambda i: np.exp(-losses[i]))
    places = [6, 7, 5, 8, 4, 9, 3, 10, 2, 1, 0]  # ceil(11 / 2), then to both sides; above there is nothing after 10
    found = selection.medium_rows(own.network, own.variables, images, 11)
    np.testing.assert_array_equal(found, [ranked[place] for place in places])
    np.testing.assert_array_equal(selection.medium_rows(own.network, own.variables, images, 3), found[:3])


@pytest.mark.parametrize("count", [1, 2, 3, 500])
def test_outwards_names_every_place_once(count):
    assert sorted(selection.outwards(count)) == list(range(count))


def test_random_rows_are_distinct_and_a_function_of_the_key():
    first, again, other = (selection.random_rows(jax.random.key(i), 20, 8) for i in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert len(set(first)) == 8 and set(first) <= set(range(20)) and list(first) != list(other)


@pytest.mark.slow
@pytest.mark.parametrize("size", [3, 8, 11])
def test_an_antialiased_crop_is_that_of_literal_loops_however_many_windows(size):
    images = np.random.default_rng(0).uniform(size=(2, 9, 9, 2)).astype(np.float32)
    boxes = np.asarray([[[0, 0, 9, 9], [2, 3, 5, 4]], [[4, 1, 3, 8], [8, 8, 1, 1]]])
    several = selection.antialiased_crop(jnp.asarray(images), Boxes(*jnp.moveaxis(jnp.asarray(boxes), -1, 0)), size)
    single = selection.antialiased_crop(jnp.asarray(images), Boxes(*jnp.asarray(boxes[:, 1]).T), size)
    for image in range(2):
        for window in range(2):
            wanted = literal_crop(images[image], *boxes[image, window], size=size)
            np.testing.assert_allclose(several[image, window], wanted, atol=1e-6)
    np.testing.assert_allclose(single, several[:, 1], atol=1e-6)


def test_an_antialiased_crop_has_torch_s_numbers():
    # torch 2.13: interpolate(x[:, :, 1:6, 0:5], (2, 2), mode="bilinear", antialias=True) in float64, and of the
    # first 2 x 2 of these pixels at 3 x 3.
    image = (np.arange(36.0) ** 2 % 17).reshape(1, 6, 6, 1).astype(np.float32)
    for box, size, wanted in (
        ([1, 0, 5, 5], 2, [9.611570247933882, 9.342975206611568, 10.2995867768595, 7.557851239669421]),
        ([1, 0, 2, 2], 3, [2.0, 8.5, 15.0, 5.0, 10.25, 15.5, 8.0, 12.0, 16.0]),
    ):
        found = selection.antialiased_crop(jnp.asarray(image), Boxes(*jnp.asarray([box]).T), size)
        np.testing.assert_allclose(found.ravel(), wanted, rtol=1e-6)


def test_an_antialiased_crop_is_torch_s():
    torch = pytest.importorskip("torch")
    random = np.random.default_rng(1)
    images = random.uniform(size=(6, 12, 12, 3)).astype(np.float32)
    boxes = [(0, 0, 12, 12), (1, 2, 9, 7), (3, 3, 5, 5), (4, 0, 8, 11), (11, 11, 1, 1), (2, 5, 10, 2)]
    for size in (5, 6, 16):
        found = selection.antialiased_crop(jnp.asarray(images), Boxes(*jnp.asarray(boxes).T), size)
        for image, (top, left, height, width), ours in zip(images, boxes, found, strict=True):
            window = torch.tensor(image).permute(2, 0, 1)[None, :, top : top + height, left : left + width]
            theirs = torch.nn.functional.interpolate(window, (size, size), mode="bilinear", antialias=True)
            np.testing.assert_allclose(ours, theirs[0].permute(1, 2, 0).numpy(), atol=2e-6)


def test_cells_that_do_not_divide_the_side_are_a_pixel_larger_at_first():
    cells = np.arange(4.0, dtype=np.float32).reshape(4, 1, 1, 1) * np.ones((4, 2, 2, 1), np.float32)
    np.testing.assert_array_equal(
        selection.assemble(cells, 2, 5)[0, :, :, 0], [[0, 0, 0, 1, 1]] * 3 + [[2, 2, 2, 3, 3]] * 2
    )


@pytest.mark.quick
def test_a_class_with_too_few_images_is_refused():
    own = teacher()
    with pytest.raises(ConfigError, match="images of the class"):
        selection.random_rows(jax.random.key(0), 3, 4)
    with pytest.raises(ConfigError, match="images of the class"):
        selection.medium_rows(own.network, own.variables, of_class(3), 4)
    with pytest.raises(ConfigError, match="candidates"):
        selection.mosaics(
            jax.random.key(0), own.network, own.variables, of_class(), 3, factor=2, candidates=11, crops=1
        )
