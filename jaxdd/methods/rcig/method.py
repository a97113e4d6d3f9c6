"""RCIG: dataset distillation with convexified implicit gradients (arXiv 2302.06755).

One outer step, at one network p of a pool, with X mirrored (and Y repeated) first if `use_flip`:

    inner     theta* = argmin L(theta; X, Y), kernel ridge regression on the linearised network     `inner_solver`
    outer     (d, g) = gradient in ((X, Y, log temperature), theta) of the loss on a real batch
    implicit  c      = gradient in (X, Y) through theta*, by one more solve; clipped leaf by leaf to |d|
    update    AdaBelief on d + c; an average over steps (EMA, 0.99) is what is published
    pool      p trains 1 to `n_max_steps_pool` - 1 steps on (X, Y); at `max_online_steps` a fresh network replaces it

| paper        | here                                                                  |
|--------------|-----------------------------------------------------------------------|
| lambda       | `l2_rate` * number of stored images (before mirroring)                |
| L, d, g, c   | `kernels.meta_gradient`, one implementation for every solver          |
| tau          | `Synthetic.log_temperature`                                           |

The inner problem is exactly quadratic, so `pcg` and `dense` solve it as one linear system, without learning rates or
tuning. `adam` is the authors' own procedure: 20 Adam steps for theta, 20 for the inverse-Hessian product, with tuned
rates. In all three the last kernel takes part in that product though not in theta, as in their code, which makes better
sets than the exact derivative (docs/solver.md); `hinv_last_kernel = false` gives the latter.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float, Int32, Shaped

from jaxdd import models
from jaxdd.augment import build as build_augmentation
from jaxdd.core import sharding, trees
from jaxdd.core.distilled import Decode, DistilledSet
from jaxdd.core.procedure import BatchRule, Demand, Method
from jaxdd.core.random import purpose_key
from jaxdd.core.types import Array, Examples, Key, Metrics, PyTree
from jaxdd.data.device.sampling import first_images, sample
from jaxdd.kernels.meta_gradient import (
    Expanded,
    InnerProblem,
    Synthetic,
    clip_to,
    direct_gradient,
    implicit_gradient,
)
from jaxdd.methods.rcig import memory, naive
from jaxdd.methods.rcig import rates as rcig_rates
from jaxdd.methods.rcig.draws import Draws, draw
from jaxdd.methods.rcig.settings import RCIGSettings
from jaxdd.methods.rcig.solve import Solution, solve_by_adam, solve_exactly
from jaxdd.models.network import LAST, Network
from jaxdd.training import pool

EMA_DECAY = 0.99
TEMPERATURE_LEARNING_RATE = 0.03


class RCIGState(NamedTuple):
    """All that a run holds.

    Arguments:
        step: outer steps done.
        synthetic: what is learned.
        optimizer: AdaBelief's state.
        ema: running sum of the average over steps, not yet debiased.
        pool: the networks, stacked.
        rates: learning rates of the `adam` solver and their statistics.
    """

    step: Int32[Array, ""]
    synthetic: Synthetic
    optimizer: PyTree[Shaped[Array, "..."]]
    ema: Synthetic
    pool: pool.Member
    rates: rcig_rates.Rates


class MetaGradient(NamedTuple):
    """The gradient of the outer loss through the inner problem.

    Arguments:
        direct, implicit: d and c, before clipping.
        total: d plus clipped c.
        metrics: scalars to report.
        losses, residuals: of the inner solver by step, and of the inverse-Hessian product by step.
    """

    direct: Synthetic
    implicit: Synthetic
    total: Synthetic
    metrics: Metrics
    losses: Float[Array, " inner_steps"]
    residuals: Float[Array, " hinv_steps"]


@dataclasses.dataclass(frozen=True)
class RCIG(RCIGSettings, Method[RCIGState]):
    """The three functions of RCIG; its settings are the fields of `RCIGSettings`."""

    per_device: ClassVar[tuple[str, ...]] = ("pool",)

    @property
    def batch_rule(self) -> BatchRule:
        """A uniform batch of real images."""
        return BatchRule("uniform", self.batch_size)

    def network(self, image_shape: tuple[int, int, int], classes: int) -> Network:
        """Returns the architecture of the pool."""
        return models.build(
            "conv",
            image_shape=image_shape,
            classes=classes,
            width=self.width,
            depth=self.depth,
            normalization="batch" if self.has_bn else "identity",
            softplus_temp=self.softplus_temp,
            precision=self.precision,
        )

    def describe(self, image_shape: tuple[int, int, int], classes: int) -> str:
        """Describes the networks, and how the inner problem is solved; refuses an augmentation that does not exist."""
        build_augmentation(self.aug, image_shape[0])
        network = self.network(image_shape, classes)
        return f"{network}, pool of {self.pool_model_count}; inner solver {self.inner_solver}"

    def demand(self, image_shape: tuple[int, int, int], classes: int) -> Demand:
        """Returns the memory of activations and kernels, and the chunks that bound it."""
        network = self.network(image_shape, classes)
        return memory.demand(self, network, stored=self.n_images * classes, real=self.batch_size)

    def init(self, key: Key, data: Examples) -> RCIGState:
        """Returns the state with images given, real or noise, labels one-hot minus 1/k, and a pool of new networks."""
        chosen = first_images(data, self.n_images, purpose_key(key, "synthetic"))
        images = chosen.images
        if self.init_random_noise and data.first_images is None:
            images = 0.3 * jax.random.normal(purpose_key(key, "noise"), images.shape, images.dtype)
        labels = jax.nn.one_hot(chosen.labels, data.classes, dtype=images.dtype) - 1 / data.classes
        synthetic = Synthetic(images, labels, jnp.zeros((), images.dtype))
        network = self.network(data.image_shape, data.classes)
        state = RCIGState(
            step=jnp.zeros((), jnp.int32),
            synthetic=synthetic,
            optimizer=self._optimizer().init(synthetic),
            ema=trees.zeros_like(synthetic),
            pool=pool.fill(network, purpose_key(key, "pool"), self.pool_model_count, images.dtype),
            rates=rcig_rates.start(self.inner_learning_rate, self.hvp_learning_rate, images.dtype),
        )
        if self.inner_solver == "adam" and not self.skip_tune:
            state = state._replace(rates=self._tune(state, data, purpose_key(key, "tune")))
        return state

    def step(self, state: RCIGState, batch: Examples, key: Key) -> tuple[RCIGState, Metrics]:
        """Takes one outer step on one batch of real images."""
        return self.update(state, batch, draw(self, key, stored=len(state.synthetic.images), real=len(batch)))

    def result(self, state: RCIGState) -> DistilledSet:
        """Returns the average over steps, as the paper evaluates it; before step 1, the initial set."""
        steps = int(state.step)
        average = trees.scale(1 / (1 - EMA_DECAY**steps), state.ema) if steps else state.synthetic
        return DistilledSet(
            images=np.asarray(average.images, np.float32),
            labels=np.asarray(average.labels, np.float32),
            log_temperature=float(average.log_temperature),
            decode=Decode(flip=self.use_flip),
        )

    def update(self, state: RCIGState, batch: Examples, draws: Draws) -> tuple[RCIGState, Metrics]:
        """Takes one outer step with every random choice given; deterministic."""
        network = self.network(batch.image_shape, batch.classes)
        member = trees.take(state.pool, draws.model)
        gradient = sharding.mean(self.meta_gradient(network, member, state, batch, draws))
        return self.advance(network, member, state, gradient, draws)

    def advance(
        self, network: Network, member: pool.Member, state: RCIGState, gradient: MetaGradient, draws: Draws
    ) -> tuple[RCIGState, Metrics]:
        """Updates the set by its meta-gradient, then its average, the network of the pool and the learning rates."""
        update, optimizer = self._optimizer().update(gradient.total, state.optimizer, state.synthetic)
        synthetic = trees.add(state.synthetic, update)
        ema = jax.tree.map(lambda old, new: EMA_DECAY * old + (1 - EMA_DECAY) * new, state.ema, synthetic)
        member = self._train_member(network, member, synthetic, draws)
        member = pool.renew(network, member, draws.renewal, limit=self.max_online_steps)
        rates, metrics = state.rates, gradient.metrics
        if self.inner_solver == "adam":
            rates = rcig_rates.adapt(rates, rcig_rates.status(gradient.losses), state.step)
            metrics = {**metrics, "inner_lr": rates.inner, "hvp_status": rcig_rates.status(gradient.residuals)}
        new_pool = trees.put(state.pool, draws.model, member)
        return RCIGState(state.step + 1, synthetic, optimizer, ema, new_pool, rates), metrics

    def meta_gradient(
        self, network: Network, member: pool.Member, state: RCIGState, batch: Examples, draws: Draws
    ) -> MetaGradient:
        """Returns d + c at one network of the pool."""
        if self.naive_loss:
            return self._naive_meta_gradient(network, member, state, batch)
        solution = self._solve(network, member, state, draws)
        problem, theta, synthetic = solution.problem, solution.theta, state.synthetic
        passes = [
            direct_gradient(problem, theta, synthetic, view, batch, rows)
            for view, rows in zip(self._views(draws.direct_augment), draws.direct, strict=True)
        ]
        d, g = _mean([(d, g) for _, _, d, g in passes])
        u, respond_metrics, residuals = solution.respond(g)
        c = _mean(
            [
                implicit_gradient(problem, theta, u, synthetic, view, rows)
                for view, rows in zip(self._views(draws.implicit_augment), draws.implicit, strict=True)
            ]
        )
        loss, accuracy, *_ = passes[self.normal_repeats - 1]
        metrics = {
            "loss": loss,
            "accuracy": accuracy,
            "temperature": jnp.exp(synthetic.log_temperature),
            "direct_norm": trees.norms(d).images,
            "implicit_norm": trees.norms(c).images,
            **solution.metrics,
            **respond_metrics,
        }
        return MetaGradient(d, c, trees.add(d, clip_to(c, d)), metrics, solution.losses, residuals)

    def _naive_meta_gradient(
        self, network: Network, member: pool.Member, state: RCIGState, batch: Examples
    ) -> MetaGradient:
        c, metrics, losses, residuals = naive.implicit_gradient(
            network,
            member,
            state.synthetic,
            self.expand,
            batch,
            lam=self._lam(state.synthetic),
            steps=(self.n_inner_steps, self.n_hinv_steps),
            rates=state.rates,
        )
        return MetaGradient(trees.zeros_like(c), c, c, metrics, losses, residuals)

    def _views(self, augment: Array | None) -> Sequence[Callable[[Synthetic], Expanded]]:
        augmented = [] if augment is None else [functools.partial(self.expand, key=k) for k in augment]
        return [self.expand] * self.normal_repeats + augmented

    def expand(self, synthetic: Synthetic, key: Key | None = None) -> Expanded:
        """Returns the set as the networks see it: with mirror images if `use_flip`, augmented if a key is given."""
        images = synthetic.images
        labels = synthetic.labels if self.learn_labels else jax.lax.stop_gradient(synthetic.labels)
        if self.use_flip:
            images = jnp.concatenate([images, images[:, :, ::-1]])
            labels = jnp.concatenate([labels, labels])
        return self._augment(Expanded(images, labels), key)

    def _augment(self, expanded: Expanded, key: Key | None) -> Expanded:
        if key is None:
            return expanded
        return Expanded(build_augmentation(self.aug, expanded.images.shape[1])(key, expanded.images), expanded.labels)

    def _solve(self, network: Network, member: pool.Member, state: RCIGState, draws: Draws) -> Solution:
        def forward(params, images):
            outputs = network.apply({**member.variables, "params": params}, images)
            return outputs.logits, outputs.features

        problem = InnerProblem(
            forward,
            member.params,
            lam=self._lam(state.synthetic),
            last=LAST,
            linear=self.linearize,
            double=self.use_x64,
            chunk=self._chunk(network, state.synthetic),
        )
        if self.inner_solver == "adam":
            expand = functools.partial(self.expand, state.synthetic)
            return solve_by_adam(self, problem, member, expand, draws, state.rates)
        return solve_exactly(self, problem, self.expand(state.synthetic))

    def _train_member(self, network: Network, member: pool.Member, synthetic: Synthetic, draws: Draws) -> pool.Member:
        def batches(i: Array) -> Expanded:
            if draws.pool_rows is None:
                expanded = self.expand(synthetic)
            else:  # sub-samples come from the stored half alone, as in the authors' code
                expanded = Expanded(synthetic.images[draws.pool_rows[i]], synthetic.labels[draws.pool_rows[i]])
            return self._augment(expanded, None if draws.pool_augment is None else draws.pool_augment[i])

        rate = naive.POOL_LEARNING_RATE if self.naive_loss else self.pool_learning_rate
        chunk = self._chunk(network, synthetic)
        return pool.train(network, member, draws.pool_steps, batches, learning_rate=rate, chunk=chunk)

    def _lam(self, synthetic: Synthetic) -> float:
        """Returns lambda of the module's header."""
        return self.l2_rate * len(synthetic.images)

    def _chunk(self, network: Network, synthetic: Synthetic) -> int | None:
        stored = len(synthetic.images)
        return memory.footprint(self, network, stored=stored, real=self.batch_size).chunk

    def _tune(self, state: RCIGState, data: Examples, key: Key) -> rcig_rates.Rates:
        """Tunes the learning rates of `adam`, by trials on the first network and one batch."""
        plain = dataclasses.replace(self, aug=None, aug_repeats=0)
        batch = sample(data, self.batch_rule, purpose_key(key, "batch"))
        draws = draw(plain, purpose_key(key, "draws"), stored=len(state.synthetic.images), real=len(batch))
        network = self.network(data.image_shape, data.classes)
        member = trees.take(state.pool, 0)

        def attempt(**rates: Array) -> tuple[Array, Array]:
            trial = state._replace(rates=state.rates._replace(**rates))
            gradient = plain.meta_gradient(network, member, trial, batch, draws)
            return rcig_rates.status(gradient.losses), rcig_rates.status(gradient.residuals)

        inner = rcig_rates.tune(state.rates.inner, lambda rate: attempt(inner=rate)[0])
        hvp = rcig_rates.tune(state.rates.hvp, lambda rate: attempt(inner=inner, hvp=rate)[1])
        return state.rates._replace(inner=inner, hvp=hvp)

    def _optimizer(self) -> optax.GradientTransformation:
        prototypes, temperature = optax.adabelief(self.proto_learning_rate), optax.adabelief(TEMPERATURE_LEARNING_RATE)
        labels = Synthetic("prototypes", "prototypes", "temperature")  # pyright: ignore[reportArgumentType]
        return optax.multi_transform({"prototypes": prototypes, "temperature": temperature}, labels)


def _mean(gradients: list[Any]) -> Any:
    return jax.tree.map(lambda *leaves: sum(leaves) / len(leaves), *gradients)
