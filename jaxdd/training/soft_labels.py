"""Students that learn from a teacher's answers, and the storing of these answers: SRe2L's relabel and validate.

At step s of epoch e, with x the images as they are shown (`training.soft_views`) and t the teacher's logits for x:

    t       <- teacher(x), raw logits; of several teachers their mean, or a weighted sum
    g       <- gradient of L(student(x), t)               L: `training.soft_losses`
    theta   <- AdamW or SGD, rate by epoch (`training.schedules.by_epoch`)
    ema     <- d ema + (1 - d) theta                      parameters alone; what is tested, where d > 0

    AdamW   m <- .9 m + .1 g,  v <- .999 v + .001 g^2,  theta <- theta - rate (m^ / (sqrt(v^) + 1e-8) + wd theta)
    SGD     buf <- momentum buf + g + wd theta,  theta <- theta - rate buf

| symbol | here            | note                                                                              |
|--------|-----------------|-----------------------------------------------------------------------------------|
| wd     | `weight_decay`  | of tensors with more than one axis only, of all with `decay_all` (CIFAR, Tiny, CIM) |
| d      | `ema`           | 0: none; EDC 0.99                                                                 |
| B      | `views`         | batch, order, crops and mixes                                                     |
| b      | `micro`         | images that the student's batch normalisation sees at once; the gradient is of all B |
| G      | `Labeller.group`| the same for the teacher, in batch mode                                           |

Labels are the teacher's in eval mode (SRe2L arXiv 2306.13092, CDA 2311.18838, RDED 2312.03526), or "BSSL": with the
statistics of the very images that are labelled, in groups of G (CV-DD 2501.07575, FADRM 2506.24125); its running
statistics are never written. They are computed as the student trains, or read from disk: `Labelling` makes
those of one epoch.

From RDED's code differs: there a second forward pass per step, without gradient, moves the student's running
statistics once more.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Float, Float16, Int32, Shaped, UInt32

from jaxdd.core import backend, trees
from jaxdd.core.errors import ConfigError, UsageError
from jaxdd.core.procedure import BatchRule, Procedure
from jaxdd.core.random import purpose_key
from jaxdd.core.types import Array, Examples, Key, Metrics, PyTree
from jaxdd.models.network import Network
from jaxdd.training.schedules import by_epoch
from jaxdd.training.soft_losses import SoftLoss
from jaxdd.training.soft_views import View, Views

STORED = jnp.float16  # type of logits on disk
KL = SoftLoss()


@dataclasses.dataclass(frozen=True)
class Labeller:
    """The teachers.

    Arguments:
        networks: one or several.
        batch_statistics: BSSL: batch normalisations use the statistics of the images that are labelled.
        group: of how many images at a time, a divisor of the batch; None for the whole batch.
        weights: one per network, for the sum of their logits; None for the mean.
    """

    networks: tuple[Network, ...] = ()
    batch_statistics: bool = False
    group: int | None = None
    weights: tuple[float, ...] | None = None

    def logits(self, variables: tuple[PyTree, ...], images: Array) -> Array:
        """Returns raw logits, `[n, classes]`.

        Arguments:
            variables: of each network; never changed.
            images: `[n, height, width, channels]`, as networks see them.

        Raises:
            ConfigError: the group does not divide n, or there are not as many variables or weights as networks.
        """
        count = len(self.networks)
        weights = (1 / count,) * count if self.weights is None else self.weights
        if not count == len(variables) == len(weights):
            raise ConfigError(
                f"{count} teachers with {len(variables)} sets of variables and {len(weights)} weights",
                where="soft labels",
                expected="as many of each",
                remedy="pass one set of variables and one weight for each teacher",
            )
        each = [self._of(network, values, images) for network, values in zip(self.networks, variables, strict=True)]
        return sum((w * logits for w, logits in zip(weights[1:], each[1:], strict=True)), weights[0] * each[0])

    def _of(self, network: Network, variables: PyTree, images: Array) -> Array:
        if not self.batch_statistics:
            return backend.by_rows(lambda part: network.apply(variables, part).logits, images)
        groups = _in_groups(images, self.group, "the teacher's group")
        return backend.map(lambda part: network.apply(variables, part, train=True).logits, groups).reshape(
            len(images), -1
        )


class StudentState(NamedTuple):
    """A student in training.

    Arguments:
        step: steps done.
        seed: of the draws that decide what is shown.
        variables: of the network.
        optimizer: optax's state.
        average: the parameters' average, or ().
    """

    step: Int32[Array, ""]
    seed: UInt32[Array, ""]
    variables: PyTree[Float[Array, "..."]]
    optimizer: PyTree[Shaped[Array, "..."]]
    average: PyTree[Float[Array, "..."]]


@dataclasses.dataclass(frozen=True)
class SoftLabelTraining(Procedure[StudentState]):
    """Training of a student; its result is the network's variables. See the module's header.

    It reads the whole distilled set: `images` raw with `constants`, or as networks see them; `labels` `[n]` or
    `[n, classes]`; and the `teachers`. With `streamed` the run's stream has the `answers` to every step's batch, and no
    teacher is asked.

    Arguments:
        network: what is trained.
        labeller: the teachers.
        views: which images a step sees, and how they are shown.
        epochs: E.
        optimizer: `adamw` or `sgd`.
        learning_rate: the largest.
        momentum: of SGD.
        weight_decay: see the header.
        decay_all: whether biases and normalisations decay too.
        schedule, slowdown, warmup: of the rate, see `by_epoch`.
        loss: see `SoftLoss`.
        ema: d, 0 <= d < 1.
        micro: b, a divisor of the batch; None for the whole batch.
        half: whether the teacher's logits are rounded to float16 first, as those on disk are.
        streamed: whether labels come from a stream (`training.stored_labels`).
    """

    network: Network
    labeller: Labeller
    views: Views
    epochs: int
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 0.01
    decay_all: bool = False
    schedule: Literal["cosine", "linear"] = "cosine"
    slowdown: float = 1.0
    warmup: int = 0
    loss: SoftLoss = KL
    ema: float = 0.0
    micro: int | None = None
    half: bool = False
    streamed: bool = False

    @property
    def batch_rule(self) -> BatchRule:
        """The whole set, of which a step takes its rows itself; or a stream of the labels that each step needs."""
        return BatchRule("stream", self.views.batch_size) if self.streamed else BatchRule("all")

    def init(self, key: Key, data: Examples) -> StudentState:
        """Returns a fresh network."""
        variables = self.network.init(key, jnp.promote_types(data.dtype, jnp.float32))
        params = variables["params"]
        seed = jax.random.bits(purpose_key(key, "views"), (), jnp.uint32)
        if self.views.label_seed is not None:
            seed = jnp.asarray(self.views.label_seed, jnp.uint32)
        average = params if self.ema else ()
        return StudentState(jnp.zeros((), jnp.int32), seed, variables, self._rule(1).init(params), average)

    def step(self, state: StudentState, batch: Examples, key: Key) -> tuple[StudentState, Metrics]:
        """Trains the student for one step; `batch` is the whole set, and `key` is not used: see `Views`.

        Raises:
            UsageError: there is neither a teacher nor a label on disk.
        """
        view = self.views.at(batch, state.seed, self.views.number(state.seed, state.step, len(batch)))
        # From here on all is the same wherever labels come from, to the bit: nothing is fused with their making.
        teacher = jax.lax.optimization_barrier(self._labels(batch, view).astype(view.images.dtype))
        labels = batch.labels[view.rows]
        classes = jnp.argmax(labels, 1) if labels.ndim == 2 else labels
        value, slope, variables = self._gradient(state.variables, view.images, teacher, classes)
        rule, params = self._rule(self.views.steps_per_epoch(len(batch))), state.variables["params"]
        update, optimizer = rule.update(slope, state.optimizer, params)
        params = trees.add(params, update)
        average = state.average
        if self.ema:
            average = jax.tree.map(lambda kept, new: self.ema * kept + (1 - self.ema) * new, average, params)
        variables = {**variables, "params": params}
        return StudentState(state.step + 1, state.seed, variables, optimizer, average), {"loss": value}

    def result(self, state: StudentState) -> PyTree:
        """Returns the trained variables, with the averaged parameters where there is an average."""
        return {**state.variables, "params": state.average} if self.ema else state.variables

    def _labels(self, data: Examples, view: View) -> Array:
        if self.streamed:
            assert data.answers is not None
            logits, classes = data.answers
            return logits if classes is None else spread(logits, classes, data.classes)
        if not self.labeller.networks:
            raise UsageError(
                "there is no teacher to label the images",
                where="soft labels",
                expected="networks trained on the real images, or labels on disk",
                remedy="train a teacher with squeeze, and name it",
            )
        return view.repeated(answers(self.labeller, data.teachers, view.images, half=self.half))

    def _gradient(
        self, variables: PyTree, images: Array, teacher: Array, classes: Array
    ) -> tuple[Array, PyTree, PyTree]:
        """Returns the mean loss of the batch, its gradient, and the variables with new running statistics."""

        def of(variables: PyTree, *part: Array) -> tuple[Array, PyTree, PyTree]:
            def loss(params: PyTree) -> tuple[Array, PyTree]:
                outputs = self.network.apply({**variables, "params": params}, part[0], train=True)
                return self.loss(outputs.logits, *part[1:]), outputs.variables

            (value, updated), slope = jax.value_and_grad(loss, has_aux=True)(variables["params"])
            return value, slope, updated

        if self.micro in (None, len(images)):
            return of(variables, images, teacher, classes)
        parts = tuple(_in_groups(leaf, self.micro, "the student's micro-batch") for leaf in (images, teacher, classes))
        count = len(parts[0])

        def add(i: int | Array, total: tuple[Array, PyTree, PyTree]) -> tuple[Array, PyTree, PyTree]:
            value, slope, updated = of(total[2], *trees.take(parts, i))
            value, slope = trees.scale(1 / count, (value, slope))
            return *trees.add(total[:2], (value, slope)), updated

        nothing = trees.zeros_like((teacher[0, 0], variables["params"]))
        return backend.loop(count, add, (*nothing, variables))

    def _rule(self, per_epoch: int) -> optax.GradientTransformation:
        shape = {"shape": self.schedule, "epochs": self.epochs, "slowdown": self.slowdown, "warmup": self.warmup}
        by_number = by_epoch(self.learning_rate, **shape)

        def rate(step: Any) -> Array:
            return by_number(step // per_epoch)

        decays = None if self.decay_all else lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params)
        if self.optimizer == "adamw":
            return optax.adamw(rate, weight_decay=self.weight_decay, mask=decays)
        decay = optax.add_decayed_weights(self.weight_decay, decays)
        return optax.chain(decay, optax.trace(self.momentum), optax.scale_by_learning_rate(rate))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class EpochExamples(Examples):
    """The examples that a student reads, and which of its epochs is labelled.

    Arguments:
        epoch: its number, from 0.
    """

    epoch: Int32[Array, ""]


class LabellingState(NamedTuple):
    """The labels of an epoch under way.

    Arguments:
        step: steps done.
        epoch: its number.
        logits: so far; zeros for batches that are still to come.
        own_class: sum over the steps of the share of images whose largest logit is their own class.
    """

    step: Int32[Array, ""]
    epoch: Int32[Array, ""]
    logits: Float16[Array, "batches batch classes"]
    own_class: Float[Array, ""]


@dataclasses.dataclass(frozen=True)
class Labelling(Procedure[LabellingState]):
    """Labelling of one epoch of what a student will see, a batch in each step; its result is `[batches, B, C]` float16.

    Arguments:
        labeller: the teachers.
        views: the student's; with a seed.
    """

    labeller: Labeller
    views: Views

    @property
    def batch_rule(self) -> BatchRule:
        """The whole set."""
        return BatchRule("all")

    def init(self, key: Key, data: EpochExamples) -> LabellingState:
        """Returns zeros for all labels of the epoch.

        Raises:
            ConfigError: every student would see something else.
        """
        if self.views.label_seed is None:
            raise ConfigError(
                "labels that are stored need a seed of their own",
                where="label_seed",
                expected="an integer",
                remedy="set label_seed, e.g. to 42",
            )
        room = (self.views.steps_per_epoch(len(data)), self.views.batch_size, data.classes)
        return LabellingState(jnp.zeros((), jnp.int32), data.epoch, jnp.zeros(room, STORED), jnp.zeros(()))

    def step(self, state: LabellingState, batch: Examples, key: Key) -> tuple[LabellingState, Metrics]:
        """Labels one batch; `key` is not used.

        The metric is the share, so far, of images whose largest logit is their own class.
        """
        seed = jnp.asarray(self.views.label_seed, jnp.uint32)
        view = self.views.at(batch, seed, state.epoch * len(state.logits) + state.step)
        logits = answers(self.labeller, batch.teachers, view.images, half=True)
        labels = batch.labels[view.rows]
        right = (jnp.argmax(labels, 1) if labels.ndim == 2 else labels) == jnp.argmax(logits, 1)
        stored = jax.lax.dynamic_update_index_in_dim(state.logits, logits.astype(STORED), state.step, 0)
        total = state.own_class + right.mean(dtype=state.own_class.dtype)
        return LabellingState(state.step + 1, state.epoch, stored, total), {"own_class": total / (state.step + 1)}

    def result(self, state: LabellingState) -> Array:
        """Returns the epoch's logits."""
        return state.logits


def answers(labeller: Labeller, variables: tuple[PyTree, ...], images: Array, *, half: bool) -> Array:
    """Returns the teachers' logits, kept apart by the compiler from what is computed with them.

    So those that are stored equal, to the bit, those that a student asks for.
    """
    logits = labeller.logits(variables, images)
    if half:  # the CPU keeps float32 throughout a chain of conversions unless the rounding stands by itself
        logits = jax.lax.reduce_precision(logits, exponent_bits=5, mantissa_bits=10)
    return jax.lax.optimization_barrier(logits)


def spread(logits: Array, classes: Array, count: int) -> Array:
    """Returns logits of all classes, `[n, count]`: those of some `classes`, both `[n, k]`, and -inf for the rest."""
    nothing = jnp.full((len(logits), count), -jnp.inf, jnp.float32)
    return nothing.at[jnp.arange(len(logits))[:, None], classes].set(logits.astype(jnp.float32))


def _in_groups(rows: Array, size: int | None, what: str) -> Array:
    """Returns the rows in groups, `[groups, size, ...]`."""
    size = len(rows) if size is None else size
    if len(rows) % size:
        raise ConfigError(
            f"{what} of {size} images does not divide a batch of {len(rows)}",
            where="soft labels",
            expected="a divisor of the batch size",
            remedy="choose a batch size that it divides",
        )
    return rows.reshape(-1, size, *rows.shape[1:])
