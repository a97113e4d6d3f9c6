"""Evaluating sets of the methods that match gradients, as a user types it, on the digits."""

import json

import numpy as np
import pytest

from jaxdd import data
from jaxdd.core.distilled import Decode, DistilledSet
from jaxdd.methods import Condensation, FRePo
from jaxdd.run.settings import RunSettings

from .conftest import command

TINY = ["--checkpoint_path", "set", "--repeat", "1", "--epochs", "4"]


@pytest.fixture
def packed(here):
    """Raw images of the digits, four in one, in `set/`."""
    digits = data.load("digits")
    first = [np.flatnonzero(digits.train_labels == label)[0] for label in range(10)]
    DistilledSet(
        digits.train_images[first].astype(np.float32) / 255,
        np.eye(10, dtype=np.float32),
        space="raw",
        decode=Decode(factor=2),
        dataset="digits",
        preprocessing=data.fit(digits, family="idc", kind="raw").describe(),
        recipe={"protocol": "idc", "width": 4, "depth": 2},
    ).save(here / "set")
    return here / "set"


@pytest.mark.slow
def test_one_command_makes_the_table_of_several_architectures(packed):
    words = ["--eval_arch", "conv,mlp", "--baselines=False", "--dsa_strategy", "color_crop", "--output_dir", "found"]
    outcome = command("eval.py", *TINY, *words, cwd=packed.parent)
    assert outcome.code == 0, outcome
    for expected in ("ConvNet, depth 2, width 4", "MLP", "SGD 0.01, 4 steps", "CutMix 0.5", "best test", "network"):
        assert expected in outcome.out
    found = json.loads((packed.parent / "found" / "eval.json").read_text())
    assert [(row["architecture"], row["name"]) for row in found["rows"]] == [
        ("conv", "distilled"),
        ("mlp", "distilled"),
    ]
    assert found["recipe"]["protocol"] == "idc" and found["recipe"]["epochs"] == 4
    for row in found["rows"]:
        assert len(row["runs"]) == len(row["best"]) == 1 and 0 <= row["mean"] <= row["best_mean"] <= 1


@pytest.mark.slow
def test_another_protocol_takes_over_what_all_have(packed, call):
    outcome = call("eval", *TINY, "--set", "protocol=dc")
    assert outcome.code == 0, outcome
    found = json.loads((packed / "eval.json").read_text())
    assert [row["name"] for row in found["rows"]] == ["distilled", "random real", "k-means real"]
    assert (found["recipe"]["protocol"], found["recipe"]["width"], found["recipe"]["epochs"]) == ("dc", 4, 4)
    assert not any(row["augmented"] or "best" in row for row in found["rows"])


@pytest.mark.parametrize(
    "words, fragments",
    [
        (["--eval_arch", "conv,densnet"], ["'densnet'", "'densenet'"]),
        (["--mixup", "cutt"], ["--mixup", '"cut"']),
        (["--dsa_strategy", "colour"], ["'colour'", "'color'"]),
        (["--eval_arch", "vgg"], ["vgg", "vgg_dc"]),
        (["--set", "protocol=idcc"], ["'idcc'", "'idc'"]),
        (["--set", "warmup_steps=3"], ["'warmup_steps'", "--set"]),
        (["--set", "protocol=rcig"], ["epochs", "--epochs"]),
    ],
)
def test_a_bad_one_is_refused(words, fragments, call, packed):
    outcome = call("eval", *TINY, *words)
    assert outcome.code == 2, outcome
    assert all(fragment in outcome.err for fragment in fragments), outcome.err
    assert not (packed / "eval.json").exists()


@pytest.mark.quick
def test_a_method_s_set_is_evaluated_by_its_family_s_protocol():
    matching = Condensation(width=64)
    assert RunSettings().stored_recipe(matching) == {"protocol": "idc", "width": 64}
    by_dc = RunSettings(recipe={"protocol": "dc", "epochs": 3}).stored_recipe(matching)
    assert by_dc == {"protocol": "dc", "width": 64, "dsa_strategy": "color_crop_cutout", "epochs": 3}
    assert RunSettings(test_aug=None).stored_recipe(FRePo(width=64)) == {"test_aug": None, "width": 64}
