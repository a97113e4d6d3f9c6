"""Flags over config files over defaults; what the originals' files say; and every key, misspelt."""

from __future__ import annotations

import json
import pathlib

import pytest

from jaxdd.cli.flags.rcig import DISTILL, EVAL
from jaxdd.cli.settings import of_distill
from jaxdd.core.config import Value, read_config
from jaxdd.core.errors import ConfigError, UsageError
from jaxdd.data import describe
from jaxdd.run.chain.settings import build_chain
from jaxdd.run.settings import build, default_folder

pytestmark = pytest.mark.quick

CONFIGS = pathlib.Path(__file__).resolve().parents[2] / "configs_final"


@pytest.fixture
def write(tmp_path):
    """Writes a config file and returns its path."""

    def make(**values) -> str:
        path = tmp_path / "a.txt"
        path.write_text(json.dumps(values, indent=1))
        return str(path)

    return make


def resolve(**flags):
    """The settings of `distill` with these flags."""
    return of_distill(
        DISTILL.arguments({name: Value(value, f"--{name}") for name, value in flags.items() if value is not None})
    )


def test_without_a_config_it_is_digits():
    found = resolve()
    assert (found.run.dataset_name, found.ipc, found.run.method) == ("digits", 1, "rcig")
    assert pathlib.Path(found.config.path).name == "digits.txt"


def test_another_data_set_without_a_config_names_the_published_ones():
    for method, named in ((None, "depth_3.txt"), ("frepo", "frepo/cifar10_1.txt"), ("kip", "kip/fc_cifar10_10.txt")):
        told = " ".join(resolve(dataset_name="cifar10", method=method).notices)
        assert "quick example on the digits" in told and f"`config_path={named}`" in told
    assert not any("quick example" in told for told in resolve(dataset_name="digits").notices)
    matching = resolve(dataset_name="cifar10", method="dream").method
    assert (matching.width, matching.inner_loop, matching.lr_img) == (128, 100, 0.005)


def test_a_method_without_a_config_runs_its_own_on_digits():
    found = resolve(method="frepo")
    assert (found.run.dataset_name, found.run.method, found.method.family) == ("digits", "frepo", "rcig")
    assert pathlib.Path(found.config.path).absolute() == CONFIGS / "frepo" / "digits.txt"


def test_flags_override_the_file_and_set_overrides_both():
    found = resolve(config_path="depth_3.txt", width=16, n_images=1, set=("width=8", "l2_rate=0.1"))
    method = found.method
    assert (method.width, method.n_images, method.l2_rate, found.run.dataset_name) == (8, 1, 0.1, "cifar10")


def test_a_file_that_does_not_say_takes_the_originals_defaults(write):
    found = resolve(config_path=write(l2_rate=0.001))
    assert (found.run.dataset_name, found.ipc, found.method.width, found.run.max_steps) == ("cifar10", 10, 128, 10000)


def test_the_originals_slips_load_with_a_notice(write):
    found = resolve(config_path=write(pool_model_6count=7, outer_train_batch_size=256))
    assert (found.method.pool_model_count, found.method.pool_train_batch_size) == (7, 256)
    assert sum("historical key" in notice for notice in found.notices) == 2


@pytest.mark.parametrize("key, value", [("aug", "flip"), ("linearize", False), ("naive_loss", True)])
def test_settings_of_the_adam_solver_select_it(key, value, write):
    found = resolve(config_path=write(**{key: value}))
    assert found.method.inner_solver == "adam"
    assert any(f"'{key}' belongs to the adam solver" in notice for notice in found.notices)
    by_set = resolve(set=(f"{key}={json.dumps(value)}",))
    assert by_set.method.inner_solver == "adam"
    with pytest.raises(ConfigError, match="belongs to inner_solver = adam"):
        resolve(config_path=write(**{key: value, "inner_solver": "pcg"}))


def test_the_flag_naive_loss_selects_it_too():
    assert resolve(naive_loss=True).method.inner_solver == "adam"
    assert resolve(naive_loss=False).method.inner_solver == "pcg"


def test_chunk_sizes_are_announced_under_exact_solvers_only(write):
    path = write(inner_train_batch_size=5, hinv_batch_size=6)
    notices = resolve(config_path=path).notices
    assert any("inner_train_batch_size = 5, hinv_batch_size = 6: chunk sizes" in notice for notice in notices)
    assert not resolve(config_path=path, set=("inner_solver=adam",)).notices


def test_flags_without_effect_are_announced():
    assert len(DISTILL.parse(["--train_log", "a", "--train_img", "b"]).notices) == 2
    assert "--max_cycles" in EVAL.parse(["--max_cycles", "5"]).notices[0]
    assert not DISTILL.parse([]).notices and not EVAL.parse([]).notices


@pytest.mark.parametrize(
    "dataset, folder",
    [
        ("cifar10", "cifar10_10"),
        ("imagenet_resized/32x32", "imagenet_resized_32x32_10"),
        ("folder:/data/my pets", "folder_my_pets_10"),
        ("npz:../x.npz", "npz_x_10"),
    ],
)
def test_default_folders(dataset, folder):
    assert default_folder(dataset, 10) == pathlib.Path.cwd() / "output_dir" / folder
    assert default_folder(dataset, 10, "frepo") == pathlib.Path.cwd() / "output_dir" / f"frepo_{folder}"


@pytest.mark.parametrize(
    "flags, kind, fragments",
    [
        ({"dataset_name": "cifar11"}, UsageError, ["'cifar11'", "`dataset_name`", "'cifar10'"]),
        ({"method": "rcgi"}, UsageError, ["'rcgi'", "--method", "'rcig'"]),
        ({"method": "fripo"}, UsageError, ["'fripo'", "--method", "one of rcig, frepo", "'frepo'"]),
        ({"method": "frepo", "config_path": "depth_3.txt"}, ConfigError, ["depth_3.txt:", "'has_bn'"]),
        ({"set": ("l2_rat=1",)}, ConfigError, ["'l2_rat'", "--set", "'l2_rate'"]),
        ({"set": ("l2_rate",)}, ConfigError, ["`set`", "key=value"]),
        ({"set": ("l2_rate=x",)}, ConfigError, ["--set", "wrong type", "a number"]),
        ({"set": ("inner_solver=cg",)}, ConfigError, ["--set", '"pcg", "dense", "adam"']),
        ({"n_images": 0}, ConfigError, ["--n_images", ">= 1"]),
        ({"n_images": -1}, ConfigError, ["--n_images", ">= 1"]),
        ({"max_steps": 0}, ConfigError, ["--max_steps", ">= 1"]),
        ({"width": 0}, ConfigError, ["--width", ">= 1"]),
        ({"config_path": "depth_33.txt"}, ConfigError, ["'depth_33.txt'", "depth_3.txt"]),
    ],
)
def test_refusals_name_the_flag_and_the_neighbour(flags, kind, fragments):
    with pytest.raises(kind) as refusal:
        resolve(**flags)
    assert refusal.value.exit_code == 2
    for fragment in fragments:
        assert fragment in str(refusal.value)


def edits(key: str) -> list[str]:
    """The key with one letter dropped, two swapped, or one added."""
    middle = len(key) // 2
    return [
        key[:middle] + key[middle + 1 :],
        key[: middle - 1] + key[middle] + key[middle - 1] + key[middle + 1 :],
        key[:middle] + "x" + key[middle:],
    ]


@pytest.mark.parametrize("name", sorted(path.relative_to(CONFIGS).as_posix() for path in CONFIGS.rglob("*.txt")))
def test_a_misspelt_key_of_a_shipped_config_finds_its_neighbour(name, tmp_path):
    text = (CONFIGS / name).read_text()
    keys = sorted(read_config(CONFIGS / name).lines)
    tried = found = 0
    for key in keys:
        for typo in edits(key):
            if typo in keys:
                continue
            path = tmp_path / "typo.txt"
            path.write_text(text.replace(f'"{key}":', f'"{typo}":', 1))
            with pytest.raises(ConfigError) as refusal:
                resolved(name, path)
            tried += 1
            found += f"'{key}'" in refusal.value.remedy
            assert f"typo.txt:{path.read_text().splitlines().index(row(path, typo)) + 1}" in refusal.value.where
    assert tried > 2 * len(keys) and found >= 0.95 * tried


def resolved(name: str, path: pathlib.Path) -> None:
    """Reads a copy of a shipped config as the command does that it is for."""
    if name.startswith("cda/"):
        build_chain({}, source=str(path), describe=describe)
    else:
        build(str(path), {}, notices=[])


def row(path: pathlib.Path, key: str) -> str:
    """The line of the file that holds this key."""
    return next(line for line in path.read_text().splitlines() if line.strip().startswith(f'"{key}"'))
