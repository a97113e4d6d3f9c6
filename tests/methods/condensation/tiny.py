"""The eight matching methods as their names imply them, at a size that tests can afford."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd.core.types import Examples
from jaxdd.methods import Condensation
from jaxdd.methods.condensation.published import implied
from jaxdd.run import loop
from tests.oracles import matching_literal

SHAPE, CLASSES, SEED, OUTER, INNER = (8, 8, 3), 3, 5, 3, 2
COUNTS = (80, 81, 79)  # so many that no cluster has two images, which would be equally near
CONSTANTS = ((0.5, 0.45, 0.4), (0.2, 0.25, 0.3))
SMALL = {"width": 5, "depth": 2, "inner_loop": INNER, "net_epoch": 1, "interval": 2, "base_size": None}
RATES = {"dc": 0.1, "dsa": 0.1, "dm": 1.0, "dream_plus": 0.01}  # of the images: they move by tenths
FIELDS = {field.name for field in dataclasses.fields(Condensation)}

fresh = jax.jit(lambda network, key, dtype: network.init(key, dtype), static_argnums=(0, 2))


def method(name: str, **settings: Any) -> Condensation:
    """The method of this name for CIFAR-10, small: two stored images per class, or one where k-means chooses them."""
    factor = 1 if name in ("dc", "dsa", "dm") else 2
    few = {"n_images": 1, "batch_real": 3} if name in ("dream", "dream_plus", "ga") else {"n_images": 2}
    given = {"method": name, "dataset_name": "cifar10", "factor": factor, **few, **settings}
    small = {**SMALL, "batch_real": 6, "n_data": 10, "lr_img": RATES.get(name, 0.05)}
    small |= {"inner_loop": 1} if name == "dm" else {}
    chosen = {**given, **implied(given).values, **small, **few, **settings}
    return Condensation(**{key: value for key, value in chosen.items() if key in FIELDS})


def examples(of: Condensation, dtype: Any = np.float32) -> Examples:
    """Random images of three classes, unequally many and out of order; three networks trained beforehand."""
    random = np.random.default_rng(1)
    labels = random.permutation(np.repeat(np.arange(CLASSES), COUNTS))
    tint = 0.3 * random.normal(size=(CLASSES, *SHAPE))
    images = np.clip(0.5 + 0.2 * random.normal(size=(len(labels), *SHAPE)) + tint[labels], 0, 1)
    raw = of.space == "raw"
    images = images if raw else (images - CONSTANTS[0]) / CONSTANTS[1]
    networks = None
    if of.source == "pretrained":
        drawn = [fresh(of.network(SHAPE, CLASSES), jax.random.key(i), dtype) for i in range(3)]
        networks = jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves)), *drawn)
    constants = CONSTANTS if raw else None
    pair = jnp.asarray(images, dtype), jnp.asarray(labels, jnp.int32)
    return Examples(*pair, CLASSES, constants, largest=max(COUNTS), early_networks=networks)


def engine(of: Condensation, data: Examples, outer: int = OUTER, **options: Any) -> tuple[Any, list[dict[str, float]]]:
    """The engine's state after `outer` outer iterations, and the metrics of every inner one."""
    metrics: list[dict[str, float]] = []
    steps = outer * of.inner_loop

    def observe(step: int, result: Any, found: Any) -> None:
        metrics.append(dict(found))

    options |= {"observers": (observe,), "observe_at": range(1, steps)}
    state, _ = loop.final_state(of, data, steps=steps, seed=SEED, **options)
    return jax.tree.map(np.asarray, state), metrics


def literal(of: Condensation, data: Examples, outer: int = OUTER) -> matching_literal.Run:
    """The oracle's run from the same start with the same random choices."""
    network = of.network(SHAPE, CLASSES)
    return matching_literal.distil(of, data, SEED, outer, lambda key: fresh(network, key, data.images.dtype))


def difference(found: Any, wanted: Any) -> float:
    """The largest difference of any two entries, relative to the largest entry of all."""
    a, b = (np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]) for tree in (found, wanted))
    return float(np.abs(a - b).max() / np.abs(b).max())
