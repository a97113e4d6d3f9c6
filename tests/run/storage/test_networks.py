"""Networks trained beforehand: on disk they come back to the bit, or not at all; a run's identity knows them."""

from __future__ import annotations

import json
from typing import Any

import jax
import numpy as np
import pytest

import jaxdd
from jaxdd import data
from jaxdd.core import backend
from jaxdd.core.errors import CheckpointError, UsageError
from jaxdd.core.types import Examples
from jaxdd.methods import Condensation
from jaxdd.run import evaluating
from jaxdd.run.chain.pretrain import Pretraining
from jaxdd.run.distillation import Distillation
from jaxdd.run.storage.networks import Networks, add, finished, load, load_all, read_manifest

pytestmark = pytest.mark.quick

ABOUT = {"dataset": {"name": "digits"}, "recipe": {"epochs": 2, "lr": 0.01}, "seed": 3}


def variables(seed: int, width: int = 3) -> dict:
    rng = np.random.default_rng(seed)
    kernel = rng.normal(size=(3, 3, 1, width)).astype(np.float32)
    return {"params": {"Conv_0": {"kernel": kernel, "bias": np.zeros(width, np.float32)}}, "batch_stats": {"m": kernel}}


@pytest.fixture
def folder(tmp_path):
    for seed in range(2):
        add(tmp_path / "a", ABOUT, variables(seed), [0.25, 0.5], 2)
    return tmp_path / "a"


def test_they_come_back_to_the_bit_in_order(folder):
    found = load(folder)
    assert len(found) == 2
    for seed in range(2):
        own = jax.tree.map(lambda leaf, seed=seed: leaf[seed], found.variables)
        assert jax.tree.structure(own) == jax.tree.structure(variables(seed))
        jax.tree.map(np.testing.assert_array_equal, own, variables(seed))
    told = read_manifest(folder)
    assert [network["accuracies"] for network in told["networks"]] == [[0.25, 0.5]] * 2
    assert {name: told[name] for name in ABOUT} == ABOUT


def test_students_that_an_older_version_left_unfinished_are_found_by_what_they_are_trained_on():
    images, labels = np.arange(24, dtype=np.float32).reshape(2, 2, 2, 3) / 24, np.eye(2, dtype=np.float32)
    teacher = {"params": {"kernel": np.ones((2, 3), np.float32)}, "batch_stats": {"mean": np.zeros(3, np.float32)}}
    digests = [evaluating._digest(Examples(images, labels, 2, teachers=held))[:16] for held in ((), (teacher,))]
    assert digests == ["73ba27802b0342f6", "a6dbc9aebd3d7147"]


def test_folders_add_up_and_the_digest_is_of_the_numbers_alone(folder, tmp_path):
    add(tmp_path / "b", {**ABOUT, "seed": 4}, variables(2), [1.0], 1)
    both = load_all([folder, tmp_path / "b"])
    assert len(both) == 3
    assert both.digest == load_all([str(folder), tmp_path / "b"]).digest
    assert both.digest != load_all([tmp_path / "b", folder]).digest != load(folder).digest
    add(tmp_path / "c", ABOUT, variables(0, width=4), [1.0], 1)
    with pytest.raises(CheckpointError, match="different architectures"):
        load_all([folder, tmp_path / "c"])


def test_a_network_that_is_not_what_the_manifest_says_is_never_read(folder):
    """What else `core.shards` finds is in its own tests."""
    victim = sorted(folder.glob("network-1-*"))[0]
    content = bytearray(victim.read_bytes())
    content[-3] ^= 1
    victim.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"a network .* damaged") as refusal:
        load(folder)
    assert refusal.value.where == str(victim) and "anew" in refusal.value.remedy


def test_networks_of_another_kind_or_that_are_not_finite_are_not_added(folder):
    with pytest.raises(CheckpointError, match=r"recipe.lr: 0.01 -> 0.1"):
        add(folder, {**ABOUT, "recipe": {"epochs": 2, "lr": 0.1}}, variables(5), [0.5], 1)
    broken = variables(5)
    broken["params"]["Conv_0"]["bias"][0] = np.nan
    with pytest.raises(CheckpointError, match="not finite"):
        add(folder, ABOUT, broken, [0.5], 1)
    assert len(finished(folder, ABOUT)) == len(list(folder.glob("network-*"))) == 2


def test_a_folder_without_networks_says_so(tmp_path):
    for content in (None, "{}", json.dumps({"jaxdd_networks": 1, "networks": []})):
        if content is not None:
            (tmp_path / "manifest.json").write_text(content)
        with pytest.raises(CheckpointError, match="no networks trained beforehand"):
            load(tmp_path)


@pytest.fixture(scope="module")
def digits():
    whole = data.load("digits")
    return data.Dataset.of_arrays(
        whole.train_images[:160], whole.train_labels[:160], whole.test_images, whole.test_labels, name="digits"
    )


SMALL = Condensation(width=4, batch_real=32, lr=0.1, source="pretrained", inner_loop=2)


@pytest.mark.slow
def test_networks_learn_and_each_is_a_function_of_the_seed_and_its_number(digits):
    kind = data.fit(digits, family=SMALL.family, kind=SMALL.kind)
    training = Pretraining(SMALL, digits, kind, epochs=3, seed=1)
    assert training.steps == 15 and training.training.milestones == (10, 15)
    first, second = training.train([0, 1])
    (again,) = training.train([1])
    assert len(second.accuracies) == 3 and second.accuracies[second.epoch - 1] == max(second.accuracies)
    assert max(first.accuracies + second.accuracies) > 0.2  # of ten classes
    jax.tree.map(np.testing.assert_array_equal, second.variables, again.variables)
    assert Networks(first.variables).digest != Networks(second.variables).digest


@pytest.mark.parametrize("on_cpu", [True, False])
def test_where_no_network_is_missing_none_is_trained(digits, monkeypatch, on_cpu):
    monkeypatch.setattr(backend, "on_cpu", lambda: on_cpu)
    kind = data.fit(digits, family=SMALL.family, kind=SMALL.kind)
    assert list(Pretraining(SMALL, digits, kind, epochs=1).train(range(5, 5))) == []


def test_the_identity_of_a_run_holds_their_digest(digits):
    kind = data.fit(digits, family=SMALL.family, kind=SMALL.kind)
    given = Networks(jax.tree.map(lambda leaf: leaf[None], variables(0)))
    runs = [Distillation("accdd", SMALL, digits, kind, steps=2, networks=some) for some in (None, given)]
    assert "networks" not in runs[0].identity
    assert runs[1].identity["networks"] == {"count": 1, "digest": given.digest}
    assert runs[1].plan().data_bytes == runs[0].plan().data_bytes + sum(
        leaf.nbytes for leaf in jax.tree.leaves(given.variables)
    )


@pytest.mark.slow
def test_the_public_face_takes_folders_or_variables(digits, tmp_path):
    kind = data.fit(digits, family=SMALL.family, kind=SMALL.kind)
    training = Pretraining(SMALL, digits, kind, epochs=1)
    for made in training.train([0]):
        add(tmp_path, training.identity, made.variables, made.accuracies, made.epoch)
    small: dict[str, Any] = {"width": 4, "inner_loop": 2, "batch_real": 8, "n_data": 16}
    results = [
        jaxdd.distill(digits, steps=2, method="accdd", networks=given, **small)
        for given in (tmp_path, [tmp_path], load(tmp_path).variables)
    ]
    for found in results:
        np.testing.assert_array_equal(found.images, results[0].images)
    settings = results[0].provenance["settings"]
    assert (settings["perturb"], settings["base_size"]) == (True, 8)  # what the data set's name implies
    assert results[0].recipe == {"protocol": "idc", "width": 4}
    with pytest.raises(UsageError, match="takes no networks"):
        jaxdd.distill(digits, steps=2, method="cda", networks=tmp_path)
