"""A method of one's own: sixty lines, registered once, and everything around it is there."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdd
from jaxdd.cli.main import main
from jaxdd.core.config import setting
from jaxdd.core.distilled import DistilledSet
from jaxdd.core.errors import ConfigError
from jaxdd.core.procedure import BatchRule, Method
from jaxdd.core.random import purpose_key
from jaxdd.core.types import Array, Examples, Key, Metrics
from jaxdd.data.device.sampling import first_images
from jaxdd.methods import METHODS, Entry


class ToyState(NamedTuple):
    """Images and labels, class-major."""

    images: Array
    labels: Array


@dataclasses.dataclass(frozen=True)
class Toy(Method[ToyState]):
    """Moves every image towards the mean of the batch's images of its class."""

    n_images: int = setting(1, "images per class", low=1)
    rate: float = setting(0.1, "share of the way that is gone in a step", low=0, high=1)
    its_setting: int = setting(1, "images per class in a batch", low=1)

    @property
    def batch_rule(self) -> BatchRule:
        """Some images of every class."""
        return BatchRule("class", self.its_setting)

    def describe(self, image_shape: tuple[int, int, int], classes: int) -> str:
        """Says that there are no networks."""
        return f"no networks; {self.its_setting} images per class and step"

    def init(self, key: Key, data: Examples) -> ToyState:
        """Starts from real images."""
        chosen = first_images(data, self.n_images, purpose_key(key, "synthetic"))
        return ToyState(chosen.images, jax.nn.one_hot(chosen.labels, data.classes))

    def step(self, state: ToyState, batch: Examples, key: Key) -> tuple[ToyState, Metrics]:
        """Goes a share of the way to the class's mean in the batch."""
        weights = jax.nn.one_hot(batch.labels, state.labels.shape[1]) / self.its_setting
        means = jnp.einsum("bc,bhwk->chwk", weights, batch.images)
        away = jnp.repeat(means, self.n_images, axis=0) - state.images
        images = state.images + self.rate * away
        return state._replace(images=images), {"loss": jnp.mean(jnp.square(away))}

    def result(self, state: ToyState) -> DistilledSet:
        """Returns the images with hard labels."""
        return DistilledSet(state.images, state.labels)


@pytest.fixture(autouse=True)
def registered(monkeypatch, tmp_path):
    """The one line that a method needs, and an empty folder."""
    monkeypatch.setitem(METHODS, "toy", Entry("none", Toy))
    monkeypatch.chdir(tmp_path)


def loss_of(images: np.ndarray) -> float:
    """Mean squared distance from the classes' means over all real images, for one image per class."""
    digits = jaxdd.load("digits")
    pixels = digits.train_images.astype(np.float32) / 255
    means = np.stack([pixels[digits.train_labels == label].mean(axis=0) for label in range(10)])
    return float(np.square(images - means).mean())


def test_it_distils_the_digits_from_python():
    digits = jaxdd.load("digits")
    begun, moved = (jaxdd.distill(digits, method="toy", steps=steps, its_setting=50, rate=0.5) for steps in (1, 8))
    assert moved.pixels is not None and begun.pixels is not None
    assert loss_of(moved.pixels) < 0.2 * loss_of(begun.pixels) and moved.provenance["method"] == "toy"
    with pytest.raises(ConfigError, match="did you mean 'its_setting'"):
        jaxdd.distill(digits, method="toy", its_seting=3)


def run(*words: str, code: int = 0) -> None:
    assert main(["distill", "--method", "toy", *words]) == code


def lines(path: Any) -> Sequence[str]:
    return path.read_text().splitlines()


def test_it_is_a_command_with_help_config_resume_and_evaluation(tmp_path, capsys):
    run("--help")
    assert "--its_setting N" in (said := capsys.readouterr().out) and "Images per class in a batch" in said
    run("--its_seting", "3", code=2)
    assert "did you mean '--its_setting'?" in capsys.readouterr().err
    run("--its_setting", "0", code=2)
    assert "--its_setting" in capsys.readouterr().err
    run("--its_setting", "3", "--max_steps", "4", "--output_dir", "whole")
    assert "TOY on digits, 1 image per class, 4 steps" in capsys.readouterr().out
    (tmp_path / "toy.txt").write_text(json.dumps({"method": "toy", "dataset_name": "digits", "its_setting": 3}))
    for steps in ("2", "4"):
        assert main(["distill", "--config_path", "toy.txt", "--max_steps", steps, "--output_dir", "parts"]) == 0
    assert "continuing after step 2" in capsys.readouterr().out
    whole, parts = (DistilledSet.load(tmp_path / name / "distilled") for name in ("whole", "parts"))
    assert np.array_equal(whole.images, parts.images) and (tmp_path / "whole/distilled/grid.png").is_file()
    assert len(lines(tmp_path / "whole" / "metrics.jsonl")) == 4
    how = ["--width", "4", "--models_to_test", "1", "--set", "plain_steps=3", "test_aug=null", "--baselines=False"]
    assert main(["eval", "--checkpoint_path", "whole", *how]) == 0
    assert "test accuracy" in capsys.readouterr().out and (tmp_path / "whole" / "eval.json").is_file()
