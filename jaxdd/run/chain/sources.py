"""Where a chain's teachers come from: folders and files that are named, the output folder, or where `squeeze` puts one.

OUT/teacher, OUT/teacher-1, ...     those that a set was made with lie beside it, in their order
"""

from __future__ import annotations

import dataclasses
import itertools
import pathlib
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from jaxdd.core.errors import UsageError, garbled
from jaxdd.core.io import absolute, shorter_path
from jaxdd.data.registry import one_word
from jaxdd.run.chain.settings import ARCHITECTURES, Decoupled, architecture

if TYPE_CHECKING:
    from jaxdd.core.precision import Precision
    from jaxdd.data import Dataset, Preprocessing
    from jaxdd.run.chain.teacher import Teacher

WEIGHTS = ".safetensors"


def default_folder(settings: Decoupled, seed: int) -> pathlib.Path:
    """`teachers/tiny_imagenet/resnet18_0`, with the width in the middle where it is not the published one."""
    chain = settings.chain
    width = "" if chain.width == 128 else f"_w{chain.width}"
    return pathlib.Path("teachers", one_word(chain.dataset_name), f"{chain.arch_name}{width}_{seed}").absolute()


def place(folder: pathlib.Path, number: int) -> pathlib.Path:
    """Where teacher `number` of a set lies, from 0."""
    return folder / (f"teacher-{number}" if number else "teacher")


def beside(folder: pathlib.Path) -> tuple[pathlib.Path, ...]:
    """The teachers that lie in a set's output folder."""
    places = (place(folder, number) for number in itertools.count())
    return tuple(itertools.takewhile(_is_one, places))


def named(given: Sequence[str]) -> tuple[pathlib.Path, ...]:
    """Folders of teachers and files with weights, as the user names them.

    Raises:
        UsageError: one of them is neither.
    """
    paths = tuple(absolute(path) for path in given)
    for path in paths:
        if not path.is_dir():
            require_weights(path)
    return paths


def find(
    settings: Decoupled, given: Sequence[str], output: pathlib.Path, seed: int, squeezer: str
) -> tuple[pathlib.Path, ...]:
    """Folders of teachers, or files with weights.

    Arguments:
        settings: of the chain.
        given: folders or files that the user names.
        output: the chain's folder, which may hold some.
        seed: of the default folder.
        squeezer: how the command that makes teachers is called.

    Raises:
        UsageError: there is none, or what is named is none.
    """
    usual = default_folder(settings, seed)
    if found := named(given) or beside(output) or ((usual,) if _is_one(usual) else ()):
        return found
    words = ["--dataset", settings.dataset, "--arch-name", settings.chain.arch_name]
    words += [] if settings.chain.width == 128 else ["--width", str(settings.chain.width)]
    raise UsageError(
        "there is no teacher",
        where=shorter_path(usual),
        expected="a network trained on the real images; --arch-path takes its folder or a safetensors file",
        remedy=f"{squeezer} {shlex.join(words)}",
    )


def require_weights(path: pathlib.Path) -> None:
    """Refuses what is no safetensors file, before anything is read.

    Raises:
        UsageError: see above.
    """
    if not path.is_file():
        raise UsageError(
            "no such file or folder",
            where=f"--arch-path {path}",
            expected="a folder that squeeze.py wrote, or a safetensors file with the names of torchvision or timm",
            remedy="check the path, or make a teacher with squeeze.py",
        )
    if path.suffix != WEIGHTS:
        raise UsageError(
            "no safetensors file",
            where=f"--arch-path {path}",
            expected=f"weights in a file that ends in {WEIGHTS}; files of torch.save hold programs, and are not opened",
            remedy="convert them once, where torch is: safetensors.torch.save_file(model.state_dict(), FILE)",
        )


def adopt(settings: Decoupled, folder: pathlib.Path) -> Decoupled:
    """The settings with the architecture that the teacher in a folder has.

    Raises:
        UsageError: it was trained on another data set, or has another architecture than the one that was typed.
        CheckpointError: it is no teacher.
    """
    from jaxdd.run.chain.teacher import read_manifest
    from jaxdd.run.storage import identity, networks

    found = read_manifest(folder)
    try:
        own, name = dict(found["architecture"]), found["dataset"]["name"]
        stored = {"dataset": name, "image_shape": own.pop("image_shape"), "classes": own.pop("classes")}
    except (KeyError, TypeError) as error:
        raise garbled(error, folder, networks.AGAIN) from None
    spec = settings.spec
    wanted = {"dataset": settings.dataset, "image_shape": list(settings.image_shape), "classes": spec.classes}
    chain, typed = settings.chain, architecture(settings.chain.arch_name, settings.chain.width)
    if "arch_name" in settings.typed and typed["name"] == own["name"]:
        stored, wanted = stored | {"depth": own["depth"]}, wanted | {"depth": typed["depth"]}
    elif "arch_name" in settings.typed:
        stored, wanted = stored | {"architecture": own["name"]}, wanted | {"architecture": typed["name"]}
    if lines := identity.changes(stored, wanted):
        raise UsageError(
            "this teacher is of another kind than is asked for" + "".join(f"\n  {line}" for line in lines),
            where=str(folder),
            remedy="name another by --arch-path, or change what differs",
        )
    return dataclasses.replace(settings, chain=dataclasses.replace(chain, arch_name=_name(own), width=own["width"]))


class Taken(NamedTuple):
    """A teacher that is loaded, but not yet kept beside what is made of it.

    Arguments:
        teacher: the network.
        folder: where it is now.
    """

    teacher: Teacher
    folder: pathlib.Path


def taken(
    source: pathlib.Path,
    scratch: pathlib.Path,
    dataset: Dataset,
    preprocessing: Preprocessing,
    architecture: Mapping[str, Any],
    precision: Precision = "float32",
) -> Taken:
    """The teacher of a folder, or of a file with weights, for which a folder is made.

    Arguments:
        source: the folder or the file.
        scratch: where the folder is made.
        dataset, preprocessing: whose images it has to see, and on which a file's network was trained.
        architecture: of the network in a file, as `models.build` takes it.
        precision: of its activations.

    Raises:
        UsageError, CheckpointError: there is none, its tensors are of another architecture, or it sees other images.
    """
    from jaxdd.run.chain import teacher as trained

    if not source.is_dir():
        trained.take_in(source, scratch, dataset, preprocessing, architecture)
    folder = source if source.is_dir() else scratch
    found = trained.load(folder, precision)
    _require_fitting(found.about["architecture"], dataset.image_shape, dataset.classes, source)
    return Taken(found, folder)


def taken_all(sources: Sequence[pathlib.Path], scratch: pathlib.Path, *of: Any) -> list[Taken]:
    """The teachers of several folders and files; arguments as in `taken`, `scratch` for all of them."""
    return [taken(source, scratch / str(number), *of) for number, source in enumerate(sources)]


def keep(found: Sequence[Taken], folder: pathlib.Path) -> None:
    """Puts teachers beside what is made of them.

    Raises:
        CheckpointError: others are there.
    """
    from jaxdd.run.chain import teacher as trained

    for number, each in enumerate(found):
        trained.copy(each.folder, place(folder, number))


def refuse_others(found: Sequence[Taken], folder: pathlib.Path) -> None:
    """What `keep` would refuse, before anything is made.

    Raises:
        CheckpointError: see there.
    """
    from jaxdd.run.chain import teacher as trained

    for number, each in enumerate(found):
        trained.refuse_other(each.folder, place(folder, number))


def _require_fitting(
    own: Mapping[str, Any], image_shape: tuple[int, int, int], classes: int, source: pathlib.Path
) -> None:
    from jaxdd.run.storage import identity

    stored = {"image_shape": own["image_shape"], "classes": own["classes"]}
    if lines := identity.changes(stored, {"image_shape": list(image_shape), "classes": classes}):
        raise UsageError(
            "this teacher sees other images" + "".join(f"\n  {line}" for line in lines),
            where=str(source),
            remedy="name one that was trained on this data set: squeeze.py",
        )


def require_kind(teacher: Teacher, name: str | None, width: int | None) -> None:
    """Refuses a teacher of another kind than flags say.

    Raises:
        UsageError: see above.
    """
    from jaxdd.run.storage import identity

    own = teacher.about["architecture"]
    asked = {"name": name and architecture(name, 1)["name"], "depth": name and architecture(name, 1)["depth"]}
    asked = {key: value for key, value in {**asked, "width": width}.items() if value is not None}
    if lines := identity.changes({key: own.get(key) for key in asked}, asked):
        raise UsageError(
            "this teacher is of another kind than is asked for" + "".join(f"\n  {line}" for line in lines),
            where=describe(teacher.about),
            remedy="name another by --arch-path, or leave out --arch-name and --width",
        )


def describe(about: Mapping[str, Any]) -> str:
    """`resnet18, width 64; squeezed in 50 epochs`."""
    own, recipe = about["architecture"], about["recipe"]
    width = "" if own["width"] == 128 else f", width {own['width']}"
    how = f"imported from {recipe['imported']}" if "imported" in recipe else f"squeezed in {recipe['epochs']} epochs"
    return f"{_name(own)}{width}; {how}"


def _is_one(folder: pathlib.Path) -> bool:
    return (folder / "manifest.json").is_file()


def _name(own: Mapping[str, Any]) -> str:
    """What users call an architecture."""
    return next(name for name, words in ARCHITECTURES.items() if words == (own["name"], own.get("depth")))
