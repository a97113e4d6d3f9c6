"""A recovery small enough for tests: two blocks of four channels, 8x8 pixels; variables without a trivial number."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxdd import models
from jaxdd.core.random import key_for
from jaxdd.core.types import Array, Key
from jaxdd.methods.recovery.plan import plan
from jaxdd.methods.recovery.settings import Recovery
from jaxdd.methods.recovery.stage import ChunkExamples, RecoverStage
from jaxdd.models import layers

SIDE, CLASSES = 8, 3
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
GIVEN: dict[str, Any] = {"iterations": 6, "lr_img": 0.3, "r_bn": 0.05, "jitter": 2, "statistics_group": 6}


def network(depth: int = 2, normalization: str = "batch", **options: Any) -> models.Network:
    """A ConvNet as RCIG has it, whose epsilon is 1e-5."""
    shape = (SIDE, SIDE, 3)
    return models.build(
        "conv", image_shape=shape, classes=CLASSES, width=4, depth=depth, normalization=normalization, **options
    )


class Pooled(nn.Module):
    """A block whose pixels are averaged before the classifier, so that images may have any size."""

    classes: int

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> Any:
        x = nn.relu(layers.normalize(layers.convolution(4)(images), "batch", train=train)).mean((1, 2))
        return nn.Dense(self.classes)(x), (x,)


def pooled() -> models.Network:
    """A network of it."""
    return models.Network(Pooled(CLASSES), (SIDE, SIDE, 3))


def variables(of: models.Network, dtype: Any = np.float32, seed: int = 0) -> Any:
    """Random ones of the network's shapes."""
    random = np.random.default_rng(seed)

    def draw(path: Any, leaf: jax.ShapeDtypeStruct) -> Array:
        kind = path[-1].key
        if kind == "kernel":
            return jnp.asarray(random.normal(size=leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1])), dtype)
        return jnp.asarray((kind in ("scale", "var")) + random.uniform(0.05, 0.4, leaf.shape), dtype)

    return jax.tree_util.tree_map_with_path(draw, jax.eval_shape(of.init, jax.random.key(0)))


def examples(count: int, dtype: Any = np.float32, teachers: tuple[models.Network, ...] = ()) -> ChunkExamples:
    """A chunk of `count` images."""
    images = jnp.asarray(np.random.default_rng(1).normal(size=(count, SIDE, SIDE, 3)), dtype)
    held = tuple(variables(each, dtype, seed) for seed, each in enumerate(teachers or (network(),)))
    return ChunkExamples(images, jnp.arange(count, dtype=jnp.int32) % CLASSES, CLASSES, teachers=held)


def stages(teachers: tuple[models.Network, ...] = (), **given: Any) -> tuple[RecoverStage, ...]:
    """The procedures of a recovery."""
    settings, teachers = Recovery(**{**GIVEN, **given}), teachers or (network(),)
    return tuple(RecoverStage(settings, each, teachers, (MEAN, STD)) for each in plan(settings, SIDE, len(teachers)))


def key(step: int, seed: int = 0) -> Key:
    """What the loop gives a step."""
    return key_for(seed, "step", step)


def run(procedure: RecoverStage, data: ChunkExamples, steps: int | None = None) -> Any:
    """The state after all steps, and the metrics of the last one."""
    step = jax.jit(procedure.step)
    state, metrics = procedure.init(key_for(0, "init"), data), {}
    for number in range(procedure.steps if steps is None else steps):
        state, metrics = step(state, data, key(number))
    return state, metrics
