"""RCIG's `adam` path reproduces numbers recorded from the authors' code: three outer iterations, and every variant."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd.core.types import Examples
from jaxdd.kernels.meta_gradient import Rows, Synthetic, clip_to
from jaxdd.methods.rcig import method as rcig
from jaxdd.methods.rcig import solve as solving
from jaxdd.training import pool
from tests.oracles import rcig_golden

pytestmark = pytest.mark.usefixtures("x64")

GOLDEN = rcig_golden.load()
SECTIONS = {"main": GOLDEN["main"], **GOLDEN["variants"]}
TOLERANCE = 1e-6
RATES = ("inner_lr", "hvp_lr")
SHAPE = (rcig_golden.SIZE, rcig_golden.SIZE, rcig_golden.CHANNELS)


@pytest.fixture
def given_augmentation(monkeypatch):
    """The recorded runs use an augmentation without a random stream of its own."""
    monkeypatch.setattr(rcig, "build_augmentation", lambda strategy, resolution: rcig_golden.augment)


def method_of(section: dict) -> rcig.RCIG:
    settings = {"max_online_steps": 100, "proto_learning_rate": 3e-3, "softplus_temp": 60.0} | section["config"]
    settings = {name: value for name, value in settings.items() if name not in RATES}  # these are part of the state
    if "direct_batch_sizes" in settings:
        settings["direct_batch_sizes"] = tuple(settings["direct_batch_sizes"])
    known = {field.name for field in dataclasses.fields(rcig.RCIG)}
    assert settings.keys() <= known
    return rcig.RCIG(
        **settings,
        inner_solver="adam",
        n_images=rcig_golden.IPC,
        width=rcig_golden.WIDTH,
        depth=rcig_golden.DEPTH,
        batch_size=rcig_golden.BATCH,
        pool_model_count=2,
        use_x64=True,
    )


@functools.cache
def compiled(method: rcig.RCIG):
    """The two halves of an outer step; sections that differ in learning rates alone share them."""
    network = method.network(SHAPE, rcig_golden.CLASSES)
    halves = jax.jit(method.meta_gradient, static_argnums=0), jax.jit(method.advance, static_argnums=0)
    return tuple(functools.partial(half, network) for half in halves)


def start(method: rcig.RCIG, rates: dict) -> rcig.RCIGState:
    images, labels = (jnp.asarray(part) for part in rcig_golden.coreset())
    synthetic = Synthetic(images, labels, jnp.zeros((), images.dtype))
    members = []
    for model in range(2):
        variables = jax.tree.map(jnp.asarray, rcig_golden.network(model, method.has_bn))
        optimizer = rcig.optax.scale_by_adam().init(variables["params"])
        members.append(pool.Member(variables, optimizer, jnp.zeros((), jnp.int32)))
    return rcig.RCIGState(
        step=jnp.zeros((), jnp.int32),
        synthetic=synthetic,
        optimizer=method._optimizer().init(synthetic),
        ema=jax.tree.map(jnp.zeros_like, synthetic),
        pool=jax.tree.map(lambda *leaves: jnp.stack(leaves), *members),
        rates=solving.start(*(rates[name] for name in RATES), images.dtype),
    )


def draws_of(section: dict, iteration: int, method: rcig.RCIG) -> rcig.Draws:
    recorded = section["iterations"][iteration].get("indices", {})
    tables = {name: jnp.asarray(t, jnp.uint32 if "keys" in name else jnp.int32) for name, t in recorded.items()}
    repeats = method.normal_repeats + (method.aug_repeats if method.aug else 0)

    def row(name: str, i: int):
        return tables[name][i] if name in tables else None

    return rcig.Draws(
        model=jnp.asarray(section["model_indices"][iteration]),
        pool_steps=jnp.asarray(section["pool_steps"][iteration]),
        renewal=jax.random.key(0),
        direct=tuple(Rows(row("direct_coreset", i), row("direct_real", i)) for i in range(repeats)),
        implicit=tuple(row("implicit", i) for i in range(repeats)),
        inner=tables.get("inner"),
        hinv=tables.get("hinv"),
        pool_rows=tables.get("pool"),
        inner_augment=tables.get("inner_keys"),
        pool_augment=tables.get("pool_keys"),
        direct_augment=tables.get("direct_keys"),
        implicit_augment=tables.get("implicit_keys"),
    )


def batch_of(iteration: int) -> Examples:
    images, targets = rcig_golden.real_batch(iteration)
    return Examples(jnp.asarray(images), jnp.asarray(targets.argmax(1)), rcig_golden.CLASSES)


def named(synthetic: Synthetic) -> dict[str, np.ndarray]:
    """Leaves under the names of the recorded files."""
    names = ("x_proto", "y_proto", "log_temp")
    return {name: np.asarray(leaf) for name, leaf in zip(names, synthetic, strict=True)}


def assert_close(found, expected, what: str):
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape, what
    size = np.max(np.abs(expected), initial=0.0) or 1.0
    error = np.max(np.abs(found - expected), initial=0.0) / size
    assert error <= TOLERANCE, f"{what}: relative error {error:.2e}"


def assert_norms(tree: dict[str, np.ndarray], expected: dict, what: str):
    for path, norm in expected["norm"].items():
        assert_close(np.linalg.norm(tree[path]), norm, f"{what} norm of {path}")
        for direction, value in enumerate(expected.get("projections", {}).get(path, ())):
            error = abs(rcig_golden.projection(tree[path], direction) - value) / (norm or 1.0)
            assert error <= TOLERANCE, f"{what} projection of {path}: {error:.2e}"


@pytest.mark.fast("main")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.quick) if name == "main" else name for name in sorted(SECTIONS)]
)
def test_adam_equals_the_authors_code(name, given_augmentation):
    section = SECTIONS[name]
    method = method_of(section)
    meta_gradient, advance = compiled(method)
    state = start(method, section["config"])
    for iteration, expected in enumerate(section["iterations"]):
        batch, draws = batch_of(iteration), draws_of(section, iteration, method)
        member = rcig.trees.take(state.pool, draws.model)
        found = meta_gradient(member, state, batch, draws)
        what = f"{name}[{iteration}]"
        assert_close(found.losses, expected["inner_losses"], f"{what} inner losses")
        assert_close(found.metrics["loss"], expected["outer_loss"], f"{what} outer loss")
        assert_close(found.metrics["accuracy"], expected["outer_accuracy"], f"{what} accuracy")
        if name != "clipped":  # at its extreme rate of 3, Adam amplifies rounding in entries whose gradient vanishes
            assert_close(found.residuals, expected["residuals"], f"{what} residuals")
        assert_norms(named(found.direct), expected["direct"], f"{what} d")
        assert_norms(named(found.implicit), expected["implicit"], f"{what} c")
        if not method.naive_loss:
            assert_norms(named(clip_to(found.implicit, found.direct)), expected["clipped"], f"{what} clipped c")
        assert_norms(named(found.total), expected["gradient"], f"{what} d + c")
        state, _ = advance(member, state, found, draws)
        trained = rcig.trees.take(state.pool, draws.model)
        assert int(trained.age) == expected["age_after"]
        for path, norm in expected["pool_params"]["norm"].items():
            layer, leaf = path.split("/")
            assert_close(np.linalg.norm(trained.params[layer][leaf]), norm, f"{what} pool {path}")
    average = rcig.trees.scale(1 / (1 - rcig.EMA_DECAY ** int(state.step)), state.ema)
    for part, tree in (("params", named(state.synthetic)), ("ema_average", named(average))):
        expected = section["final"][part]
        if name == "main":
            for path, array in expected.items():
                assert_close(tree[path], array, f"final {part} {path}")
        else:
            assert_norms(tree, expected, f"{name} final {part}")
