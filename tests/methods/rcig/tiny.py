"""RCIG on a network of 83 parameters, beside the literal oracle at the exact inner solution."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np

from jaxdd.core.types import Array, Examples, PyTree
from jaxdd.kernels.meta_gradient import Synthetic
from jaxdd.methods.rcig import solve
from jaxdd.methods.rcig.method import RCIG, Draws, MetaGradient, RCIGState
from jaxdd.methods.rcig.solve import draw
from jaxdd.models.network import Network
from jaxdd.training import pool
from tests.oracles import rcig_literal
from tests.oracles.convnet import ConvNet, apply_fn

SHAPE, CLASSES, STORED, REAL, L2 = (4, 4, 3), 3, 3, 5, 0.01
NAMES = {"images": "x_proto", "labels": "y_proto", "log_temperature": "log_temp"}


def method(**settings: Any) -> RCIG:
    """RCIG with small networks; solved densely and without the published last kernel unless told otherwise."""
    defaults: dict[str, Any] = {"hinv_last_kernel": False} if settings.get("inner_solver") != "adam" else {}
    defaults |= {"inner_solver": "dense", "batch_size": REAL, "pool_model_count": 1, "width": 2, "depth": 1}
    return RCIG(**{**defaults, "softplus_temp": 6.0, "l2_rate": L2, **settings})


def network(of: RCIG) -> Network:
    """The architecture of its pool."""
    return of.network(SHAPE, CLASSES)


def images(count: int, seed: int) -> np.ndarray:
    """`[count, 4, 4, 3]` float64."""
    return np.random.default_rng(seed).normal(size=(count, *SHAPE))


def synthetic() -> Synthetic:
    """One image per class, labels near one-hot without ties."""
    labels = np.eye(CLASSES) * [[0.1], [1.0], [2.0]] - np.linspace(0, 0.03, CLASSES) - 1 / CLASSES
    return Synthetic(jnp.asarray(images(STORED, 1)), jnp.asarray(labels), jnp.asarray(0.3))


def batch() -> Examples:
    """Five real images."""
    return Examples(jnp.asarray(images(REAL, 2)), jnp.asarray([0, 1, 2, 1, 0], jnp.int32), CLASSES)


def examples(count: int = 12) -> Examples:
    """A data set to start from."""
    return Examples(jnp.asarray(images(count, 3)), jnp.asarray(np.arange(count) % CLASSES, jnp.int32), CLASSES)


@functools.cache
def variables(batch_norm: bool = False) -> PyTree:
    """NumPy variables with non-zero biases and, with `batch_norm`, statistics that have moved."""
    found = jax.tree.map(np.asarray, network(method(has_bn=batch_norm)).init(jax.random.key(0)))
    random = np.random.default_rng(4)
    moved = jax.tree.map(lambda leaf: leaf + 0.1 * random.normal(size=leaf.shape), found)
    return jax.tree.map(lambda leaf: np.abs(leaf) if leaf.ndim == 1 else leaf, moved)


def state(of: RCIG) -> RCIGState:
    """A state before step 0 with one network in the pool."""
    held = jax.tree.map(jnp.asarray, variables(of.has_bn))
    member = pool.Member(held, rcig_literal.ADAM.init(held["params"]), jnp.zeros((), jnp.int32))
    start = synthetic()
    return RCIGState(
        step=jnp.zeros((), jnp.int32),
        synthetic=start,
        optimizer=of._optimizer().init(start),
        ema=jax.tree.map(jnp.zeros_like, start),
        pool=jax.tree.map(lambda leaf: leaf[None], member),
        rates=solve.start(of.inner_learning_rate, of.hvp_learning_rate, jnp.float64),
    )


def member_of(of: RCIG) -> pool.Member:
    """The one network of the pool."""
    return jax.tree.map(lambda leaf: leaf[0], state(of).pool)


def draws(of: RCIG, seed: int = 0) -> Draws:
    """Its own random choices for one step."""
    return draw(of, jax.random.key(seed), stored=STORED, real=REAL)


def arguments(of: RCIG):
    """What `meta_gradient` takes after the network."""
    return member_of(of), state(of), batch(), draws(of)


@functools.cache
def compiled(of: RCIG):
    """Its meta-gradient as one program: `(member, state, batch, draws) -> MetaGradient`."""
    return functools.partial(jax.jit(of.meta_gradient, static_argnums=0), network(of))


@functools.cache
def found(of: RCIG) -> MetaGradient:
    """The meta-gradient of one step, as NumPy arrays."""
    return jax.tree.map(np.asarray, compiled(of)(*arguments(of)))


def traced(of: RCIG) -> str:
    """The program before compilation, as text: equal texts are equal programs."""
    return str(jax.make_jaxpr(functools.partial(of.meta_gradient, network(of)))(*arguments(of)))


def apply_of(softplus_temp: float = 6.0, batch_norm: bool = False):
    """The oracle's network."""
    net = ConvNet(classes=CLASSES, width=2, depth=1, softplus_temp=softplus_temp, batch_norm=batch_norm)
    return apply_fn(net)


def literal_config(**settings: Any) -> rcig_literal.Config:
    """The oracle's settings."""
    return rcig_literal.Config(**{"inner_lr": 0.0, "hvp_lr": 0.0, "l2_rate": L2, **settings})


def literal_params(stored: Synthetic) -> dict[str, Array]:
    """Under the oracle's names."""
    return {NAMES[name]: leaf for name, leaf in stored._asdict().items()}


def literal_batch() -> tuple[Array, Array]:
    """Real images and labels, one-hot minus 1/k."""
    return batch().images, jax.nn.one_hot(batch().labels, CLASSES, dtype=jnp.float64) - 1 / CLASSES


def literal_draws(of: Draws, **changes: Any) -> rcig_literal.Draws:
    """The same random choices under the oracle's names."""

    def table(rows):
        return None if rows[0] is None else jnp.stack(rows)

    return rcig_literal.Draws(
        model_index=0,
        pool_steps=of.pool_steps,
        direct_indices=(
            table([rows.synthetic for rows in of.direct]),
            table([rows.real for rows in of.direct]),
        ),
        implicit_indices=table(of.implicit),
        pool_indices=of.pool_rows,
        **changes,
    )


@functools.cache
def _oracle(repeats: int):
    """d, c and the outer loss by the paper's formulas at the exact theta and x, through an explicit Hessian."""

    def run(base: PyTree, params: PyTree, real: tuple, drawn: rcig_literal.Draws):
        config = literal_config(normal_repeats=repeats)
        loop = rcig_literal.python_loop
        problem = rcig_literal.Problem(apply_of(), config, L2 * STORED, None, drawn, None, loop)
        data = rcig_literal.training_set(params, config)
        flat, unravel = jax.flatten_util.ravel_pytree(jax.tree.map(jnp.zeros_like, base))
        free = _without_last_kernel(base)

        def slope(point):
            return jax.grad(problem.inner)(unravel(point), base, *data)

        def flat_slope(point):
            return jax.flatten_util.ravel_pytree(slope(point))[0]

        constant, product = jax.linearize(flat_slope, flat)
        hessian = jax.lax.map(product, jnp.eye(flat.size))[jnp.ix_(free, free)]

        def solve(right):
            return flat.at[free].set(jnp.linalg.solve(hessian, right[free]))

        theta = unravel(solve(-constant))
        loss, accuracy, d, g = rcig_literal.direct_gradient(problem, theta, base, params, real)
        x = unravel(solve(jax.flatten_util.ravel_pytree(g)[0]))
        c = rcig_literal.implicit_gradient(problem, theta, base, x, params)
        return {"loss": loss, "accuracy": accuracy, "direct": d, "implicit": c}

    return jax.jit(run)


def _without_last_kernel(base: PyTree) -> np.ndarray:
    """Indices into the flattened parameters."""
    named = jax.tree_util.tree_leaves_with_path(base)
    kept = [np.full(leaf.size, "kernel" not in str(path) or "Dense" not in str(path)) for path, leaf in named]
    return np.flatnonzero(np.concatenate(kept))


@functools.cache
def oracle(of: RCIG) -> dict[str, Any]:
    """What the paper's formulas give for its random choices, with the inner problem solved exactly."""
    base = jax.tree.map(jnp.asarray, variables()["params"])
    drawn = literal_draws(draws(of))._replace(model_index=jnp.zeros((), jnp.int32))
    result = _oracle(of.normal_repeats)(base, literal_params(synthetic()), literal_batch(), drawn)
    return jax.tree.map(np.asarray, result)


def difference(gradient: Synthetic, expected: dict[str, np.ndarray]) -> float:
    """Largest error over leaves, relative to the largest entry of each leaf."""
    errors = []
    for name, leaf in gradient._asdict().items():
        other = expected[NAMES[name]]
        errors.append(np.max(np.abs(leaf - other)) / (np.max(np.abs(other)) or 1.0))
    return max(errors)
