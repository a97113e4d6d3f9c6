"""The teacher's view of a set: whole images are the images themselves, and a group is one image of every class."""

import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.sre2l_views import SHARES, looked_at
from jaxdd import data
from jaxdd.core.distilled import DistilledSet
from tests.run.chain.tiny import CLASSES, IPC, dataset, teacher


@pytest.mark.slow
def test_whole_images_are_seen_as_they_are():
    real = dataset()
    preprocessing = data.fit(real, family="sre2l", kind="raw")
    bench: Any = types.SimpleNamespace(dataset=real, preprocessing=preprocessing, teacher=teacher())
    images = np.concatenate([real.train_images[real.train_labels == label][:IPC] for label in range(CLASSES)])
    labels = np.repeat(np.arange(CLASSES, dtype=np.int32), IPC)
    found = DistilledSet(images, labels, class_names=tuple(map(str, range(CLASSES))))
    figures = looked_at(bench, found, views=2)
    assert list(figures) == list(SHARES)
    seen = (images / np.float32(255) - np.asarray(preprocessing.mean)) / np.asarray(preprocessing.std)
    logits = bench.teacher.network.apply(bench.teacher.variables, jnp.asarray(seen, jnp.float32)).logits
    expected = -jax.nn.log_softmax(logits)[np.arange(len(labels)), labels].mean()
    assert abs(figures["whole"]["ce"] - expected) < 2e-3
    assert all(part["statistics"] > 0 for part in figures.values())
