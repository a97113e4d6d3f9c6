"""The state of a run of `methods.condensation.method`."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Float, Int32

from jaxdd.core.types import Array
from jaxdd.methods.condensation.gradient_amplification import Stage
from jaxdd.training import sgd


class CondensationState(NamedTuple):
    """All that a run holds.

    Arguments:
        step: inner iterations done.
        images: S, m stored images of each class.
        buffer: the momentum of its SGD.
        average: E; None without an average.
        network: theta and the momentum of its SGD.
        matched: rows of the real images that each class is matched with.
        trained: rows of the real images that the network trains on in this step.
        stage: of shifted labels.
        losses: of this step's matching, summed over classes: with the own label, and with the shifted one.
    """

    step: Int32[Array, ""]
    images: Float[Array, "classes m h w c"]
    buffer: Float[Array, "classes m h w c"]
    average: Float[Array, "classes m h w c"] | None
    network: sgd.Trained
    matched: Int32[Array, "classes batch_real"]
    trained: Int32[Array, " rows"]
    stage: Stage
    losses: Float[Array, "2"]
