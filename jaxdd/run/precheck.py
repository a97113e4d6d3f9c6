"""What can be refused before a device is touched or an image is read: folders that cannot be, or are another run's.

Nothing here imports JAX or writes a file.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

from jaxdd.core import io
from jaxdd.core.errors import CheckpointError
from jaxdd.run import identity as identities


def require_writable(folder: Any, needed: int = 0) -> None:
    """Refuses an output folder that cannot be, or whose disk has too little room; writes nothing.

    Raises:
        CheckpointError: see above.
    """
    path = pathlib.Path(folder).expanduser().absolute()
    problem = _unwritable(path)
    if problem:
        raise CheckpointError(
            f"the output folder cannot be written: {problem}",
            where=str(path),
            expected="a folder, or a name for a new one, that this user may write to",
            remedy="choose another --output_dir",
        )
    existing = next(place for place in (path, *path.parents) if place.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise CheckpointError(
            "too little free space for the checkpoints",
            where=f"{path}: {free / 1e9:.3g} GB free",
            expected=f"{needed / 1e9:.3g} GB",
            remedy="make room, or choose an --output_dir on another disk",
        )


def refuse_other_run(folder: Any, known: Mapping[str, Any]) -> None:
    """Refuses the folder of a run with other settings, or one that is in use; `Storage` compares what needs the data.

    Arguments:
        folder: where the run would be kept.
        known: the part of the run's identity that is known without the data, e.g. `{"dataset": {"name": "digits"}}`.

    Raises:
        CheckpointError: names every setting that differs; or another process holds the folder.
    """
    folder = pathlib.Path(folder).expanduser().absolute()
    config = folder / "config.json"
    if not config.is_file():
        return
    with contextlib.suppress(PermissionError), io.folder_lock(folder):
        pass
    found = io.read_json(config)
    before = found.get("identity") if isinstance(found, dict) else None
    if not isinstance(before, dict):
        return  # which `Storage` reports
    changed = identities.changes(before, _merged(before, identities.as_json(known)))
    if changed:
        raise CheckpointError(
            "the folder belongs to a run with other settings" + "".join(f"\n  {line}" for line in changed),
            where=str(config),
            remedy="choose another --output_dir, or use the settings this run was started with",
        )


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """`old` with what `new` says, data set facts merged key by key, settings replaced as a whole."""
    dataset = {**(old.get("dataset") or {}), **new.get("dataset", {})}
    return {**old, **new, "dataset": dataset}


def _unwritable(path: pathlib.Path) -> str:
    """Why a folder cannot be written, or the empty text."""
    try:
        existing = next(place for place in (path, *path.parents) if place.exists())
    except OSError as error:  # a name that is too long, a parent that may not be entered
        return error.strerror or str(error)
    if not existing.is_dir():
        return f"{existing} is a file"
    return "" if os.access(existing, os.W_OK | os.X_OK) else f"no permission to write into {existing}"
