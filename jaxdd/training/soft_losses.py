"""Losses against a teacher's logits t, of a student's logits z; y is the image's own class, whatever was mixed into it.

    kl       mean over images of sum_k p_k (log p_k - log q_k), p = softmax(t/T), q = softmax(z/T)
             times T^2 if `squared`: as published for Tiny-ImageNet, and for no other set    (SRe2L arXiv 2306.13092)
    mse      mean over images and classes of (z - t)^2                                       (EDC arXiv 2404.13733)
    cosine   mean over images of 1 - cos(z, t/|t| + 0.1 s/|s|), s = 0.9 onehot(y) + 0.1/C    (GIFT, arXiv 2405.14736)

and to each may be added `ce_weight` times the cross-entropy of z against y (EDC: 0.025 beside `mse`). A label of which
only some logits were kept has -inf for the others: they have p = 0 (LPQLD), and only `kl` can use it.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from jaxdd.core.config import SoftKind as Kind
from jaxdd.core.types import Array
from jaxdd.training.sgd import cross_entropy

SMOOTHING = 0.1  # of GIFT's hard label
HARD_SHARE = 0.1  # of GIFT's target


@dataclasses.dataclass(frozen=True)
class SoftLoss:
    """Settings of the loss; see the module's header.

    Arguments:
        kind: `kl`, `mse` or `cosine`.
        temperature: T of `kl`, above 0.
        squared: whether `kl` is multiplied by T^2.
        ce_weight: of the cross-entropy against hard labels.
    """

    kind: Kind = "kl"
    temperature: float = 20.0
    squared: bool = False
    ce_weight: float = 0.0

    def __call__(self, logits: Array, teacher: Array, classes: Array) -> Array:
        """Returns the mean loss of a batch.

        Arguments:
            logits: z, `[n, C]`.
            teacher: t, `[n, C]`.
            classes: y, `[n]` integers.
        """
        count = len(logits)
        hard = jax.nn.one_hot(classes, logits.shape[1], dtype=logits.dtype)
        if self.kind == "kl":
            target = jax.nn.softmax(teacher / self.temperature)
            log = jax.nn.log_softmax(logits / self.temperature)
            value = (jax.scipy.special.xlogy(target, target) - target * log).sum() / count
            value = value * self.temperature**2 if self.squared else value
        elif self.kind == "mse":
            value = jnp.square(logits - teacher).mean()
        else:
            smooth = (1 - SMOOTHING) * hard + SMOOTHING / logits.shape[1]
            value = 1 - (_unit(logits) * _unit(_unit(teacher) + HARD_SHARE * _unit(smooth))).sum() / count
        return value + self.ce_weight * cross_entropy(logits, hard) / count if self.ce_weight else value


def _unit(rows: Array) -> Array:
    """Divides each row by its Euclidean norm; a row of zeros stays."""
    square = jnp.square(rows).sum(1, keepdims=True)
    return rows * jnp.where(square > 0, jax.lax.rsqrt(jnp.where(square > 0, square, 1)), 0)
