"""Networks at an early stage: trained on the real images for a few epochs, each from a start of its own (AccDD).

How, says `methods.condensation.early`. Of each network the epoch is kept that is best on the test images, as released.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdd import data as data_room
from jaxdd.core import backend, io, trees
from jaxdd.core import config as configs
from jaxdd.core.errors import CheckpointError, UsageError, garbled
from jaxdd.core.io import shorter_path
from jaxdd.core.random import key_for
from jaxdd.core.trees import changes
from jaxdd.core.types import PyTree
from jaxdd.data.registry import one_word
from jaxdd.methods import Condensation
from jaxdd.methods.condensation import early
from jaxdd.models.network import Network
from jaxdd.run import loop
from jaxdd.run.control import Control
from jaxdd.run.settings import PUBLISHED, Settings, build
from jaxdd.run.storage import identity, networks
from jaxdd.run.storage.networks import Networks, read_manifest
from jaxdd.training.ensemble import Ensemble
from jaxdd.training.sgd import ClassifierTraining
from jaxdd.training.snapshots import Snapshots
from jaxdd.training.trainer import accuracies


class Pretrained(NamedTuple):
    """One network.

    Arguments:
        variables: after its best epoch.
        accuracies: on the test images after every epoch, in [0, 1].
        epoch: the best one, from 1.
    """

    variables: PyTree
    accuracies: list[float]
    epoch: int


@dataclasses.dataclass(frozen=True, eq=False)
class Pretraining:
    """A number of networks, complete but not begun.

    Arguments:
        method: whose networks they will be; its settings say how they are trained.
        dataset: the real images.
        preprocessing: fitted on them.
        epochs: P.
        seed: network i is a function of (seed, i).
        count: how many networks there are to be.
    """

    method: Condensation
    dataset: data_room.Dataset
    preprocessing: data_room.Preprocessing
    epochs: int
    seed: int = 0
    count: int = early.COUNT

    @property
    def network(self) -> Network:
        """The architecture."""
        return self.method.network(self.dataset.image_shape, self.dataset.classes)

    @property
    def identity(self) -> dict[str, Any]:
        """The settings that the networks depend on, for their manifest."""
        return {
            "dataset": {"name": self.dataset.name, "digest": self.dataset.digest},
            "preprocessing": self.preprocessing.describe(),
            "architecture": early.architecture(self.method, self.dataset.image_shape, self.dataset.classes),
            "recipe": early.recipe(self.method, self.epochs),
            "seed": self.seed,
        }

    @property
    def steps(self) -> int:
        """Number of steps of one network's training."""
        return self.epochs * self._per_epoch

    def finished(self, place: str | os.PathLike) -> bool:
        """Returns whether all networks are there.

        Raises:
            CheckpointError: the place holds networks of another kind.
        """
        return len(networks.finished(place, self.identity)) >= self.count

    def make(self, place: str | os.PathLike, control: Control = Control()) -> Networks:
        """Trains the networks that are missing.

        Arguments:
            place: the folder where they are and will be.
            control: its reporter hears the steps; `begins("network", i, count)` of every training, in which several may
                be trained together; and of each network `ends("network", {number, accuracies, epoch})`. Its layout is
                not used: each network is trained on one device.

        Returns:
            The networks, as they were read back.

        Raises:
            Stopped: by a signal; finished networks are kept.
            CheckpointError: the folder holds networks of another kind, or another process writes into it.
        """
        place = pathlib.Path(place)
        with io.folder_lock(place):
            missing = range(len(networks.finished(place, self.identity)), self.count)
            trained = self.train(missing, control)
            for index, made in zip(missing, trained, strict=True):
                networks.add(place, self.identity, made.variables, made.accuracies, made.epoch)
                facts = {"number": index, "accuracies": made.accuracies, "epoch": made.epoch}
                control.reporter.ends("network", facts)
        return networks.load(place)

    def train(self, indices: Sequence[int], control: Control = Control()) -> Iterator[Pretrained]:
        """Trains some of the networks: together on accelerators, one after another on CPU.

        Arguments:
            indices: which; network i is the same in any company.
            control: as in `make`.

        Yields:
            Each network when it is finished.

        Raises:
            Stopped: by a signal.
        """
        if not indices:
            return
        real, test = (data_room.examples(self.dataset, self.preprocessing, split) for split in ("train", "test"))
        options = {**control.options, "layout": None, "log_every": self._per_epoch}
        options |= {"steps_per_dispatch": backend.steps_per_dispatch(backend.TRAINING_STEPS_PER_DISPATCH)}
        seeds = [int(jax.random.bits(key_for(self.seed, "pretrained", i), (), jnp.uint32)) for i in indices]
        groups = [seeds] if backend.maps_networks() else [[seed] for seed in seeds]
        for number, group in enumerate(groups):
            together = self.training if len(group) == 1 else Ensemble(self.training, tuple(group))
            procedure = Snapshots(together, self._per_epoch, self.epochs - 1) if self.epochs > 1 else together
            control.reporter.begins("network", number, len(groups))
            variables = loop.run(procedure, real, steps=self.steps, seed=group[0], **options)
            several = (self.epochs, len(group))
            stacked = jax.tree.map(lambda leaf, room=several: _with_axes(leaf, room), variables)
            tests = [accuracies(self.network, trees.take(stacked, epoch), test) for epoch in range(self.epochs)]
            for place, reached in enumerate(zip(*tests, strict=True)):
                best = max(range(self.epochs), key=reached.__getitem__)
                yield Pretrained(trees.take(trees.take(stacked, best), place), list(reached), best + 1)

    @property
    def training(self) -> ClassifierTraining:
        """How one network is trained."""
        images, classes = self.dataset.train_images, self.dataset.classes
        return early.training(self.method, self.dataset.image_shape, classes, len(images), self.epochs)

    @property
    def _per_epoch(self) -> int:
        return early.steps_per_epoch(self.method, len(self.dataset.train_images))


def _with_axes(leaf: jax.Array, several: tuple[int, int]) -> jax.Array:
    """Returns a leaf as `[epochs, networks, ...]`; it lacks each of the two axes whose length is 1."""
    return leaf.reshape(several + leaf.shape[sum(count > 1 for count in several) :])


def default_folder(settings: Settings, seed: int) -> pathlib.Path:
    """Returns `pretrained/cifar10/convnet_0`; the name also holds settings that are not as published."""
    return pathlib.Path("pretrained", one_word(settings.run.dataset_name), f"{_network(settings)}_{seed}").absolute()


def existing(settings: Settings) -> tuple[pathlib.Path, ...]:
    """Returns the folders that `pretrain` has made for such networks, whatever their seeds."""
    usual = default_folder(settings, 0)
    wanted = re.compile(re.escape(usual.name.removesuffix("_0")) + r"_\d+")
    folders = (path.parent for path in sorted(usual.parent.glob("*/manifest.json")))
    return tuple(folder for folder in folders if wanted.fullmatch(folder.name))


def count(settings: Settings) -> int:
    """Returns how many networks lie in `pretrain`'s default folders, whatever their seeds."""
    return sum(len(read_manifest(folder)["networks"]) for folder in existing(settings))


def recorded(output: pathlib.Path) -> tuple[pathlib.Path, ...]:
    """Returns the folders that a run began with, by its `config.json`; none without a run, or where they have gone.

    A run that is continued stays with them, whatever else has been trained in the meantime.
    """
    folders = tuple(map(pathlib.Path, _config(output, "other").get("networks", ())))
    return folders if all((folder / "manifest.json").is_file() for folder in folders) else ()


def require_count(output: pathlib.Path, folders: Sequence[pathlib.Path]) -> None:
    """Refuses to continue a run with more, or fewer, networks than it began with.

    Raises:
        CheckpointError: names both numbers.
    """
    begun = _config(output, "identity").get("networks", {}).get("count")
    now = sum(len(read_manifest(folder)["networks"]) for folder in folders)
    if begun not in (None, now):
        raise CheckpointError(
            f"the run began with {begun} networks, and there are {now} now",
            where=", ".join(map(shorter_path, folders)),
            expected=f"the {begun} that the run in {shorter_path(output)} began with",
            remedy="start a run with all in another `output_dir`, or name those that it began with by `networks`",
        )


def find(
    settings: Settings,
    resolution: int | None,
    remedy: str,
    named: Sequence[str | pathlib.Path] = (),
) -> tuple[pathlib.Path, ...]:
    """Returns the folders of networks that a run starts from, checked.

    Arguments:
        settings: of the run.
        resolution: side in pixels that images are resized to; None for the data set's own.
        remedy: how such networks are trained, for the message.
        named: folders that the user, or the run that is continued, names; otherwise all where `pretrain` puts them.

    Raises:
        UsageError: there are none, or they are of another data set or architecture.
        CheckpointError: a folder that is named holds none.
    """
    folders = tuple(io.absolute(name) for name in named) or existing(settings)
    if not folders:
        raise UsageError(
            f"'{settings.run.method}' starts from networks trained beforehand, and there are none",
            where=f"{shorter_path(default_folder(settings, 0).parent)}/{_network(settings)}_<seed>",
            expected="networks of this architecture; `condense` trains them by `pretrain=true`, or takes `networks`",
            remedy=remedy,
        )
    for folder in folders:
        if lines := unlike(folder, read_manifest(folder), settings, resolution):
            raise UsageError(
                "these networks are of another kind than the run needs" + "".join(f"\n  {line}" for line in lines),
                where=str(folder),
                remedy="train others with `pretrain`, or change the settings that differ",
            )
    return folders


def wanted(settings: Settings) -> dict[str, Any]:
    """Returns the settings that say which networks a run needs, as far as they are not as published."""
    method: Any = settings.method
    usual = {"norm_type": "instance", "width": 128, "depth": None}
    settings_of_networks = {name: getattr(method, name) for name in ("net_type", *usual)}
    settings_of_networks |= {"half_width": method.half_width} if method.net_type in early.HALVED else {}
    return {name: value for name, value in settings_of_networks.items() if name not in usual or value != usual[name]}


def of_networks(settings: Settings) -> Settings:
    """Returns the settings by which the networks that a run needs are trained: AccDD's, whatever the run's method."""
    overrides = {"dataset_name": settings.run.dataset_name, **wanted(settings), "method": "accdd"}
    return build(PUBLISHED, configs.layer(overrides, "the run's own"))


def describe(folder: pathlib.Path) -> str:
    """Returns `5 networks of pretrained/cifar10/convnet_0: cifar10, 2 epochs, test accuracy 61.3 %`."""
    manifest = read_manifest(folder)
    networks, trained = manifest["networks"], manifest["recipe"]["epochs"]
    accuracy = statistics.fmean(max(network["accuracies"]) for network in networks)
    plural, epochs = "s" * (len(networks) > 1), f"{trained} epoch{'s' * (trained > 1)}"
    what = f"{manifest['dataset']['name']}, {epochs}, test accuracy {100 * accuracy:.1f} %"
    return f"{len(networks)} network{plural} of {shorter_path(folder)}: {what}"


def unlike(folder: pathlib.Path, manifest: Mapping[str, Any], settings: Settings, resolution: int | None) -> list[str]:
    """Returns one line for every difference between networks and those needed, as far as it is known without the
    images.

    Arguments:
        folder: where they lie.
        manifest: theirs.
        settings: of the run that needs them.
        resolution: as in `find`.

    Raises:
        CheckpointError: the manifest is damaged.
    """
    try:
        stored = {"dataset": manifest["dataset"]["name"], **manifest["architecture"]}
        height, width, channels = stored["image_shape"]
        wanted = early.architecture(settings.method, (height, width, channels), stored["classes"])  # pyright: ignore
    except (KeyError, ValueError, TypeError) as error:
        raise garbled(error, folder, networks.AGAIN) from None
    known = data_room.SPECS.get(settings.run.dataset_name)
    if known is not None and known.resolution and known.channels:
        side = resolution or known.resolution
        wanted |= {"image_shape": [side, side, known.channels], "classes": known.classes}
    elif resolution is not None:
        wanted |= {"image_shape": [resolution, resolution, channels]}
    return changes(stored, identity.as_json({"dataset": settings.run.dataset_name, **wanted}))


def _network(settings: Settings) -> str:
    method: Any = settings.method
    parts = [method.net_type + ("" if method.depth is None else str(method.depth))]
    parts += [] if method.norm_type == "instance" else [method.norm_type]
    return "_".join([*parts, *([] if method.width == 128 else [f"w{method.width}"])])


def _config(output: pathlib.Path, part: str) -> dict[str, Any]:
    """Returns a part of a run's `config.json`; an empty one without a run, or where the file is damaged (`Storage` says
    so)."""
    path = output / "config.json"
    content = io.read_json(path) if path.is_file() else None
    inner = content.get(part) if isinstance(content, dict) else None
    return inner if isinstance(inner, dict) else {}
