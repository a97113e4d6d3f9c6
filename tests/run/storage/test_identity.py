"""What a run is told apart by: settings by name, never the names of Python classes; and what older formats are told."""

from __future__ import annotations

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd import models
from jaxdd.core import io
from jaxdd.core.errors import CheckpointError
from jaxdd.run.storage import identity, networks
from jaxdd.run.storage.checkpoint import Storage
from jaxdd.training.sgd import ClassifierTraining
from jaxdd.training.trainer import NetworkTraining

pytestmark = pytest.mark.quick

NETWORK = models.build("conv", image_shape=(8, 8, 1), classes=3, width=4, depth=1)


def test_a_procedure_is_told_by_its_settings_and_by_nothing_else():
    training = ClassifierTraining(NETWORK, milestones=(3, 5))
    told = identity.of_procedure(training)
    assert told == identity.as_json(told) and told["format"] == identity.FORMAT
    settings = told["settings"]
    assert settings["milestones"] == [3, 5] and settings["network"]["image_shape"] == [8, 8, 1]
    assert settings["network"]["module"]["module"] == "ConvNet" and settings["network"]["module"]["depth"] == 1
    assert "ClassifierTraining" not in json.dumps(told)


@pytest.mark.parametrize(
    "other",
    [
        dataclasses.replace(ClassifierTraining(NETWORK), momentum=0.8),
        ClassifierTraining(dataclasses.replace(NETWORK, activations=jnp.bfloat16)),
        ClassifierTraining(models.build("conv", image_shape=(8, 8, 1), classes=3, width=4, depth=2)),
        NetworkTraining(NETWORK, 0.01, 0, 10),
    ],
)
def test_procedures_that_compute_something_else_are_told_apart(other):
    assert identity.of_procedure(other) != identity.of_procedure(ClassifierTraining(NETWORK))


def test_what_has_no_name_is_no_setting():
    @dataclasses.dataclass(frozen=True)
    class Odd:
        function: object

    with pytest.raises(TypeError):
        identity.of_procedure(Odd(print))


def test_an_unfinished_run_of_the_older_format_is_refused_with_both_versions_named(tmp_path):
    older = {"format": 1, "identity": {"a": 1}, "other": {}, "versions": {"jaxdd": "0.0.9"}}
    (tmp_path / "config.json").write_text(json.dumps(older))
    with pytest.raises(CheckpointError, match=r"(?s)format 1, begun by jaxdd 0\.0\.9.*format 2, which jaxdd 0\.1\.0"):
        Storage(tmp_path, {"a": 1}).__enter__()
    (tmp_path / "0" / "abc").mkdir(parents=True)
    (tmp_path / "config.json").rename(tmp_path / "0" / "abc" / "config.json")
    with pytest.raises(CheckpointError, match="format 1"):
        identity.refuse_older(tmp_path / "0")


def test_networks_of_the_older_format_load_and_more_are_added(tmp_path):
    about = {"architecture": {"network": NETWORK.description, "classes": 3}, "seed": 0}
    variables = {"params": {"kernel": np.ones((2, 3), np.float32)}}
    networks.add(tmp_path, about, variables, [0.5], 1)
    path = tmp_path / "manifest.json"
    content = io.read_json(path)  # without its checksum, which the older one did not have
    older = {**content, "jaxdd_networks": 1, "architecture": {"network": str(NETWORK), "classes": 3}}
    path.write_text(json.dumps(older))
    assert networks.read_manifest(tmp_path)["architecture"] == about["architecture"]
    assert len(networks.load(tmp_path)) == 1 and len(networks.finished(tmp_path, about)) == 1
    networks.add(tmp_path, about, variables, [0.5], 1)
    assert json.loads(path.read_text())["jaxdd_networks"] == networks.FORMAT and len(networks.load(tmp_path)) == 2
    path.write_text(json.dumps({**older, "architecture": {"network": "ConvNet, deep"}}))
    with pytest.raises(CheckpointError, match="garble"):
        networks.read_manifest(tmp_path)
