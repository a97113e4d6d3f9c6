"""Where a chain's teacher comes from: a folder that is named, the output folder, or where `squeeze` puts it."""

from __future__ import annotations

import dataclasses
import pathlib
import shlex
from collections.abc import Mapping
from typing import Any

from jaxdd.cli.decoupled_resolve import Decoupled
from jaxdd.cli.resolve import one_word
from jaxdd.cli.screen import shorter_path
from jaxdd.core.errors import CheckpointError, UsageError
from jaxdd.run.decoupled_settings import ARCHITECTURES, architecture

WEIGHTS = ".safetensors"


def default_folder(settings: Decoupled, seed: int) -> pathlib.Path:
    """`teachers/tiny_imagenet/resnet18_0`, with the width in the middle where it is not the published one."""
    chain = settings.chain
    width = "" if chain.width == 128 else f"_w{chain.width}"
    return pathlib.Path("teachers", one_word(chain.dataset_name), f"{chain.arch_name}{width}_{seed}").absolute()


def find(settings: Decoupled, given: str | None, output: pathlib.Path, seed: int, squeezer: str) -> pathlib.Path:
    """The folder of a teacher, or a file with weights.

    Arguments:
        settings: of the chain.
        given: folder or file that the user names.
        output: the chain's folder, which may hold one.
        seed: of the default folder.
        squeezer: how the command that makes teachers is called.

    Raises:
        UsageError: there is none, or what is named is none.
    """
    if given:
        path = pathlib.Path(given).expanduser().absolute()
        require_weights(path) if not path.is_dir() else None
        return path
    usual = default_folder(settings, seed)
    for folder in (output / "teacher", usual):
        if (folder / "manifest.json").is_file():
            return folder
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
    from jaxdd.run import identity
    from jaxdd.run.teachers import read_manifest

    found = read_manifest(folder)
    try:
        own, name = dict(found["architecture"]), found["dataset"]["name"]
        stored = {"dataset": name, "image_shape": own.pop("image_shape"), "classes": own.pop("classes")}
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"the manifest lacks or garbles {error}", where=str(folder)) from None
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


def describe(about: Mapping[str, Any]) -> str:
    """`resnet18, width 64; squeezed in 50 epochs`."""
    own, recipe = about["architecture"], about["recipe"]
    width = "" if own["width"] == 128 else f", width {own['width']}"
    how = f"imported from {recipe['imported']}" if "imported" in recipe else f"squeezed in {recipe['epochs']} epochs"
    return f"{_name(own)}{width}; {how}"


def _name(own: Mapping[str, Any]) -> str:
    """What users call an architecture."""
    return next(name for name, words in ARCHITECTURES.items() if words == (own["name"], own.get("depth")))
