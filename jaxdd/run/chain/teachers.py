"""Teachers: a network with what it was trained on and the words by which it is made again; and the folders they are in.

A folder of `run.storage.networks` with one network, whose manifest says under `architecture` what `models.build` needs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import os
import pathlib
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxdd import data as data_room
from jaxdd import models
from jaxdd.core import io, shards
from jaxdd.core.distilled import DistilledSet
from jaxdd.core.errors import CheckpointError, UsageError, garbled
from jaxdd.core.io import absolute, shorter_path
from jaxdd.core.precision import Precision
from jaxdd.core.trees import require_same
from jaxdd.core.types import Examples, PyTree
from jaxdd.data import Dataset, Preprocessing
from jaxdd.data.registry import one_word
from jaxdd.models import imported as weights
from jaxdd.models.network import Network
from jaxdd.run.chain.settings import Decoupled
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

    def told(self, reached: float) -> tuple[str, str]:
        """Returns what to tell of it, name and text, with its accuracy on the real test images, in [0, 1]."""
        return "teacher", f"{self}; test accuracy {100 * reached:.1f} %"

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


WEIGHTS = ".safetensors"


def default_folder(settings: Decoupled, seed: int) -> pathlib.Path:
    """Returns `teachers/tiny_imagenet/resnet18_0`; a width that is not the published one stands in the middle."""
    chain = settings.chain
    width = "" if chain.width == 128 else f"_w{chain.width}"
    return pathlib.Path("teachers", one_word(chain.dataset_name), f"{chain.arch_name}{width}_{seed}").absolute()


def place(folder: pathlib.Path, number: int) -> pathlib.Path:
    """Returns the folder of teacher `number` of a set, from 0."""
    return folder / (f"teacher-{number}" if number else "teacher")


def beside(folder: pathlib.Path) -> tuple[pathlib.Path, ...]:
    """Returns the teachers that lie in a set's output folder."""
    places = (place(folder, number) for number in itertools.count())
    return tuple(itertools.takewhile(_is_one, places))


def named(names: Sequence[str]) -> tuple[pathlib.Path, ...]:
    """Returns folders of teachers and files with weights, which the user names.

    Raises:
        UsageError: one of them is neither.
    """
    paths = tuple(absolute(path) for path in names)
    for path in paths:
        if not path.is_dir():
            require_weights(path)
    return paths


def find(
    settings: Decoupled, names: Sequence[str], output: pathlib.Path, seed: int, remedy: str
) -> tuple[pathlib.Path, ...]:
    """Returns folders of teachers, or files with weights.

    Arguments:
        settings: of the chain.
        names: folders or files that the user names.
        output: the chain's folder, which may hold some.
        seed: of the default folder.
        remedy: how such a teacher is made, for the message.

    Raises:
        UsageError: there is none, or what is named is none.
    """
    usual = default_folder(settings, seed)
    if folders := named(names) or beside(output) or ((usual,) if _is_one(usual) else ()):
        return folders
    raise UsageError(
        "there is no teacher",
        where=shorter_path(usual),
        expected="a network trained on the real images; `teacher` takes its folder or a safetensors file",
        remedy=remedy,
    )


def require_weights(path: pathlib.Path) -> None:
    """Refuses what is no safetensors file, before anything is read.

    Raises:
        UsageError: see above.
    """
    if not path.is_file():
        raise UsageError(
            "no such file or folder",
            where=f"`teacher={path}`",
            expected="a folder that `squeeze` wrote, or a safetensors file with the names of torchvision or timm",
            remedy="check the path, or make a teacher with `squeeze`",
        )
    if path.suffix != WEIGHTS:
        raise UsageError(
            "no safetensors file",
            where=f"`teacher={path}`",
            expected=f"weights in a file that ends in {WEIGHTS}; files of torch.save hold programs, and are not opened",
            remedy="convert them once, where torch is: safetensors.torch.save_file(model.state_dict(), FILE)",
        )


def adopt(settings: Decoupled, folder: pathlib.Path) -> Decoupled:
    """Returns the settings with the architecture that the teacher in a folder has.

    Raises:
        UsageError: it was trained on another data set, or has another architecture than the one that was typed.
        CheckpointError: it is no teacher.
    """
    about = read_manifest(folder)
    try:
        architecture, name = dict(about["architecture"]), about["dataset"]["name"]
        stored = {"dataset": name, "image_shape": architecture.pop("image_shape")}
        stored["classes"] = architecture.pop("classes")
    except (KeyError, TypeError) as error:
        raise garbled(error, folder, networks.AGAIN) from None
    wanted = {"dataset": settings.dataset, "image_shape": list(settings.image_shape), "classes": settings.spec.classes}
    if "arch_name" in settings.typed:
        typed = settings.chain.architecture()
        differing = "depth" if typed["name"] == architecture["name"] else "name"
        stored, wanted = stored | {differing: architecture[differing]}, wanted | {differing: typed[differing]}
    _require_kind(stored, wanted, folder, "name another by `teacher`, or change what differs")
    arch_name = models.called(architecture["name"], architecture.get("depth"))
    chain = dataclasses.replace(settings.chain, arch_name=arch_name, width=architecture["width"])
    return dataclasses.replace(settings, chain=chain)


def read(
    source: pathlib.Path,
    dataset: Dataset,
    preprocessing: Preprocessing,
    architecture: Mapping[str, Any],
    precision: Precision = "float32",
) -> Teacher:
    """Reads the teacher of a folder, or of a file with weights.

    Arguments:
        source: the folder or the file.
        dataset, preprocessing: whose images it has to see, and on which a file's network was trained.
        architecture: of the network in a file, as `models.build` takes it.
        precision: of its activations.

    Raises:
        UsageError, CheckpointError: there is none, its tensors are of another architecture, or it sees other images.
    """
    if source.is_dir():
        known = load(source, precision)
    else:
        known = imported(source, dataset, preprocessing, architecture, precision=precision)
    require_same(
        {key: known.about["architecture"][key] for key in ("image_shape", "classes")},
        {"image_shape": list(dataset.image_shape), "classes": dataset.classes},
        "this teacher sees other images",
        where=source,
        remedy="name one that was trained on this data set: `squeeze`",
        error=UsageError,
    )
    return known


def keep(teachers: Sequence[Teacher], folder: pathlib.Path) -> None:
    """Puts teachers beside what is made of them.

    Raises:
        CheckpointError: others are there.
    """
    for number, each in enumerate(teachers):
        each.save(place(folder, number))


def refuse_others(teachers: Sequence[Teacher], folder: pathlib.Path) -> None:
    """Refuses a folder where other teachers lie, before anything is made.

    Raises:
        CheckpointError: see above.
    """
    for number, each in enumerate(teachers):
        each.refuse_other(place(folder, number))


def require_kind(known: Teacher, name: str | None, width: int | None) -> None:
    """Refuses a teacher of another kind than flags say.

    Raises:
        UsageError: see above.
    """
    asked: dict[str, Any] = {} if name is None else models.teacher_architecture(name, 1)
    asked = {key: value for key, value in {**asked, "width": width}.items() if value is not None}
    asked = {key: value for key, value in asked.items() if key in ("name", "depth", "width")}
    stored = {key: known.about["architecture"].get(key) for key in asked}
    _require_kind(stored, asked, known, "name another by `teacher`, or leave out `arch_name` and `width`")


def _require_kind(stored: Mapping[str, Any], wanted: Mapping[str, Any], where: object, remedy: str) -> None:
    what = "this teacher is of another kind than is asked for"
    require_same(stored, wanted, what, where=where, remedy=remedy, error=UsageError)


def _is_one(folder: pathlib.Path) -> bool:
    return (folder / "manifest.json").is_file()
