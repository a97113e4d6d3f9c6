"""The paths that may name a distilled set (`checkpoint_path`), and the set in them."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib

from jaxdd.core import io
from jaxdd.core.distilled import DistilledSet
from jaxdd.core.errors import CheckpointError, nearest

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
        from jaxdd.run.storage.restore import restore

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
