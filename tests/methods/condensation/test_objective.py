"""What is matched in which stage, from moments made by hand; when the stages change."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd.core.errors import ConfigError
from jaxdd.matching.distances import Moments
from jaxdd.methods import Condensation
from jaxdd.methods.condensation.gradient_amplification import advance, begin, matches_features, shifted_label
from jaxdd.methods.condensation.sweep import PLAIN, SECOND, SHIFTED, matched_blocks, objective

pytestmark = pytest.mark.quick

BLOCKS = 3


def gradients(label: int, offset: float) -> dict[str, Any]:
    """Of a convolution, its bias and a classifier."""
    random = np.random.default_rng(label)
    convolution, bias, classifier = (random.normal(size=shape) for shape in ((3, 3, 2, 4), (4,), (8, 3)))
    return {
        "Conv_0": {"kernel": jnp.asarray(convolution + offset), "bias": jnp.asarray(bias + 10 * offset)},
        "Dense_0": {"kernel": jnp.asarray(classifier + 100 * offset)},
    }


def moments(loss: Any, offset: float) -> Moments:
    """As many as the loss asks for; real ones have offset 0."""
    features = tuple(jnp.full(5, offset * (1 + block)) for block in loss.blocks)
    return Moments(tuple(gradients(label, offset * (1 + label)) for label in range(loss.labels)), features)


def value(of: Condensation, stage: str) -> tuple[float, list[float]]:
    loss = objective(of, stage, BLOCKS)
    total, parts = loss.loss(moments(loss, 0.0), moments(loss, 0.1))
    return float(total), parts.tolist()


OWN, OTHER = 72 * 0.01, 72 * 0.04  # of the convolution, all of whose entries differ by 0.1 and by 0.2
FEATURES = [5 * 0.01 * (1 + block) ** 2 for block in range(BLOCKS)]


@pytest.mark.parametrize(
    ("settings", "stage", "wanted", "parts"),
    [
        ({}, PLAIN, OWN, [OWN, 0]),
        ({"bias": True}, PLAIN, OWN + 4, [OWN + 4, 0]),
        ({"fc": True}, PLAIN, OWN + 2400, [OWN + 2400, 0]),
        ({"match": "feat"}, PLAIN, FEATURES[2], [FEATURES[2], 0]),
        ({"match": "feat", "metric": "l1", "f_idx": "0,1"}, PLAIN, sum(FEATURES[:2]), [sum(FEATURES[:2]), 0]),
        ({"match": "bi_match"}, PLAIN, OWN + FEATURES[2], [OWN + FEATURES[2], 0]),
        ({"lcs_weight": 0.5}, SHIFTED, OWN + 0.5 * OTHER, [OWN, OTHER]),
        ({"dm_weight": 0.2}, SECOND, OWN + 0.2 * sum(FEATURES), [OWN + 0.2 * sum(FEATURES), 0]),
        ({"dm_weight": 0.2, "compat_released_code": True}, SECOND, 1.2 * OWN + 0.2 * FEATURES[2], None),
    ],
)
def test_each_loss(settings, stage, wanted, parts, x64):
    total, found = value(Condensation(**settings), stage)
    assert total == pytest.approx(wanted, rel=1e-9)
    assert found == pytest.approx([wanted, 0] if parts is None else parts, rel=1e-9)


def test_only_what_a_loss_needs_is_computed():
    asked = {
        (stage, match): (loss.labels, loss.blocks)
        for match in ("grad", "feat", "bi_match")
        for stage in (PLAIN, SHIFTED, SECOND)
        for loss in [objective(Condensation(match=match), stage, BLOCKS)]
        if stage == PLAIN or match == "grad"
    }
    assert asked == {
        (PLAIN, "grad"): (1, ()),
        (SHIFTED, "grad"): (2, ()),
        (SECOND, "grad"): (1, (0, 1, 2)),
        (PLAIN, "feat"): (0, (2,)),
        (PLAIN, "bi_match"): (1, (2,)),
    }


@pytest.mark.parametrize("word", ["3", "a", "2,1", "0,1,2", "-1", ""])
def test_blocks_that_do_not_exist_are_refused(word):
    with pytest.raises(ConfigError, match="f_idx"):
        matched_blocks(Condensation(match="feat", f_idx=word), BLOCKS)
    assert matched_blocks(Condensation(match="feat", f_idx="1"), BLOCKS) == (1,)
    assert matched_blocks(Condensation(match="feat", f_idx="0,2"), BLOCKS) == (0, 1, 2)


def stages(of: Condensation, losses: list[float]) -> list[str]:
    """The stage of every outer iteration, with these shifted losses."""
    stage, seen = begin(of, jnp.float32), []
    for iteration, loss in enumerate(losses):
        stage = advance(of, stage, jnp.asarray(iteration, jnp.int32))
        second = bool(matches_features(stage, jnp.asarray(iteration, jnp.int32)))
        assert not (second and bool(stage.shifting))
        seen.append(SHIFTED if bool(stage.shifting) else SECOND if second else PLAIN)
        stage = stage._replace(shifted=jnp.asarray(loss))
    return seen


def test_shifted_labels_end_at_a_fixed_iteration():
    assert stages(Condensation(lcs_weight=1.0, exit_at=2), [1.0] * 5) == [SHIFTED, SHIFTED, PLAIN, SECOND, SECOND]
    assert stages(Condensation(lcs_weight=1.0, exit_at=0), [1.0] * 3) == [PLAIN, SECOND, SECOND]


@pytest.mark.parametrize(
    ("losses", "shifted"),
    [
        ([8, 4, 2, 1, 0.5, 0.2, 0.1], 6),  # ever better: until exit_at
        ([8, 4, 4, 8, 8, 4, 4], 4),  # the mean of the last two equals that of the two before
        ([1, 1, 2, 2, 2, 2, 2], 4),  # worse: as soon as there are four
        ([8, 4, 4, 4, 3.99, 4, 4], 5),  # 0.1 % better
    ],
)
def test_shifted_labels_end_on_a_plateau(losses, shifted):
    of = Condensation(lcs_weight=1.0, exit_mode="plateau", exit_window=2, exit_tolerance=0.01, exit_at=6)
    found = stages(of, [*losses, 1.0])
    assert found == [SHIFTED] * shifted + [PLAIN] + [SECOND] * (len(found) - shifted - 1)


def test_the_other_label():
    fixed, cyclic = Condensation(), Condensation(lcs_shift="cyclic")
    label, iterations = jnp.asarray(2), [jnp.asarray(i) for i in range(4)]
    assert [int(shifted_label(fixed, label, 3, i)) for i in iterations] == [0, 0, 0, 0]
    assert [int(shifted_label(cyclic, label, 4, i)) for i in iterations] == [3, 0, 1, 3]  # never the own one
    assert int(shifted_label(cyclic, jnp.asarray(0), 1, iterations[1])) == 0
