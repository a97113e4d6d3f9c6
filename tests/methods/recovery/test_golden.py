"""Loss, slope and loop in a ResNet-18 against PyTorch: by numbers it gave in float64, and live where it is installed.

`python -m tests.oracles.sre2l_torch` made the numbers.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from jaxdd import models
from jaxdd.augment import shared
from jaxdd.augment.imagenet import Boxes
from jaxdd.core import backend
from jaxdd.core.random import key_for
from jaxdd.methods.recovery.objective import objective
from jaxdd.methods.recovery.plan import plan
from jaxdd.methods.recovery.settings import Recovery
from jaxdd.methods.recovery.stage import ChunkExamples, RecoverStage
from jaxdd.models import imported
from jaxdd.models.torchvision import ResNet
from tests.models import formula
from tests.oracles.sre2l_literal import Draw, Weights

COUNT, SIDE, CLASSES, WIDTH = 6, 16, 10, 8  # the width as the engine counts it: 4 channels first
WEIGHTS = Weights(ce=0.7, bn=0.05, first=7.0, tv=0.01, norm=0.02)
DRAWS = [Draw((0, 3, 9, 11), True, (1, 0)), Draw((2, 0, 14, 16), False, (0, 2)), Draw((5, 6, 4, 5), True, (2, 1))]
LOOP: dict[str, Any] = {"total": 4, "peak": 0.25, "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.25, 0.3)}
PLACES = [(0, 4, 4, 0), (3, 7, 9, 1), (5, 15, 12, 2)]
GIVEN: dict[str, Any] = {
    "iterations": LOOP["total"],
    "lr_img": LOOP["peak"],
    "ce_weight": WEIGHTS.ce,
    "r_bn": WEIGHTS.bn,
    "first_bn_multiplier": WEIGHTS.first,
    "tv_l2": WEIGHTS.tv,
    "l2_scale": WEIGHTS.norm,
    "initialise": "medium",
}
NETWORK = models.Network(ResNet(CLASSES, 18, WIDTH, "small"), (SIDE, SIDE, 3))
# The loss, its cross-entropy and statistics; then norm and three entries of the slope, and of the images.
LOSSES = [13.438990055419206, 3.4183862382287487, 122.95439051558483]
SLOPE = [0.3020384167679043, -0.0018874179291486896, -0.003921944584375259, 0.0007890594290932318]
IMAGES = [68.57405534477016, -0.9678564742191234, 1.3507788107323815, 1.5491075878185514]


@pytest.fixture(scope="module")
def variables(tmp_path_factory):
    """Those of `formula`, by way of a file with torchvision's names."""
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    tensors = {name: formula.tensor(name, shape) for name, shape in imported.shapes(NETWORK).items()}
    safetensors.numpy.save_file(tensors, path)
    return imported.read(path, NETWORK)


def images(dtype):
    return jnp.asarray(formula.images(COUNT, SIDE).transpose(0, 2, 3, 1), dtype)


def slope_of(variables, dtype):
    """Loss, cross-entropy, statistics, and the slope of the first in the images."""
    settings, labels = Recovery(**GIVEN), jnp.arange(COUNT) % CLASSES
    held = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), variables)

    def loss(x):
        found = objective(settings, NETWORK, held, x, labels, r_bn=WEIGHTS.bn)
        return found.loss, found

    slope, losses = jax.jit(jax.grad(loss, has_aux=True))(images(dtype))
    return np.asarray(losses), np.asarray(slope)


def recovered(variables, monkeypatch, dtype):
    """The images after the iterations that `DRAWS` are for."""
    settings = Recovery(**GIVEN)
    stage = RecoverStage(settings, plan(settings, SIDE)[0], (NETWORK,), (LOOP["mean"], LOOP["std"]))
    held = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), variables)
    data = ChunkExamples(images(dtype), jnp.arange(COUNT) % CLASSES, CLASSES, teachers=(held,))
    boxes = Boxes(*(jnp.asarray(column) for column in zip(*(draw.box for draw in DRAWS), strict=True)))
    coins, rolls = (jnp.asarray([getattr(draw, name) for draw in DRAWS]) for name in ("coin", "roll"))

    def view(self, key, i, shape, dtype):
        seen = shared.window(jax.tree.map(lambda each: each[i], boxes), shape, SIDE, dtype)
        return shared.rolled(shared.flipped(seen, coins[i]), rolls[i, 0], rolls[i, 1])

    monkeypatch.setattr(RecoverStage, "view", view)
    state, step = stage.init(key_for(0, "init"), data), jax.jit(stage.step)
    for i in range(len(DRAWS)):
        state, _ = step(state, data, key_for(0, "step", i))
    return np.asarray(stage.result(state))


def some(array):
    return [np.linalg.norm(array), *(array[place] for place in PLACES)]


@pytest.mark.slow
@pytest.mark.quick
def test_loss_and_slope_are_the_numbers_of_pytorch(variables, x64):
    losses, slope = slope_of(variables, np.float64)
    np.testing.assert_allclose(losses, LOSSES, rtol=1e-9)
    np.testing.assert_allclose(some(slope), SLOPE, rtol=1e-8)


@pytest.mark.slow
@pytest.mark.quick
def test_in_float32_and_pieces_they_are_to_its_rounding(variables, monkeypatch):
    monkeypatch.setattr(backend, "rows_at_once", lambda count: 2)
    losses, slope = slope_of(variables, np.float32)
    np.testing.assert_allclose(losses, LOSSES, rtol=1e-5)
    np.testing.assert_allclose(some(slope), SLOPE, rtol=0, atol=1e-5 * np.abs(slope).max())


def test_three_iterations_are_the_numbers_of_pytorch(variables, x64, monkeypatch):
    np.testing.assert_allclose(some(recovered(variables, monkeypatch, np.float64)), IMAGES, rtol=1e-8)


def test_every_pixel_is_that_of_pytorch(variables, x64, monkeypatch):
    torch = pytest.importorskip("torch")
    from tests.oracles import sre2l_torch

    network, (x, labels) = sre2l_torch.model(torch.float64), sre2l_torch.start(torch.float64)
    x.requires_grad_()
    values = sre2l_torch.loss(network, x, labels, WEIGHTS)
    values[0].backward()
    losses, slope = slope_of(variables, np.float64)
    wanted = sre2l_torch.channels_last(x.grad)
    np.testing.assert_allclose(losses, [each.item() for each in values], rtol=1e-10)
    np.testing.assert_allclose(slope, wanted, rtol=0, atol=1e-10 * np.abs(wanted).max())
    moved = sre2l_torch.recover(network, x.detach(), labels, DRAWS, weights=WEIGHTS, **LOOP)
    found = recovered(variables, monkeypatch, np.float64)
    np.testing.assert_allclose(found, sre2l_torch.channels_last(moved), rtol=0, atol=1e-9)


def test_in_float32_loss_and_slope_are_those_of_pytorch(variables):
    torch = pytest.importorskip("torch")
    from tests.oracles import sre2l_torch

    network, (x, labels) = sre2l_torch.model(torch.float32), sre2l_torch.start(torch.float32)
    x.requires_grad_()
    values = sre2l_torch.loss(network, x, labels, WEIGHTS)
    values[0].backward()
    losses, slope = slope_of(variables, np.float32)
    wanted = sre2l_torch.channels_last(x.grad)
    np.testing.assert_allclose(losses, [each.item() for each in values], rtol=1e-5)
    np.testing.assert_allclose(slope, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
