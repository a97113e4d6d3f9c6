"""The loss by which images are recovered from one teacher (SRe2L, arXiv 2306.13092).

    L(x) = ce_weight CE(x)  +  r_bn R(x)  +  tv_l2 TV(x)  +  l2_scale N(x)    of a group x of images, as they are seen

| symbol | here                   | what                                                                               |
|--------|------------------------|------------------------------------------------------------------------------------|
| CE     | `Losses.cross_entropy` | mean over the group; the teacher normalises by its running statistics              |
| R      | `Losses.statistics`    | the group's against the running ones (`matching.statistics`); 0 if there are none  |
| TV     | `total_variation`      | four norms over the whole group: of first differences, each way and both diagonals |
| N      | `mean_norm`            | mean over the images of `|| x_n ||_2`                                              |

The weights are the settings of these names: `r_bn` is one for all teachers or one for each, and `tv_l2` and `l2_scale`
are 0 in the published commands. A group goes through the teacher in pieces that the caches hold
(`backend.rows_at_once`): CE and moments are averages, so those of the pieces give those of the group. Only the gradient
in the images is computed, not that in the parameters.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxdd.core import backend, trees
from jaxdd.core.types import Array, Moments, PyTree
from jaxdd.matching.statistics import norm, statistics_loss
from jaxdd.methods.recovery.settings import Recovery
from jaxdd.models.layers import MOMENTS
from jaxdd.models.network import Network
from jaxdd.training.sgd import cross_entropy


class Losses(NamedTuple):
    """L of the module's header, and CE and R unweighted: scalars of one teacher, or one number for each."""

    loss: Float[Array, "*teachers"]
    cross_entropy: Float[Array, "*teachers"]
    statistics: Float[Array, "*teachers"]


def objective(
    settings: Recovery, network: Network, variables: PyTree, images: Array, labels: Array, *, r_bn: float
) -> Losses:
    """Returns L of the module's header.

    Arguments:
        variables: of the teacher.
        images: `[n, height, width, channels]`, as they are seen; a statistics group.
        labels: `[n]` int32.
        r_bn: weight of the statistics for this teacher.
    """
    ce, layers = observe(network, variables, images, labels)
    zero = jnp.zeros_like(ce)
    statistics = statistics_loss(layers, first_multiplier=settings.first_bn_multiplier) if layers else zero
    loss = settings.ce_weight * ce + r_bn * statistics
    if settings.tv_l2:
        loss = loss + settings.tv_l2 * total_variation(images)
    if settings.l2_scale:
        loss = loss + settings.l2_scale * mean_norm(images)
    return Losses(loss, ce, statistics)


def observe(network: Network, variables: PyTree, images: Array, labels: Array) -> tuple[Array, tuple[Moments, ...]]:
    """Returns the mean cross-entropy of the images, and their moments at every batch normalisation.

    Arguments:
        variables, images, labels: as in `objective`.
    """
    taps = (MOMENTS,) if "batch_stats" in variables else ()
    targets = jax.nn.one_hot(labels, network.classes, dtype=images.dtype)
    count = len(images)
    rows = backend.rows_at_once(count)
    total = None
    for start in range(0, count, rows):
        piece = slice(start, start + rows)
        outputs = network.apply(variables, images[piece], taps=taps)
        ce = cross_entropy(outputs.logits, targets[piece]) / count
        share = len(outputs.logits) / count
        observed = (ce, trees.scale(share, outputs.taps[MOMENTS] if taps else ()))
        total = observed if total is None else trees.add(total, observed)
    assert total is not None
    return total


def total_variation(images: Array) -> Array:
    """Returns TV of the module's header, a scalar."""
    right, below = images[:, :, 1:] - images[:, :, :-1], images[:, 1:] - images[:, :-1]
    falling, rising = images[:, 1:, 1:] - images[:, :-1, :-1], images[:, 1:, :-1] - images[:, :-1, 1:]
    return norm(right) + norm(below) + norm(falling) + norm(rising)


def mean_norm(images: Array) -> Array:
    """Returns N of the module's header, a scalar."""
    return jax.vmap(norm)(images).mean()
