"""Learning rate, curriculum and stages against the plain formulas, merging against its definition."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd.core.errors import ConfigError
from jaxdd.methods.recovery.plan import Stage, learning_rate, merge, min_scale, plan, resize
from jaxdd.methods.recovery.settings import Recovery
from tests.oracles import sre2l_literal as literal

FADRM = {"initialise": "medium", "stages": ((6, 3), (8, 4)), "iterations": 7, "merge": 0.5}


@pytest.mark.quick
@pytest.mark.parametrize("total", [1, 7, 4000])
def test_the_rate_is_the_cosine_to_its_last_digits(total):
    found = jax.jit(lambda i: learning_rate(i, total, 0.25))(jnp.arange(total))
    np.testing.assert_allclose(found, [literal.rate(i, total, 0.25) for i in range(total)], rtol=2e-6, atol=0)
    assert found[0] == 0.25 and found[-1] > 0  # never quite 0


@pytest.mark.quick
@pytest.mark.parametrize("mode", ["none", "step", "linear", "cosine"])
@pytest.mark.parametrize("milestone", [0.0, 0.07, 0.5, 1.0])
@pytest.mark.parametrize("total", [100, 4000])
def test_the_curriculum_is_its_formula(mode, milestone, total):
    found = jax.jit(lambda i: jnp.broadcast_to(min_scale(i, total, mode, milestone, 0.08), i.shape))(jnp.arange(total))
    wanted = [literal.min_scale(i, total, mode, milestone) for i in range(total)]
    np.testing.assert_allclose(found, wanted, rtol=2e-6, atol=0)
    began = mode != "none" and milestone > 0
    assert found[0] == pytest.approx(1.0 if began else 0.08)  # the whole image at first


@pytest.mark.quick
def test_one_stage_is_the_whole_recovery():
    assert plan(Recovery(iterations=30), 32) == (Stage(32, 0, 30),)
    assert plan(Recovery(iterations=0), 32) == ()


@pytest.mark.quick
def test_stages_count_on_and_are_merged_from_the_second_one():
    stages = plan(Recovery(**FADRM), 8, 2)
    assert stages == (Stage(6, 0, 3, (0, 1)), Stage(8, 3, 4, (0, 1), merge=0.5))
    assert [stage.steps for stage in stages] == [2, 2]  # turns of two teachers
    kept = plan(Recovery(iterations=4, stages=((8, 2), (8, 2)), reset=False), 8)
    assert [stage.reset for stage in kept] == [True, False]


@pytest.mark.quick
def test_the_last_stage_has_the_size_of_the_data():
    with pytest.raises(ConfigError, match="8 pixels"):
        plan(Recovery(**FADRM), 16)


@pytest.mark.quick
@pytest.mark.parametrize(
    ("given", "about"),
    [
        ({"stages": ((8, 3), (8, 3)), "iterations": 7}, "6 iterations"),
        ({"stages": ((6, 3), (8, 3)), "iterations": 6, "reset": False}, "another resolution"),
        ({"stages": ((8, 0),), "iterations": 0}, "without"),
        ({"stages": (), "iterations": 0}, "without"),
    ],
)
def test_contradictions_are_refused(given, about):
    with pytest.raises(ConfigError, match=about):
        Recovery(**given)


@pytest.mark.quick
@pytest.mark.parametrize(("side", "size"), [(6, 8), (8, 6), (7, 7)])
def test_merging_resizes_both_and_mixes_them(side, size, x64):
    random = np.random.default_rng(0)
    x, patches = random.normal(size=(2, side, side, 3)), random.normal(size=(2, 9, 9, 3))

    def resized(images):
        matrix = literal.interpolation(0, images.shape[1], images.shape[1], size)
        return np.einsum("ih,nhwc,jw->nijc", matrix, images, matrix)

    found = merge(jnp.asarray(x), jnp.asarray(patches), size, 0.3)
    np.testing.assert_allclose(found, 0.3 * resized(x) + 0.7 * resized(patches), atol=1e-14)
    np.testing.assert_allclose(merge(jnp.asarray(x), jnp.asarray(patches), size, 1.0), resized(x), atol=1e-14)


def test_resizing_is_that_of_pytorch(x64):
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).normal(size=(2, 9, 9, 3))
    for size in (5, 8, 9, 13):
        given = torch.from_numpy(x.transpose(0, 3, 1, 2).copy())
        theirs = torch.nn.functional.interpolate(given, size=(size, size), mode="bilinear", align_corners=False)
        np.testing.assert_allclose(resize(jnp.asarray(x), size), theirs.numpy().transpose(0, 2, 3, 1), atol=1e-13)
