"""Initial images of a recovery: real images that are chosen once per run and kept in files, by class.

A file holds some images of one class in a row, a function of (seed, class, teacher, settings); what is there when a run
goes on is verified and left alone. A set that grows by more images per class has more files.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Iterable

import jax
import numpy as np

from jaxdd.core import shards
from jaxdd.core.random import key_for
from jaxdd.core.shards import Pieces, alone
from jaxdd.core.types import Examples, PyTree
from jaxdd.data.readers.encoding import truncate
from jaxdd.methods.recovery import selection
from jaxdd.methods.recovery.chunks import Chunk
from jaxdd.methods.recovery.settings import Recovery
from jaxdd.models.network import Network
from jaxdd.run.progress import Reporter

KEYS = ("label", "first", "stop")


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
        return Pieces(self.folder, KEYS)


def _gaps(there: Iterable[tuple[int, ...]], label: int, count: int) -> list[tuple[int, int]]:
    """Returns the ranges of the images 0 .. count - 1 of a class that are in no file."""
    found, at = [], 0
    for first, stop in sorted((first, stop) for of_class, first, stop in there if of_class == label):
        if at < min(first, count):
            found.append((at, min(first, count)))
        at = max(at, stop)
    return [*found, (at, count)] if at < count else found
