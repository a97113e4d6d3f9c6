"""The evaluation recipe: the published rules, and what a set may say about its own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd.core.errors import ConfigError
from jaxdd.evaluation.base import Subject
from jaxdd.evaluation.recipe import Recipe

pytestmark = pytest.mark.quick

SHAPE = (8, 8, 3)
SMALL = Recipe(width=2, depth=1)


def training(recipe: Recipe, stored: int, *, augmented: bool = False):
    return recipe.training(recipe.network(SHAPE, 3), Subject(stored), augmented=augmented)[:2]


@pytest.mark.parametrize(
    "stored, schedule, plain", [(10, 1000, 2500), (9, 2000, 5000), (11, 2000, 5000), (100, 2000, 5000)]
)
def test_published_steps_are_1000_for_exactly_ten_images_else_2000_and_more_without_augmentation(
    stored, schedule, plain
):
    for augmented, steps in ((True, schedule), (False, plain)):
        procedure, found = training(SMALL, stored, augmented=augmented)
        assert (procedure.schedule_steps, found) == (schedule, steps)


@pytest.mark.parametrize("stored, batch", [(10, None), (256, None), (257, 256), (5000, 256)])
def test_batches_are_drawn_only_from_sets_of_more_than_256_images(stored, batch):
    procedure, _ = training(SMALL, stored)
    assert procedure.batch_size == batch
    assert procedure.batch_rule.kind == ("all" if batch is None else "uniform")


def test_only_augmented_runs_are_augmented_at_the_published_rate():
    plain, augmented = (training(SMALL, 10, augmented=flag)[0] for flag in (False, True))
    assert plain.augment is None
    assert augmented.augment == "flip_color_crop_rotate_translate_cutout"
    assert (plain.learning_rate, plain.warmup_steps, plain.resolution) == (1e-4, 500, 8)


def test_own_steps_replace_the_published_ones():
    procedure, steps = training(Recipe(width=2, depth=1, steps=40, plain_steps=30), 10)
    assert (procedure.schedule_steps, steps) == (40, 30)
    assert training(Recipe(width=2, depth=1, steps=40), 10, augmented=True)[1] == 40


def test_networks_are_of_the_recipe_s_size_and_use_relu():
    network = SMALL.network(SHAPE, 3)
    variables = network.init(jax.random.key(0))
    assert variables["params"]["Conv_0"]["kernel"].shape == (3, 3, 3, 2)
    images = jnp.asarray(np.random.default_rng(0).normal(size=(4, *SHAPE)), jnp.float32)
    negative = jax.tree.map(lambda leaf: leaf - 10, variables)  # every unit is switched off
    logits = network.apply(negative, jnp.abs(images)).logits
    np.testing.assert_array_equal(logits, jnp.broadcast_to(negative["params"]["Dense_0"]["bias"][None], (4, 3)))


def test_a_stored_recipe_is_overridden_by_what_is_given():
    recipe = Recipe.of({"width": 32, "eval_lr": 0.001}, width=4, depth=None)
    assert (recipe.width, recipe.eval_lr, recipe.depth, recipe.models_to_test) == (4, 0.001, None, 5)


@pytest.mark.parametrize("stored", [{"widht": 3}, {"width": "wide"}, {"width": 0}, {"eval_lr": -1.0}])
def test_a_wrong_stored_recipe_is_refused(stored):
    with pytest.raises(ConfigError, match=next(iter(stored))) as refusal:
        Recipe.of(stored)
    assert "width" in refusal.value.remedy if "widht" in stored else refusal.value.expected
