"""Teachers in folders: one network with what it was trained on and the words by which it is made again (`squeeze`).

A folder of `run.storage.networks` with one network, whose manifest says under `architecture` what `models.build` needs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import pathlib
import tempfile
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxdd import data as data_room
from jaxdd import models
from jaxdd.core import io, shards
from jaxdd.core.distilled import DistilledSet
from jaxdd.core.errors import CheckpointError
from jaxdd.core.precision import Precision
from jaxdd.core.types import Examples, PyTree
from jaxdd.models import imported as weights
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
        """Writes it into a folder, the manifest last, unless it is there, whole.

        Raises:
            CheckpointError: as `refuse_other`.
        """
        self.refuse_other(folder)
        (entry,) = self.about["networks"]
        manifest = folder / "manifest.json"
        if manifest.is_file() and not shards.intact(folder, entry):
            manifest.unlink()
        if not manifest.is_file():
            about = {name: value for name, value in self.about.items() if name not in ("jaxdd_networks", "networks")}
            networks.add(folder, about, self.variables, entry["accuracies"], entry["epoch"])

    def refuse_other(self, folder: pathlib.Path) -> None:
        """Refuses a folder that holds another teacher: what lies beside it may rest on that one.

        Raises:
            CheckpointError: see above.
        """
        if not (folder / "manifest.json").is_file():
            return
        there = read_manifest(folder)
        kind, numbers = there["architecture"], [entry["sha256"] for entry in there["networks"]]
        if kind != self.about["architecture"] or numbers != [entry["sha256"] for entry in self.about["networks"]]:
            raise CheckpointError(
                "another teacher is there already, on whom what lies beside it may rest",
                where=str(folder),
                expected=f"{self}, digest {self.digest[:12]}",
                remedy="choose another `output_dir`, or leave `teacher` out",
            )

    def __str__(self) -> str:
        """Returns `resnet18, width 64; squeezed in 50 epochs`."""
        kind, recipe = self.about["architecture"], self.about["recipe"]
        width = "" if kind["width"] == 128 else f", width {kind['width']}"
        squeezed = f"squeezed in {recipe.get('epochs')} epochs"
        origin = f"imported from {recipe['imported']}" if "imported" in recipe else squeezed
        return f"{models.called(kind['name'], kind.get('depth'))}{width}; {origin}"

    def accuracy(self, dataset: data_room.Dataset, preprocessing: data_room.Preprocessing) -> float:
        """Returns the accuracy on the real test images, in [0, 1]."""
        return accuracy(self.network, self.variables, data_room.test_examples(dataset, preprocessing))

    def accuracy_on(self, made: DistilledSet, preprocessing: data_room.Preprocessing) -> float:
        """Returns the accuracy on the images of a raw set, in [0, 1]."""
        constants = (preprocessing.mean, preprocessing.std)
        labels = jnp.asarray(made.class_indices, jnp.int32)
        return accuracy(
            self.network, self.variables, Examples(jnp.asarray(made.images), labels, made.classes, constants)
        )


def words(architecture: Mapping[str, Any], image_shape: tuple[int, int, int], classes: int) -> dict[str, Any]:
    """Returns an architecture as manifests hold it: all that `models.build` needs, as JSON types."""
    return {**architecture, "image_shape": list(image_shape), "classes": classes}


def network(words: Mapping[str, Any], precision: Precision = "float32") -> Network:
    """Returns the network that a manifest describes.

    Raises:
        UsageError: there is no such network.
    """
    arguments = {**words, "image_shape": tuple(words["image_shape"])}
    return models.build(arguments.pop("name"), **arguments, precision=precision)


def read_manifest(folder: str | os.PathLike) -> dict[str, Any]:
    """Returns the manifest of a teacher's folder; reads no network.

    Raises:
        CheckpointError: there is none.
    """
    manifest = networks.read_manifest(folder)
    if not {"name", "image_shape", "classes"} <= set(manifest.get("architecture") or {}):
        raise CheckpointError(
            "these networks are no teacher",
            where=str(folder),
            expected="a folder that `squeeze` wrote",
            remedy="make one with `squeeze`",
        )
    return manifest


def load(folder: str | os.PathLike, precision: Precision = "float32") -> Teacher:
    """Loads the teacher of a folder, verified.

    Raises:
        CheckpointError: there is none, or a file is missing or damaged.
    """
    about = read_manifest(folder)
    variables = jax.tree.map(lambda leaf: leaf[0], networks.load(folder).variables)
    return Teacher(network(about["architecture"], precision), variables, about)


def imported(
    path: pathlib.Path,
    dataset: data_room.Dataset,
    preprocessing: data_room.Preprocessing,
    architecture: Mapping[str, Any],
    *,
    folder: pathlib.Path | None = None,
    precision: Precision = "float32",
) -> Teacher:
    """Makes a teacher of weights that torch has trained.

    Arguments:
        path: a safetensors file (`models.imported`).
        dataset: whose classes it tells apart, in its order; its accuracy on the test images is kept with it.
        preprocessing: what it was trained with.
        architecture: as in `words`.
        folder: where the teacher is kept, and read where it is there already; None keeps it in memory alone.
        precision: of its activations.

    Raises:
        UsageError, CheckpointError: the file is none, or its tensors are of another architecture; or another teacher
            is in the folder.
    """
    about = {
        "dataset": {"name": dataset.name, "digest": dataset.digest},
        "preprocessing": preprocessing.describe(),
        "architecture": words(architecture, dataset.image_shape, dataset.classes),
        "recipe": {"imported": path.name, "sha256": io.sha256(path)},
        "seed": 0,
    }
    with contextlib.nullcontext(folder) if folder else tempfile.TemporaryDirectory() as place:
        if not networks.finished(place, about):
            made = network(about["architecture"])
            teacher = Teacher(made, weights.read(path, made), about)
            networks.add(place, about, teacher.variables, [teacher.accuracy(dataset, preprocessing)], 0)
        return load(place, precision)
