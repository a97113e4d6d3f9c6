"""Teachers: the steps of the literal loop in shuffled epochs, PyTorch's schedule, and what is done to images."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd.core.types import Examples
from jaxdd.training import teacher
from jaxdd.training.recipe import TeacherRecipe, published_recipe
from jaxdd.training.teacher import Squeeze, rows
from tests.training import tiny
from tests.training.literal_sgd import literal_sgd

RECIPE = TeacherRecipe(0.1, weight_decay=0.05, batch_size=9, epochs=6, warmup_epochs=2, augmentation="none")
CONSTANTS = ((0.4, 0.5, 0.6), (0.2, 0.3, 0.25))


def data(count: int = 9, dtype: Any = np.uint8) -> Examples:
    """Raw images with constants."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, *tiny.SHAPE)).astype(np.uint8)
    images = pixels if dtype == np.uint8 else pixels * np.float32(1 / 255)
    return Examples(
        jnp.asarray(images), jnp.arange(count, dtype=jnp.int32) % tiny.CLASSES, tiny.CLASSES, constants=CONSTANTS
    )


@pytest.mark.fast("False")
@pytest.mark.quick
@pytest.mark.parametrize("streamed", [False, True])
def test_steps_are_those_of_the_literal_loop_with_its_schedule(streamed, x64):
    recipe = dataclasses.replace(RECIPE, label_smoothing=0.3)
    procedure = Squeeze(tiny.network(), recipe, steps_per_epoch=1, streamed=streamed)
    assert procedure.steps == 6 and procedure.batch_rule.kind == ("stream" if streamed else "all")
    examples = dataclasses.replace(data(), images=jnp.asarray(np.asarray(data().images) / 255))
    images = (np.asarray(examples.images) - CONSTANTS[0]) / CONSTANTS[1]
    targets = 0.7 * np.eye(3)[np.asarray(examples.labels)] + 0.1
    state, step = procedure.init(jax.random.key(3), examples), jax.jit(procedure.step)
    rates = 0.1 * np.array([0.01, 0.505, 1, (1 + np.sqrt(0.5)) / 2, 0.5, (1 - np.sqrt(0.5)) / 2])
    rule = {"momentum": 0.9, "weight_decay": 0.05, "restarts": ()}
    batches = [(jnp.asarray(images), jnp.asarray(targets))] * 6
    expected, losses = literal_sgd(procedure.network, state.trained.variables, batches, rates, **rule)
    found = []
    for i in range(6):
        state, metrics = step(state, examples, jax.random.key(i))
        found.append(float(metrics["loss"]))
        assert float(metrics["epoch_loss"]) == pytest.approx(found[-1], rel=1e-6)
    tiny.assert_close(procedure.result(state), expected, rtol=1e-6)
    np.testing.assert_allclose(found, losses, rtol=1e-6)


def test_the_rate_is_that_of_pytorchs_schedulers():
    torch = pytest.importorskip("torch")
    recipe = TeacherRecipe(0.2, epochs=12, warmup_epochs=3)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.2)
    rise = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.01, total_iters=3)
    fall = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=9)
    schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, [rise, fall], milestones=[3])
    for epoch in range(12):
        assert float(recipe.rate(epoch)) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-5)
        optimizer.step()
        schedule.step()


def test_an_epoch_is_a_permutation_filled_up_from_its_start():
    epochs = [
        np.concatenate([rows(jax.random.key(5), e, place, count=10, size=4) for place in range(3)]) for e in (0, 1)
    ]
    for order in epochs:
        assert sorted(order[:10]) == list(range(10)) and list(order[10:]) == list(order[:2])
    assert list(epochs[0]) != list(epochs[1])


def test_the_loss_of_an_epoch_is_the_mean_over_its_steps():
    procedure = Squeeze(tiny.network(), dataclasses.replace(RECIPE, batch_size=4), steps_per_epoch=3)
    state, step = procedure.init(jax.random.key(0), data()), jax.jit(procedure.step)
    losses, means = [], []
    for i in range(6):
        state, metrics = step(state, data(), jax.random.key(i))
        losses.append(float(metrics["loss"]))
        means.append(float(metrics["epoch_loss"]))
    wanted = [np.mean(losses[i // 3 * 3 : i + 1]) for i in range(6)]
    np.testing.assert_allclose(means, wanted, rtol=1e-6)


@pytest.mark.slow
def test_uint8_and_float_images_train_alike_to_the_bit():
    recipe = dataclasses.replace(RECIPE, batch_size=4, augmentation="pad_crop")
    procedure = Squeeze(tiny.network("batch"), recipe, steps_per_epoch=3)
    made = []
    for dtype in (np.uint8, np.float32):
        examples = data(dtype=dtype)
        state = procedure.init(jax.random.key(0), examples)
        made.append(jax.jit(procedure.step)(state, examples, jax.random.key(1))[0])
    jax.tree.map(np.testing.assert_array_equal, *made)


@pytest.mark.fast("flip", "none")
@pytest.mark.parametrize("name", ["resized_crop", "pad_crop", "flip", "none"])
def test_every_image_has_draws_of_its_own(name):
    image = np.random.default_rng(0).uniform(0.1, 1, (1, 6, 6, 3)).astype(np.float32)
    shown = np.asarray(teacher.augment(name, jax.random.key(0), jnp.asarray(np.repeat(image, 200, 0))))
    kinds = len({each.tobytes() for each in shown})
    assert shown.shape == (200, 6, 6, 3) and shown.min() >= 0 and shown.max() <= 1
    if name == "none":
        np.testing.assert_array_equal(shown, np.repeat(image, 200, 0))
    elif name == "flip":
        mirrored = [np.array_equal(each, image[0, :, ::-1]) for each in shown]
        assert kinds == 2 and 70 < sum(mirrored) < 130
    else:
        assert kinds > 90


@pytest.mark.parametrize(
    "dataset, resolution, wanted",
    [
        ("tiny_imagenet", 64, TeacherRecipe(0.2, 0.9, 1e-4, 256, 50, 5, "resized_crop")),
        ("cifar100", 32, TeacherRecipe(0.1, 0.9, 5e-4, 128, 200, 0, "pad_crop")),
        ("imagenet100", 224, TeacherRecipe(0.1, 0.9, 1e-4, 256, 90, 0, "resized_crop")),
        ("folder:mine", 48, TeacherRecipe()),
    ],
)
def test_published_recipes(dataset, resolution, wanted):
    assert published_recipe(dataset, resolution) == wanted


def test_digits_are_not_mirrored():
    assert published_recipe("digits", 8).augmentation == published_recipe("mnist", 28).augmentation == "none"
