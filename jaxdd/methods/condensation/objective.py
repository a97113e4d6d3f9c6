"""The matching loss between the moments of real and of synthetic images, by settings and stage.

| stage     | loss                                                                                 |
|-----------|--------------------------------------------------------------------------------------|
| `plain`   | `match`: GM(c), the gradients' distance; or F, the features'; or GM(c) + D(last)      |
| `shifted` | that + lcs_weight GM(shifted label)                                                  |
| `second`  | that + dm_weight sum over blocks of D(block) (`gradient_amplification.second_stage`) |
"""

from __future__ import annotations

import functools
import operator

import jax.numpy as jnp

from jaxdd.core.errors import ConfigError
from jaxdd.core.types import Array
from jaxdd.matching.distances import feature_distance, gradient_distance
from jaxdd.matching.moments import Moments, Objective
from jaxdd.methods.condensation.gradient_amplification import second_stage
from jaxdd.methods.condensation.settings import CondensationSettings

PLAIN, SHIFTED, SECOND = "plain", "shifted", "second"


def objective(settings: CondensationSettings, stage: str, blocks: int) -> Objective:
    """Returns the matching loss of one stage.

    Arguments:
        stage: see the module's header.
        blocks: how many blocks the network has.

    Raises:
        ConfigError: a block of `f_idx` that the network does not have.
    """
    gradients = settings.match != "feat"
    wanted = tuple(range(blocks)) if stage == SECOND else matched_blocks(settings, blocks)

    def loss(real: Moments, synthetic: Moments) -> tuple[Array, Array]:
        def gm(which: int) -> Array:
            x, y = real.gradients[which], synthetic.gradients[which]
            return gradient_distance(x, y, settings.metric, bias=settings.bias, fc=settings.fc)

        def features(first: int = 0) -> list[Array]:
            pairs = zip(real.features[first:], synthetic.features[first:], strict=True)
            metric = "mse" if settings.match == "feat" else settings.metric
            return [feature_distance([x], [y], metric) for x, y in pairs]

        total = gm(0) if gradients else functools.reduce(operator.add, features())
        if settings.match == "bi_match":
            total += features(-1)[0]
        if stage == SECOND:
            total = second_stage(settings, total, features())
        other = gm(1) if stage == SHIFTED else jnp.zeros_like(total)
        return total + settings.lcs_weight * other, jnp.stack([total, other])

    return Objective(gradients + (stage == SHIFTED), wanted, loss)


def matched_blocks(settings: CondensationSettings, blocks: int) -> tuple[int, ...]:
    """Returns indices of the blocks whose features count in the plain loss."""
    if settings.match == "grad":
        return ()
    if settings.match == "bi_match" or settings.f_idx is None:
        return (blocks - 1,)
    try:
        first, *last = (int(word) for word in settings.f_idx.split(","))
        chosen = tuple(range(first, (last[0] if last else first) + 1))
    except ValueError:
        chosen = ()
    if not chosen or len(last) > 1 or chosen[0] < 0 or chosen[-1] >= blocks:
        raise ConfigError(
            f"f_idx '{settings.f_idx}' names no blocks",
            where="f_idx",
            expected=f"a block from 0 to {blocks - 1}, or two of them: from,to",
            remedy="set f_idx to blocks that the network has, or another depth",
        )
    return chosen
