"""The seal on a directory: `manifest.json` with size and sha256 of every file in it, and its own digest."""

from __future__ import annotations

import pathlib
from typing import Any

from jaxdd.core import io, shards
from jaxdd.core.errors import CheckpointError

NAME = "manifest.json"


class Damaged(Exception):  # noqa: N818 (a finding, which the caller turns into a warning or an error)
    """A directory is not what its manifest says; the message says which file and why."""


def write(folder: pathlib.Path, **facts: Any) -> None:
    """Writes the manifest over all files that are in `folder` now, together with `facts` (JSON values)."""
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    stamps = {name: [(folder / name).stat().st_size, io.sha256(folder / name)] for name in files}
    io.write_json(folder / NAME, {**facts, "files": stamps})


def is_sealed(folder: pathlib.Path) -> bool:
    """Returns whether there is a manifest at all: without one, the directory was never finished."""
    return (folder / NAME).is_file()


def verify(folder: pathlib.Path, **facts: Any) -> dict[str, Any]:
    """Reads every file again and compares.

    Arguments:
        folder: the directory.
        facts: what the manifest must say.

    Returns:
        The manifest.

    Raises:
        Damaged: a byte, a file or a fact is not as it was.
    """
    if not is_sealed(folder):
        raise Damaged("its manifest is missing")
    try:
        content = io.read_json(folder / NAME, sealed=True)
    except CheckpointError:
        raise Damaged("its manifest is damaged") from None
    for name, value in facts.items():
        if content.get(name) != value:
            raise Damaged(f"its {name} is {str(content.get(name))[:12]}, not {str(value)[:12]}")
    for name, stamp in content["files"].items():
        if fault := shards.fault(folder / name, *stamp):
            raise Damaged(f"{name} {fault}")
    return content
