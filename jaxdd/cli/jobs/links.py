"""What commands say of the links of a chain while `run.chain` makes them; nothing is decided here."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from jaxdd.cli.devices import start_several
from jaxdd.cli.screen.screen import Screen
from jaxdd.core.errors import JaxddError
from jaxdd.run.chain import sources
from jaxdd.run.chain.settings import Decoupled
from jaxdd.run.chain.students import KIND, gigabytes

if TYPE_CHECKING:
    from jaxdd.cli.screen.progress import Line
    from jaxdd.data import Dataset, Preprocessing
    from jaxdd.run.chain.recover import Recovering
    from jaxdd.run.chain.relabel import Relabelling
    from jaxdd.run.chain.squeeze import Squeezing
    from jaxdd.run.chain.teacher import Teacher
    from jaxdd.run.devices import Layout


@dataclasses.dataclass(frozen=True)
class How:
    """What does not belong to the settings of a chain.

    Arguments:
        data_path, resolution, seed, devices, checkpoint_every, stream: as the flags of these names.
    """

    data_path: str | None = None
    resolution: int | None = None
    seed: int = 0
    devices: int | None = None
    checkpoint_every: float = 5.0
    stream: str = "auto"

    @classmethod
    def of(cls, flags: Any) -> How:
        """From the flags of a command."""
        of = flags
        return cls(of.data_path, of.resolution, of.random_seed, of.devices, of.checkpoint_every, of.stream)

    def load(self, name: str, resolution: int | None = None) -> Dataset:
        """The data set, or a list of its files where it is too large.

        Arguments:
            name: of the data set.
            resolution: side in pixels, in place of the flag's.

        Raises:
            UsageError, DataError: as in `data.load`.
        """
        from jaxdd import data

        return data.load(name, self.data_path, resolution=resolution or self.resolution, stream=self.stream)


@contextlib.contextmanager
def opened(found: Screen | None = None) -> Iterator[Screen]:
    """Where a command is shown; errors are kept in its log too."""
    found = found or Screen()
    try:
        yield found
    except JaxddError as error:
        found.record(f"error: {error}")
        raise
    finally:
        found.close()


@contextlib.contextmanager
def begun(shown: Screen, should_stop: Callable[[], int | None]) -> Iterator[Line]:
    """A line that says what takes its time before anything is computed."""
    from jaxdd.cli.screen.progress import Line

    line = Line(shown, should_stop)
    with line.shown():
        line.doing("starting JAX")
        yield line


class Links:
    """Tells of the links of one chain; called, it is what `run.chain.chain.Chain.run` takes as `tell`.

    Arguments:
        screen: where they are shown.
        settings: what they are to do.
        how: see `How`.
        folder: the output folder.
        should_stop: names a signal that was received.
    """

    def __init__(
        self,
        screen: Screen,
        settings: Decoupled,
        how: How,
        folder: pathlib.Path,
        should_stop: Callable[[], int | None] = lambda: None,
    ):
        self.screen, self.settings, self.how, self.folder = screen, settings, how, folder
        self.should_stop = should_stop
        self.dataset: Dataset
        self.preprocessing: Preprocessing
        self.layout: Layout

    def header(self, what: str) -> None:
        """What is going to be done."""
        from jaxdd import __version__

        self.screen.fact("jaxdd", f"{__version__}   {what}", "bold")
        self.screen.fact("output", str(self.folder))
        for notice in self.settings.notices:
            self.screen.note(notice)

    def begin(self) -> None:
        """Starts JAX and reads the data, or lists it."""
        from jaxdd import data

        with begun(self.screen, self.should_stop) as line:
            self.layout, device = start_several(self.how.devices)
            line.doing("reading the data")
            self.dataset = self.how.load(self.settings.dataset)
            self.preprocessing = data.fit(self.dataset, **KIND)
        self.screen.fact("data", data_line(self.dataset, self.preprocessing.space))
        self.screen.fact("device", device)
        self.screen.log_to(self.folder / "log.txt")

    @contextlib.contextmanager
    def __call__(self, name: str, link: Any, place: pathlib.Path) -> Iterator[Line]:
        """Shows a link while it is made."""
        if name == "set":
            self.tell_teachers(link.teachers)
        lines: dict[str, Callable[[Any, pathlib.Path], Line]] = {"set": self._recovering, "labels": self._relabelling}
        line = lines.get(name, self._squeezing)(link, place)
        with line.shown():
            yield line
        if name == "set":
            self.screen.fact("set", str(place / "distilled"))
            self.screen.fact("pictures", str(place / "distilled" / "grid.png"))

    def tell_teachers(self, teachers: tuple[Teacher, ...]) -> None:
        """What the teachers are, and their accuracy on the real test images: without it nothing after can be right.

        Raises:
            DataError: one does not know the classes.
        """
        from jaxdd import data
        from jaxdd.evaluation.students import teacher_accuracies
        from jaxdd.run.chain.students import telling

        test = data.test_examples(self.dataset, self.preprocessing)
        networks, variables = zip(*((teacher.network, teacher.variables) for teacher in teachers), strict=True)
        for teacher, reached in zip(teachers, teacher_accuracies(networks, variables, test), strict=True):
            self.screen.fact(*telling(teacher, reached), "bold")

    def tell_verifier(self, second: Teacher, reached: float) -> None:
        """The accuracy of a second network on the recovered images, in [0, 1]."""
        text = f"{sources.describe(second.about)}; {100 * reached:.1f} % of the recovered images"
        self.screen.fact("verifier", text)

    def sizes(self, images: int) -> None:
        """What is going to be made, in numbers; needs no data."""
        from jaxdd.methods.recovery.plan import plan

        side, _, channels = self.settings.image_shape
        iterations = images * sum(stage.iterations for stage in plan(self.settings.recovery, side))
        work = f"{iterations:,} image-iterations" if iterations else "chosen, not optimised"
        size = gigabytes(images * side * side * channels)
        self.screen.fact("images", f"{images:,} of {side}x{side}x{channels}, {size}; {work}")
        labels = self.settings.label_bytes(images)
        stored = (
            "stored" if self.settings.chain.labels == "stored" else "if they were stored; 0 as the teacher is asked"
        )
        self.screen.fact("labels", f"{gigabytes(labels)} {stored}")

    def _squeezing(self, link: Squeezing, place: pathlib.Path) -> Line:
        from jaxdd.cli.screen.progress import Teaching

        told = f"{link.network}, {link.recipe.epochs} epochs of {link.procedure.steps_per_epoch} steps"
        return Teaching(self.screen, self.should_stop, link.steps, told)

    def _recovering(self, link: Recovering, place: pathlib.Path) -> Line:
        if not link.finished(place):
            self.sizes(sum(map(len, link.chunks())))
        return self.chunks(link)

    def chunks(self, link: Recovering, shard: tuple[int, int] = (0, 1), indices: range | None = None) -> Line:
        """The line of a recovery, or of a part of it, as in `Recovering.recover`."""
        from jaxdd.cli.screen.progress import Chunks
        from jaxdd.run.chain.chunks import share

        chunks = share(link.chunks(indices), shard)
        steps = sum(stage.steps for stage in link.stages)
        return Chunks(self.screen, self.should_stop, [steps] * len(chunks), len(chunks[0]) if chunks else 1)

    def _relabelling(self, link: Relabelling, place: pathlib.Path) -> Line:
        return labelling(self.screen, link, place, self.should_stop)


def labelling(shown: Screen, link: Relabelling, place: pathlib.Path, should_stop: Callable[[], int | None]) -> Line:
    """The line of a labelling; says first how large it will be."""
    from jaxdd.cli.screen.progress import Epochs

    shown.fact("labels", f"{link.epochs} epochs, at most {gigabytes(link.bytes)}, in {place}")
    return Epochs(shown, should_stop, link.epochs)


def data_line(dataset: Dataset, space: str) -> str:
    """`digits: 1438 train and 359 test images, 8x8x1, 10 classes, standardised`."""
    from jaxdd.data import LargeDataset

    shape = "x".join(map(str, dataset.image_shape))
    counts = f"{len(dataset.train_images)} train and {len(dataset.test_images)} test images"
    streamed = ", streamed" * isinstance(dataset, LargeDataset)
    return f"{dataset.name}: {counts}, {shape}, {dataset.classes} classes, {space}{streamed}"
