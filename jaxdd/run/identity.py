"""Which run an output folder belongs to: `config.json` holds the settings its numbers depend on, and the others."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from jaxdd.core import io
from jaxdd.core.errors import CheckpointError

FORMAT = 1


def as_json(content: Mapping[str, Any]) -> dict[str, Any]:
    """As it will be read back: tuples become lists, and what JSON cannot hold is a TypeError."""
    return json.loads(json.dumps(content, allow_nan=False))


def digest(identity: Mapping[str, Any]) -> str:
    """One word for all settings."""
    return io.sha256(json.dumps(identity, sort_keys=True, allow_nan=False).encode())


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
        found = io.read_json(path)
        if not isinstance(found, dict) or found.get("format") != FORMAT or "identity" not in found:
            raise CheckpointError(
                "not the settings of a run",
                where=str(path),
                expected=f"format {FORMAT}",
                remedy="choose another --output_dir, or go on with the version of jaxdd that wrote this one",
            )
        changed = changes(found["identity"], identity)
        if changed:
            raise CheckpointError(
                "the folder belongs to a run with other settings" + "".join(f"\n  {line}" for line in changed),
                where=str(path),
                remedy="choose another --output_dir, or use the settings this run was started with",
            )
        before = found.get("versions")
    io.write_json(path, {"format": FORMAT, "identity": identity, "other": other, "versions": versions})
    return changes(before, versions)


def origin(folder: pathlib.Path) -> dict[str, Any] | None:
    """What the set in `folder/distilled` says of how it was made; None where there is none, or nothing readable."""
    try:
        found = json.loads((folder / "distilled" / "manifest.json").read_text())
        return dict(found.get("provenance") or {})
    except (OSError, ValueError, AttributeError, TypeError):
        return None


def changes(old: Any, new: Any, path: str = "") -> list[str]:
    """One line `key: old -> new` for everything in which two nested settings differ."""
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
