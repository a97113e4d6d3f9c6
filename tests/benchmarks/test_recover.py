"""The benchmarks of the recovery: PyTorch computes what the engine does; budgets and rows are the stated ones."""

from __future__ import annotations

import argparse
import pathlib

import jax
import numpy as np
import pytest
import safetensors.numpy

from benchmarks import recover, sre2l_accuracy
from jaxdd.methods.recovery.objective import objective
from jaxdd.models import imported

SMALL = argparse.Namespace(side=16, batch=4, group=4, width=8)


def distinct(tree):
    """The variables with random values around their own, variances positive, so that a swap shows."""
    leaves, structure = jax.tree.flatten(tree)
    draws = np.random.default_rng(0)
    return structure.unflatten([np.abs(leaf + 0.1 * draws.standard_normal(leaf.shape)) for leaf in leaves])


@pytest.mark.slow
def test_both_sides_have_the_same_loss_and_gradient(tmp_path):
    torch = pytest.importorskip("torch")
    from benchmarks import recover_torch

    stage, examples = recover.procedure(SMALL, "float32")
    network = stage.networks[0]
    teacher = jax.tree.map(lambda leaf: leaf.astype(np.float32), distinct(examples.teachers[0]))
    imported.write(tmp_path / "teacher.safetensors", network, teacher)
    words = ["--side=16", "--batch=4", "--width=8", f"--classes={recover.CLASSES}", f"--r_bn={recover.R_BN}"]
    theirs = recover_torch.Run(recover_torch.parsed(words))
    stored = safetensors.numpy.load_file(tmp_path / "teacher.safetensors")
    missing, unknown = theirs.network.load_state_dict({k: torch.tensor(a) for k, a in stored.items()}, strict=False)
    assert not unknown
    assert all(name.endswith("num_batches_tracked") for name in missing)

    images = np.random.default_rng(1).standard_normal((4, 16, 16, 3)).astype(np.float32)
    x = torch.tensor(images.transpose(0, 3, 1, 2).copy(), requires_grad=True)
    loss = theirs.loss(x)
    loss.backward()

    def ours(images):
        r_bn = stage.settings.r_bn_of(0)
        return objective(stage.settings, network, teacher, images, examples.labels, r_bn=r_bn).loss

    value, slope = jax.jit(jax.value_and_grad(ours))(images)
    assert float(value) == pytest.approx(loss.item(), rel=1e-4)
    wanted = x.grad.numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(slope, wanted, rtol=0, atol=1e-3 * np.abs(wanted).max())


def test_groups_keep_their_size_in_a_larger_batch():
    flags, made = argparse.Namespace(side=16, batch=200, group=100, width=8), []

    def state():  # by shape alone: no number is drawn
        stage, examples = recover.procedure(flags, "bfloat16")
        made.append(stage)
        return stage.init(jax.random.key(0), examples)

    images = jax.eval_shape(state).images
    assert images.shape == (200, 16, 16, 3)
    assert images.dtype == np.float32  # whatever the activations are
    assert made[0].settings.statistics_group == 100
    assert made[0].stage.iterations == 4000


def test_hours_are_those_of_all_images_and_iterations():
    assert recover.IMAGE_ITERATIONS["imagenet1k_ipc50"] * 0.52 / 3.6e6 == pytest.approx(28.9, abs=0.05)
    assert recover._milliseconds([(1.0, 2.0), (3.0, 2.0), (2.0, 8.0)], 100) == [20.0, 20.0]


def test_a_cell_of_another_budget_is_not_taken(tmp_path):
    bench = object.__new__(sre2l_accuracy.Bench)
    bench.flags = argparse.Namespace(quick=True, output_dir=tmp_path, width=8, squeeze=1, iterations=2, share=0.01)
    bench.accuracy = 50.0
    bench.teacher = argparse.Namespace(digest="0" * 64)  # pyright: ignore[reportAttributeAccessIssue]
    made = []
    bench.recovered = lambda method, ipc: (made.append((method, ipc)), 1.0)  # pyright: ignore
    bench.student = lambda found, ipc, seed: 12.345 + seed  # pyright: ignore
    first = bench.cell("cda", 1, 0)
    assert first == bench.cell("cda", 1, 0)
    assert first["accuracy"] == pytest.approx(12.35, abs=0.011)
    assert made == [("cda", 1)]
    bench.flags.iterations = 3
    bench.cell("cda", 1, 0)
    assert made == [("cda", 1), ("cda", 1)]
    assert [path.name for path in pathlib.Path(tmp_path, "cells").iterdir()] == ["cda_1_0.json"]
