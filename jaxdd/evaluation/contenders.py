"""Sets that networks are trained on: the distilled set, and as many real images chosen in simple ways."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import jax
import numpy as np

from jaxdd import data as data_room
from jaxdd.core.distilled import Decode, DistilledSet
from jaxdd.core.errors import UsageError
from jaxdd.core.random import key_for
from jaxdd.core.types import Array, Examples, PyTree
from jaxdd.data.streaming import Stream
from jaxdd.evaluation.base import Subject

Targets = Callable[[Array], Array]

BASELINES = {"random": "random real", "kmeans": "k-means real"}  # as asked for -> as shown


@dataclasses.dataclass(frozen=True)
class Contender:
    """One set that networks are trained on.

    Arguments:
        name: as in the rows.
        subject: what the rules of training look at.
        of: network number -> what it is trained on, decoded, on the device.
        shared: whether that is the same for all networks.
        labels: its soft labels on disk, the same for all networks; None where there are none.
    """

    name: str
    subject: Subject
    of: Callable[[int], Examples]
    shared: bool = True
    labels: Stream | None = None


def subjects(
    distilled: DistilledSet, name: str, train_images: int, baselines: tuple[str, ...], full_data: bool
) -> list[tuple[str, Subject]]:
    """Returns the names and facts of all contenders in their order; reads no real image.

    Arguments:
        distilled: the set.
        name: of the data set.
        train_images: images of its training split.
        baselines, full_data: as in `protocol.evaluate`.
    """
    small = Subject(
        len(distilled),
        len(distilled.decoded(compact=True)[0]),
        classes=distilled.classes,
        resolution=distilled.images.shape[1],
        channels=distilled.images.shape[-1],
        dataset=name,
        factor=distilled.decode.factor,
    )
    mirrored = 2 if distilled.decode.flip else 1
    real = dataclasses.replace(small, decoded=mirrored * small.stored)
    whole = dataclasses.replace(small, stored=train_images, decoded=mirrored * train_images, factor=1, whole=True)
    named = [("distilled", small)]
    named += [(shown, real) for baseline, shown in BASELINES.items() if baseline in baselines]
    return [*named, ("full data", whole)] if full_data else named


def placed(
    contender: DistilledSet, preprocessing: data_room.Preprocessing, targets: Targets, *, compact: bool = False
) -> Examples:
    """Decodes a set and puts it on the device, as networks are trained on it.

    Arguments:
        contender: the set.
        preprocessing: of the real data; its constants go with raw images.
        targets: what labels `[n, classes]` are in training.
        compact: images stored as uint8 stay so, and so do class indices: for trainings that take both.
    """
    constants = (preprocessing.mean, preprocessing.std) if preprocessing.space == "raw" else None
    images, labels = jax.device_put(contender.decoded(compact=compact))
    labels = labels if labels.ndim == 1 else targets(labels)
    return Examples(images, labels, contender.classes, constants=constants)


def contenders(
    distilled: DistilledSet,
    dataset: data_room.Dataset,
    preprocessing: data_room.Preprocessing,
    targets: Targets,
    *,
    baselines: tuple[str, ...],
    full_data: bool,
    seed: int,
    teachers: tuple[PyTree, ...] = (),
    labels: Stream | None = None,
    compact: bool = False,
) -> Iterator[Contender]:
    """Yields the set, then the baselines.

    Arguments:
        targets, compact: as in `placed`.
        distilled, dataset, preprocessing, baselines, full_data, seed, teachers, labels: as in `protocol.evaluate`.

    Raises:
        UsageError: the full data is asked for, and is not in memory.
    """
    sizes = dict(subjects(distilled, dataset.name, len(dataset.train_labels), baselines, full_data))
    if full_data and isinstance(dataset, data_room.LargeDataset):
        raise UsageError(
            f"training on all {len(dataset.train_labels)} images of a data set that is streamed",
            where="full_data",
            remedy="leave it out: the teacher's accuracy is what the whole data set gives; or `stream=never`",
        )

    def attached(contender: DistilledSet) -> Examples:
        return dataclasses.replace(placed(contender, preprocessing, targets, compact=compact), teachers=teachers)

    subject = dataclasses.replace(sizes["distilled"], labelled=labels is not None)
    yield Contender("distilled", subject, lambda i: attached(distilled), labels=labels)
    if len(sizes) == 1:
        return
    take, classes = _taking(dataset, preprocessing), dataset.classes
    one_hot = np.eye(classes, dtype=np.float32) - 1 / np.float32(classes)

    def as_set(rows: np.ndarray) -> Examples:
        mirrored = Decode(flip=distilled.decode.flip)  # and in one piece, however distilled images are cut
        chosen = {"images": take(rows), "labels": one_hot[dataset.train_labels[rows]], "pixels": None}
        return attached(distilled.replace(**chosen, decode=mirrored))

    def random(i: int) -> Examples:
        key = key_for(seed, "random baseline", i)
        return as_set(data_room.real_rows(dataset.train_labels, classes, distilled.ipc, key))

    if "random" in baselines:
        yield Contender("random real", sizes["random real"], random, shared=False)
    if "kmeans" in baselines:
        nearest = data_room.kmeans_images(take, dataset.train_labels, distilled.ipc, seed)
        yield Contender("k-means real", sizes["k-means real"], lambda i: as_set(nearest))
    if full_data:
        everything = np.arange(len(dataset.train_labels))
        yield Contender("full data", sizes["full data"], lambda i: as_set(everything))


def _taking(dataset: data_room.Dataset, preprocessing: data_room.Preprocessing) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function from indices to preprocessed train images.

    Those of a large data set are read when it is called, raw ones as uint8.
    """
    if isinstance(dataset, data_room.LargeDataset):
        raw = preprocessing.space == "raw"

        def read(rows: np.ndarray) -> np.ndarray:
            pixels = dataset.train_images[rows]
            return pixels if raw else preprocessing.apply(pixels)

        return read
    real = data_room.examples(dataset, preprocessing, "train")
    return lambda rows: np.asarray(real.take(rows))
