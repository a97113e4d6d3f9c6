"""The eight matching methods beside their literal oracle: images, momentum, average, network, losses of runs."""

from __future__ import annotations

import numpy as np
import pytest

from tests.methods.condensation.tiny import CLASSES, OUTER, difference, engine, examples, literal, method

FLOAT32, FLOAT64 = 1e-5, 1e-10
DRAWN = float(np.finfo(np.float32).eps)  # directions are drawn in float32 in every type, and rounded in each program
ONE_EXIT = {"exit_at": 1}  # so that all three stages of GA-DD occur in three outer iterations
PLATEAU = {
    "exit_mode": "plateau",
    "exit_window": 1,
    "exit_tolerance": 0.9,
    "lcs_shift": "cyclic",
    "lcs_weight": 0.5,
    "compat_released_code": True,
    "ema_every": "inner",
    "rank": "overall",
}
OTHERWISE = {  # IDC by settings that no method implies: padded, bounded decoding; more images than go at once
    "n_images": 3,
    "factor": 3,
    "decode_type": "bound",
    "batch_syn_max": 20,
    "batch_real": 40,
    "n_data": 50,
    "fix_iter": 2,
    "metric": "l1_mean",
    "fc": True,
    "bias": True,
    "net_epoch": 2,
    "beta": 0.7,
}


def compare(name: str, dtype, tolerance: float, outer: int = OUTER, **settings) -> list[str]:
    """Runs both; returns which terms the loss had in each inner iteration."""
    of = method(name, **settings)
    data = examples(of, dtype)
    state, metrics = engine(of, data, outer)
    run = literal(of, data, outer)
    assert state.images.dtype == dtype and len(metrics) == outer * of.inner_loop
    assert difference(state.images, run.images) < tolerance
    assert difference(state.buffer, run.buffer) < 10 * tolerance  # of differences between gradients
    assert difference(state.network.variables["params"], run.params) < tolerance
    if run.velocity is not None:
        assert difference(state.network.momentum, run.velocity) < 10 * tolerance
    assert (state.average is None) == (not of.ema_decay)
    if state.average is not None:
        assert difference(state.average, run.average) < tolerance
        assert difference(run.average, run.images) > 1e-3
    own, shifted = np.asarray(run.losses).T / CLASSES
    np.testing.assert_allclose([found["loss"] for found in metrics], own, rtol=10 * tolerance)
    if of.shifts_labels:
        np.testing.assert_allclose([found["shifted_loss"] for found in metrics], shifted, rtol=10 * tolerance)
        assert state.stage.ended == run.end
    start = literal(of, data, 0)
    assert 0.01 < np.abs(run.images - start.images).max() < 2
    return [terms for _, terms in run.seen]


@pytest.mark.fast("dm")
@pytest.mark.parametrize("name", ["dc", "dsa", "dm", "idc", "accdd", "dream", "dream_plus"])
def test_a_run_equals_the_literal_procedure(name):
    assert set(compare(name, np.float32, FLOAT32)) == {"plain"}


@pytest.mark.slow
def test_networks_learn_from_what_is_matched_where_images_encode_several():
    assert set(compare("dsa", np.float32, FLOAT32, factor=2)) == {"plain"}


@pytest.mark.slow
def test_gradient_amplification_passes_through_its_stages():
    found = compare("ga", np.float32, FLOAT32, **ONE_EXIT)
    assert found == ["shifted", "shifted", "plain", "plain", "second", "second"]


@pytest.mark.slow
def test_a_run_equals_the_literal_procedure_in_float64(x64):
    compare("dc", np.float64, FLOAT64)


@pytest.mark.slow
@pytest.mark.parametrize("perturb, tolerance", [(False, FLOAT64), (True, DRAWN)])
def test_a_plateau_and_the_released_second_stage_in_float64(perturb, tolerance, x64):
    found = compare("ga", np.float64, tolerance, outer=4, perturb=perturb, **PLATEAU)
    assert found == ["shifted"] * 4 + ["plain"] * 2 + ["second"] * 2


@pytest.mark.slow
def test_settings_that_no_method_implies_in_float64(x64):
    compare("idc", np.float64, FLOAT64, **OTHERWISE)
