"""Views of a step of soft-label training: which images, and how they are shown; a function of (seed, step) alone.

Epoch e is one permutation of the N images, step s of it its rows s B to (s + 1) B - 1. Where B does not divide N the
last batch has only N mod B views, and repeats them until it is full: all batches are of one size, an epoch has N views
to label, and means over the last batch are those of a smaller one as far as N mod B divides B. What is shown (crops,
flips, mix) comes from one key per step. A teacher's answers can so be stored without any geometry, and a student that
meets step s again sees to the bit what the teacher saw (FKD's role in SRe2L, arXiv 2306.13092).

With a pool, a student sees the first P epochs' batches again and again: step t shows batch

    LPQLD   pi_e(t - e S)     pi_e a permutation of all P S batches for each of its epochs e, of S steps each
    LPLD    uniform in 0..P S - 1

(arXiv 2410.15919). Then labels for P epochs are enough.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from jaxdd.augment.replay import Show
from jaxdd.core.random import key_for
from jaxdd.core.types import Array, Examples


class View(NamedTuple):
    """Images that one step sees.

    Arguments:
        images: as networks see them.
        rows: which images of the set these are.
        places: view i is the same as view `places[i]`; None where all are views of their own.
    """

    images: Float[Array, "batch h w c"]
    rows: Int[Array, " batch"]
    places: Int[Array, " batch"] | None = None

    def repeated(self, labels: Array) -> Array:
        """Returns labels `[batch, classes]` in which a repeated view has the label of the view that it repeats."""
        return labels if self.places is None else labels[self.places]


@dataclasses.dataclass(frozen=True)
class Views:
    """Settings of views; see the module's header.

    Arguments:
        show: how images are shown.
        batch_size: B.
        label_seed: of all draws, 0 <= seed < 2**32; None: each student has a seed of its own.
        pool: P, epochs that are shown again and again; 0 for no pool.
        replacement: whether the pool is drawn from as LPLD does.
    """

    show: Show
    batch_size: int
    label_seed: int | None = None
    pool: int = 0
    replacement: bool = False

    def steps_per_epoch(self, count: int) -> int:
        """Returns S, the number of steps of an epoch of so many images."""
        return -(-count // self.batch_size)

    def number(self, seed: Array, step: Array, count: int) -> Array:
        """Returns the number of the batch that a student sees at a step; with a pool it depends on the seed too."""
        if not self.pool:
            return step
        if self.replacement:
            return self._drawn(seed, step, count)
        epoch, place = jnp.divmod(step, self.steps_per_epoch(count))
        return self.numbers(seed, epoch, count)[place]

    def numbers(self, seed: Array | int, epoch: Array | int, count: int) -> Array:
        """Returns the number of the batch at each step of a student's epoch: `[S]` int32."""
        per_epoch = self.steps_per_epoch(count)
        steps = epoch * per_epoch + jnp.arange(per_epoch, dtype=jnp.int32)
        if not self.pool:
            return steps
        if self.replacement:
            return jax.vmap(lambda step: self._drawn(seed, step, count))(steps)
        order = jax.random.permutation(key_for(seed, "pool", epoch), self.pool * per_epoch)
        return order[:per_epoch].astype(jnp.int32)

    def _drawn(self, seed: Array | int, step: Array, count: int) -> Array:
        batches = self.pool * self.steps_per_epoch(count)
        return jax.random.randint(key_for(seed, "pool", step), (), 0, batches, jnp.int32)

    def at(self, data: Examples, seed: Array, number: Array) -> View:
        """Returns the view of one batch.

        Arguments:
            data: the whole set: floats, or uint8; standardised here if it has `constants`.
            seed: uint32 scalar.
            number: of the batch, int32 scalar, counted from the first epoch's first.
        """
        epoch, place = jnp.divmod(number, self.steps_per_epoch(len(data)))
        order = jax.random.permutation(key_for(seed, "order", epoch), len(data))
        places = jnp.arange(self.batch_size)
        if rest := len(data) % self.batch_size:
            places = jnp.where(place == self.steps_per_epoch(len(data)) - 1, places % rest, places)
        rows = order[place * self.batch_size + places]
        images = data.standardise(self.show.show(key_for(seed, "show", number), data.take(rows)))
        images = images[places] if rest else images
        # Nothing that is computed from them can change how they are computed: labels on disk are of these very images.
        return View(jax.lax.optimization_barrier(images), rows, places if rest else None)
