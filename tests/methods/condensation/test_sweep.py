"""The sweep over the classes: the published momentum, and the same numbers however many classes go together."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd.core import backend
from jaxdd.core.types import Examples
from jaxdd.methods import Condensation
from jaxdd.methods.condensation import sweep
from jaxdd.methods.condensation.gradient_amplification import begin
from jaxdd.methods.condensation.state import CondensationState

CLASSES, RATE = 6, 0.3


def state(of: Condensation, images: Any, buffer: Any) -> CondensationState:
    """A state of which the sweep reads images, buffer and average."""
    nothing = jnp.zeros((len(images), 1), jnp.int32)
    dtype = images.dtype
    average = jnp.cos(images) if of.ema_decay else None
    network: Any = ()
    return CondensationState(
        jnp.asarray(1), images, buffer, average, network, nothing, nothing[0], begin(of, dtype), jnp.zeros(2, dtype)
    )


def curved(settings, state, data, images, labels, key):
    """A gradient that depends on where a class stands, and on which class it is."""
    return jnp.sin(3 * images) + labels.reshape(-1, 1, 1, 1, 1), jnp.stack([labels, 2 * labels], 1).astype(images.dtype)


def data(classes: int) -> Examples:
    return Examples(jnp.zeros((classes, 2, 2, 1)), jnp.arange(classes), classes)


@pytest.mark.quick
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("at_once", [1, 2, 3, 6])
def test_the_numbers_do_not_depend_on_how_many_classes_go_together(at_once, shared, monkeypatch, x64):
    of = Condensation(lr_img=RATE, mom_img=0.6, ema_decay=0.8, shared_momentum=shared)
    images, buffer = (jnp.asarray(np.random.default_rng(i).normal(size=(CLASSES, 2, 2, 2, 1))) for i in (0, 1))
    start = state(of, images, buffer)
    monkeypatch.setattr(sweep, "gradients_of", curved)
    monkeypatch.setattr(backend, "classes_at_once", lambda count: at_once)
    assert sweep.together(of, (2, 2, 1), CLASSES) == at_once
    found = start
    for index in range(CLASSES // at_once):
        found = sweep.sweep(of, found, data(CLASSES), jax.random.key(0), jnp.asarray(index))
    s, v, e = (np.asarray(array) for array in (images, buffer, start.average))
    for c in range(CLASSES):
        gradient = np.zeros_like(s)
        gradient[c] = np.sin(3 * s[c]) + c
        moving = np.ones(CLASSES, bool) if shared else np.arange(CLASSES) == c
        v = np.where(moving[:, None, None, None, None], 0.6 * v + gradient, v)
        s = np.where(moving[:, None, None, None, None], s - RATE * v, s)
        e = 0.8 * e + 0.2 * s
    assert found.average is not None
    for array, wanted in ((found.images, s), (found.buffer, v), (found.average, e)):
        np.testing.assert_allclose(array, wanted, rtol=0, atol=1e-12)
    assert found.losses.tolist() == [15, 30] and float(found.stage.shifted) == 30


@pytest.mark.quick
def test_a_number_of_classes_that_cannot_be_divided_goes_one_by_one(monkeypatch):
    monkeypatch.setattr(backend, "classes_at_once", lambda count: 4)
    of = Condensation()
    assert [sweep.together(of, (8, 8, 1), classes) for classes in (8, 6, 7)] == [4, 3, 1]


@pytest.mark.quick
def test_no_more_classes_go_together_than_the_memory_holds(monkeypatch):
    monkeypatch.setattr(backend, "on_cpu", lambda: False)
    of, shape = Condensation(n_images=10, factor=2, batch_real=24), (32, 32, 3)
    one = sweep.memory_of_class(of, shape, 10)
    assert one == 64 * 4 * 128 * 16 * 16 * 4 * sweep.HELD  # 64 images, 128 channels of 32x32
    for room, wanted in ((100 * one, 10), (7 * one, 5), (one // 2, 1)):
        monkeypatch.setattr(backend, "working_memory", lambda room=room: room)
        assert sweep.together(of, shape, 10) == wanted
        demand = of.demand(shape, 10)
        assert demand.bytes == wanted * one and ("5 of 10" in demand.note) == (wanted == 5)


@pytest.mark.quick
def test_published_trajectory_of_the_shared_momentum(monkeypatch, x64):
    """Steps of the classes 0, 1, 2, then 0 again: rate 1, momentum 1/2, every gradient 1."""
    of = Condensation(lr_img=1.0)
    found = state(of, jnp.zeros((3, 1, 1, 1, 1)), jnp.zeros((3, 1, 1, 1, 1)))
    ones = lambda settings, state, data, images, labels, key: (jnp.ones_like(images), jnp.zeros((len(images), 2)))  # noqa: E731
    monkeypatch.setattr(sweep, "gradients_of", ones)
    seen = []
    for index in (0, 1, 2, 0):
        found = sweep.sweep(of, found, data(3), jax.random.key(0), jnp.asarray(index))
        seen.append(found.images.ravel().tolist())
    assert seen == [[-1, 0, 0], [-1.5, -1, 0], [-1.75, -1.5, -1], [-2.875, -1.75, -1.5]]
