"""The distilled set that a path names (`checkpoint_path`): in a folder, inside a saved state, or in an original file.

A state is read without the run's data: what its result means, its identity says.
"""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxdd.core import io, shards
from jaxdd.core.config import build, layer
from jaxdd.core.distilled import DistilledSet
from jaxdd.core.errors import CheckpointError, nearest
from jaxdd.core.trees import describe as describe_leaves
from jaxdd.core.trees import differences
from jaxdd.core.types import PyTree
from jaxdd.methods import METHODS
from jaxdd.run.distillation import meaning, precision, shapes
from jaxdd.run.programs import initial
from jaxdd.run.storage import checkpoint
from jaxdd.run.storage import identity as identities

EXPECTED = (
    "an output folder, a distilled set (its folder or its manifest.json), a state (<folder>/checkpoints/<step>), "
    "or an original RCIG checkpoint file"
)


@dataclasses.dataclass(frozen=True)
class Found:
    """A distilled set, not yet read.

    Arguments:
        kind: `set` (a folder with a manifest), `state` (of a run) or `original` (a file of the RCIG authors).
        path: the set's folder, the state's folder, or the file.
        beside: the folder where results about it belong.
    """

    kind: str
    path: pathlib.Path
    beside: pathlib.Path

    def read(self, *, dataset: str, flip: bool) -> DistilledSet:
        """Reads the set.

        Arguments:
            dataset, flip: what an original file does not say.

        Raises:
            CheckpointError: it is damaged.
        """
        if self.kind == "set":
            return _read_set(self.path)
        if self.kind == "original":
            from jaxdd.evaluation.original import load_rcig_checkpoint

            return load_rcig_checkpoint(self.path, dataset=dataset, flip=flip)
        from jaxdd.run.storage.sets import restore

        return restore(self.path)


def dataset_of(distilled: DistilledSet, asked: str | None, where: pathlib.Path) -> str:
    """Returns the data set of a set, which knows it best; the empty text if nobody does.

    Arguments:
        asked: what a flag says, which may only agree; but a user's own data may have moved.
        where: the set, for messages.

    Raises:
        CheckpointError: the flag names another one.
    """
    from jaxdd.data.registry import canonical, user_kind

    name, asked = distilled.dataset, canonical(asked or "")
    if name and asked and name != asked:
        if user_kind(name) and user_kind(asked):  # whose images must fit, and their digest where one is known
            return asked
        raise CheckpointError(
            f"the set was distilled from '{name}', not from '{asked}'",
            where=str(where),
            expected=f"`dataset_name={name}`, or a set of '{asked}'",
            remedy="leave `dataset_name` out, or name another `checkpoint_path`",
        )
    return name or asked


def find(path: pathlib.Path, maker: str = "distill", name: str = "checkpoint_path") -> Found:
    """Finds the set that a path names.

    Arguments:
        path: absolute.
        maker: the command that makes such sets, for the advice.
        name: of the argument that named it.

    Raises:
        CheckpointError: nothing that can be evaluated.
    """
    if not path.exists():
        beside = sorted(other.name for other in path.parent.iterdir()) if path.parent.is_dir() else []
        raise CheckpointError(
            "no such file or folder",
            where=f"{path} (`{name}`)",
            expected=EXPECTED,
            remedy=nearest(path.name, beside, likeness=0.75) or f"distil first: `{maker}`",
        )
    place = _file(path) if path.is_file() else _folder(path)
    if place is None:
        raise CheckpointError(
            "nothing here that can be evaluated",
            where=f"{path} (`{name}`)",
            expected=EXPECTED,
            remedy=f"name another path, or distil first: `{maker}`",
        )
    return place


def _read_set(folder: pathlib.Path) -> DistilledSet:
    """Reads a set that a run may be replacing at this moment: another manifest than before is worth another try."""
    while True:
        before = (folder / "manifest.json").read_bytes()
        try:
            return DistilledSet.load(folder)
        except CheckpointError:
            if (folder / "manifest.json").read_bytes() == before:
                raise


def _file(path: pathlib.Path) -> Found | None:
    if path.name == "manifest.json":
        return _folder(path.parent)
    from jaxdd.evaluation.original import is_rcig_checkpoint

    return Found("original", path, path.parent) if is_rcig_checkpoint(path) else None


def _folder(path: pathlib.Path) -> Found | None:
    if _is_set(path):
        beside = any((path.parent / name).exists() for name in ("config.json", "recovered", "teacher"))
        return Found("set", path, path.parent if path.name == "distilled" and beside else path)
    if path.name == "images" and _is_set(path.parent / "distilled"):  # where the scripts of SRe2L look
        return Found("set", path.parent / "distilled", path.parent)
    if _is_set(path / "distilled"):
        return Found("set", path / "distilled", path)
    if path.parent.name == "checkpoints" and (path / "manifest.json").is_file():
        return Found("state", path, path.parents[1])
    for states in (path, path / "checkpoints"):
        if states.name == "checkpoints" and (newest := _newest(states)) is not None:
            return Found("state", newest, states.parent)
    originals = [file for file in path.glob("checkpoint_*") if file.is_file() and file.name[11:].isdigit()]
    if originals:
        return _file(max(originals, key=lambda file: int(file.name[11:])))
    return None


def _is_set(folder: pathlib.Path) -> bool:
    with contextlib.suppress(CheckpointError, OSError):
        content = io.read_json(folder / "manifest.json")
        return isinstance(content, dict) and "jaxdd_format" in content
    # A damaged manifest beside shards is a damaged set, which reading it will say.
    return (folder / "manifest.json").is_file() and any(folder.glob("data-*.safetensors"))


def _newest(states: pathlib.Path) -> pathlib.Path | None:
    steps = [path for path in states.glob("*") if path.name.isdigit() and (path / "manifest.json").is_file()]
    return max(steps, key=lambda path: int(path.name), default=None)


def restore(step_folder: pathlib.Path) -> DistilledSet:
    """Returns the distilled set inside one saved state of a run; true colours are left out, they need the data set.

    Arguments:
        step_folder: `<output folder>/checkpoints/<step>`.

    Raises:
        CheckpointError: damaged, or of a run that `config.json` does not tell.
    """
    step_folder = pathlib.Path(step_folder).absolute()
    config = step_folder.parents[1] / "config.json"
    if not config.is_file():
        raise CheckpointError(
            "the run's config.json is missing, without which a state cannot be read",
            where=str(config),
            expected="the output folder as it was: <folder>/config.json beside <folder>/checkpoints/",
            remedy="copy config.json too, or evaluate <folder>/distilled instead",
        )
    told = io.read_json(config)
    try:
        identity, other, versions = told["identity"], told["other"], told["versions"]
        cls = METHODS[identity["method"]].settings
        method = build([layer(identity["settings"], str(config))], {"method": cls})["method"]
        examples = shapes(identity["dataset"]["shape"], identity["dataset"]["classes"])
        meant = meaning(identity, other, versions, step=int(step_folder.name))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"the run's config.json lacks or garbles {error}",
            where=str(config),
            remedy="evaluate <folder>/distilled, or put config.json back",
        ) from None
    with precision(method):
        template = jax.eval_shape(lambda real: initial(method, real, np.uint32(0)), examples)
        return method.result(_read_state(step_folder, template, identity)).replace(**meant)


def _read_state(folder: pathlib.Path, template: PyTree, identity: Mapping[str, Any]) -> PyTree:
    """Reads one saved state, verified; it takes no lock and changes nothing, so a run may go on."""
    try:
        told = shards.verify_seal(folder, step=int(folder.name), run=identities.digest(identity))
    except shards.Damaged as finding:
        raise CheckpointError(
            f"the state is unusable: {finding}",
            where=str(folder),
            remedy="evaluate another state, or <folder>/distilled",
        ) from None
    unlike = differences(describe_leaves(template), told["leaves"])
    if unlike:
        raise CheckpointError(
            f"the state is of another version of jaxdd: {unlike[0]}",
            where=str(folder),
            remedy="evaluate <folder>/distilled, or use the version of jaxdd that wrote the state",
        )
    return checkpoint.read_state(folder, template)
