"""A recovery that takes a second: four classes of 8 pixels, two images of each, two stages, a tiny teacher."""

from __future__ import annotations

import jax
import numpy as np

from jaxdd import data, models
from jaxdd.methods.recovery.settings import Recovery
from jaxdd.run.chain.recover import Recovering
from jaxdd.run.chain.teachers import Teacher

CLASSES, IPC, SIDE, STEPS = 4, 2, 8, 3  # steps of each stage


def dataset(classes: int = CLASSES) -> data.Dataset:
    """Six images of every class."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (6 * classes, SIDE, SIDE, 3), np.uint8)
    labels = np.arange(6 * classes) % classes
    return data.Dataset.of_arrays(images, labels, images[:classes], labels[:classes], name="tiny")


def teacher(classes: int = CLASSES, seed: int = 0) -> Teacher:
    """A fresh network, with running statistics that are not those it began with."""
    network = models.build(
        "conv", image_shape=(SIDE, SIDE, 3), classes=classes, width=4, depth=1, normalization="batch"
    )
    variables = network.init(jax.random.key(seed))
    variables = {**variables, "batch_stats": jax.tree.map(lambda leaf: 0.7 * leaf + 0.1, variables["batch_stats"])}
    return Teacher(network, variables, {})


def recovering(classes: int = CLASSES, seed: int = 0, **changes) -> Recovering:
    """FADRM in small, with `changes` of its settings."""
    stages = ((SIDE, STEPS), (SIDE, STEPS))
    small = {"n_images": IPC, "batch_size": 2, "statistics_group": 2, "jitter": 1, "initialise": "medium"}
    given = {**small, "method": "fadrm", "iterations": 2 * STEPS, "stages": stages, "merge": 0.5, **changes}
    images = dataset(classes)
    preprocessing = data.fit(images, family="sre2l", kind="raw")
    return Recovering(Recovery(**given), images, preprocessing, (teacher(classes),), seed, {"protocol": "soft"})
