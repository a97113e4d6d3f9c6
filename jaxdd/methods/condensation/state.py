"""The state of a run of `methods.condensation.method`."""

from __future__ import annotations

from typing import NamedTuple

from jaxdd.core.types import Array
from jaxdd.methods.condensation.gradient_amplification import Stage
from jaxdd.training import sgd


class CondensationState(NamedTuple):
    """All that a run holds.

    Arguments:
        step: inner iterations done.
        images: S, `[classes, m, side, side, channels]`.
        buffer: the momentum of its SGD.
        average: E, like S; None without an average.
        network: theta and the momentum of its SGD.
        matched: rows of the real images that each class is matched with, `[classes, batch_real]`.
        trained: rows of the real images that the network trains on in this step, `[n_data or more]`.
        stage: of shifted labels.
        losses: `[2]`, of this step's matching, summed over classes: with the own label, and with the shifted one.
    """

    step: Array
    images: Array
    buffer: Array
    average: Array | None
    network: sgd.Trained
    matched: Array
    trained: Array
    stage: Stage
    losses: Array
