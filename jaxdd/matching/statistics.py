"""Matching the statistics that batch normalisations remember (SRe2L, arXiv 2306.13092; first in DeepInversion).

    R = sum_l rho_l ( || var_l(x) - var_l ||_2  +  || mean_l(x) - mean_l ||_2 )

| symbol           | here                                                                                     |
|------------------|------------------------------------------------------------------------------------------|
| mean_l, var_l    | running statistics of the teacher's batch normalisation l, one number per channel        |
| mean_l(x), var_l(x) | of what enters it, over images and pixels; var biased (divided by their number)       |
| rho_l            | `first_multiplier` for the first one, 1 for the others                                   |

The norms are not squared. Networks hand over `core.types.Moments`, about the running mean, so that

    mean_l(x) - mean_l = first,    var_l(x) - var_l = second - first^2 - variance.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp

from jaxdd.core.types import Array, Moments


def norm(x: Array) -> Array:
    """Returns `||x||_2`, a scalar; its derivative at 0 is 0, not NaN."""
    square = jnp.sum(x * x)
    positive = square > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1)), 0)


def statistics_loss(layers: Sequence[Moments], *, first_multiplier: float = 10.0) -> Array:
    """Returns R of the module's header, a scalar.

    Arguments:
        layers: in the order of the network.
        first_multiplier: weight of the first layer, >= 0; published 10.
    """
    terms = [norm(m.second - m.first**2 - m.variance) + norm(m.first) for m in layers]
    return first_multiplier * terms[0] + sum(terms[1:], jnp.zeros_like(terms[0]))
