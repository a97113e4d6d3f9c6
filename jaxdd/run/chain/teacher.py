"""Teachers in folders: one network with what it was trained on and the words by which it is made again (`squeeze`).

A folder of `run.storage.networks` with one network, whose manifest says under `architecture` what `models.build` needs.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxdd import data as data_room
from jaxdd import models
from jaxdd.core import io, shards
from jaxdd.core.distilled import DistilledSet
from jaxdd.core.errors import CheckpointError, UsageError
from jaxdd.core.precision import Precision
from jaxdd.core.types import Examples, PyTree
from jaxdd.models import imported
from jaxdd.models.network import Network
from jaxdd.run.storage import networks
from jaxdd.training.trainer import accuracy


@dataclasses.dataclass(frozen=True, eq=False)
class Teacher:
    """A trained network.

    Arguments:
        network: its architecture.
        variables: parameters and running statistics.
        about: what its manifest says: `dataset`, `preprocessing`, `architecture`, `recipe`, `seed`, `networks`.
    """

    network: Network
    variables: PyTree
    about: Mapping[str, Any]

    @functools.cached_property
    def digest(self) -> str:
        """sha256 of its numbers."""
        return networks.digest(self.variables)

    @property
    def preprocessing(self) -> Mapping[str, Any]:
        """Name, constants and digest of the map from raw images to what it sees."""
        return self.about["preprocessing"]

    def save(self, folder: pathlib.Path) -> None:
        """Writes it into a folder, unless it is there.

        Raises:
            CheckpointError: the folder holds another one.
        """
        about = {name: value for name, value in self.about.items() if name not in ("jaxdd_networks", "networks")}
        if not networks.finished(folder, about):
            (entry,) = self.about["networks"]
            networks.add(folder, about, self.variables, entry["accuracies"], entry["epoch"])

    def accuracy(self, dataset: data_room.Dataset, preprocessing: data_room.Preprocessing) -> float:
        """On the real test images, in [0, 1]."""
        return accuracy(self.network, self.variables, data_room.test_examples(dataset, preprocessing))

    def accuracy_on(self, made: DistilledSet, preprocessing: data_room.Preprocessing) -> float:
        """On the images of a raw set, in [0, 1]."""
        constants = (preprocessing.mean, preprocessing.std)
        labels = jnp.asarray(made.class_indices, jnp.int32)
        return accuracy(
            self.network, self.variables, Examples(jnp.asarray(made.images), labels, made.classes, constants)
        )


def words(architecture: Mapping[str, Any], image_shape: tuple[int, int, int], classes: int) -> dict[str, Any]:
    """What a manifest says of an architecture: all that `models.build` needs; JSON types."""
    return {**architecture, "image_shape": list(image_shape), "classes": classes}


def network(words: Mapping[str, Any], precision: Precision = "float32") -> Network:
    """The network that a manifest describes.

    Raises:
        UsageError: there is no such network.
    """
    own = dict(words)
    return models.build(own.pop("name"), **{**own, "image_shape": tuple(own["image_shape"])}, precision=precision)


def read_manifest(folder: str | os.PathLike) -> dict[str, Any]:
    """What is said of the teacher in a folder; reads no network.

    Raises:
        CheckpointError: there is none.
    """
    found = networks.read_manifest(folder)
    if not {"name", "image_shape", "classes"} <= set(found.get("architecture") or {}):
        raise CheckpointError(
            "these networks are no teacher",
            where=str(folder),
            expected="a folder that squeeze.py wrote",
            remedy="make one with squeeze.py",
        )
    return found


def load(folder: str | os.PathLike, precision: Precision = "float32") -> Teacher:
    """The teacher of a folder, verified.

    Raises:
        CheckpointError: there is none, or a file is missing or damaged.
    """
    about = read_manifest(folder)
    variables = jax.tree.map(lambda leaf: leaf[0], networks.load(folder).variables)
    return Teacher(network(about["architecture"], precision), variables, about)


def take_in(
    path: str | os.PathLike,
    folder: str | os.PathLike,
    dataset: data_room.Dataset,
    preprocessing: data_room.Preprocessing,
    architecture: Mapping[str, Any],
) -> Teacher:
    """Makes a teacher's folder of weights that torch has trained; one that is there already is read.

    Arguments:
        path: a safetensors file (`models.imported`).
        folder: where the teacher will be.
        dataset: whose classes it tells apart, in its order: its accuracy on the test images is kept beside it.
        preprocessing: what it was trained with.
        architecture: as in `words`.

    Raises:
        UsageError, CheckpointError: the file is none, or its tensors are of another architecture.
    """
    if not pathlib.Path(path).is_file():
        raise UsageError(
            "no such file",
            where=f"--arch-path {path}",
            expected="a safetensors file or a teacher's folder",
            remedy="check the path, or train a teacher with squeeze.py",
        )
    about = {
        "dataset": {"name": dataset.name, "digest": dataset.digest},
        "preprocessing": preprocessing.describe(),
        "architecture": words(architecture, dataset.image_shape, dataset.classes),
        "recipe": {"imported": pathlib.Path(path).name, "sha256": io.sha256(pathlib.Path(path))},
        "seed": 0,
    }
    if not networks.finished(folder, about):
        made = network(about["architecture"])
        taken = Teacher(made, imported.read(path, made), about)
        networks.add(folder, about, taken.variables, [taken.accuracy(dataset, preprocessing)], 0)
    return load(folder)


def copy(folder: pathlib.Path, place: pathlib.Path) -> None:
    """Puts a teacher into another folder too, so that this is complete by itself; the manifest last.

    Raises:
        CheckpointError: another teacher is there already, on whom what lies beside it may rest.
    """
    refuse_other(folder, place)
    if folder == place:
        return
    files = [shards.path_of(folder, entry) for entry in read_manifest(folder)["networks"]]
    for path in (*files, folder / "manifest.json"):
        content, copied = path.read_bytes(), place / path.name
        if not copied.is_file() or copied.read_bytes() != content:
            io.write_atomically(copied, content)


def refuse_other(folder: pathlib.Path, place: pathlib.Path) -> None:
    """What `copy` refuses.

    Raises:
        CheckpointError: see there.
    """
    if not (place / "manifest.json").is_file():
        return
    own, there = (read_manifest(path) for path in (folder, place))
    if [_numbers(own), own["architecture"]] != [_numbers(there), there["architecture"]]:
        raise CheckpointError(
            "another teacher is there already, on whom what lies beside it may rest",
            where=str(place),
            expected=f"the teacher of {folder}",
            remedy="choose another --output_dir or --exp-name, or leave --arch-path out",
        )


def _numbers(manifest: Mapping[str, Any]) -> list[str]:
    return [entry["sha256"] for entry in manifest["networks"]]
