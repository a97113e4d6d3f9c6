"""The best set is the best of all evaluations, also where a run went on after a stop."""

from __future__ import annotations

import json

import numpy as np
import pytest

from jaxdd.core.distilled import DistilledSet
from jaxdd.evaluation.protocol import Row
from jaxdd.run import evaluating
from jaxdd.run.control import Stopped
from jaxdd.run.evaluating import Validation

pytestmark = pytest.mark.quick


def test_the_best_of_all_evaluations_is_kept(tmp_path, monkeypatch):
    reached = {10: 0.5, 20: 0.75, 30: 0.625, 40: 0.75}
    found = []

    def evaluate(distilled, *_, **__):
        mean = reached[int(distilled.images[0, 0, 0, 0])]
        return type("Evaluation", (), {"rows": (Row("distilled", True, (mean, mean)),)})

    monkeypatch.setattr(evaluating, "evaluate", evaluate)
    nothing: list = [None, None]
    validation = Validation(10, tmp_path, *nothing, report=lambda step, row, best: found.append((step, best)))
    for step in (10, 10, 20, 30, 20, 30, 40):  # the run was continued at step 10, and later after it
        images = np.full((2, 4, 4, 1), step, np.float32)
        validation(step, DistilledSet(images, np.eye(2, dtype=np.float32)))
    assert found == [(10, True), (20, True), (30, False), (20, True), (30, False), (40, False)]
    assert DistilledSet.load(tmp_path / "best").images[0, 0, 0, 0] == 20
    rows = [json.loads(line) for line in (tmp_path / "evaluations.jsonl").read_text().splitlines()]
    assert [(row["step"], row["mean"]) for row in rows] == list(reached.items())


def test_a_signal_ends_an_evaluation_of_which_nothing_is_kept(tmp_path, monkeypatch):
    heard = []

    def evaluate(distilled, *_, control, **__):
        if signal := control.should_stop():
            raise Stopped(signal, 1)
        return type("Evaluation", (), {"rows": (Row("distilled", False, (0.5,)), Row("distilled", True, (0.25,)))})

    monkeypatch.setattr(evaluating, "evaluate", evaluate)
    signals = {10: None, 20: 15}
    nothing: list = [None, None]
    stop = lambda: signals[heard[-1]]  # noqa: E731
    validation = Validation(10, tmp_path, *nothing, begin=heard.append, should_stop=stop)
    made = DistilledSet(np.zeros((2, 4, 4, 1), np.float32), np.eye(2, dtype=np.float32))
    for step in signals:
        validation(step, made)
    assert heard == [10, 20]
    assert [(told["step"], told["mean"]) for told in validation.told()] == [(10, 0.5)]  # the first way counts
    signals[20] = None
    validation(20, made)  # by the run that goes on from there
    assert [told["step"] for told in validation.told()] == [10, 20]
