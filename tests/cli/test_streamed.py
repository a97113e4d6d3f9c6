"""The commands of a chain on a folder of images that is never read as a whole, beside one that is."""

from __future__ import annotations

import json

import numpy as np
import pytest

from jaxdd import data
from jaxdd.core.distilled import DistilledSet
from jaxdd.data.readers import locate
from tests.data.test_large import write

SMALL = ["--width", "4", "--resolution", "8"]
RECOVER = ["--arch-path", "t", "--iteration", "2", "--jitter", "1", "--set", "store=png", "initialise=random"]


@pytest.mark.slow
def test_squeeze_recover_and_validate_without_the_set_in_memory(call, here, monkeypatch):
    pytest.importorskip("grain")
    name = write(here / "data", 36)
    common, always = ["--dataset", name, *SMALL], ["--stream", "always"]
    loaded, load = [], data.load
    monkeypatch.setattr("jaxdd.data.load", lambda *a, **k: loaded.append(load(*a, **k)) or loaded[-1], raising=False)
    words = ["--arch-name", "conv", "--epochs", "4", "--batch_size", "12", "--lr", "0.05", "--output_dir", "t"]
    squeezed = call("squeeze", *common, *always, *words)
    assert squeezed.code == 0 and "8x8x3, 3 classes, raw, streamed" in squeezed.out, squeezed
    assert "--stream always" in squeezed.out and not (here / "t" / "training").exists()
    for how in ("always", "never"):
        recovered = call("recover", *common, *RECOVER, "--output_dir", how, "--stream", how)
        assert recovered.code == 0, recovered
    one, other = (DistilledSet.load(here / how / "distilled") for how in ("always", "never"))
    np.testing.assert_array_equal(one.images, other.images)
    recipe = ["recipe.epochs=2", "mix=none", "crop=none", "models_to_test=1", "tests=1", "batch_size=3"]
    words = ["--checkpoint_path", "always", "--set", *[each.removeprefix("recipe.") for each in recipe]]
    rows = []
    for how in ("always", "never"):
        validated = call("validate", *words, "--stream", how, "--save_name", how)
        assert validated.code == 0, validated
        rows.append(json.loads((here / "always" / f"{how}.json").read_text())["rows"])
    assert [row["name"] for row in rows[0]] == ["distilled", "random real", "k-means real"]
    assert [row["runs"] for row in rows[0]] == [row["runs"] for row in rows[1]]
    assert [isinstance(each, data.LargeDataset) for each in loaded] == [True, True, False, True, False]


@pytest.mark.quick
@pytest.mark.parametrize(
    "words, fragments",
    [
        (["squeeze", "--dataset", "digits", "--stream", "always"], ["'digits'", "--stream always", "train/<class>"]),
        (["recover", "--stream", "sometimes"], ["--stream", '"auto", "always", "never"']),
        (["distill", "--method", "rcig", "--stream", "always"], ["--stream always", "cda"]),
    ],
)
def test_it_is_refused(words, fragments, call, here):
    outcome = call(*words)
    assert outcome.code == 2, outcome
    assert all(fragment in outcome.err for fragment in fragments), outcome.err
    assert not list(here.iterdir())


@pytest.mark.quick
def test_without_grain_training_on_a_stream_is_refused_before_anything_is_read(call, here, monkeypatch):
    name = write(here / "data", 6)
    monkeypatch.setattr(locate.importlib.util, "find_spec", lambda name: None)
    for words in (["squeeze", "--dataset"], ["distill", "--method", "cda", "--dataset_name"]):
        outcome = call(*words, name, "--resolution", "8", "--stream", "always", "--output_dir", "out")
        assert outcome.code == 2 and "jaxdd[stream]" in outcome.err, outcome
    assert not (here / "out").exists()
