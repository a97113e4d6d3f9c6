"""KIP as a user types it: distilled, evaluated and judged by its kernel, on the digits."""

from __future__ import annotations

import json

import pytest

from jaxdd import data
from jaxdd.core.distilled import DistilledSet
from jaxdd.core.errors import UsageError
from jaxdd.kernels import ntk_compat
from jaxdd.methods.kip.method import kernel_accuracy

from .conftest import command

TINY = ["--method", "kip", "--output_dir", "made", "--set", "batch_per_class=10", "--set", "checkpoint_iters=[1]"]
QUICK = ["--models_to_test", "1", "--set", "plain_steps=3", "--set", "test_aug=null", "--baselines=False"]


@pytest.mark.slow
def test_a_set_is_distilled_resumed_evaluated_and_judged(here, call):
    try:
        ntk_compat.require_neural_tangents()
    except UsageError as error:
        pytest.skip(error.what)
    first = command("distill_dataset.py", "--max_steps", "3", "--set", "preprocess=layernorm_zca", *TINY, cwd=here)
    assert first.code == 0, first
    assert "KIP on digits" in first.out and "NTK of a fully connected network, depth 1; labels fixed" in first.out
    made = here / "made"
    assert {"distilled", "checkpoints", "metrics.jsonl"} <= {path.name for path in made.iterdir()}
    metrics = [json.loads(line) for line in (made / "metrics.jsonl").read_text().splitlines()]
    assert metrics[-1]["step"] == 3 and 0 < metrics[-1]["accuracy"] <= 1
    distilled = DistilledSet.load(made / "distilled")
    assert distilled.space == "layernorm_zca" and distilled.pixels is not None
    assert distilled.preprocessing["family"] == "kip"

    judged = call("eval", "--checkpoint_path", "made", *QUICK)
    assert judged.code == 0, judged
    assert json.loads((made / "eval.json").read_text())["rows"][0]["name"] == "distilled"

    digits = data.load("digits")
    preprocessing = data.fit(digits, family="kip", kind=distilled.space)
    started = DistilledSet.load(made / "distilled" / "step_1")
    before, after = (kernel_accuracy(each, digits, preprocessing) for each in (started, distilled))
    assert 0.3 < before < after


@pytest.mark.quick
def test_without_neural_tangents_it_is_refused_before_data_are_read(call, here, monkeypatch):
    def absent(name):
        raise ntk_compat.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(ntk_compat.importlib.metadata, "version", absent)
    monkeypatch.setattr(data, "load", lambda *_, **__: pytest.fail("data were read"))
    outcome = call("distill", "--max_steps", "1", *TINY)
    assert outcome.code == 2
    assert "neural-tangents is not installed" in outcome.err and "pip install" in outcome.err
    assert not list(here.iterdir())
