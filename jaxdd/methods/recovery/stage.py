"""Recovering images from a teacher: SRe2L (2306.13092), CDA (2311.18838), SRe2L++ (2501.07575), FADRM (2506.24125).

One iteration i, for each group x of images of different classes y, in the space that the teacher sees:

    view <- one crop (least share s_min(i)), one coin for a flip, one roll        the same for all images of the group
    g    <- d L(view(x), y) / dx                                                  L below
    x    <- Adam(x, g) at rate lr(i)                                              moments begin at 0 with the chunk
    x    <- clip(x) to what a pixel in [0, 1] can be, channel by channel

The last x is the result. `methods.recovery.plan` says how lr, s_min and the resolution change with i; every row of
`methods.recovery.settings` is a composition of these. With several teachers iterations take them in turn.

A chunk is what lies on the device at a time: any number of groups. The objective is that of one group, and each draws
by its own number, so results do not depend on how groups are put into chunks.

From the authors' code differs: random choices come from keys, so that a run can stop anywhere and go on.

The loss by which images are recovered from one teacher (SRe2L, arXiv 2306.13092).

    L(x) = ce_weight CE(x)  +  r_bn R(x)  +  tv_l2 TV(x)  +  l2_scale N(x)    of a group x of images, as they are seen

| symbol | here                   | what                                                                               |
|--------|------------------------|------------------------------------------------------------------------------------|
| CE     | `Losses.cross_entropy` | mean over the group; the teacher normalises by its running statistics              |
| R      | `Losses.statistics`    | the group's against the running ones (`statistics_loss`); 0 if there are none      |
| TV     | `total_variation`      | four norms over the whole group: of first differences, each way and both diagonals |
| N      | `mean_norm`            | mean over the images of `|| x_n ||_2`                                              |

The weights are the settings of these names: `r_bn` is one for all teachers or one for each, and `tv_l2` and `l2_scale`
are 0 in the published commands. A group goes through the teacher in pieces that the caches hold
(`backend.rows_at_once`): CE and moments are averages, so those of the pieces give those of the group. Only the gradient
in the images is computed, not that in the parameters.

Matching the statistics that batch normalisations remember (SRe2L, arXiv 2306.13092; first in DeepInversion).

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

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Float, Int, Int32, Shaped

from jaxdd.augment import shared
from jaxdd.augment.shared import View
from jaxdd.core import backend, trees
from jaxdd.core.errors import ConfigError
from jaxdd.core.procedure import BatchRule, Part, Procedure, in_parts
from jaxdd.core.random import purpose_key
from jaxdd.core.types import Array, Examples, Key, Metrics, Moments, PyTree
from jaxdd.methods.recovery import plan
from jaxdd.methods.recovery.plan import Stage
from jaxdd.methods.recovery.settings import Recovery
from jaxdd.models.layers import MOMENTS
from jaxdd.models.network import Network
from jaxdd.training.sgd import cross_entropy


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


EPSILON = 1e-8  # of Adam
Constants = tuple[tuple[float, ...], tuple[float, ...]]


class RecoverState(NamedTuple):
    """One chunk under way.

    Arguments:
        step: iterations finished, those of earlier stages included.
        images: as they are so far.
        adam: its count and moments.
        losses: the last ones in each teacher, means over the groups.
    """

    step: Int32[Array, ""]
    images: Float[Array, "n size size c"]
    adam: PyTree[Shaped[Array, "..."]]
    losses: Losses


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class ChunkExamples(Examples):
    """The examples that a stage reads.

    Of the usual fields: `labels` `[n]`, the classes wanted; `teachers`; and `images` `[n, height, width, channels]`,
    what the chunk starts from or what the stage before left. Noise needs their number of channels alone.

    Arguments:
        groups: numbers of the chunk's groups within the run; None for 0, 1, ...
        patches: what the chunk started from, of any size, for stages with `merge` below 1; else None.
        adam: `RecoverState.adam` of the stage before, for stages without `reset`; else None.
    """

    groups: Int[Array, " groups"] | None = None
    patches: Float[Array, "n h w c"] | None = None
    adam: PyTree[Shaped[Array, "..."]] | None = None


@dataclasses.dataclass(frozen=True)
class RecoverStage(Procedure[RecoverState]):
    """One stage of a recovery, on one chunk of images; its result is the images, `[n, size, size, channels]`.

    Arguments:
        settings: of the recovery.
        stage: which stretch of it.
        networks: the teachers' architectures; `stage.teachers` are indices.
        constants: mean and standard deviation per channel with which the teachers' images are standardised; None where
            they see [0, 1].
    """

    settings: Recovery
    stage: Stage
    networks: tuple[Network, ...]
    constants: Constants | None = None

    @property
    def batch_rule(self) -> BatchRule:
        """The whole chunk."""
        return BatchRule("all")

    @property
    def steps(self) -> int:
        """Number of steps: each is one iteration with every teacher."""
        return self.stage.steps

    def init(self, key: Key, data: ChunkExamples) -> RecoverState:
        """Returns the chunk as the stage begins.

        Raises:
            ConfigError: the groups do not make up the chunk, or a teacher cannot see images of the stage's size.
        """
        self._require_visible()
        images = self._first_images(key, data)
        adam = self._adam.init(images) if self.stage.reset else data.adam
        nothing = jnp.zeros(len(self.stage.teachers), images.dtype)
        return RecoverState(jnp.asarray(self.stage.first, jnp.int32), images, adam, Losses(nothing, nothing, nothing))

    def parts(self, data: ChunkExamples) -> tuple[Part, ...]:
        """Returns one part for each of several teachers, an iteration; none for one teacher."""
        places = range(len(self.stage.teachers))
        if len(places) == 1:
            return ()
        return tuple(Part(f"teacher {place}", 1, functools.partial(self._in_turn, place)) for place in places)

    def step(self, state: RecoverState, batch: ChunkExamples, key: Key) -> tuple[RecoverState, Metrics]:
        """Makes one iteration, or one with each of several teachers; `batch` is the whole chunk."""
        if len(self.stage.teachers) > 1:
            return in_parts(self, state, batch, key)
        state = self.iterate(state, batch, key, 0)
        return state, self.metrics(state)

    def metrics(self, state: RecoverState) -> Metrics:
        """Returns loss, cross-entropy and statistics: of one teacher, or the means over several and those of each."""
        names = {"loss": "loss", "ce": "cross_entropy", "statistics": "statistics"}
        means = {name: getattr(state.losses, field).mean() for name, field in names.items()}
        if len(self.stage.teachers) > 1:
            for place, teacher in enumerate(self.stage.teachers):
                means |= {f"{name}_{teacher}": getattr(state.losses, field)[place] for name, field in names.items()}
        return means

    def result(self, state: RecoverState) -> Array:
        """Returns the last iterate, in the networks' space."""
        return state.images

    def iterate(self, state: RecoverState, data: ChunkExamples, key: Key, place: int) -> RecoverState:
        """Makes one iteration of the module's header.

        Arguments:
            key: of the step.
            place: which of the stage's teachers.
        """
        dtype = state.images.dtype
        numbers, key = self._numbers(data), jax.random.fold_in(key, state.step)
        keys = jax.vmap(functools.partial(jax.random.fold_in, key))(numbers)
        slopes = functools.partial(self._slope, data.teachers, place, state.step)
        grouped = (a.reshape(len(numbers), -1, *a.shape[1:]) for a in (state.images, data.labels))
        losses, slope = backend.map(slopes, (*grouped, keys))
        moved: Any
        moved, adam = self._adam.update(slope.reshape(state.images.shape), state.adam)
        rate = plan.learning_rate(state.step, self.settings.iterations, self.settings.lr_img, dtype)
        images = jnp.clip(state.images - rate * moved, *self.bounds(state.images.shape[-1], dtype))
        means = jax.tree.map(lambda kept, new: kept.at[place].set(new.mean()), state.losses, losses)
        return RecoverState(state.step + 1, images, adam, means)

    def view(self, key: Key, iteration: Array, shape: tuple[int, ...], dtype: jnp.dtype) -> View:
        """Returns the view of a group.

        Arguments:
            key: of the iteration and the group.
            iteration: i.
            shape: of the group's images.
        """
        of, size = self.settings, self.stage.size
        view = shared.whole(shape, size, dtype)
        if of.crop:
            least = plan.min_scale(iteration, of.iterations, of.easy2hard_mode, of.milestone, of.min_scale)
            view = shared.crop(purpose_key(key, "crop"), shape, size, (least, 1.0), dtype)
        if of.flip:
            view = shared.flip(purpose_key(key, "flip"), view)
        return shared.roll(purpose_key(key, "roll"), view, of.jitter, of.jitter_signed) if of.jitter else view

    def bounds(self, channels: int, dtype: jnp.dtype) -> tuple[Array, Array]:
        """Returns what the pixel values 0 and 1 are in the networks' space, each `[1, 1, 1, channels]`."""
        mean, std = self.constants or ((0.0,) * channels, (1.0,) * channels)
        least, most = ([(end - m) / s for m, s in zip(mean, std, strict=True)] for end in (0, 1))
        return jnp.asarray(least, dtype).reshape(1, 1, 1, -1), jnp.asarray(most, dtype).reshape(1, 1, 1, -1)

    @property
    def _adam(self) -> optax.GradientTransformation:
        return optax.scale_by_adam(*self.settings.betas, eps=EPSILON)

    def _slope(
        self, networks: PyTree, place: int, iteration: Array, group: tuple[Array, Array, Key]
    ) -> tuple[Losses, Array]:
        """Returns L of one group in one teacher, and its derivative in the images."""
        images, labels, key = group
        view, teacher = self.view(key, iteration, images.shape, images.dtype), self.stage.teachers[place]

        def loss(images: Array) -> tuple[Array, Losses]:
            seen, r_bn = shared.see(view, images), self.settings.r_bn_of(teacher)
            found = objective(self.settings, self.networks[teacher], networks[teacher], seen, labels, r_bn=r_bn)
            return found.loss, found

        slope, losses = jax.grad(loss, has_aux=True)(images)
        return losses, slope

    def _in_turn(self, place: int, state: RecoverState, data: ChunkExamples, key: Key, index: Array) -> RecoverState:
        """Makes an iteration with one of several teachers; none where all iterations are made, within the last turn."""
        new = self.iterate(state, data, key, place)
        if self.stage.iterations % len(self.stage.teachers) == 0:
            return new
        active = state.step < self.stage.first + self.stage.iterations
        return jax.tree.map(lambda a, b: jnp.where(active, a, b), new, state)

    def _require_visible(self) -> None:
        size = self.stage.size
        for teacher in self.stage.teachers:
            network = self.networks[teacher]
            there = dataclasses.replace(network, image_shape=(size, size, network.image_shape[2]))
            if there.feature_size != network.feature_size:
                raise ConfigError(
                    f"the teacher ({network}) sees images of {network.image_shape[0]} pixels, not of {size} pixels",
                    where="stages",
                    expected="stages of one size, or a network that averages over the pixels, such as a ResNet",
                    remedy="leave stages out, or take a ResNet as teacher",
                )

    def _first_images(self, key: Key, data: ChunkExamples) -> Array:
        size, stage = self.stage.size, self.stage
        dtype = jnp.promote_types(data.images.dtype, jnp.float32)
        if self.settings.initialise == "noise" and stage.first == 0:
            numbers = self._numbers(data)
            shape = (len(data.labels) // len(numbers), size, size, data.images.shape[-1])
            keys = jax.vmap(functools.partial(jax.random.fold_in, purpose_key(key, "noise")))(numbers)
            return jax.vmap(lambda key: jax.random.normal(key, shape, dtype))(keys).reshape(-1, *shape[1:])
        images = data.images.astype(dtype)
        if stage.merge == 1:
            return plan.resize(images, size)
        assert data.patches is not None
        return plan.merge(images, data.patches.astype(dtype), size, stage.merge)

    def _numbers(self, data: ChunkExamples) -> Array:
        """Returns the groups' numbers within the run, `[groups]`."""
        n = len(data.labels)
        group = min(self.settings.statistics_group, n)
        if n % group:
            raise ConfigError(
                f"{n} images cannot be divided into groups of {group}",
                where="statistics_group",
                expected="a divisor of batch_size, or no less than batch_size",
                remedy=f"set batch_size to {max(1, n // group) * group}, or statistics_group to {n}",
            )
        return jnp.arange(n // group, dtype=jnp.int32) if data.groups is None else data.groups
