"""The config files of SRe2L, CDA and their successors: the published values, and what their commands say."""

from __future__ import annotations

import pathlib
import shlex

import pytest

from jaxdd.cli.main import read
from jaxdd.core.config import as_dict, read_config
from jaxdd.core.errors import JaxddError
from jaxdd.evaluation.recipe import Recipe
from jaxdd.evaluation.students import published
from jaxdd.run.chain.settings import NAMES as METHODS
from jaxdd.run.chain.settings import PRESETS, Decoupled
from jaxdd.training.recipe import published_recipe as published_of_teacher

pytestmark = pytest.mark.quick

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "configs_final" / "cda"
NAMES = sorted(path.stem for path in FOLDER.glob("*.txt"))
PUBLISHED = {  # file -> iterations, rate, weight of the statistics, jitter, milestone, images per class
    "sre2l_cifar100": (1000, 0.25, 0.01, 4, 0.0, 50),
    "sre2l_tiny": (4000, 0.1, 1.0, 4, 0.0, 50),
    "sre2l_in1k": (4000, 0.25, 0.01, 32, 0.0, 50),
    "cda_tiny": (4000, 0.4, 0.05, 4, 1.0, 50),
    "cda_in1k": (4000, 0.25, 0.01, 32, 1.0, 50),
    "cda_in21k": (2000, 0.05, 0.25, 32, 1.0, 20),
    "sre2l_pp_in1k": (4000, 0.25, 0.01, 32, 0.0, 10),
    "fadrm_in1k": (2000, 0.25, 0.01, 32, 0.0, 10),
    "fadrm_tiny": (1000, 0.01, 0.01, 4, 0.0, 10),
}


@pytest.fixture(autouse=True)
def anywhere(monkeypatch):
    """Data sets need not be there."""
    monkeypatch.setattr("jaxdd.data.check_available", lambda *_: None, raising=False)


def recovered(line: str) -> Decoupled:
    return read("recover", shlex.split(line))[1]


def test_there_is_a_file_for_every_method_and_preset_that_was_published():
    wanted = {f"{method}_{preset}" for method in METHODS for preset in PRESETS}
    unpublished = {"cda_cifar100", *(f"{method}_in21k" for method in METHODS if method != "cda")}
    assert set(NAMES) == wanted - unpublished


@pytest.mark.parametrize("name, values", PUBLISHED.items())
def test_values_are_as_published(name, values):
    settings = recovered(f"--config_path cda/{name}")
    own = settings.recovery
    assert (own.iterations, own.lr_img, own.r_bn, own.jitter, own.milestone, own.n_images) == values
    assert own.first_bn_multiplier == 10 and (own.tv_l2, own.l2_scale) == (0, 0)


@pytest.mark.parametrize(
    "line, student",
    [
        ("--preset in1k --method rded --ipc-end 50", {"batch_size": 200}),
        ("--preset in1k --method fadrm --ipc-end 50", {"slowdown": 1.0}),
        ("--preset tiny --method sre2l_pp --ipc-end 50", {"slowdown": 2.0}),
        ("--preset tiny --method fadrm --ipc-end 1", {"epochs": 1000}),
        ("--preset in1k --method sre2l", {"batch_size": 1024, "micro": 512}),
        ("--preset in1k", {"batch_size": 128}),
    ],
)
def test_students_are_those_published_for_the_number_of_images(line, student):
    found = recovered(line).recipe
    assert {name: found[name] for name in student} == student


@pytest.mark.parametrize(
    "line, what",
    [
        ("--preset in21k --method rded", "rded publishes no settings for 'in21k'"),
        ("--preset cifar100 --method cda", "cda publishes no settings for 'cifar100'"),
        ("--config_path cda/cda_tiny --method fadrm", "is for cda, not for fadrm"),
        ("--preset cifar100 --easy2hard-mode cosine --milestone 1", "not cropped"),
        ("--preset tiny --set recipe.temprature=3", "temprature"),
    ],
)
def test_what_contradicts_itself_is_refused(line, what):
    with pytest.raises(JaxddError) as refusal:
        recovered(line)
    assert what in refusal.value.what


def test_digits_are_not_mirrored_and_mosaics_have_enough_to_cut_from():
    assert not recovered("--dataset mnist --method fadrm").recovery.flip
    assert recovered("--preset in1k --method rded --ipc-end 100").recovery.candidates >= 400


@pytest.mark.parametrize("name", NAMES)
def test_a_file_and_its_command_and_the_tables_agree(name):
    file = recovered(f"--config_path cda/{name}")
    command = file.config.header["command"]
    if command.startswith("python recover.py "):
        typed = recovered(command.removeprefix("python recover.py "))
        assert (typed.recovery, typed.chain, typed.teacher) == (file.recovery, file.chain, file.teacher)
    values = read_config(FOLDER / f"{name}.txt").values
    method, _, preset = name.rpartition("_")
    assert (file.method, values["method"]) == (method, method)
    Recipe.of(file.recipe)
    if preset != "digits":
        side, classes = file.image_shape[0], file.spec.classes
        usual = published(method, file.dataset, file.ipc, resolution=side, classes=classes)
        assert Recipe.of(file.recipe) == Recipe.of({**file.recipe, **usual})
        trained = as_dict(published_of_teacher(file.dataset, side))
        assert {key: trained[key] for key in values.get("squeeze", {})} == values.get("squeeze", {})
