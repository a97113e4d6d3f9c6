"""Where a chain's teachers come from: folders and files that are named, the output folder, or where `squeeze` puts one.

OUT/teacher, OUT/teacher-1, ...     those that a set was made with lie beside it, in their order
"""

from __future__ import annotations

import dataclasses
import itertools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from jaxdd import models
from jaxdd.core.errors import UsageError, garbled
from jaxdd.core.io import absolute, shorter_path
from jaxdd.core.precision import Precision
from jaxdd.data import Dataset, Preprocessing
from jaxdd.data.registry import one_word
from jaxdd.run.chain import teacher
from jaxdd.run.chain.settings import Decoupled
from jaxdd.run.chain.teacher import Teacher
from jaxdd.run.storage import identity, networks

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
    about = teacher.read_manifest(folder)
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
        known = teacher.load(source, precision)
    else:
        known = teacher.imported(source, dataset, preprocessing, architecture, precision=precision)
    identity.require_same(
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
    identity.require_same(stored, wanted, what, where=where, remedy=remedy, error=UsageError)


def _is_one(folder: pathlib.Path) -> bool:
    return (folder / "manifest.json").is_file()
