"""Networks trained beforehand, on disk and in memory: what `pretrain` makes and AccDD and GA-DD start from.

A folder holds `manifest.json` (what they were trained on and how; of each network accuracies, file and sha256) beside
one safetensors file per network, named by its content. The manifest is written last, after every network: a reader sees
those that were finished, and a flipped bit is found.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxdd.core import io, shards, trees
from jaxdd.core.errors import CheckpointError, garbled
from jaxdd.core.trees import require_same
from jaxdd.core.types import PyTree
from jaxdd.run.storage import identity as identities

FORMAT = 2  # 1 says what kind a network is in one text; it is read as well
AGAIN = "copy the whole folder again, or train networks anew with `pretrain` or `squeeze`"


@dataclasses.dataclass(frozen=True, eq=False)
class Networks:
    """Networks of one architecture.

    Arguments:
        variables: stacked along a leading axis: every leaf `[networks, ...]`.
    """

    variables: PyTree

    def __len__(self) -> int:
        return len(jax.tree.leaves(self.variables)[0])

    @functools.cached_property
    def digest(self) -> str:
        """The digest that the result of a run with these networks depends on."""
        return digest(self.variables)


def digest(tree: PyTree) -> str:
    """Returns the sha256 of names, shapes and numbers."""
    hasher = hashlib.sha256()
    for path, leaf in trees.paths(tree):
        array = np.ascontiguousarray(leaf)
        hasher.update(f"{path} {array.dtype} {array.shape}".encode())
        hasher.update(array)
    return hasher.hexdigest()


def add(
    folder: str | os.PathLike, about: Mapping[str, Any], variables: PyTree, accuracies: Sequence[float], epoch: int
) -> None:
    """Adds one network to a folder, which need not exist.

    Arguments:
        folder: where.
        about: what all networks in it share: data set, architecture, recipe, seed; JSON types.
        variables: of the network.
        accuracies: on the test images after every epoch, in [0, 1].
        epoch: after which the variables were taken, from 1.

    Raises:
        CheckpointError: the folder holds networks of another kind, or a number is not finite; nothing is written.
    """
    folder = pathlib.Path(folder)
    arrays = {path: np.asarray(leaf) for path, leaf in trees.paths(jax.device_get(variables))}
    for path, array in arrays.items():
        if not np.isfinite(array).all():
            raise CheckpointError(f"'{path}' of the network is not finite", where=str(folder), remedy="lower `lr`")
    before = finished(folder, about)
    written = shards.write(folder, f"network-{len(before)}", arrays)
    entry = {**written, "epoch": epoch, "accuracies": list(accuracies)}
    io.write_json(folder / "manifest.json", {"jaxdd_networks": FORMAT, **about, "networks": [*before, entry]})


def finished(folder: str | os.PathLike, about: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the manifest's entry of each network that is there already; none where there is no manifest.

    Raises:
        CheckpointError: the folder holds networks of another kind, or something else.
    """
    folder = pathlib.Path(folder)
    if not (folder / "manifest.json").exists():
        return []
    manifest = read_manifest(folder)
    kept = manifest["networks"]
    stored = {name: value for name, value in manifest.items() if name not in ("jaxdd_networks", "networks")}
    what, remedy = "the folder holds networks of another kind", "choose another `output_dir` or another `seed`"
    require_same(stored, identities.as_json(about), what, where=folder, remedy=remedy)
    return kept


def read_manifest(folder: str | os.PathLike) -> dict[str, Any]:
    """Returns the manifest of a folder of networks; reads no network.

    Raises:
        CheckpointError: there is none, or none of this version.
    """
    path = pathlib.Path(folder) / "manifest.json"
    manifest = io.read_json(path) if path.is_file() else None
    known = isinstance(manifest, dict) and manifest.get("jaxdd_networks") in (1, FORMAT) and manifest.get("networks")
    if not isinstance(manifest, dict) or not known:
        raise CheckpointError(
            "no networks trained beforehand",
            where=str(folder),
            expected="a folder that `pretrain` wrote: manifest.json and a file for every network",
            remedy="make one with `pretrain`; checkpoints of other programs cannot be read",
        )
    kind = manifest.get("architecture")
    if isinstance(kind, dict) and isinstance(kind.get("network"), str):  # of format 1
        try:
            manifest["architecture"] = {**kind, "network": identities.network_of_text(kind["network"])}
        except ValueError as error:
            raise garbled(error, path, AGAIN) from None
    return manifest


def load(folder: str | os.PathLike) -> Networks:
    """Loads the networks of one folder, verified.

    Raises:
        CheckpointError: there are none, or a file is missing or damaged.
    """
    folder = pathlib.Path(folder)
    return Networks(_stacked([_read(folder, entry) for entry in read_manifest(folder)["networks"]], str(folder)))


def load_all(folders: Sequence[str | os.PathLike]) -> Networks:
    """Loads the networks of several folders, in order.

    Raises:
        CheckpointError: as `load`; or the folders hold different architectures.
    """
    stacks = [load(folder).variables for folder in folders]
    each = [jax.tree.map(lambda leaf, i=i: leaf[i], some) for some in stacks for i in range(len(Networks(some)))]
    return Networks(_stacked(each, ", ".join(map(str, folders))))


def _stacked(each: list[PyTree], where: str) -> PyTree:
    kinds = [[(path, np.shape(leaf)) for path, leaf in trees.paths(tree)] for tree in each]
    if any(kind != kinds[0] for kind in kinds):
        raise CheckpointError("networks of different architectures", where=where, remedy="name folders of one kind")
    return jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *each)


def _read(folder: pathlib.Path, entry: Mapping[str, Any]) -> PyTree:
    arrays = shards.read(folder, entry, "a network", AGAIN)
    tree: dict[str, Any] = {}
    for name, array in arrays.items():
        *above, last = name.split("/")
        place = tree
        for key in above:
            place = place.setdefault(key, {})
        place[last] = array
    return tree
