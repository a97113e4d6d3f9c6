"""`--method frepo` on the digits, as a user types it: distil, continue, evaluate."""

from __future__ import annotations

import json

import numpy as np
import pytest

from jaxdd.core.distilled import DistilledSet

from .conftest import TINY

pytestmark = pytest.mark.slow

WORDS = ["distill", "--method", "frepo", *TINY, "--set", "max_online_steps=0"]  # every network is replaced at once


def test_distilling_continues_bit_equally_and_its_set_is_evaluated(here, call):
    whole = call(*WORDS, "--max_steps", "3")
    assert whole.code == 0, whole
    assert "FREPO on digits, 1 image per class, 3 steps" in whole.out
    assert "ConvNet, depth 1, width 4, batch norm, pool of 2" in whole.out
    parts = [call(*WORDS, "--max_steps", steps, "--output_dir", "parts") for steps in ("2", "3")]
    assert "continuing after step 2" in parts[1].out
    made = DistilledSet.load(here / "output_dir" / "frepo_digits_1" / "distilled")
    resumed = DistilledSet.load(here / "parts" / "distilled")
    assert np.array_equal(made.images, resumed.images) and np.array_equal(made.labels, resumed.labels)
    assert made.provenance["method"] == "frepo" and made.space == "standardised" and not made.decode.flip
    recipe = ["--models_to_test", "1", "--set", "plain_steps=3", "--set", "test_aug=null", "--baselines=False"]
    outcome = call("eval", "--checkpoint_path", "parts", *recipe)
    assert outcome.code == 0 and "reference" in outcome.out, outcome
    assert json.loads((here / "parts" / "eval.json").read_text())["rows"][0]["name"] == "distilled"


def test_a_dry_run_says_what_it_needs(here, call):
    outcome = call(*WORDS, "--dry_run")
    assert outcome.code == 0 and "numbers in the pool's networks" in outcome.out and not list(here.iterdir())
