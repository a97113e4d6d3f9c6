"""The shipped config files: they load, say where they come from, and hold the published values."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest

from jaxdd.cli.main import read
from jaxdd.core.config import ConfigFile, build, read_config, settings_of
from jaxdd.evaluation.recipe import Recipe
from jaxdd.methods import MATCHING, METHODS, RCIG, FRePo
from jaxdd.run.settings import Settings
from tests.resolved import GOLDEN, checksums, resolved

pytestmark = pytest.mark.quick

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "configs_final"
NAMES = sorted(path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*.txt"))  # other methods' in folders
EVERYTHING, NO_FLIP = "flip_color_crop_rotate_translate_cutout", "crop_rotate_translate_cutout"

# Keys beside the method's own: they belong to the run and to the evaluation.
RUN_KEYS = {"method", "dataset_name", "max_steps", "checkpoint_iters", "img_size", "test_aug", "recipe"}

# The published values: those that all files share, ...
SHARED = {
    "pool_model_count": 30,
    "n_inner_steps": 20,
    "n_hinv_steps": 20,
    "max_online_steps": 100,
    "n_max_steps_pool": 16,
    "linearize": True,
    "learn_labels": True,
    "aug": None,
    "aug_repeats": 0,
    "monitor_losses": False,
    "pool_learning_rate": 5e-5,
    "proto_learning_rate": 0.003,
    "batch_size": 1024,
    "width": 128,
    "method": "rcig",
}
# ... and those that differ: one row per key, one column per file.
FILES = ("depth_3", "depth_3_bn", "depth_3_no_flip", "cifar100_50", "depth_4_200", "depth_4_big", "depth_5")
DIFFERING = {
    "dataset_name": ("cifar10", "cifar10", "mnist", "cifar100", "tiny_imagenet", "tiny_imagenet", "imagenette"),
    "n_images": (10, 10, 1, 50, 1, 10, 1),
    "max_steps": (10000, 10000, 10000, 5000, 5000, 5000, 3000),
    "has_bn": (False, True, False, False, False, False, False),
    "l2_rate": (5e-4, 5e-4, 5e-4, 5e-4, 5e-4, 5e-4, 0.05),
    "img_size": (32, 32, 28, 32, 64, 64, 128),
    "softplus_temp": (60, 60, 60, 60, 0, 0, 0),
    "use_flip": (True, True, False, False, True, False, True),
    "normal_repeats": (1, 1, 1, 2, 1, 1, 1),
    "direct_batch_sizes": (
        [None, None],
        [None, None],
        [None, None],
        [2000, None],
        [None, 400],
        [500, 256],
        [None, 256],
    ),
    "implicit_batch_size": (None, None, None, 2000, None, 500, None),
    "hinv_batch_size": (None, None, None, 2000, None, 500, None),
    "inner_train_batch_size": (None, None, None, 2000, None, 500, None),
    "pool_train_batch_size": (None, None, None, 2000, None, 256, None),
    "max_forward_batch_size": (None, None, None, 2000, 400, 500, 256),
    "do_precompute": (False, False, False, True, True, True, True),
    "test_aug": (EVERYTHING, EVERYTHING, NO_FLIP, EVERYTHING, EVERYTHING, EVERYTHING, EVERYTHING),
}
COMMON_STEPS = {50, 100, 200, 300, 400, 500, 1000, 1500, 2000, 2500, 3000, *range(4000, 10001, 1000), 15000}
DEPTH_5_STEPS = {5, 10, 20, 30, 40, 50, 75, *range(100, 201, 25), *range(250, 401, 50), *range(500, 1001, 100)}
FREPO_SHARED = {
    "method": "frepo",
    "max_steps": 500_000,
    "schedule_steps": 500_000,
    "batch_size": 1024,
    "proto_learning_rate": 3e-4,
    "learn_labels": True,
    "ridge": 1e-6,
    "width": 128,
    "normalization": "batch",
    "pool_model_count": 10,
    "max_online_steps": 100,
    "pool_learning_rate": 3e-4,
    "pool_train_batch_size": 1000,
}
FREPO_FILES = {  # data set, images per class, pixels, use_flip, steps of the evaluation
    "cifar10_1": ("cifar10", 1, 32, True, 1000),
    "cifar10_10": ("cifar10", 10, 32, True, 2000),
    "cifar10_50": ("cifar10", 50, 32, True, 5000),
    "cifar100_1": ("cifar100", 1, 32, True, 2000),
    "cifar100_10": ("cifar100", 10, 32, False, 10000),
    "tiny_imagenet_1": ("tiny_imagenet", 1, 64, True, 20000),
    "tiny_imagenet_10": ("tiny_imagenet", 10, 64, False, 40000),
    "mnist": ("mnist", 1, 28, False, 1000),
    "fashion_mnist": ("fashion_mnist", 1, 28, False, 1000),
}
FURTHER_STEPS = {
    "depth_3": {5, 10, 20, 30, 40, 750, 1250},
    "depth_4_200": {750, 1250, 1750},
    "depth_4_big": {750, 1250, 1750},
    "depth_5": DEPTH_5_STEPS | {1250, 1750},
}


@pytest.fixture(params=NAMES)
def config(request) -> ConfigFile:
    return read_config(FOLDER / request.param)


def test_the_folder_is_complete():
    assert {f"{name}.txt" for name in (*FILES, "digits", "example_config")} == {n for n in NAMES if "/" not in n}
    assert {f"frepo/{name}.txt" for name in (*FREPO_FILES, "digits")} == {n for n in NAMES if n.startswith("frepo/")}


def test_the_header_tells_paper_command_accuracy_and_cost(config):
    assert {"paper", "command", "accuracy", "cost"} <= set(config.header)
    assert not config.notices


@pytest.mark.parametrize("config", [name for name in NAMES if not name.startswith("cda/")], indirect=True)
def test_every_key_is_known_and_every_value_in_range(config):
    method = {key: value for key, value in config.values.items() if key not in RUN_KEYS}
    name = config.values["method"]
    build([{key: config.layer[key] for key in method}], {"method": METHODS[name].settings})
    Recipe.of(config.values.get("recipe", {}))
    steps = config.values["checkpoint_iters"]
    assert steps == sorted(set(steps))
    home = FOLDER if name == "rcig" else FOLDER / ("matching" if name in MATCHING else name)
    assert pathlib.Path(config.path).parent == home


@pytest.mark.parametrize("column, name", list(enumerate(FILES)))
def test_values_are_as_published(column, name):
    values = read_config(FOLDER / f"{name}.txt").values
    expected = SHARED | {key: row[column] for key, row in DIFFERING.items()}
    expected["checkpoint_iters"] = sorted(COMMON_STEPS | FURTHER_STEPS.get(name, set()))
    assert values == expected


@pytest.mark.parametrize("name", FREPO_FILES)
def test_values_of_frepo_are_as_published(name):
    path = FOLDER / "frepo" / f"{name}.txt"
    run, method = resolved(path, {})["parts"]
    values = {**run, **method, "recipe": read_config(path).values["recipe"]}
    dataset, ipc, pixels, flip, steps = FREPO_FILES[name]
    own = {"dataset_name": dataset, "n_images": ipc, "img_size": pixels, "use_flip": flip}
    own["test_aug"] = EVERYTHING if "mnist" not in name else "color_" + NO_FLIP
    own["recipe"] = {"eval_lr": 3e-4, "batch_size": 500, "steps": steps, "plain_steps": steps}
    expected = FREPO_SHARED | own
    assert {key: values[key] for key in expected} == expected
    defaults = {field.name: field.default for field in settings_of(FRePo)}
    assert all(defaults[key] == value for key, value in FREPO_SHARED.items() if key in defaults)


# The cells of the published tables: images per class by method and data set.
FIVE = ("mnist", "fashion_mnist", "svhn_cropped", "cifar10", "cifar100")
CELLS = {
    "dc": dict.fromkeys(FIVE, (1, 10, 50)) | {"cifar100": (1, 10)},
    "dsa": dict.fromkeys(FIVE, (1, 10, 50)),
    "dm": dict.fromkeys(("cifar10", "cifar100", "tiny_imagenet"), (1, 10, 50)),
    "idc": dict.fromkeys(FIVE, (1, 10, 50)) | dict.fromkeys(("cifar100", "imagenet10", "imagenet100"), (10, 20)),
    "accdd": dict.fromkeys(("cifar10", "cifar100"), (1, 10, 50))
    | dict.fromkeys(("imagenet10", "imagenet100"), (10, 20)),
    "dream": dict.fromkeys((*FIVE, "tiny_imagenet"), (1, 10, 50)),
    "dream_plus": dict.fromkeys(("cifar10", "cifar100", "tiny_imagenet"), (1, 10, 50)),
    "ga": dict.fromkeys(("cifar10", "cifar100", "tiny_imagenet"), (1, 10, 50)) | {"imagenet10": (10, 20)},
}


@pytest.mark.parametrize("method", MATCHING)
def test_every_published_cell_of_a_matching_method_has_a_file(method):
    for dataset, sizes in CELLS[method].items():
        for ipc in sizes:
            found = build_matching(None, f"matching/{method}_{dataset}_{ipc}")
            assert (found.run.method, found.run.dataset_name, found.ipc) == (method, dataset, ipc)
            single = method in ("dc", "dsa", "dm")
            own: Any = found.method
            assert own.factor == (1 if single else 3 if dataset.startswith("imagenet") else 2)
            assert found.run.max_steps == found.run.checkpoint_iters[-1]
            assert found.run.max_steps % own.inner_loop == 0


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("matching/") and "digits" not in name])
def test_a_file_of_a_matching_method_says_what_its_command_says(name):
    """The command in the header gives the very settings of the file."""
    file = build_matching(None, name)
    typed = build_matching(file.config.header["command"].removeprefix("python condense.py "))
    assert typed.method == file.method
    assert (typed.run.max_steps, typed.run.recipe) == (file.run.max_steps, file.run.recipe)


def build_matching(line: str | None, path: str | None = None) -> Settings:
    return read("condense", ["--config_path", path] if path else (line or "").split())[1]


@pytest.mark.parametrize("folder", [".", "frepo"])
def test_digits_runs_small(folder):
    values = read_config(FOLDER / folder / "digits.txt").values
    wanted = {"dataset_name": "digits", "n_images": 1, "img_size": 8, "use_flip": False, "test_aug": NO_FLIP}
    assert wanted.items() <= values.items()


@pytest.mark.parametrize("config", [name for name in NAMES if "/" not in name], indirect=True)
def test_the_example_documents_every_key(config):
    rows = (FOLDER / "example_config.txt").read_text().splitlines()
    example = read_config(FOLDER / "example_config.txt")
    needed = set(config.values) | {field.name for field in settings_of(RCIG)}
    assert needed <= set(example.values)
    for key, line in example.lines.items():
        above = rows[line - 2].strip()
        assert above.startswith("// ") and not above.startswith("// --"), f"'{key}' has no comment above it"


def test_the_example_states_the_defaults():
    example = read_config(FOLDER / "example_config.txt").values
    defaults = {field.name: field.default for field in settings_of(RCIG)} | {"n_images": 10}
    stated = {key: tuple(value) if isinstance(value, list) else value for key, value in example.items()}
    assert {key: stated[key] for key in defaults} == defaults


def test_every_config_resolves_to_the_settings_that_were_recorded():
    """Also with another data set and other numbers of images: a key may go that is implied in each of these cases."""
    assert checksums() == json.loads(GOLDEN.read_text())
