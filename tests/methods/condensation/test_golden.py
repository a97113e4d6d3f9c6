"""The engine's own losses and image gradients beside the numbers that the authors' code produced (`test_golden`)."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd.matching.distances import image_gradient, moments
from jaxdd.methods import Condensation
from jaxdd.methods.condensation.sweep import PLAIN, SECOND, SHIFTED, objective
from tests.matching.test_golden import GOLDEN, LABELS, NETWORK, setting

FEATURES = {"dm_weight": 0.2}
ENGINE = {
    "IDC mse": (PLAIN, {}),
    "IDC l1": (PLAIN, {"metric": "l1"}),
    "IDC l1_mean": (PLAIN, {"metric": "l1_mean"}),
    "IDC cos": (PLAIN, {"metric": "cos"}),
    "IDC mse, fc": (PLAIN, {"fc": True}),
    "IDC mse, fc, bias": (PLAIN, {"fc": True, "bias": True}),
    "DC ours": (PLAIN, {"metric": "ours"}),
    "DC cos": (PLAIN, {"metric": "vector_cos"}),
    "DM": (PLAIN, {"match": "feat"}),
    "IDC features 0..2": (PLAIN, {"match": "feat", "f_idx": "0,2"}),
    "DREAM+": (PLAIN, {"match": "bi_match"}),
    "GA stage 1": (SHIFTED, {"lcs_weight": 1.0}),
    "GA stage 2, as released": (SECOND, {**FEATURES, "compat_released_code": True}),
    "GA stage 2, sum over layers": (SECOND, FEATURES),
}
OWN = ("IDC mse", "DC ours", "DM", "DREAM+", "GA stage 1", "GA stage 2, sum over layers")  # one of every method's loss
OTHERS = tuple(name for name in ENGINE if name not in OWN)


@pytest.mark.quick
def test_every_row_of_the_table_is_there():
    assert ENGINE.keys() == GOLDEN.keys()


def engine(name, variables, real, synthetic):
    """The loss of one row, and its derivative in the synthetic images."""
    stage, settings = ENGINE[name]
    wanted = objective(Condensation(**settings), stage, blocks=3)
    labels = LABELS[: wanted.labels]
    constant = moments(NETWORK, variables, real, labels, wanted.blocks)
    loss, _ = wanted.loss(constant, moments(NETWORK, variables, synthetic, labels, wanted.blocks))
    return loss, image_gradient(NETWORK, variables, synthetic, labels, wanted, constant)[0]


@pytest.fixture(scope="module")
def computed():
    """Some rows, by one program, in which what they share is compiled once."""

    @functools.cache
    def table(names: tuple[str, ...]):
        return jax.jit(lambda *given: {name: engine(name, *given) for name in names})(*setting(jnp.float64))

    return table


@pytest.mark.quick
@pytest.mark.fast(*OWN)
@pytest.mark.parametrize("name", ENGINE)
def test_loss_and_image_gradient_to_the_last_printed_digit(name, computed, x64):
    found, slope = computed(OWN if name in OWN else OTHERS)[name]
    loss, norm, corner = GOLDEN[name]
    assert abs(found - loss) < 0.51e-10
    assert abs(jnp.linalg.norm(slope) - norm) < 0.51e-10
    assert abs(slope[0, 0, 0, 0] - corner) < 0.51e-7 * 10 ** np.floor(np.log10(abs(corner)))
