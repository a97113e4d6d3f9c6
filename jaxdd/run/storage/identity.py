"""Which run an output folder belongs to: `config.json` holds the settings its numbers depend on, and the others.

Every setting stands there by its name; names of Python classes do not, so that code can be moved and renamed. The one
exception are the classes of flax modules: parameter paths hold them too.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import numpy as np

import jaxdd
from jaxdd.core import io
from jaxdd.core.errors import CheckpointError, JaxddError

FORMAT = 2  # 1 told evaluations and networks apart by what Python prints of their classes


def of_procedure(procedure: Any) -> dict[str, Any]:
    """Returns the settings of a procedure by name, with those of all that it is made of; JSON types.

    Raises:
        TypeError: a setting has no form in JSON.
    """
    return {"format": FORMAT, "settings": _by_name(procedure)}


def _by_name(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): _by_name(inner) for key, inner in value.items()}
    if isinstance(value, tuple | list):
        return [_by_name(inner) for inner in value]
    if isinstance(value, nn.Module):
        names = [field.name for field in dataclasses.fields(value) if field.name not in ("parent", "name")]
        return {"module": type(value).__name__, **{name: _by_name(getattr(value, name)) for name in names}}
    if dataclasses.is_dataclass(value):
        return {field.name: _by_name(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return np.dtype(value).name  # or a TypeError


def network_of_text(text: str) -> dict[str, Any]:
    """Returns `Network.description` from what stood for it in manifests before: `ConvNet, depth 3, width 128`."""
    module, *sizes = text.split(", ")
    return {"module": module, **{name: int(size) for name, size in (each.split(" ") for each in sizes)}}


def as_json(content: Mapping[str, Any]) -> dict[str, Any]:
    """Returns settings as they will be read back: tuples become lists, and what JSON cannot hold is a TypeError."""
    return json.loads(json.dumps(content, allow_nan=False))


def digest(identity: Mapping[str, Any]) -> str:
    """Returns one word for all settings."""
    return io.digest(identity)


def claim(path: pathlib.Path, identity: dict[str, Any], other: dict[str, Any], versions: dict[str, str]) -> list[str]:
    """Writes `config.json`, or makes sure that the one there names the same run.

    Arguments:
        path: the file.
        identity: settings that must be the same.
        other: settings that may change; the newest are kept.
        versions: of the software; may change.

    Returns:
        What changed in `versions`, one line each.

    Raises:
        CheckpointError: the file is damaged, or belongs to another run; names every key that differs.
    """
    before = versions
    if path.exists():
        content = io.read_json(path)
        if not isinstance(content, dict) or "identity" not in content or type(content.get("format")) is not int:
            raise CheckpointError(
                "not the settings of a run",
                where=str(path),
                expected=f"format {FORMAT}",
                remedy="choose another `output_dir`, or restore the file",
            )
        _require_format(content, path)
        require_same_run(content["identity"], identity, path)
        before = content.get("versions")
    io.write_json(path, {"format": FORMAT, "identity": identity, "other": other, "versions": versions})
    return changes(before, versions)


def require_same_run(begun: Any, now: Any, path: pathlib.Path) -> None:
    """Refuses settings that are not those of the run in a folder.

    Arguments:
        begun, now: what `config.json` says, and what is to run.
        path: of `config.json`.

    Raises:
        CheckpointError: names every key that differs.
    """
    require_same(
        begun,
        now,
        "the folder belongs to a run with other settings",
        where=path,
        remedy="choose another `output_dir`, or use the settings this run was started with",
    )


def require_same(
    old: Any,
    new: Any,
    what: str,
    *,
    where: object,
    remedy: str,
    expected: str = "",
    error: type[JaxddError] = CheckpointError,
) -> None:
    """Refuses two nested settings that differ.

    Arguments:
        old, new: the two.
        what: the error's first line; one line follows for each difference.
        where, remedy, expected, error: of the error.

    Raises:
        JaxddError: `error`, which names every key that differs.
    """
    if lines := changes(old, new):
        raise error(what + "".join(f"\n  {line}" for line in lines), where=str(where), expected=expected, remedy=remedy)


def refuse_older(folder: pathlib.Path) -> None:
    """Refuses a folder in whose sub-folders an older version left an unfinished evaluation.

    Raises:
        CheckpointError: names both versions.
    """
    for path in sorted(folder.glob("*/config.json")):
        content = io.read_json(path)
        if isinstance(content, dict) and type(content.get("format")) is int:
            _require_format(content, path)


def _require_format(content: Mapping[str, Any], path: pathlib.Path) -> None:
    if content["format"] != FORMAT:
        versions = content.get("versions")
        writer = versions.get("jaxdd", "?") if isinstance(versions, dict) else "?"
        raise CheckpointError(
            f"an unfinished run of format {content['format']}, begun by jaxdd {writer}",
            where=str(path),
            expected=f"format {FORMAT}, which jaxdd {jaxdd.__version__} reads and writes",
            remedy="finish it with the version that began it; or choose another `output_dir`, or move the folder away",
        )


def origin(folder: pathlib.Path) -> dict[str, Any] | None:
    """Returns the provenance of the set in `folder/distilled`; None where there is none, or nothing readable."""
    try:
        manifest = io.read_json(folder / "distilled" / "manifest.json")
        return dict(manifest.get("provenance") or {})
    except (CheckpointError, ValueError, AttributeError, TypeError):
        return None


def changes(old: Any, new: Any, path: str = "") -> list[str]:
    """Returns one line `key: old -> new` for every difference of two nested settings."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        before, after = json.dumps(old), json.dumps(new)
        return [] if before == after else [f"{path}: {before} -> {after}"]
    lines = []
    for key in dict.fromkeys((*old, *new)):
        inner = f"{path}.{key}" if path else key
        if key in old and key in new:
            lines += changes(old[key], new[key], inner)
        else:
            before, after = (json.dumps(side[key]) if key in side else "absent" for side in (old, new))
            lines.append(f"{inner}: {before} -> {after}")
    return lines
