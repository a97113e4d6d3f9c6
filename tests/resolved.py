"""Every packaged config, resolved in full: the settings of each of its parts, for its own data set and for others.

`python -m tests.resolved` writes the checksums into `tests/golden/configs.json`; `tests/test_configs.py` compares them.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from jaxdd.core.config import as_dict, layer, packaged_configs, read_config
from jaxdd.core.errors import JaxddError
from jaxdd.data import SPECS, DataSpec
from jaxdd.evaluation.recipe import Recipe
from jaxdd.methods import METHODS
from jaxdd.run.chain.settings import build_chain
from jaxdd.run.settings import build

GOLDEN = pathlib.Path(__file__).parent / "golden" / "configs.json"
OTHERS = ("digits", "mnist", "cifar10", "cifar100", "tiny_imagenet", "imagenette", "imagenet10:0:0", "imagenet1k")


CHANGES = ({}, *({"dataset_name": name} for name in OTHERS), *({"n_images": ipc} for ipc in (1, 10, 50)))


def resolved(path: pathlib.Path | str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns all settings of a config as JSON types.

    Arguments:
        path: of the file.
        changes: settings in place of the file's own.
    """
    given = layer(changes, "changes")
    method = str(read_config(path).values.get("method", "rcig"))
    if METHODS[method].is_chain:
        chain = build_chain(given, source=str(path), describe=spec)
        stored = chain.recipe
        parts: list[Any] = [dataclasses.replace(chain.chain, squeeze={}, recipe={}), chain.recovery, chain.teacher]
    else:
        run = build(str(path), given, at_hand=True)
        stored = run.run.stored_recipe(run.method)
        parts = [dataclasses.replace(run.run, recipe={}), run.method]
    return {"parts": [as_dict(part) for part in parts], "stored": stored, "recipe": as_dict(Recipe.of(stored))}


def as_preset(path: pathlib.Path, side: int) -> list[Any]:
    """Returns all settings of a chain's config as a preset for images of `side` pixels, and what is told of them."""
    method, _, preset = path.stem.rpartition("_")
    large = functools.partial(dataclasses.replace, resolution=side)
    chain = build_chain(layer({"method": method}, "a flag"), preset=preset, describe=lambda name: large(spec(name)))
    return [as_dict(chain.recovery), chain.recipe, list(chain.notices)]


def spec(name: str) -> DataSpec:
    """Returns what is known of a data set before an image is read."""
    return SPECS[name] if name in SPECS else DataSpec(name, 32, 3, 10)


def checksum(path: pathlib.Path | str) -> str:
    """Returns a checksum of a config as it is and with all `CHANGES`; what is refused counts as refused."""
    each: list[Any] = []
    for changes in CHANGES:
        try:
            each.append(resolved(path, changes))
        except JaxddError as error:
            each.append(type(error).__name__)
    assert isinstance(each[0], dict), f"{path}: {each[0]}"
    if pathlib.Path(path).parent.name == "cda":
        each += [as_preset(pathlib.Path(path), side) for side in (32, 64, 224)]
    return hashlib.sha256(json.dumps(each, sort_keys=True).encode()).hexdigest()[:16]


def checksums() -> dict[str, str]:
    """Returns the checksum of every packaged config by name."""
    return {name: checksum(path) for name, path in packaged_configs().items()}


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(checksums(), indent=1) + "\n")
