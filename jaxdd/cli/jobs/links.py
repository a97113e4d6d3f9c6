"""Words of the commands on the links of a chain while `run.chain` makes them; nothing is decided here."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from jaxdd import data
from jaxdd.cli.command import Session, data_line
from jaxdd.cli.flags.chain import Shared
from jaxdd.cli.flags.rcig import Distill
from jaxdd.cli.screen.screen import Chunks, Epochs, Line, Screen, Teaching
from jaxdd.core.io import gigabytes
from jaxdd.data import Dataset, Preprocessing
from jaxdd.evaluation.students import teacher_accuracies
from jaxdd.methods.recovery.plan import plan, share
from jaxdd.run.chain.chain import Chain, Writers, of_recovery
from jaxdd.run.chain.recover import Recovering
from jaxdd.run.chain.relabel import Relabelling
from jaxdd.run.chain.settings import Decoupled
from jaxdd.run.chain.squeeze import Squeezing
from jaxdd.run.chain.students import KIND
from jaxdd.run.chain.teachers import Teacher
from jaxdd.run.control import Control
from jaxdd.run.devices import Layout


class Links:
    """The words on the links of one chain; called, it is what `run.chain.chain.Chain.run` takes as `tell`.

    Arguments:
        session: the command at work.
        settings: what the links are to do.
        options: the command's.
        folder: the output folder.
    """

    def __init__(self, session: Session, settings: Decoupled, options: Shared | Distill, folder: pathlib.Path):
        self.session, self.settings, self.options, self.folder = session, settings, options, folder
        self.screen, self.should_stop = session.screen, session.should_stop
        self.dataset: Dataset
        self.preprocessing: Preprocessing
        self.layout: Layout

    def begin(self) -> None:
        """Starts JAX and reads the data, or lists it."""
        options, how = self.options, {"resolution": self.options.resolution, "stream": self.options.stream}
        read = partial(data.load, self.settings.dataset, options.data_path, **how)
        self.layout, device, self.dataset = self.session.begin(options.devices, read)
        self.preprocessing = data.fit(self.dataset, **KIND)
        self.screen.facts(data=data_line(self.dataset, self.preprocessing.space), device=device)
        self.screen.log_to(self.folder / "log.txt")

    def control(self, line: Line | None = None) -> Control:
        """Returns what every link of the chain is given; its reporter is `line`."""
        return Control(line or Line(self.screen), self.should_stop, self.layout)

    def chain(self, **how: Any) -> Chain:
        """Returns the chain of all that comes before the students; arguments as in `run.chain.chain.of_recovery`."""
        how |= {"seed": self.options.random_seed, "checkpoint_every": self.options.checkpoint_every}
        return of_recovery(self.settings, self.dataset, self.preprocessing, **how)

    @contextlib.contextmanager
    def __call__(self, name: str, link: Any, place: pathlib.Path) -> Iterator[Line]:
        """Shows a link while it is made."""
        if name == "set":
            tell_teachers(self.screen, link.teachers, self.dataset, self.preprocessing)
        how: Any = {"set": self._recovering, "labels": partial(labelling, self.session)}.get(name, self._squeezing)
        with how(link, place).shown() as line:
            yield line
        if name == "set":
            self.screen.facts(set=place / "distilled", pictures=place / "distilled" / "grid.png")

    def tell_verifier(self, second: Teacher, reached: float) -> None:
        """Tells the accuracy of a second network on the recovered images, in [0, 1]."""
        self.screen.fact("verifier", f"{second}; {100 * reached:.1f} % of the recovered images")

    def sizes(self, images: int) -> None:
        """Tells the sizes of images and labels; needs no data."""
        side, _, channels = self.settings.image_shape
        iterations = images * sum(stage.iterations for stage in plan(self.settings.recovery, side))
        work = f"{iterations:,} image-iterations" if iterations else "chosen, not optimised"
        size = gigabytes(images * side * side * channels)
        self.screen.fact("images", f"{images:,} of {side}x{side}x{channels}, {size}; {work}")
        labels = self.settings.label_bytes(images)
        online = self.settings.chain.labels != "stored"
        stored = "if they were stored; 0 as the teacher is asked" if online else "stored"
        self.screen.fact("labels", f"{gigabytes(labels)} {stored}")

    def _squeezing(self, link: Squeezing, place: pathlib.Path) -> Line:
        told = f"{link.network}, {link.recipe.epochs} epochs of {link.procedure.steps_per_epoch} steps"
        return Teaching(self.screen, self.should_stop, link.steps, told)

    def _recovering(self, link: Recovering, place: pathlib.Path) -> Line:
        if not link.finished(place):
            self.sizes(sum(map(len, link.chunks())))
        return self.chunks(link)

    def chunks(self, link: Recovering, shard: tuple[int, int] = (0, 1), indices: range | None = None) -> Line:
        """Returns the line of a recovery, or of a part of it, as in `Recovering.recover`."""
        chunks = share(link.chunks(indices), shard)
        steps = sum(stage.steps for stage in link.stages)
        return Chunks(self.screen, self.should_stop, [steps] * len(chunks), len(chunks[0]) if chunks else 1)


def labelling(session: Session, link: Relabelling, place: pathlib.Path) -> Line:
    """Returns the line of a labelling; says first how large it will be."""
    session.screen.fact("labels", f"{link.epochs} epochs, at most {gigabytes(link.bytes)}, in {place}")
    return Epochs(session.screen, session.should_stop, link.epochs)


def writers(*, files: bool) -> Writers:
    """Returns what draws pictures and, where `files` are wanted, writes the images."""
    from jaxdd.publish import image_folder  # with PIL and matplotlib: not before something is to be drawn
    from jaxdd.publish.grid import grid

    return Writers(grid, image_folder.write if files else None)


def tell_teachers(screen: Screen, teachers: Sequence[Teacher], dataset: Dataset, preprocessing: Preprocessing) -> None:
    """Tells of teachers and their accuracy on the real test images: without it nothing after can be right.

    Raises:
        DataError: one does not know the classes.
    """
    networks, variables = zip(*((teacher.network, teacher.variables) for teacher in teachers), strict=True)
    reached = teacher_accuracies(networks, variables, data.test_examples(dataset, preprocessing))
    for teacher, accuracy in zip(teachers, reached, strict=True):
        screen.fact(*teacher.told(accuracy), "bold")
