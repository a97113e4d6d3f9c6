"""The links of a chain on one screen: squeeze, recover, merge; each continues, or is found finished."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jaxdd.cli.commands.distilling import data_line
from jaxdd.cli.devices import start_several
from jaxdd.cli.screen.screen import Screen
from jaxdd.core.errors import CheckpointError, JaxddError
from jaxdd.core.io import shorter_path
from jaxdd.run.chain import sources as teachers
from jaxdd.run.chain.settings import Decoupled
from jaxdd.run.chain.students import gigabytes

if TYPE_CHECKING:
    from jaxdd.core.distilled import DistilledSet
    from jaxdd.data import Dataset, Preprocessing
    from jaxdd.run.chain.recover import Recovering
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
def screen() -> Iterator[Screen]:
    """Where a command is shown; errors are kept in its log too."""
    found = Screen()
    try:
        yield found
    except JaxddError as error:
        found.record(f"error: {error}")
        raise
    finally:
        found.close()


class Links:
    """One or several links of a chain.

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
        from jaxdd.cli.screen.progress import Line

        line = Line(self.screen, self.should_stop)
        with line.shown():
            line.doing("starting JAX")
            self.layout, device = start_several(self.how.devices)
            line.doing("reading the data")
            self.dataset = self.how.load(self.settings.dataset)
            self.preprocessing = data.fit(self.dataset, family="sre2l", kind="raw")
        self.screen.fact("data", data_line(self.dataset, self.preprocessing.space))
        self.screen.fact("device", device)
        self.screen.log_to(self.folder / "log.txt")

    def squeeze(self, folder: pathlib.Path) -> Teacher:
        """Trains the teacher, or continues, or finds it finished.

        Raises:
            Stopped: by a signal; its state is saved.
            CheckpointError: the folder holds another one.
        """
        from jaxdd.run.chain import teacher as made
        from jaxdd.run.chain.squeeze import Squeezing

        words = made.words(self.settings.chain.architecture(), self.dataset.image_shape, self.dataset.classes)
        squeezing = Squeezing.of(
            self.dataset,
            self.preprocessing,
            made.network(words),
            self.settings.teacher,
            architecture=words,
            seed=self.how.seed,
        )
        if not squeezing.finished(folder) and self._squeezed_before(squeezing, folder):
            self.screen.fact("teacher", f"the very one is in {shorter_path(self._usual)}: taken from there")
        elif not squeezing.finished(folder):
            how = self.settings.teacher
            self.screen.fact(
                "teacher", f"{squeezing.network}, {how.epochs} epochs of {squeezing.procedure.steps_per_epoch} steps"
            )
            line = _line(self, squeezing.steps, "fewer --epochs, a smaller --width or a GPU")
            with line.shown():
                squeezing.make(
                    folder,
                    checkpoint_every=self.how.checkpoint_every,
                    report=lambda epoch, loss, accuracy: self.screen.finding(
                        f"epoch {epoch}: loss {loss:.3f}, test accuracy {100 * accuracy:.1f} %"
                    ),
                    reporter=line,
                    should_stop=self.should_stop,
                    layout=self.layout,
                )
        return made.load(folder, self.settings.recovery.precision)

    @property
    def _usual(self) -> pathlib.Path:
        return teachers.default_folder(self.settings, self.how.seed)

    def _squeezed_before(self, squeezing: Squeezing, folder: pathlib.Path) -> bool:
        """Whether `squeeze` has made this very teacher where it puts them; then it is in the folder too from now on."""
        from jaxdd.run.chain import teacher as made

        with contextlib.suppress(CheckpointError):  # another one is there, or a damaged one: no concern of this chain
            if squeezing.finished(self._usual) and made.load(self._usual):
                made.copy(self._usual, folder)
                return True
        return False

    def take_in(self, weights: pathlib.Path, folder: pathlib.Path) -> Teacher:
        """Makes a teacher's folder of a file with weights.

        Raises:
            UsageError, CheckpointError: the file is none, or its tensors are of another architecture.
        """
        from jaxdd.run.chain import teacher as made

        made.take_in(weights, folder, self.dataset, self.preprocessing, self.settings.chain.architecture())
        return made.load(folder, self.settings.recovery.precision)

    def teachers(
        self, sources: Sequence[pathlib.Path], words: Mapping[str, Any], scratch: pathlib.Path
    ) -> list[teachers.Taken]:
        """The teachers of folders and of files with weights; nothing is kept yet.

        Arguments:
            sources: the folders and files.
            words: the architecture of the networks in files, as `models.build` takes it.
            scratch: a folder for what is made of files.

        Raises:
            UsageError, CheckpointError: as in `sources.taken`.
        """
        of = (self.dataset, self.preprocessing, words, self.settings.recovery.precision)
        return [teachers.taken(source, scratch / str(number), *of) for number, source in enumerate(sources)]

    def tell_teacher(self, teacher: Teacher) -> None:
        """What the teacher is, and its accuracy on the real test images: without it nothing after can be right.

        Raises:
            DataError: it does not know the classes.
        """
        from jaxdd import data
        from jaxdd.evaluation.students import teacher_accuracies

        test = data.test_examples(self.dataset, self.preprocessing)
        (reached,) = teacher_accuracies((teacher.network,), (teacher.variables,), test)
        self.screen.fact("teacher", f"{teachers.describe(teacher.about)}; test accuracy {100 * reached:.1f} %", "bold")

    def recovering(self, *found: Teacher) -> Recovering:
        """The recovery of the whole set from some teachers."""
        from jaxdd.run.chain.recover import Recovering

        recipe = self.settings.recipe
        given = (self.settings.recovery, self.dataset, self.preprocessing, found)
        return Recovering(*given, seed=self.how.seed, recipe=recipe)

    def recover(
        self, recovering: Recovering, *, shard: tuple[int, int] = (0, 1), ipc_indices: range | None = None
    ) -> None:
        """Makes the images that are not there yet, in `recovered/`.

        Raises:
            Stopped: by a signal; the chunk under way is saved.
            JaxddError: as in `run.chain.recover.Recovering.recover`.
        """
        from jaxdd.cli.screen.progress import Chunks
        from jaxdd.run.chain.chunks import share

        chunks = share(recovering.chunks(ipc_indices), shard)
        steps = sum(stage.steps for stage in recovering.stages)
        self.sizes(sum(map(len, chunks)))
        line = Chunks(self.screen, self.should_stop, [steps] * len(chunks), len(chunks[0]) if chunks else 1)
        with line.shown():
            recovering.recover(
                self.folder / "recovered",
                shard=shard,
                ipc_indices=ipc_indices,
                checkpoint_every=self.how.checkpoint_every,
                on_class=lambda number: line.doing(f"choosing initial images, class {number}"),
                on_chunk=line.begin,
                on_recovered=line.made,
                reporter=line,
                should_stop=self.should_stop,
                layout=self.layout,
            )

    def recovered(self, recovering: Recovering) -> DistilledSet | None:
        """The set, if it is finished and the one that is meant."""
        from jaxdd.core.distilled import DistilledSet
        from jaxdd.run.storage import identity

        if not (self.folder / "distilled" / "manifest.json").is_file():
            return None
        try:
            found, wanted = DistilledSet.load(self.folder / "distilled"), identity.as_json(recovering.identity)
        except CheckpointError:  # damaged; the chunks that it was made of are verified when it is put together again
            return None
        wanted["settings"]["n_images"] = recovering.settings.n_images
        same = all(found.provenance.get(name) == wanted[name] for name in ("settings", "seed", "teachers"))
        return found if same and found.recipe == dict(recovering.recipe) else None

    def merge(
        self,
        folders: Sequence[pathlib.Path],
        *,
        files: bool,
        recipe: Mapping[str, Any] | None = None,
        ipc: int | None = None,
    ) -> DistilledSet:
        """The set of all recovered chunks, in `distilled/`, its picture, and the image files.

        Arguments:
            folders: where chunks are.
            files: whether the published folders are written, in `images/`.
            recipe: of the students; None for the one that the run was begun with.
            ipc: images per class; None for the most that a process was asked for.

        Raises:
            CheckpointError: chunks are missing or damaged.
        """
        from jaxdd.publish import image_folder
        from jaxdd.publish.grid import grid
        from jaxdd.run.chain.merge import merge

        made = merge(folders, self.folder, publish=image_folder.write if files else None, recipe=recipe, ipc=ipc)
        grid(made, self.folder / "distilled" / "grid.png")
        return made

    def verify(self, second: Teacher, made: DistilledSet) -> None:
        """Tells the accuracy of a second network on the recovered images."""
        reached = second.accuracy_on(made, self.preprocessing)
        self.screen.fact(
            "verifier", f"{teachers.describe(second.about)}; {100 * reached:.1f} % of the recovered images"
        )

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


def _line(links: Links, steps: int, remedies: str) -> Any:
    from jaxdd.cli.screen.progress import Line

    line = Line(links.screen, links.should_stop, steps)
    line.remedies = remedies
    return line
