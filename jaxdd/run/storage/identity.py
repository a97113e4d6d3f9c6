"""Which run an output folder belongs to, and which folder cannot be one: refusals before a device is touched.

`config.json` holds the settings that a run's numbers depend on, and the others. Every setting stands there by its
name; names of Python classes do not, so that code can be moved and renamed. The one exception are the classes of flax
modules: parameter paths hold them too.
"""

from __future__ import annotations

import contextlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import jaxdd
from jaxdd.core import io
from jaxdd.core.errors import CheckpointError
from jaxdd.core.procedure import by_name
from jaxdd.core.trees import changes, require_same

FORMAT = 2  # 1 told evaluations and networks apart by what Python prints of their classes
OF_RUN = ("method", "settings", "seed")  # of a set's provenance, what is its run's identity too
FOLDERS = ("checkpoints", "tensorboard", "distilled", "best", "images", "recovered", "teacher", "labels", "validation")
FILES = (  # in an output folder or in one of these
    *("config.json", "metrics.jsonl", "log.txt", "manifest.json", "epochs.json", "eval.json", "evaluations.jsonl"),
    *("grid.png", "newest", ".lock"),
)


def of_procedure(procedure: Any) -> dict[str, Any]:
    """Returns the settings of a procedure by name, with those of all that it is made of; JSON types.

    Raises:
        TypeError: a setting has no form in JSON.
    """
    return {"format": FORMAT, "settings": by_name(procedure)}


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


def require_writable(folder: Any, needed: int = 0) -> None:
    """Refuses an output folder that cannot be, where something else lies in the place of a file or folder of a run, or
    whose disk has too little room; writes nothing.

    Raises:
        CheckpointError: see above.
    """
    io.require_writable(io.absolute(folder), needed, folders=FOLDERS, files=FILES)


def refuse_other_run(folder: Any, known: Mapping[str, Any]) -> None:
    """Refuses the folder of a run with other settings, or one that is in use; `Storage` compares what needs the data.

    Arguments:
        folder: where the run would be kept.
        known: the part of the run's identity that is known without the data, e.g. `{"dataset": {"name": "digits"}}`.

    Raises:
        CheckpointError: names every setting that differs; or another process holds the folder, or a set lies in it that
            no such run has made.
    """
    folder = io.absolute(folder)
    config = folder / "config.json"
    if config.is_file():
        with contextlib.suppress(PermissionError), io.folder_lock(folder):
            pass
        if before := _run_in(folder):  # what is none `Storage` reports
            require_same_run(before, _merged(before, as_json(known)), config)
    refuse_foreign_set(folder)


def refuse_other_set(folder: pathlib.Path, known: Mapping[str, Any]) -> None:
    """Refuses an output folder whose set was made in another way, or has more images per class, or will be another's.

    Arguments:
        folder: the output folder, with or without `distilled/`.
        known: the part of the new set's provenance that is known, e.g. `{"method": "cda", "seed": 0}`.

    Raises:
        CheckpointError: see above; names what differs.
    """
    now, there = as_json(known), origin(folder)
    made_by = _run_in(folder) if there is None else there
    if made_by is None:
        return
    made = {name: made_by.get(name) for name in now}
    more, fewer = (_images_per_class(side) for side in (made, now))
    before, after = _comparable(made), _comparable(now)
    if before["method"] != after["method"]:  # whose settings have nothing in common
        before, after = {"method": before["method"]}, {"method": after["method"]}
    require_same(
        before,
        after,
        f"the output folder holds {'another run, not finished' if there is None else 'the set of another run'}",
        where=folder / ("config.json" if there is None else "distilled"),
        expected="no set, or one with the same settings, seed and teachers",
        remedy="choose another output folder, or move what is there away",
    )
    if fewer and more > fewer:
        raise CheckpointError(
            f"the output folder holds a larger set: {more} images per class instead of {fewer}",
            where=str(folder / "distilled"),
            expected=f"at most {fewer} images per class",
            remedy=f"choose another output folder for the smaller set, or ask for {more} images per class",
        )


def _images_per_class(provenance: Mapping[str, Any]) -> int:
    return (provenance.get("settings") or {}).get("n_images", 0)


def _comparable(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a provenance without what may change from one run to the next of the same set."""
    settings = {name: value for name, value in (provenance.get("settings") or {}).items() if name != "n_images"}
    others = {name: value for name, value in provenance.items() if name != "versions"}
    return {"method": None, **others, "settings": settings}


def refuse_foreign_set(folder: Any) -> None:
    """Refuses a folder with a set that is not of the run there: a run's set would replace it.

    Raises:
        CheckpointError: see above.
    """
    folder = io.absolute(folder)
    if not (folder / "distilled" / "manifest.json").is_file():
        return
    made, run = origin(folder), _run_in(folder)
    if run is None and (folder / "config.json").is_file():
        return  # which `Storage` reports
    if run is None or (made is not None and any(made.get(name) != run.get(name) for name in OF_RUN)):
        raise CheckpointError(
            f"the output folder holds a set that another run made ({(made or {}).get('method', 'of unknown method')})",
            where=str(folder / "distilled"),
            expected="no set, or one of the run whose config.json is beside it",
            remedy="choose another `output_dir`, or move that set away",
        )


def _run_in(folder: pathlib.Path) -> dict[str, Any] | None:
    """Returns the identity of the run of a method in a folder; None where there is none, but perhaps chunks."""
    path = folder / "config.json"
    content = io.read_json(path) if path.is_file() else None
    identity = content.get("identity") if isinstance(content, dict) else None
    return identity if isinstance(identity, dict) and "method" in identity else None


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `old` with what `new` says, data set facts merged key by key, settings replaced as a whole."""
    dataset = {**(old.get("dataset") or {}), **new.get("dataset", {})}
    return {**old, **new, "dataset": dataset}
