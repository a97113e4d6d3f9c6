"""The literal oracle reproduces numbers recorded from the authors' code, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from . import rcig_golden, rcig_literal
from .convnet import ConvNet, apply_fn

GOLDEN = rcig_golden.load()
SECTIONS = {"main": GOLDEN["main"], **GOLDEN["variants"]}
NOT_IN_ORACLE = {"aug", "has_bn", "softplus_temp", "do_precompute", "max_forward_batch_size"}
TOLERANCE = 1e-8  # measured: 1e-12, and 4e-10 in the updates, where AdaBelief divides by differences of gradients
ROUNDING = 1e-12  # of what is zero but for rounding, such as gradients of a bias before BatchNorm

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("x64")]


def read_draws(section: dict, iteration: int) -> rcig_literal.Draws:
    """The recorded random choices of one outer iteration."""
    recorded = section["iterations"][iteration].get("indices", {})
    rows = {name: jnp.asarray(table, jnp.uint32 if "keys" in name else jnp.int32) for name, table in recorded.items()}
    keys = {name: table for name, table in rows.items() if name.endswith("keys")}
    return rcig_literal.Draws(
        model_index=section["model_indices"][iteration],
        pool_steps=section["pool_steps"][iteration],
        inner_indices=rows.get("inner"),
        direct_indices=(rows.get("direct_coreset"), rows.get("direct_real")),
        hinv_indices=rows.get("hinv"),
        implicit_indices=rows.get("implicit"),
        pool_indices=rows.get("pool"),
        **keys,
    )


def run(section: dict, loop=jax.lax.fori_loop, **overrides):
    """The oracle on the recorded inputs: (pool, coreset, history)."""
    settings = {**section["config"], **overrides}
    batch_norm = settings.get("has_bn", False)
    net = ConvNet(
        classes=rcig_golden.CLASSES,
        width=rcig_golden.WIDTH,
        depth=rcig_golden.DEPTH,
        softplus_temp=settings.get("softplus_temp", 60.0),
        batch_norm=batch_norm,
    )
    if "direct_batch_sizes" in settings:
        settings["direct_batch_sizes"] = tuple(settings["direct_batch_sizes"])
    config = rcig_literal.Config(**{name: value for name, value in settings.items() if name not in NOT_IN_ORACLE})
    variables = [jax.tree.map(jnp.asarray, rcig_golden.network(model, batch_norm)) for model in range(2)]
    pool = [rcig_literal.new_pool_model(v) for v in variables]
    images, labels = (jnp.asarray(part) for part in rcig_golden.coreset())
    coreset = rcig_literal.new_coreset(images, labels, config)
    count = len(section["iterations"])
    batches = [tuple(jnp.asarray(part) for part in rcig_golden.real_batch(t)) for t in range(count)]
    draws = [read_draws(section, t) for t in range(count)]
    augment = rcig_golden.augment if settings.get("aug") else None
    return rcig_literal.distill(apply_fn(net), config, pool, coreset, batches, draws, augment=augment, loop=loop)


def leaves(tree) -> dict[str, np.ndarray]:
    """Arrays by path, as the golden file names them."""
    named = jax.tree_util.tree_leaves_with_path(tree)
    return {"/".join(str(getattr(k, "key", k)) for k in path): np.asarray(leaf) for path, leaf in named}


def assert_close(actual, expected, name: str, scale=None):
    """Relative to the largest expected entry (or `scale`), but never finer than rounding in sums of order one."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, name
    size = np.max(np.abs(expected), initial=0.0) if scale is None else scale
    error = np.max(np.abs(actual - expected), initial=0.0) / max(size, ROUNDING / TOLERANCE)
    assert error <= TOLERANCE, f"{name}: relative error {error:.2e}"


def assert_tree(tree, expected: dict, name: str):
    """Compares leaf norms and, where recorded, projections on fixed random directions (errors relative to the norm)."""
    found = leaves(tree)
    assert found.keys() == expected["norm"].keys(), name
    for path, norm in expected["norm"].items():
        assert_close(np.linalg.norm(found[path]), norm, f"{name} norm {path}")
        for direction, value in enumerate(expected.get("projections", {}).get(path, ())):
            assert_close(rcig_golden.projection(found[path], direction), value, f"{name} projection {path}", scale=norm)


def assert_pool_model(model: rcig_literal.PoolModel, expected: dict, name: str):
    """Compares the network trained last: age, parameters, running statistics."""
    assert int(model.moments.count) == expected["age_after"]
    assert_tree(model.params, expected["pool_params"], f"{name} pool parameters")
    if "pool_batch_stats" in expected:
        assert_tree(model.batch_stats, expected["pool_batch_stats"], f"{name} running statistics")


@pytest.mark.parametrize("name", sorted(SECTIONS))
def test_reproduces_authors(name):
    section = SECTIONS[name]
    pool, coreset, history = run(section)
    for step, (metrics, expected) in enumerate(zip(history, section["iterations"], strict=True)):
        for values in ("inner_losses", "outer_loss", "outer_accuracy", "residuals"):
            assert_close(metrics[values], expected[values], f"{name}[{step}] {values}")
        for tree in ("direct", "implicit", "clipped", "gradient", "updates", "theta", "g", "x"):
            assert_tree(metrics[tree], expected[tree], f"{name}[{step}] {tree}")
        if expected["base_drift"] is not None:
            assert_tree(metrics["base_drift"], expected["base_drift"], f"{name}[{step}] base drift")
    for part in ("params", "ema_average"):
        found, expected = getattr(coreset, part), section["final"][part]
        if name == "main":
            for path, array in expected.items():
                assert_close(found[path], array, f"final {part} {path}")
        else:
            assert_tree(found, expected, f"{name} final {part}")
    assert_pool_model(pool[section["model_indices"][-1]], section["iterations"][-1], name)


def test_python_loop_agrees():
    short = {"n_inner_steps": 2, "n_hinv_steps": 2}
    section = {**SECTIONS["main"], "iterations": SECTIONS["main"]["iterations"][:1]}
    _, compiled, _ = run(section, **short)
    _, unrolled, _ = run(section, loop=rcig_literal.python_loop, **short)
    for path, array in leaves(compiled.params).items():
        assert_close(unrolled.params[path], array, path)
