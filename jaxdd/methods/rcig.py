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
rates. What differs from their code is stated at the settings.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdd import models
from jaxdd.augment import build as build_augmentation
from jaxdd.core import backend, trees
from jaxdd.core.config import setting
from jaxdd.core.distilled import Decode, DistilledSet
from jaxdd.core.errors import ConfigError
from jaxdd.core.procedure import BatchRule, Procedure
from jaxdd.core.random import purpose_key
from jaxdd.core.types import Array, Examples, Key, Metrics, PyTree
from jaxdd.data.sampling import real_images, sample
from jaxdd.kernels import adam, solvers
from jaxdd.kernels.linearized import dense_jacobian, linearize
from jaxdd.kernels.meta_gradient import (
    Expanded,
    InnerProblem,
    Rows,
    Synthetic,
    clip_to,
    direct_gradient,
    implicit_gradient,
)
from jaxdd.methods import rcig_naive, rcig_rates
from jaxdd.models.network import Network
from jaxdd.training import pool

EMA_DECAY = 0.99
TEMPERATURE_LEARNING_RATE = 0.03


class RCIGState(NamedTuple):
    """Everything a run holds.

    Arguments:
        step: outer steps done.
        synthetic: what is learned.
        optimizer: AdaBelief's state.
        ema: running sum of the average over steps, not yet debiased.
        pool: the networks, stacked.
        rates: learning rates of the `adam` solver and their statistics.
    """

    step: Array
    synthetic: Synthetic
    optimizer: PyTree
    ema: Synthetic
    pool: pool.Member
    rates: rcig_rates.Rates


class Draws(NamedTuple):
    """Every random choice of one outer step; what does not apply is None.

    Arguments:
        model: index into the pool.
        pool_steps: training steps of that network.
        renewal: key of the network that may replace it.
        direct: per repeat, the rows of the expanded set and of the real batch that gradients flow through.
        implicit: per repeat, rows of the expanded set.
        inner, hinv: `[steps, m]` rows of the expanded set, for `adam`.
        pool_rows: `[n_max_steps_pool, m]` rows of the stored set.
        inner_augment, pool_augment: `[steps]` keys.
        direct_augment, implicit_augment: `[aug_repeats]` keys.
    """

    model: Array
    pool_steps: Array
    renewal: Key
    direct: tuple[Rows, ...]
    implicit: tuple[Array | None, ...]
    inner: Array | None = None
    hinv: Array | None = None
    pool_rows: Array | None = None
    inner_augment: Array | None = None
    pool_augment: Array | None = None
    direct_augment: Array | None = None
    implicit_augment: Array | None = None


class Solution(NamedTuple):
    """The inner problem solved.

    Arguments:
        problem: the problem at the parameters where the meta-gradient is taken.
        theta: the minimiser.
        respond: g -> u, the scaled inverse-Hessian product, with metrics.
        metrics: how well it was solved.
        losses: inner losses by step, for `adam`.
    """

    problem: InnerProblem
    theta: PyTree
    respond: Callable[[PyTree], tuple[PyTree, Metrics, Array]]
    metrics: Metrics
    losses: Array


class MetaGradient(NamedTuple):
    """The gradient of the outer loss through the inner problem.

    Arguments:
        direct, implicit: d and c, before clipping.
        total: d plus clipped c.
        metrics: scalars to report.
        losses, residuals: of the inner solver and of the inverse-Hessian product, by step.
    """

    direct: Synthetic
    implicit: Synthetic
    total: Synthetic
    metrics: Metrics
    losses: Array
    residuals: Array


@dataclasses.dataclass(frozen=True)
class RCIG(Procedure[RCIGState]):
    """Settings and steps of RCIG; names as in the authors' configuration files."""

    n_images: int = setting(1, "images per class (ipc)", low=1)
    batch_size: int = setting(1024, "real images per outer step", low=1)
    proto_learning_rate: float = setting(0.003, "AdaBelief learning rate of images and labels", low=0)
    learn_labels: bool = setting(True, "learn the labels too")
    init_random_noise: bool = setting(False, "start from noise (0.3 x normal) instead of real images")
    use_flip: bool = setting(True, "use the set together with its mirror images")
    l2_rate: float = setting(5e-4, "ridge coefficient per stored image", low=0)

    width: int = setting(128, "channels of the network's first block", low=1)
    depth: int | None = setting(None, "blocks of the network; null: 3 at 28 and 32 pixels, 4 at 64, 5 at 128", low=1)
    has_bn: bool = setting(False, "networks with batch normalisation")
    softplus_temp: float = setting(60.0, "softplus(beta x) / beta with this beta instead of ReLU; 0 means ReLU", low=0)
    pool_model_count: int = setting(30, "networks in the pool", low=1)
    max_online_steps: int = setting(100, "a network that has trained this many steps is replaced", low=1)
    n_max_steps_pool: int = setting(16, "a chosen network trains 1 to this minus 1 steps", low=2)
    pool_learning_rate: float = setting(5e-5, "Adam learning rate of the pool's networks", low=0)
    pool_train_batch_size: int | None = setting(None, "stored images per pool step; null for all", low=1)

    inner_solver: Literal["pcg", "dense", "adam"] = setting("pcg", "how the inner problem is solved")
    solver_steps: int = setting(12, "pcg: most steps per solve", low=1)
    solver_tolerance: float = setting(1e-5, "pcg: relative residual at which it stops", low=0)
    n_inner_steps: int = setting(20, "adam: steps for theta", low=0)
    n_hinv_steps: int = setting(20, "adam: steps for the inverse-Hessian product", low=0)
    inner_learning_rate: float = setting(1e-5, "adam: learning rate for theta before tuning", low=0)
    hvp_learning_rate: float = setting(5e-5, "adam: learning rate for the inverse-Hessian product before tuning", low=0)
    skip_tune: bool = setting(False, "adam: keep the two learning rates instead of tuning them first")
    warm_inner_adam: bool = setting(True, "adam: bias correction starts at the network's age, as published")
    base_drift: bool = setting(True, "adam: base parameters coast on their momentum meanwhile, as published")
    hinv_last_kernel: bool = setting(True, "adam: the last kernel's tangent takes part as published; false: never")
    linearize: bool = setting(True, "linearise the networks; false (adam only): use their exact difference")
    naive_loss: bool = setting(False, "adam only: plain squared loss instead of kernel ridge regression")
    aug: str | None = setting(None, "adam only: augmentation while distilling, e.g. flip_color_crop")
    aug_repeats: int = setting(0, "augmented gradients averaged per step", low=0)
    normal_repeats: int = setting(1, "gradients (of different sub-samples) averaged per step", low=1)

    direct_batch_sizes: tuple[int | None, int | None] = setting(
        (None, None), "direct gradient: images it flows through, [synthetic, real]; null for all", low=1
    )
    implicit_batch_size: int | None = setting(None, "implicit gradient: images it flows through; null for all", low=1)
    inner_train_batch_size: int | None = setting(None, "inner problem: images per chunk (adam: per sub-sample)", low=1)
    hinv_batch_size: int | None = setting(None, "inverse Hessian: images per chunk (adam: per sub-sample)", low=1)
    max_forward_batch_size: int | None = setting(None, "most images in one forward pass without gradients", low=1)
    do_precompute: bool = setting(False, "accepted; values without gradients are always computed once per step")
    use_x64: bool = setting(False, "form and factorise the kernel matrix in float64")
    monitor_losses: bool = setting(False, "report the first and last loss of the inner solver")

    historical_names: ClassVar[dict[str, str]] = {
        "pool_model_6count": "pool_model_count",
        "outer_train_batch_size": "pool_train_batch_size",
    }

    def __post_init__(self):
        if self.inner_solver != "adam":
            for name in rcig_rates.adam_only(dataclasses.asdict(self)):
                raise ConfigError(
                    f"'{name}' = {getattr(self, name)!r} belongs to inner_solver = adam",
                    where=f"inner_solver = {self.inner_solver}",
                    remedy=f"set inner_solver to adam, or leave '{name}' out",
                )

    @property
    def batch_rule(self) -> BatchRule:
        """A uniform batch of real images."""
        return BatchRule("uniform", self.batch_size)

    def network(self, image_shape: tuple[int, int, int], classes: int) -> Network:
        """The architecture of the pool."""
        return models.build(
            "conv",
            image_shape=image_shape,
            classes=classes,
            width=self.width,
            depth=self.depth,
            normalization="batch" if self.has_bn else "identity",
            softplus_temp=self.softplus_temp,
        )

    def init(self, key: Key, data: Examples) -> RCIGState:
        """Starts from real images (or noise), labels one-hot minus 1/k, and a pool of new networks."""
        chosen = real_images(data, self.n_images, purpose_key(key, "synthetic"))
        images = chosen.images
        if self.init_random_noise:
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
        """One outer step on one batch of real images."""
        return self.update(state, batch, self.draw(state, batch, key))

    def result(self, state: RCIGState) -> DistilledSet:
        """The average over steps, as the paper evaluates it; before step 1, the initial set."""
        steps = int(state.step)
        average = trees.scale(1 / (1 - EMA_DECAY**steps), state.ema) if steps else state.synthetic
        return DistilledSet(
            images=np.asarray(average.images, np.float32),
            labels=np.asarray(average.labels, np.float32),
            log_temperature=float(average.log_temperature),
            decode=Decode(flip=self.use_flip),
        )

    def draw(self, state: RCIGState, batch: Examples, key: Key) -> Draws:
        """All random choices of one outer step."""
        stored = len(state.synthetic.images)
        expanded = stored * (2 if self.use_flip else 1)
        repeats = range(self.normal_repeats + (self.aug_repeats if self.aug else 0))

        def rows(purpose: str, count: int, size: int | None, steps: int | None = None) -> Array | None:
            if size is None or size >= count:
                return None
            choose = lambda k: jax.random.choice(k, count, (size,), replace=False)  # noqa: E731
            own = purpose_key(key, purpose)
            return choose(own) if steps is None else jax.vmap(choose)(jax.random.split(own, steps))

        adam_only = self.inner_solver == "adam"
        augmented = self.aug is not None
        keys = lambda purpose, count: jax.random.split(purpose_key(key, purpose), count)  # noqa: E731
        return Draws(
            model=jax.random.randint(purpose_key(key, "model"), (), 0, self.pool_model_count),
            pool_steps=jax.random.randint(purpose_key(key, "pool steps"), (), 1, self.n_max_steps_pool),
            renewal=purpose_key(key, "renewal"),
            direct=tuple(
                Rows(
                    rows(f"direct synthetic {i}", expanded, self.direct_batch_sizes[0]),
                    rows(f"direct real {i}", len(batch), self.direct_batch_sizes[1]),
                )
                for i in repeats
            ),
            implicit=tuple(rows(f"implicit {i}", expanded, self.implicit_batch_size) for i in repeats),
            inner=rows("inner", expanded, self.inner_train_batch_size, self.n_inner_steps) if adam_only else None,
            hinv=rows("hinv", expanded, self.hinv_batch_size, self.n_hinv_steps) if adam_only else None,
            pool_rows=rows("pool rows", stored, self.pool_train_batch_size, self.n_max_steps_pool),
            inner_augment=keys("inner augment", max(self.n_inner_steps, 1)) if augmented else None,
            pool_augment=keys("pool augment", self.n_max_steps_pool) if augmented else None,
            direct_augment=keys("direct augment", self.aug_repeats) if augmented else None,
            implicit_augment=keys("implicit augment", self.aug_repeats) if augmented else None,
        )

    def update(self, state: RCIGState, batch: Examples, draws: Draws) -> tuple[RCIGState, Metrics]:
        """One outer step with every random choice given; deterministic."""
        network = self.network(batch.image_shape, batch.classes)
        member = trees.take(state.pool, draws.model)
        found = self.meta_gradient(network, member, state, batch, draws)
        update, optimizer = self._optimizer().update(found.total, state.optimizer, state.synthetic)
        synthetic = optax.apply_updates(state.synthetic, update)
        ema = jax.tree.map(lambda old, new: EMA_DECAY * old + (1 - EMA_DECAY) * new, state.ema, synthetic)
        member = self._train_member(network, member, synthetic, draws)
        member = pool.renew(network, member, draws.renewal, limit=self.max_online_steps)
        rates, metrics = state.rates, found.metrics
        if self.inner_solver == "adam":
            rates = rcig_rates.adapt(rates, rcig_rates.status(found.losses), state.step)
            metrics |= {"inner_lr": rates.inner, "hvp_status": rcig_rates.status(found.residuals)}
        new_pool = trees.put(state.pool, draws.model, member)
        return RCIGState(state.step + 1, synthetic, optimizer, ema, new_pool, rates), metrics

    def meta_gradient(
        self, network: Network, member: pool.Member, state: RCIGState, batch: Examples, draws: Draws
    ) -> MetaGradient:
        """d + c at one network of the pool."""
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
        c, metrics, losses, residuals = rcig_naive.implicit_gradient(
            network,
            member,
            state.synthetic,
            self.expand,
            batch,
            lam=self.l2_rate * len(state.synthetic.images),
            steps=(self.n_inner_steps, self.n_hinv_steps),
            rates=state.rates,
        )
        return MetaGradient(trees.zeros_like(c), c, c, metrics, losses, residuals)

    def _views(self, augment: Array | None) -> list[Callable[[Synthetic], Expanded]]:
        augmented = range(self.aug_repeats if augment is not None else 0)
        return [self.expand] * self.normal_repeats + [functools.partial(self.expand, key=augment[i]) for i in augmented]

    def expand(self, synthetic: Synthetic, key: Key | None = None) -> Expanded:
        """The set as the networks see it: with mirror images if `use_flip`, augmented if a key is given."""
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
            lam=self.l2_rate * len(state.synthetic.images),
            freeze=functools.partial(_freeze_last_kernel, network),
            linear=self.linearize,
            double=self.use_x64,
            chunk=self.max_forward_batch_size,
        )
        if self.inner_solver == "adam":
            return self._solve_by_adam(problem, member, state, draws)
        return self._solve_exactly(problem, self.expand(state.synthetic))

    def _solve_exactly(self, problem: InnerProblem, expanded: Expanded) -> Solution:
        """theta* = J^T A^-1 Y and u = g - J^T A^-1 J g."""
        chunk = min((s for s in (self.inner_train_batch_size, self.hinv_batch_size) if s), default=None)
        looped = self.inner_solver == "pcg" and not backend.unrolls(self.solver_steps)
        with backend.looping(looped):
            linear = linearize(problem.forward, problem.params, expanded.images, chunk=chunk)
        ridge = problem.ridge(linear.features)
        if self.inner_solver == "dense":
            jacobian = dense_jacobian(problem.forward, problem.params, expanded.images)
            solve = solvers.dense_operator_solve(problem.freeze(jacobian), ridge)
        else:
            operator = solvers.tangent_operator(linear, ridge, problem.freeze)
            limits = {"steps": self.solver_steps, "tolerance": self.solver_tolerance}
            solve = lambda right: solvers.pcg(operator, right, ridge.solve, **limits)  # noqa: E731
        alpha = solve(expanded.labels)
        theta = problem.freeze(linear.pull(alpha.solution))

        def respond(g: PyTree) -> tuple[PyTree, Metrics, Array]:
            beta = solve(linear.push(problem.freeze(g)))
            u = problem.freeze(trees.subtract(g, linear.pull(beta.solution)))
            return u, {"hinv_residual": beta.residual}, beta.residual[None]

        metrics = {"inner_residual": alpha.residual, "inner_steps": alpha.steps}
        return Solution(problem, theta, respond, metrics, alpha.residual[None])

    def _solve_by_adam(self, problem: InnerProblem, member: pool.Member, state: RCIGState, draws: Draws) -> Solution:
        """theta and x by the paper's fixed numbers of Adam steps; u = lam / (n k) x."""
        views = draws.inner_augment

        def batches(i: Array) -> tuple[Expanded, Array | None]:
            expanded = self.expand(state.synthetic, None if views is None else views[i])
            return expanded, None if draws.inner is None else draws.inner[i]

        theta, params, losses = adam.minimise(
            lambda params: dataclasses.replace(problem, params=params),
            problem.params,
            batches,
            steps=self.n_inner_steps,
            learning_rate=state.rates.inner,
            count=member.optimizer.count if self.warm_inner_adam else 0,
            drift=adam.Drift(self.pool_learning_rate, member.optimizer) if self.base_drift else None,
            last_kernel=self.hinv_last_kernel,
        )
        problem = dataclasses.replace(problem, params=params)
        expanded = self.expand(state.synthetic)

        def respond(g: PyTree) -> tuple[PyTree, Metrics, Array]:
            x, residuals = adam.inverse_hessian_product(
                problem,
                theta,
                g,
                expanded,
                lambda i: None if draws.hinv is None else draws.hinv[i],
                steps=self.n_hinv_steps,
                learning_rate=state.rates.hvp,
                last_kernel=self.hinv_last_kernel,
            )
            metrics = {"hinv_residual": residuals[-1]} if self.n_hinv_steps else {}
            return trees.scale(problem.lam / expanded.labels.size, x), metrics, residuals

        metrics = {"inner_loss": losses[-1]} if self.n_inner_steps else {}
        return Solution(problem, theta, respond, metrics, losses)

    def _train_member(self, network: Network, member: pool.Member, synthetic: Synthetic, draws: Draws) -> pool.Member:
        def batches(i: Array) -> Expanded:
            if draws.pool_rows is None:
                expanded = self.expand(synthetic)
            else:  # sub-samples come from the stored half alone, as in the authors' code
                expanded = Expanded(synthetic.images[draws.pool_rows[i]], synthetic.labels[draws.pool_rows[i]])
            return self._augment(expanded, None if draws.pool_augment is None else draws.pool_augment[i])

        rate = rcig_naive.POOL_LEARNING_RATE if self.naive_loss else self.pool_learning_rate
        return pool.train(network, member, draws.pool_steps, batches, learning_rate=rate)

    def _tune(self, state: RCIGState, data: Examples, key: Key) -> rcig_rates.Rates:
        """Learning rates of `adam`, by trials on the first network and one batch."""
        plain = dataclasses.replace(self, aug=None, aug_repeats=0)
        batch = sample(data, self.batch_rule, key)
        draws = plain.draw(state, batch, key)
        network = self.network(data.image_shape, data.classes)
        member = trees.take(state.pool, 0)

        def attempt(**rates: Array) -> tuple[Array, Array]:
            trial = state._replace(rates=state.rates._replace(**rates))
            *_, losses, residuals = plain.meta_gradient(network, member, trial, batch, draws)
            return rcig_rates.status(losses), rcig_rates.status(residuals)

        inner = rcig_rates.tune(state.rates.inner, lambda rate: attempt(inner=rate)[0])
        hvp = rcig_rates.tune(state.rates.hvp, lambda rate: attempt(inner=inner, hvp=rate)[1])
        return state.rates._replace(inner=inner, hvp=hvp)

    def _optimizer(self) -> optax.GradientTransformation:
        prototypes, temperature = optax.adabelief(self.proto_learning_rate), optax.adabelief(TEMPERATURE_LEARNING_RATE)
        labels = Synthetic("prototypes", "prototypes", "temperature")  # pyright: ignore[reportArgumentType]
        return optax.multi_transform({"prototypes": prototypes, "temperature": temperature}, labels)


def _freeze_last_kernel(network: Network, tree: PyTree) -> PyTree:
    body, last = network.split_last(tree)
    return network.join_last(body, {**last, "kernel": jnp.zeros_like(last["kernel"])})


def _mean(gradients: list[Any]) -> Any:
    return jax.tree.map(lambda *leaves: sum(leaves) / len(leaves), *gradients)
