"""`import jaxdd`: quick, silent, and enough for plain arrays in ten lines."""

from __future__ import annotations

import doctest
import subprocess
import sys

import numpy as np
import pytest

import jaxdd
from jaxdd.core.errors import CheckpointError, ConfigError, DataError, UsageError
from jaxdd.evaluation.recipe import Recipe
from jaxdd.run import evaluating

TINY = {"width": 4, "depth": 1, "pool_model_count": 2, "batch_size": 32}
QUICK = {"width": 4, "models_to_test": 1, "plain_steps": 3, "test_aug": None}


@pytest.fixture(scope="module")
def digits():
    return jaxdd.load("digits")


@pytest.fixture(scope="module")
def small(digits):
    return jaxdd.distill(digits, ipc=1, steps=2, **TINY)


@pytest.mark.slow
def test_the_documented_lines_run():
    tried = doctest.testmod(jaxdd)
    assert tried.attempted > 5 and not tried.failed


@pytest.mark.slow
def test_importing_starts_neither_jax_nor_anything_heavy():
    code = "import sys, jaxdd; print(sorted({'jax', 'numpy', 'orbax', 'flax'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_public_names():
    assert set(jaxdd.__all__) <= set(dir(jaxdd))
    assert jaxdd.DistilledSet.__name__ == "DistilledSet"
    with pytest.raises(AttributeError, match="no attribute 'destill'"):
        jaxdd.destill  # noqa: B018


def test_a_set_says_what_it_is(small):
    assert small.space == "standardised" and small.dataset == "digits" and len(small.class_names) == 10
    assert small.pixels.min() >= 0 and small.pixels.max() <= 1
    assert small.provenance["step"] == 2 and small.provenance["settings"]["width"] == 4
    assert set(small.provenance["versions"]) == {"jaxdd", "jax", "flax"}
    assert small.preprocessing["digest"]


def test_a_set_survives_saving(small, tmp_path):
    again = jaxdd.DistilledSet.load(small.save(tmp_path))
    np.testing.assert_array_equal(again.images, small.images)
    assert again.provenance == small.provenance


@pytest.mark.slow
def test_both_splits_as_arrays(digits, small):
    train, test = (digits.train_images, digits.train_labels), (digits.test_images, digits.test_labels)
    named = small.replace(preprocessing={})  # the constants of 'digits' are published ones, of arrays computed
    rows = jaxdd.evaluate(named, (train, test), baselines=("random",), **QUICK).rows
    assert [row.name for row in rows] == ["distilled", "random real"]
    assert all(0 <= row.mean <= 1 for row in rows)


def test_an_output_folder_is_resumed(digits, tmp_path):
    first = jaxdd.distill(digits, steps=2, output_dir=tmp_path, **TINY)
    again = jaxdd.distill(digits, steps=2, output_dir=tmp_path, **TINY)
    np.testing.assert_array_equal(first.images, again.images)
    assert (tmp_path / "distilled" / "manifest.json").exists() and (tmp_path / "checkpoints" / "2").exists()


def test_a_set_of_another_run_is_not_replaced(digits, small, tmp_path):
    small.save(tmp_path / "distilled")
    before = (tmp_path / "distilled" / "manifest.json").read_bytes()
    with pytest.raises(CheckpointError, match="holds a set that another run made"):
        jaxdd.distill(digits, steps=2, output_dir=tmp_path, **TINY)
    assert (tmp_path / "distilled" / "manifest.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["distilled"]


@pytest.mark.slow
def test_an_evaluation_that_ends_leaves_the_states_of_others(digits, small, tmp_path):
    other = tmp_path / "keep" / "0" / "another recipe" / "state"
    other.parent.mkdir(parents=True)
    other.touch()
    recipe = Recipe.of({"width": 4, "depth": 1, "models_to_test": 1, "plain_steps": 2, "test_aug": None})
    for place, left in ((tmp_path / "keep", [other]), (tmp_path / "alone", [])):
        evaluating.evaluate(small, digits, recipe, keep=place, baselines=())
        assert [path for path in place.rglob("*") if path.is_file()] == left
    assert not (tmp_path / "alone").exists()


def test_bad_input_is_refused(digits, small):
    with pytest.raises(UsageError, match="did you mean 'rcig'"):
        jaxdd.distill(digits, method="rcgi")
    with pytest.raises(ConfigError, match="did you mean 'width'"):
        jaxdd.distill(digits, widht=4)
    with pytest.raises(ConfigError, match="images per class"):
        jaxdd.distill(digits, ipc=1000)
    with pytest.raises(DataError, match="a test split is needed"):
        jaxdd.evaluate(small, (digits.test_images, digits.test_labels))
    with pytest.raises(DataError, match="data of type str"):
        jaxdd.distill("digits")


def test_a_config_is_locked_and_complete_and_distill_takes_it(digits):
    config = jaxdd.config("digits")
    assert (config.method, config.dataset_name, config.n_images) == ("rcig", "digits", 1)
    with pytest.raises(AttributeError):
        config.widht = 4
    with config.unlocked():
        config.update(TINY)
    made = jaxdd.distill(digits, config=config, steps=1)
    assert {name: made.provenance["settings"][name] for name in TINY} == TINY
    with pytest.raises(ConfigError, match="did you mean 'width'"), config.unlocked():
        config.widht = 4
        jaxdd.distill(digits, config=config, steps=1)


def test_a_config_of_a_chain_has_teacher_and_students_as_groups():
    config = jaxdd.config("cda/cda_digits")
    assert config.method == "cda" and config.squeeze.epochs > 0 and config.recipe.protocol == "soft"
    other = jaxdd.config("depth_3", dataset="mnist")
    assert other.dataset_name == "mnist" and other.width == 128
