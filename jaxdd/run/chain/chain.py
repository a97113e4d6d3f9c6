"""Chains: each link is made of what the links before it have made, and is found again where it is finished.

    AccDD, GA-DD                        pretraining -> distilling
    SRe2L, CDA, RDED, SRe2L++, FADRM    squeezing -> recovering -> relabelling (where labels are stored) -> students
    all others                          distilling

What a link makes lies in a place of its own under a manifest with checksums. So a chain that was stopped, or killed, is
continued by running it again, and a chain does not ask what a link is.
"""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from jaxdd.data import Dataset, Preprocessing
from jaxdd.run.chain import teachers
from jaxdd.run.chain.pieces import Publish
from jaxdd.run.chain.recover import Recovering
from jaxdd.run.chain.relabel import Relabelling
from jaxdd.run.chain.settings import Decoupled
from jaxdd.run.chain.squeeze import Squeezing
from jaxdd.run.chain.teachers import Teacher, load, network, words
from jaxdd.run.control import Control, Reporter
from jaxdd.run.distillation import Picture


class Link(Protocol):
    """One link, complete but not begun."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """The settings and digests that its numbers depend on; JSON types."""
        ...

    def finished(self, place: pathlib.Path) -> bool:
        """Returns whether the result is in `place`, whole.

        Raises:
            CheckpointError: the place holds that of another run.
        """
        ...

    def make(self, place: pathlib.Path, control: Control = Control()) -> Any:
        """Makes it, continues with it, or reads it where it is finished; returns it.

        Raises:
            Stopped: by a signal; what is finished, and the state of the rest, are kept.
            JaxddError: anything a user can mend.
        """
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class Named:
    """A link in a chain.

    Arguments:
        name: of what it makes, for those that come after it.
        link: makes the link of what came before, by name.
        folder: of the link, below the chain's; empty for the chain's own.
    """

    name: str
    link: Callable[[Mapping[str, Any]], Link]
    folder: str = ""


Tell = Callable[[str, Link, pathlib.Path], contextlib.AbstractContextManager[Reporter]]


@contextlib.contextmanager
def silent(name: str, link: Link, place: pathlib.Path) -> Iterator[Reporter]:
    """Tells nothing."""
    yield Reporter()


@dataclasses.dataclass(frozen=True, eq=False)
class Chain:
    """Links, each made of what those before it have made.

    Arguments:
        links: in their order.
    """

    links: Sequence[Named]

    def run(self, folder: pathlib.Path, control: Control = Control(), tell: Tell = silent) -> dict[str, Any]:
        """Makes every link that is not finished.

        Arguments:
            folder: the output folder.
            control: of all links, each of which has a reporter of its own.
            tell: gives the reporter of each link, in a context that is open while the link is made.

        Returns:
            What every link has made, by name.

        Raises:
            Stopped, JaxddError: as in `Link.make`.
        """
        made: dict[str, Any] = {}
        for each in self.links:
            link, place = each.link(made), folder / each.folder
            with tell(each.name, link, place) as reporter:
                made[each.name] = link.make(place, dataclasses.replace(control, reporter=reporter))
        return made


@dataclasses.dataclass(frozen=True, eq=False)
class Given:
    """Teachers that are there already, as a link: kept beside what is made of them."""

    teachers: tuple[Teacher, ...]

    @property
    def identity(self) -> dict[str, Any]:
        """Digests of their numbers."""
        return {"teachers": [teacher.digest for teacher in self.teachers]}

    def finished(self, place: pathlib.Path) -> bool:
        """Returns whether these teachers lie there."""
        return [load(folder).digest for folder in teachers.beside(place)] == self.identity["teachers"]

    def make(self, place: pathlib.Path, control: Control = Control()) -> tuple[Teacher, ...]:
        """Puts them there.

        Raises:
            CheckpointError: others are there.
        """
        teachers.keep(self.teachers, place)
        return self.teachers


@dataclasses.dataclass(frozen=True, eq=False)
class Writers:
    """Functions that draw pictures and write image files: they belong to another room, so they are handed in.

    Arguments:
        picture: draws a set into a file (`publish.grid.grid`); None draws nothing.
        publish: writes image files (`publish.image_folder.write`); None writes none.
    """

    picture: Picture | None = None
    publish: Publish | None = None


def of_recovery(
    settings: Decoupled,
    dataset: Dataset,
    preprocessing: Preprocessing,
    *,
    seed: int = 0,
    teachers: Sequence[Teacher] = (),
    writers: Writers = Writers(),
    checkpoint_every: float = 5.0,
    elsewhere: pathlib.Path | None = None,
) -> Chain:
    """Returns the chain of a method that recovers images from a teacher: `teacher`, `set`, and `labels` if stored.

    Arguments:
        settings: of all links.
        dataset: the real images.
        preprocessing: fitted on them, raw.
        seed: of every random choice.
        teachers: that are there already; none: one is trained.
        writers: of pictures and image files.
        checkpoint_every: minutes between two saved states.
        elsewhere: a folder that may hold the very teacher that would be trained.
    """

    def squeezing(made: Mapping[str, Any]) -> Link:
        architecture = words(settings.chain.architecture(), dataset.image_shape, dataset.classes)
        return Squeezing.of(
            dataset,
            preprocessing,
            network(architecture),
            settings.teacher,
            architecture=architecture,
            seed=seed,
            precision=settings.recovery.precision,
            elsewhere=elsewhere,
            checkpoint_every=checkpoint_every,
        )

    def recovering(made: Mapping[str, Any]) -> Link:
        return Recovering(
            settings.recovery,
            dataset,
            preprocessing,
            several(made["teacher"]),
            seed=seed,
            recipe=settings.recipe,
            picture=writers.picture,
            publish=writers.publish,
            checkpoint_every=checkpoint_every,
        )

    def relabelling(made: Mapping[str, Any]) -> Link:
        return Relabelling.by(several(made["teacher"]), made["set"], preprocessing)

    first = (
        Named("teacher", lambda made: Given(tuple(teachers))) if teachers else Named("teacher", squeezing, "teacher")
    )
    labels = [Named("labels", relabelling, "labels")] if settings.chain.labels == "stored" else []
    return Chain((first, Named("set", recovering), *labels))


def several(teachers: Teacher | tuple[Teacher, ...]) -> tuple[Teacher, ...]:
    """Returns one teacher, or some, as some."""
    return (teachers,) if isinstance(teachers, Teacher) else teachers
