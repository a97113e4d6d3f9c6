"""The benchmark of RCIG's solvers: what is measured first, what an earlier run leaves to do, how it is summed up."""

from __future__ import annotations

import pytest

from benchmarks import record, solver_quality
from benchmarks.solver_quality import FULL, LAST, SOLVERS, Cell
from jaxdd.methods import RCIG


def figures(*accuracies: float) -> dict:
    """A cell's figures with these test accuracies."""
    return {
        "test_accuracy": list(accuracies),
        "batch_accuracy": 50.0,
        "products": None,
        "inner_residual": None,
        "ms_per_step": 100.0,
    }


def test_all_solvers_come_with_the_first_seeds_before_any_with_the_last():
    order = list(solver_quality.cells(["mnist", "cifar10"], list(SOLVERS), 5))
    assert len(set(order)) == len(order) == 2 * len(SOLVERS) * 5
    early = [i for i, cell in enumerate(order) if cell.seed < 2]
    assert early == list(range(2 * len(SOLVERS) * 2))
    assert {cell.seed for cell in solver_quality.cells(["mnist"], ["adam"], 1)} == {0}


@pytest.mark.parametrize("dataset", list(solver_quality.DATASETS))
@pytest.mark.parametrize("solver", list(SOLVERS))
def test_seeds_of_one_solver_share_their_procedure_and_so_their_programs(dataset, solver):
    methods = {RCIG(**Cell(dataset, solver, seed).settings(FULL)["method"]) for seed in range(5)}
    assert len(methods) == 1


def test_differences_are_taken_seed_by_seed_and_only_where_both_were_measured():
    found = {
        Cell("mnist", "exact", 0): figures(70.0, 74.0),
        Cell("mnist", "exact", 1): figures(80.0, 80.0),
        Cell("mnist", "exact", 2): figures(10.0, 10.0),
        Cell("mnist", "adam", 0): figures(73.0, 73.0),
        Cell("mnist", "adam", 1): figures(83.0, 83.0),
        Cell("cifar10", "adam", 0): figures(30.0, 30.0),
    }
    table = solver_quality.table(found)
    assert table["mnist/adam"]["minus_exact"] == {"mean": 2.0, "std": 1.414, "standard_error": 1.0, "count": 2}
    assert table["mnist/adam"]["test_accuracy"]["mean"] == 78.0
    assert "minus_exact" not in table["cifar10/adam"]
    assert "products" not in table["mnist/adam"]


def test_metrics_are_averaged_over_the_last_steps():
    trace = solver_quality.Trace()
    for step in range(1, 2 * LAST + 1):
        trace.progress(
            step, 2 * LAST, {"accuracy": float(step > LAST), "inner_steps": 2.0, "hinv_steps": 3.0}, 0.1, 0.0
        )
    assert trace.mean("accuracy") == 1.0
    assert trace.mean("inner_steps", "hinv_steps") == 5.0
    assert trace.mean("absent") is None


def test_a_cell_is_taken_over_only_if_its_settings_are_the_same(tmp_path):
    path = tmp_path / "cells" / "mnist_exact_0.json"
    settings = Cell("mnist", "exact", 0).settings(FULL)
    assert record.finished(path, settings) is None
    record.keep(path, settings, {"test_accuracy": [1.0]})
    assert record.finished(path, settings) == {"test_accuracy": [1.0]}
    assert record.finished(path, {**settings, "steps": 100}) is None
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_spread_is_that_of_a_sample():
    assert record.spread([1.0, 3.0]) == {"mean": 2.0, "std": 1.414, "standard_error": 1.0, "count": 2}
    assert record.spread([5.0])["standard_error"] == 0.0
