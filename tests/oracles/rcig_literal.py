"""The published RCIG procedure, written out term by term with automatic differentiation.

RCIG = "Dataset Distillation with Convexified Implicit Gradients", arXiv 2302.06755. The engine is compared with this
file, so it takes no shortcut, solves nothing in closed form that the paper iterates, and repeats what the authors' code
does even where it looks accidental (marked "quirk"). It is slow on purpose, and knows nothing of data or files.

    paper            here            meaning
    X_S, y_S, tau    Coreset.params  `x_proto` [P,H,W,c], `y_proto` [P,C], `log_temp` []; N = 2P with flips, else P
    theta_0          base            parameters of the selected pool network; no gradient ever reaches them
    theta            theta           tangent parameters, same tree, start at 0
    h(x)             features        input of the last layer at theta_0
    o(x)             offsets         J f(x) theta, derivative of the logits; or f(x; theta_0 + theta) - f(x; theta_0)
    lambda           ridge           l2_rate * P (not N)

One outer iteration, with K = h_S h_S^T and A = (K + lambda I)^-1 (y_S - o_S):

    inner    L(theta) = [ 1/2 |y_S - o_S - K A|^2 + lambda/2 (tr A^T K A + |theta|^2) ] / (N C), by Adam steps from 0
    outer    CE( exp(tau) (o_T + h_T h_S^T A), one-hot ) - mean_j min( top1(y_j) - top2(y_j), 1/(2C) )
    direct   d = d outer / d (X, Y, tau),   g = d outer / d theta
    inverse  x ~ H^-1 g with H = d^2 L / d theta^2, by Adam steps on 1/2 x^T H x - g^T x from x = 0
    implicit c = d / d(X, Y) of - < x, dL/dtheta >, then each leaf shortened to at most the length of d's leaf
    update   AdaBelief on d + c; average of (X, Y, tau) with decay 0.99; the pool network then trains on the new set

Quirks kept: (a) the inner Adam starts with zero moments but with the pool network's step count, so its bias correction
is already warm; (b) the base parameters coast through the inner loop on the momentum of their pool training, and
everything up to the update is evaluated at the drifted point; (c) the last kernel of theta is left out of the
optimiser, but its raw gradient is *added* at every step, so it is small but not zero; it takes part unmasked in g, H
and x. Forward passes in chunks and `do_precompute` change cost only and have no counterpart here.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

Tree = Any
Apply = Callable[
    ..., tuple[jax.Array, jax.Array, Tree]
]  # apply(variables, images, train) -> logits, features, batch_stats
Loop = Callable[..., Tree]  # loop(lower, upper, body, carry), like jax.lax.fori_loop

ADAM = optax.scale_by_adam()
EMA_DECAY = 0.99
TEMPERATURE_LEARNING_RATE = 0.03
NAIVE_POOL_LEARNING_RATE = 1e-4  # quirk: with naive_loss the pool ignores pool_learning_rate


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings under the names of the published config files; the authors tune the two learning rates beforehand."""

    inner_lr: float
    hvp_lr: float
    n_inner_steps: int = 20
    n_hinv_steps: int = 20
    l2_rate: float = 5e-4
    linearize: bool = True
    learn_labels: bool = True
    use_flip: bool = True
    naive_loss: bool = False
    normal_repeats: int = 1
    aug_repeats: int = 0
    direct_batch_sizes: tuple[int | None, int | None] = (None, None)  # (coreset, real batch)
    implicit_batch_size: int | None = None
    hinv_batch_size: int | None = None
    inner_train_batch_size: int | None = None
    pool_train_batch_size: int | None = None
    pool_learning_rate: float = 5e-5
    proto_learning_rate: float = 3e-3
    max_online_steps: int = 100
    last_kernel: tuple[str, str] = ("Dense_0", "kernel")


class PoolModel(NamedTuple):
    """A pool network: parameters, their Adam moments (`count` is the network's age), BatchNorm statistics or None."""

    params: Tree
    moments: optax.ScaleByAdamState
    batch_stats: Tree


class Coreset(NamedTuple):
    """Learned parameters, their optimiser state, and the debiased running average that is evaluated."""

    params: dict[str, jax.Array]
    optimizer: Tree
    ema_hidden: dict[str, jax.Array]
    ema_average: dict[str, jax.Array]
    steps: jax.Array


class Draws(NamedTuple):
    """Every random choice of one outer iteration. Index arrays hold one row per step or repeat; None: all samples.

    `direct_indices` = (rows into the coreset with flips, rows into the real batch). `pool_indices` index the un-flipped
    half. The keys are only read when an augmentation is given, and then one per step or augmented repeat. The authors'
    direct pass always augments with PRNGKey(0).
    """

    model_index: int
    pool_steps: int
    inner_indices: jax.Array | None = None
    direct_indices: tuple[jax.Array | None, jax.Array | None] = (None, None)
    hinv_indices: jax.Array | None = None
    implicit_indices: jax.Array | None = None
    pool_indices: jax.Array | None = None
    inner_keys: jax.Array | None = None
    direct_keys: jax.Array | None = None
    implicit_keys: jax.Array | None = None
    pool_keys: jax.Array | None = None


def python_loop(lower: int, upper: int, body: Callable, carry: Tree) -> Tree:
    """`jax.lax.fori_loop` unrolled by Python; same arguments."""
    for i in range(lower, upper):
        carry = body(i, carry)
    return carry


def new_pool_model(variables: Tree) -> PoolModel:
    """An untrained pool network of age 0."""
    return PoolModel(variables["params"], ADAM.init(variables["params"]), variables.get("batch_stats"))


def new_coreset(images: jax.Array, labels: jax.Array, config: Config) -> Coreset:
    """The state before the first iteration; log_temp starts at 0."""
    params = {"x_proto": images, "y_proto": labels, "log_temp": jnp.zeros((), images.dtype)}
    zeros = jax.tree.map(jnp.zeros_like, params)
    return Coreset(params, _outer_optimizer(config).init(params), zeros, params, jnp.zeros((), jnp.int32))


def _outer_optimizer(config: Config) -> optax.GradientTransformation:
    rates = {"set": config.proto_learning_rate, "temperature": TEMPERATURE_LEARNING_RATE}
    return optax.partition(
        {name: optax.adabelief(rate) for name, rate in rates.items()},
        {"x_proto": "set", "y_proto": "set", "log_temp": "temperature"},
    )


def training_set(params: dict[str, jax.Array], config: Config) -> tuple[jax.Array, jax.Array]:
    """Images and labels as networks see them: mirrored copies with use_flip, constant labels without learn_labels."""
    images, labels = params["x_proto"], params["y_proto"]
    if not config.learn_labels:
        labels = jax.lax.stop_gradient(labels)
    if config.use_flip:
        images = jnp.concatenate([images, jnp.flip(images, axis=2)])
        labels = jnp.concatenate([labels, labels])
    return images, labels


def _add(a: Tree, b: Tree) -> Tree:
    return jax.tree.map(jnp.add, a, b)


def _scale(factor: Any, tree: Tree) -> Tree:
    return jax.tree.map(lambda leaf: factor * leaf, tree)


def _dot(a: Tree, b: Tree) -> jax.Array:
    return sum(jax.tree.leaves(jax.tree.map(lambda x, y: jnp.sum(x * y), a, b)))


def _row(table: jax.Array | None, i: Any) -> jax.Array | None:
    return None if table is None else table[i]


def _variables(params: Tree, batch_stats: Tree) -> dict[str, Tree]:
    return {"params": params} if batch_stats is None else {"params": params, "batch_stats": batch_stats}


@dataclasses.dataclass(frozen=True)
class Problem:
    """One outer iteration: network, settings, draws, and the two losses they define.

    With naive_loss there is no convexification: theta is the whole network, the loss plain squares, `base` unused.
    """

    apply: Apply
    config: Config
    ridge: float
    batch_stats: Tree
    draws: Draws
    augment: Callable | None
    loop: Loop

    def forward(self, theta: Tree, base: Tree, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        """(features at base [n,d], offsets of theta [n,C])."""

        def network(params):
            return self.apply(_variables(params, self.batch_stats), images, train=False)[:2]

        base = jax.lax.stop_gradient(base)
        if self.config.linearize:
            (_, features), (offsets, _) = jax.jvp(network, (base,), (theta,))
        else:
            logits, features = network(base)
            offsets = network(_add(base, theta))[0] - logits
        return features, offsets

    def sampled_forward(self, theta: Tree, base: Tree, images: jax.Array, labels: jax.Array, subset: jax.Array | None):
        """`forward` with gradients through the rows `subset` only: (features, offsets, labels), those rows first."""
        if subset is None:
            return *self.forward(theta, base, images), labels
        count = images.shape[0]
        rest = jnp.nonzero(jnp.ones(count, bool).at[subset].set(False), size=count - subset.shape[0])[0]
        sampled = self.forward(theta, base, images[subset])
        constant = jax.lax.stop_gradient(self.forward(theta, base, images[rest]))
        features, offsets = (jnp.concatenate(parts) for parts in zip(sampled, constant, strict=True))
        return features, offsets, labels[jnp.concatenate([subset, rest])]

    def inner(self, theta: Tree, base: Tree, images: jax.Array, labels: jax.Array, subset: jax.Array | None = None):
        """L(theta)."""
        if self.config.naive_loss:
            logits = self.apply(_variables(theta, self.batch_stats), images, train=False)[0]
            return (0.5 * jnp.sum((logits - labels) ** 2) + 0.5 * self.ridge * _dot(theta, theta)) / labels.size
        features, offsets, labels = self.sampled_forward(theta, base, images, labels, subset)
        kernel = features @ features.T
        weights = self._dual_weights(kernel, labels - offsets)
        fit = 0.5 * jnp.sum((labels - offsets - kernel @ weights) ** 2)
        decay = 0.5 * self.ridge * (jnp.trace(weights.T @ kernel @ weights) + _dot(theta, theta))
        return (fit + decay) / labels.size

    def outer(self, theta: Tree, base: Tree, coreset: tuple, log_temp: jax.Array, real: tuple, subsets: tuple):
        """(outer loss, accuracy) on the real batch; `coreset` and `real` are (images, labels), `subsets` likewise."""
        if self.config.naive_loss:
            images, labels = real
            logits = self.apply(_variables(theta, self.batch_stats), images, train=False)[0]
            loss = 0.5 * jnp.sum((logits - labels) ** 2) / labels.size
            return loss, jnp.mean(logits.argmax(1) == labels.argmax(1))
        features, offsets, labels = self.sampled_forward(theta, base, *coreset, subsets[0])
        real_features, real_offsets, real_labels = self.sampled_forward(theta, base, *real, subsets[1])
        weights = self._dual_weights(features @ features.T, labels - offsets)
        logits = real_offsets + (real_features @ features.T) @ weights
        one_hot = real_labels - jnp.min(real_labels)
        loss = jnp.mean(optax.softmax_cross_entropy(logits * jnp.exp(log_temp), one_hot))
        top = jax.lax.top_k(labels, 2)[0]
        margin = jnp.mean(jnp.minimum(top[:, 0] - top[:, 1], 1 / (2 * labels.shape[1])))
        return loss - margin, jnp.mean(logits.argmax(1) == real_labels.argmax(1))

    def _dual_weights(self, kernel: jax.Array, residual: jax.Array) -> jax.Array:
        return jnp.linalg.solve(kernel + self.ridge * jnp.eye(len(kernel), dtype=kernel.dtype), residual)


def inner_steps(problem: Problem, model: PoolModel, data: tuple[jax.Array, jax.Array]):
    """n_inner_steps of Adam on L from theta = 0. Returns (theta, drifted base, losses before each step)."""
    config, draws, (images, labels) = problem.config, problem.draws, data
    zeros = jax.tree.map(jnp.zeros_like, model.params)
    warm = optax.ScaleByAdamState(count=model.moments.count, mu=zeros, nu=zeros)  # quirk a

    def step(i, carry):
        theta, moments, base, base_moments, losses = carry
        seen = images if problem.augment is None else problem.augment(draws.inner_keys[i], images)
        loss, slope = jax.value_and_grad(problem.inner)(theta, base, seen, labels, _row(draws.inner_indices, i))
        direction, moments = ADAM.update(slope, moments)
        change = _scale(-config.inner_lr, direction)
        if not config.naive_loss:
            layer, name = config.last_kernel
            change[layer] = {**change[layer], name: slope[layer][name]}  # quirk c: uphill, by the raw gradient
            drift, base_moments = ADAM.update(zeros, base_moments)  # quirk b
            base = _add(base, _scale(-config.pool_learning_rate, drift))
        return _add(theta, change), moments, base, base_moments, losses.at[i].set(loss)

    start = (model.params, model.moments) if config.naive_loss else (zeros, warm)
    losses = jnp.zeros(config.n_inner_steps, images.dtype)
    carry = (*start, model.params, model.moments, losses)
    theta, _, base, _, losses = problem.loop(0, config.n_inner_steps, step, carry)
    return theta, base, losses


def direct_gradient(problem: Problem, theta: Tree, base: Tree, params: Tree, real: tuple[jax.Array, jax.Array]):
    """Outer loss and its gradients, averaged over repeats: (loss, accuracy, d like params, g like theta)."""

    def one_pass(i, augment):
        subsets = tuple(_row(table, i) for table in problem.draws.direct_indices)

        def loss(theta, params):
            images, labels = training_set(params, problem.config)
            return problem.outer(theta, base, (augment(images), labels), params["log_temp"], real, subsets)

        (value, accuracy), (g, d) = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(theta, params)
        return value, accuracy, d, g

    return _averaged(problem, one_pass, problem.draws.direct_keys)


def inverse_hessian_product(problem: Problem, theta: Tree, base: Tree, g: Tree, data: tuple[jax.Array, jax.Array]):
    """x ~ H^-1 g by Adam, and x^T (H x - 2 g) before each step. Augmentation never applies here."""
    config = problem.config
    optimizer = optax.adam(config.hvp_lr)

    def step(i, carry):
        x, state, residuals = carry
        slope = jax.grad(lambda theta: problem.inner(theta, base, *data, _row(problem.draws.hinv_indices, i)))
        product = jax.jvp(slope, (theta,), (x,))[1]
        residual = _dot(x, jax.tree.map(lambda h, b: h - 2 * b, product, g))
        updates, state = optimizer.update(jax.tree.map(jnp.subtract, product, g), state, x)
        return optax.apply_updates(x, updates), state, residuals.at[i].set(residual)

    zeros = jax.tree.map(jnp.zeros_like, g)
    residuals = jnp.zeros(config.n_hinv_steps, data[0].dtype)
    x, _, residuals = problem.loop(0, config.n_hinv_steps, step, (zeros, optimizer.init(zeros), residuals))
    return x, residuals


def implicit_gradient(problem: Problem, theta: Tree, base: Tree, x: Tree, params: Tree) -> Tree:
    """c = d/d params of - < x, dL/dtheta >, averaged over repeats, not clipped."""

    def one_pass(i, augment):
        def pairing(params):
            images, labels = training_set(params, problem.config)
            subset = _row(problem.draws.implicit_indices, i)
            return -_dot(x, jax.grad(problem.inner)(theta, base, augment(images), labels, subset))

        return jax.grad(pairing)(params)

    return _averaged(problem, one_pass, problem.draws.implicit_keys)


def _averaged(problem: Problem, one_pass: Callable, keys: jax.Array | None) -> Tree:
    """Mean of `one_pass(i, augment)` over normal_repeats plain and aug_repeats augmented passes."""
    plain = problem.config.normal_repeats
    total = plain + problem.config.aug_repeats

    def add_plain(i, sums):
        return _add(sums, one_pass(i, lambda images: images))

    def add_augmented(i, sums):
        return _add(sums, one_pass(i, lambda images: problem.augment(keys[i - plain], images)))

    shapes = jax.eval_shape(lambda: one_pass(0, lambda images: images))
    sums = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    sums = problem.loop(0, plain, add_plain, sums)
    if total > plain:
        sums = problem.loop(plain, total, add_augmented, sums)
    return _scale(1 / total, sums)


def clip_to(implicit: Tree, direct: Tree) -> Tree:
    """Shortens each leaf of `implicit` to at most the length of the same leaf of `direct`; 0/0 gives 0."""

    def clip(c, d):
        length = jnp.linalg.norm(c)
        return jnp.nan_to_num(c / length * jnp.minimum(length, jnp.linalg.norm(d)))

    return jax.tree.map(clip, implicit, direct)


def update_coreset(coreset: Coreset, gradient: Tree, config: Config) -> tuple[Coreset, Tree]:
    """One AdaBelief step and the debiased exponential average. Returns (coreset, updates)."""
    updates, state = _outer_optimizer(config).update(gradient, coreset.optimizer, coreset.params)
    params = optax.apply_updates(coreset.params, updates)
    steps = coreset.steps + 1
    hidden = jax.tree.map(lambda h, p: EMA_DECAY * h + (1 - EMA_DECAY) * p, coreset.ema_hidden, params)
    average = _scale(1 / (1 - EMA_DECAY**steps), hidden)
    return Coreset(params, state, hidden, average, steps), updates


def train_pool_model(problem: Problem, model: PoolModel, data: tuple[jax.Array, jax.Array]) -> PoolModel:
    """`draws.pool_steps` Adam steps of the ordinary network on squares; this is where BatchNorm statistics move."""
    config, draws = problem.config, problem.draws
    rate = NAIVE_POOL_LEARNING_RATE if config.naive_loss else config.pool_learning_rate

    def step(i, model):
        images, labels = data if draws.pool_indices is None else (part[draws.pool_indices[i]] for part in data)
        if problem.augment is not None:
            images = problem.augment(draws.pool_keys[i], images)

        def loss(params):
            logits, _, stats = problem.apply(_variables(params, model.batch_stats), images, train=True)
            return 0.5 * jnp.sum((logits - labels) ** 2) / labels.size, stats

        slope, stats = jax.grad(loss, has_aux=True)(model.params)
        direction, moments = ADAM.update(slope, model.moments)
        stats = model.batch_stats if model.batch_stats is None else stats
        return PoolModel(_add(model.params, _scale(-rate, direction)), moments, stats)

    return problem.loop(0, draws.pool_steps, step, model)


def outer_step(
    apply: Apply,
    config: Config,
    model: PoolModel,
    coreset: Coreset,
    real: tuple[jax.Array, jax.Array],
    draws: Draws,
    augment: Callable | None = None,
    loop: Loop = jax.lax.fori_loop,
) -> tuple[PoolModel, Coreset, dict[str, Tree]]:
    """One outer iteration with the pool network already selected; pure, may be jitted over `model` to `draws`.

    Arguments:
        apply: `apply(variables, images, train=False) -> (logits, features, new batch_stats)`; any convolution.
        config: settings.
        model: the selected pool network.
        coreset: current state of the synthetic set.
        real: real images [B,H,W,c] and labels [B,C], one-hot minus 1/C.
        draws: the iteration's random choices.
        augment: `augment(key, images)`, or None.
        loop: `jax.lax.fori_loop`, or `python_loop` (then `draws.pool_steps` must be a Python integer).

    Returns:
        The trained pool network, the updated coreset, and every intermediate quantity by name.
    """
    ridge = config.l2_rate * coreset.params["x_proto"].shape[0]
    problem = Problem(apply, config, ridge, model.batch_stats, draws, augment, loop)
    data = training_set(coreset.params, config)
    theta, base, losses = inner_steps(problem, model, data)
    loss, accuracy, direct, g = direct_gradient(problem, theta, base, coreset.params, real)
    x, residuals = inverse_hessian_product(problem, theta, base, g, data)
    implicit = implicit_gradient(problem, theta, base, x, coreset.params)
    clipped = implicit if config.naive_loss else clip_to(implicit, direct)
    gradient = _add(direct, clipped)
    coreset, updates = update_coreset(coreset, gradient, config)
    trained = train_pool_model(problem, model, training_set(coreset.params, config))
    metrics = {
        "inner_losses": losses,
        "outer_loss": loss,
        "outer_accuracy": accuracy,
        "residuals": residuals,
        "direct": direct,
        "implicit": implicit,
        "clipped": clipped,
        "gradient": gradient,
        "updates": updates,
        "theta": theta,
        "g": g,
        "x": x,
        "base_drift": jax.tree.map(jnp.subtract, base, model.params),
    }
    return trained, coreset, metrics


def distill(
    apply: Apply,
    config: Config,
    pool: Sequence[PoolModel],
    coreset: Coreset,
    batches: Sequence[tuple[jax.Array, jax.Array]],
    draws: Sequence[Draws],
    fresh: Callable[[], PoolModel] | None = None,
    augment: Callable | None = None,
    loop: Loop = jax.lax.fori_loop,
):
    """One outer iteration per entry of `batches` and `draws`.

    A network that has reached max_online_steps is replaced by `fresh()`.

    Returns:
        (pool, coreset, list of the metrics of each iteration).
    """

    def one(pool_steps, model, coreset, real, drawn):
        drawn = drawn._replace(pool_steps=pool_steps)
        return outer_step(apply, config, model, coreset, real, drawn, augment, loop)

    step = jax.jit(one, static_argnums=0 if loop is python_loop else ())
    pool, history = list(pool), []
    for real, drawn in zip(batches, draws, strict=True):
        chosen = drawn.model_index
        pool[chosen], coreset, metrics = step(drawn.pool_steps, pool[chosen], coreset, real, drawn)
        if pool[chosen].moments.count >= config.max_online_steps and fresh is not None:
            pool[chosen] = fresh()
        history.append(metrics)
    return pool, coreset, history
