"""Files of a recovery: initial images, finished chunks, and the distilled set that is put together of them.

A file of initial images holds some images of one class in a row, a function of (seed, class, teacher, settings). A file
that is there when a run goes on is verified and left alone. A set that grows by more images per class has more files.
`methods.recovery.plan` says what a chunk is.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxdd.core import io, shards
from jaxdd.core.distilled import DistilledSet
from jaxdd.core.errors import CheckpointError
from jaxdd.core.random import key_for
from jaxdd.core.shards import Pieces, alone
from jaxdd.core.trees import require_same
from jaxdd.core.types import Examples, PyTree
from jaxdd.data.readers.encoding import truncate
from jaxdd.methods.recovery import selection
from jaxdd.methods.recovery.plan import Chunk, chunks, require_complete
from jaxdd.methods.recovery.settings import Recovery
from jaxdd.models.network import Network
from jaxdd.run.control import Reporter
from jaxdd.run.storage.identity import refuse_other_set

KEYS = ("ipc_index", "first")  # numbers of a chunk
INITIAL = ("label", "first", "stop")  # numbers of a file of initial images


def to_arrays(chunk: Chunk, images: np.ndarray, files: list[bytes]) -> dict[str, np.ndarray]:
    """Returns the arrays of a chunk's file: images, labels, index and, end to end, the image files."""
    return {
        "images": images,
        "labels": chunk.labels,
        "ipc_index": np.full(len(chunk), chunk.ipc_index, np.int32),
        "files": np.frombuffer(b"".join(files), np.uint8),
        "sizes": np.asarray([len(file) for file in files], np.int64),
    }


def files_of(arrays: Mapping[str, np.ndarray]) -> list[bytes]:
    """Returns the image files in what `to_arrays` made."""
    ends = np.cumsum(arrays["sizes"])
    return [arrays["files"][end - size : end].tobytes() for end, size in zip(ends, arrays["sizes"], strict=True)]


@dataclasses.dataclass(frozen=True, eq=False)
class Initial:
    """The initial images of a run, complete but perhaps not made.

    Arguments:
        folder: where they are kept.
        settings: which images, and how many.
        classes: how many.
        images_of: class -> all of its real images, `[n, side, side, channels]` uint8.
        network, variables: the teacher that chooses.
        constants: mean and standard deviation per channel with which its images are standardised.
        seed: of the run.
    """

    folder: pathlib.Path
    settings: Recovery
    classes: int
    images_of: Callable[[int], np.ndarray]
    network: Network
    variables: PyTree
    constants: tuple[tuple[float, ...], tuple[float, ...]]
    seed: int

    def prepare(self, reporter: Reporter) -> None:
        """Makes what is missing or damaged; of several processes one does, and the others wait.

        Arguments:
            reporter: hears `begins` of every class, and a warning of each file that was damaged.

        Raises:
            ConfigError: a class has too few images.
        """
        if self.settings.initialise == "noise":
            return
        pieces = self._pieces
        with alone(self.folder, "initial"):
            for entry in pieces.present().values():
                if not pieces.intact(entry):
                    reporter.warning(f"a file of initial images is damaged: {pieces.path(entry)}; it is made again")
                    pieces.path(entry).unlink()
            there = pieces.present()
            for label in range(self.classes):
                reporter.begins("initial images of class", label, self.classes)
                gaps = _gaps(there, label, self.settings.n_images)
                chosen = self.of_class(label) if gaps else None
                for first, stop in gaps:
                    assert chosen is not None
                    about = {"label": label, "first": first, "stop": stop}
                    pieces.add(f"class-{label:05d}-{first:03d}", {"images": chosen[first:stop]}, about)

    def of_class(self, label: int) -> np.ndarray:
        """Chooses the images of one class anew, `[n_images, side, side, channels]` uint8, whatever is kept."""
        key, of = jax.random.fold_in(key_for(self.seed, "initial"), label), self.settings
        pixels = self.images_of(label)
        if of.initialise == "random":
            return pixels[selection.random_rows(key, len(pixels), of.n_images)]
        labels: np.ndarray = np.full(len(pixels), label, np.int32)
        images = Examples(pixels, labels, self.classes, self.constants)  # pyright: ignore[reportArgumentType]
        if of.initialise == "medium":
            return pixels[selection.medium_rows(self.network, self.variables, images, of.n_images)]
        how = {"factor": of.mosaic, "candidates": of.candidates, "crops": of.crops}
        made = selection.mosaics(key, self.network, self.variables, images, of.n_images, **how)
        return truncate(np.asarray(made))

    def of(self, chunk: Chunk) -> np.ndarray:
        """Returns the initial images of a chunk, `[n, side, side, channels]` uint8; its classes are prepared.

        Raises:
            CheckpointError: a file is missing or unreadable.
        """
        of_index = {
            entry["label"]: entry
            for entry in self._pieces.entries().values()
            if entry["first"] <= chunk.ipc_index < entry["stop"]
        }
        images = []
        for label in range(chunk.first, chunk.stop):
            of_class = of_index[label]
            path, row = self._pieces.path(of_class), chunk.ipc_index - of_class["first"]
            remedy = "delete the file and run the same command again"
            images.append(shards.rows(path, row, "an initial image", remedy)["images"])
        return np.stack(images)

    @property
    def _pieces(self) -> Pieces:
        return Pieces(self.folder, INITIAL)


def _gaps(there: Iterable[tuple[int, ...]], label: int, count: int) -> list[tuple[int, int]]:
    """Returns the ranges of the images 0 .. count - 1 of a class that are in no file."""
    found, at = [], 0
    for first, stop in sorted((first, stop) for of_class, first, stop in there if of_class == label):
        if at < min(first, count):
            found.append((at, min(first, count)))
        at = max(at, stop)
    return [*found, (at, count)] if at < count else found


Publish = Callable[..., Any]  # `publish.image_folder.write`


def merge(
    folders: Sequence[str | os.PathLike],
    out: str | os.PathLike,
    *,
    publish: Publish | None = None,
    recipe: Mapping[str, Any] | None = None,
    ipc: int | None = None,
) -> DistilledSet:
    """Puts a set together: `out/distilled`, class-major, and `out/images`.

    Arguments:
        folders: what `Recovering.recover` wrote into: one folder, or those of several processes.
        out: the output folder.
        publish: writes image files (`publish.image_folder.write`); None writes none.
        recipe: of evaluation; None for the one that the run was begun with.
        ipc: images per class; None for the most that any of the processes was asked for.

    Raises:
        CheckpointError: a folder is none, or of another run; chunks are missing or damaged, which are named; there is
            another run's set in `out`, or a larger one; or there is no recipe, and none of the processes was asked for
            just so many images.
    """
    places, out = [io.absolute(folder) for folder in folders], pathlib.Path(out)
    about, ipc = _common(places, ipc, recipe is None)
    settings, meaning = about["identity"]["settings"], about["other"]
    classes = len(meaning["class_names"])
    wanted = chunks(classes, range(ipc), settings["batch_size"], settings["statistics_group"])
    provenance = _provenance(about, ipc)
    refuse_other_set(out, provenance)
    sources = _intact(places, wanted)
    with alone(out, "set"), tempfile.TemporaryFile(dir=out) as room:  # on disk: a large set need not fit into memory
        images = np.memmap(room, np.uint8, "w+", shape=(classes, ipc, *meaning["image_shape"]))
        for chunk, (pieces, entry) in sources.items():
            arrays = pieces.read(entry)
            images[chunk.first : chunk.stop, chunk.ipc_index] = arrays["images"]
            if publish is not None and (files := files_of(arrays)):
                numbers = (arrays["images"], arrays["labels"], arrays["ipc_index"])
                publish(out / "images", *numbers, classes=classes, store=settings["store"], encoded=files)
        made = DistilledSet(
            images.reshape(-1, *meaning["image_shape"]),
            np.repeat(np.arange(classes, dtype=np.int32), ipc),
            dataset=about["identity"]["dataset"]["name"],
            class_names=tuple(meaning["class_names"]),
            preprocessing=meaning["preprocessing"],
            recipe=dict(meaning["recipe"] if recipe is None else recipe),
            provenance=provenance,
        )
        made.save(out / "distilled")
    return DistilledSet.load(out / "distilled")


def _common(places: Sequence[pathlib.Path], ipc: int | None, with_recipe: bool) -> tuple[dict[str, Any], int]:
    """Returns the content of `config.json` for a set of this size, and the size: the largest, if none is given."""
    contents = []
    for place in places:
        path = place / "config.json"
        content = io.read_json(path) if path.is_file() else None
        known = isinstance(content, dict) and {"settings", "teachers"} <= set(content.get("identity") or {})
        if not known or not {"class_names", "n_images"} <= set((content or {}).get("other", {})):
            raise CheckpointError(
                "no recovered chunks",
                where=str(place),
                expected="a folder that `recover` wrote: OUT/recovered",
                remedy="check the path, or run recover first",
            )
        contents.append(content)
        what, where = "the folders belong to different runs", f"{places[0]} and {place}"
        first, this = contents[0]["identity"], contents[-1]["identity"]
        require_same(first, this, what, where=where, remedy="merge the shards of one run")
    if not contents:
        raise CheckpointError(
            "nothing to merge",
            expected="one folder of recovered chunks or more",
            remedy="name the folders that `recover` wrote",
        )
    sizes = {content["other"]["n_images"]: content for content in contents}
    wanted = ipc or max(sizes)
    if with_recipe and wanted not in sizes:
        raise CheckpointError(
            f"the students' recipe for {wanted} images per class is not known",
            where=", ".join(map(str, places)),
            expected=f"{' or '.join(map(str, sorted(sizes)))} images, for which the run was begun",
            remedy="name the recipe, or add `merge` to the command that these images were made by",
        )
    return sizes.get(wanted, contents[0]), wanted


def _intact(places: Sequence[pathlib.Path], wanted: Sequence[Chunk]) -> dict[Chunk, tuple[Pieces, dict[str, Any]]]:
    """Returns the place of each chunk, verified; of two copies the first one that is whole."""
    whole: dict[Chunk, tuple[Pieces, dict[str, Any]]] = {}
    needed = set(wanted)
    damaged: dict[Chunk, str] = {}
    for place in places:
        pieces = Pieces(place, KEYS)
        for entry in pieces.entries().values():
            chunk = Chunk.of(entry)
            if chunk in needed and chunk not in whole:
                if pieces.intact(entry):
                    whole[chunk] = pieces, entry
                else:
                    damaged[chunk] = str(pieces.path(entry))
    where = ", ".join(map(str, places))
    bad = [chunk for chunk in damaged if chunk not in whole]
    require_complete(bad, ", ".join(damaged[chunk] for chunk in bad[:3]), "damaged files of the set")
    require_complete([chunk for chunk in wanted if chunk not in whole], where, "the set is not complete; missing are")
    return {chunk: whole[chunk] for chunk in wanted}


def _provenance(about: Mapping[str, Any], ipc: int) -> dict[str, Any]:
    """Returns the provenance of the set."""
    identity = about["identity"]
    return {
        "method": identity["settings"]["method"],
        "step": identity["settings"]["iterations"],
        "settings": {**identity["settings"], "n_images": ipc},
        **{key: identity[key] for key in ("seed", "teachers")},
        "dataset_digest": identity["dataset"]["digest"],
        "versions": about["versions"],
    }
