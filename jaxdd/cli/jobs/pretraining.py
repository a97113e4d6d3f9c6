"""Networks at an early stage of training, which AccDD and GA-DD start from, in a folder of their own."""

from __future__ import annotations

import pathlib
import shlex
from typing import TYPE_CHECKING

from jaxdd.cli.devices import start_one
from jaxdd.cli.flags import matching as matching_flags
from jaxdd.cli.jobs.links import begun, data_line, opened
from jaxdd.cli.screen.screen import Screen
from jaxdd.core.io import shorter_path
from jaxdd.run.chain import networks as pretrained
from jaxdd.run.settings import Settings

if TYPE_CHECKING:
    from jaxdd.run.chain.pretrain import Pretraining


def perform(
    flags: matching_flags.Pretrain, settings: Settings, epochs: int, folder: pathlib.Path, distiller: str
) -> int:
    """Checks, trains what is missing, and says how good the networks are.

    Arguments:
        flags: how.
        settings: of the method whose networks they are.
        epochs: of each network.
        folder: where they are and will be.
        distiller: how the command that uses them is called.

    Returns:
        The exit code: 0, or 128 plus the number of the signal that stopped it.

    Raises:
        JaxddError: anything a user can mend.
    """
    _check(flags, settings, folder)
    with opened() as screen:
        return _Session(screen, flags, settings, epochs, folder, distiller).go()


def _check(flags: matching_flags.Pretrain, settings: Settings, folder: pathlib.Path) -> None:
    """Everything that can be refused before a device is touched or an image is read."""
    from jaxdd import data
    from jaxdd.run.storage.networks import read_manifest
    from jaxdd.run.storage.precheck import require_writable

    name = settings.run.dataset_name
    data.check_available(name, flags.data_path)
    spec = data.describe(name, flags.data_path, resolution=flags.resolution)
    if spec.resolution and spec.channels:
        settings.method.describe((spec.resolution, spec.resolution, spec.channels), spec.classes)
    require_writable(folder)
    if (folder / "manifest.json").exists():
        read_manifest(folder)  # which refuses what are no networks


class _Session:
    """One pretraining from the checked flags to the closing words."""

    def __init__(
        self,
        screen: Screen,
        flags: matching_flags.Pretrain,
        settings: Settings,
        epochs: int,
        folder: pathlib.Path,
        distiller: str,
    ):
        self.screen, self.flags, self.settings, self.epochs = screen, flags, settings, epochs
        self.folder, self.distiller = folder, distiller

    def go(self) -> int:
        """Returns the exit code."""
        self._header()
        if not self._complete() and (code := self._make()):
            return code
        self.screen.fact("networks", pretrained.describe(self.folder), "bold green")
        self.screen.fact("next", self._next())
        return 0

    def _complete(self) -> bool:
        """Whether nothing is missing, by what the manifest tells without the images."""
        from jaxdd.run.chain.pretrain import recipe
        from jaxdd.run.storage import identity, networks

        if not (self.folder / "manifest.json").exists():
            return False
        found = networks.read_manifest(self.folder)
        how = {"recipe": recipe(self.settings.method, self.epochs), "seed": self.flags.random_seed}  # pyright: ignore
        same = identity.as_json(how) == {name: found.get(name) for name in how}
        fitting = same and not pretrained.unlike(self.folder, found, self.settings, self.flags.resolution)
        return fitting and len(found["networks"]) >= self.flags.repeat

    def _make(self) -> int:
        """Trains the networks that are missing; returns the exit code."""
        from jaxdd.cli.screen.progress import Trainings
        from jaxdd.run import signals
        from jaxdd.run.storage import networks

        with signals.caught() as should_stop:
            with begun(self.screen, should_stop) as begin:
                device = start_one(self.flags.devices)
                begin.doing("reading the data")
                training = self._read()
            self._facts(training, device)
            missing = max(0, training.count - len(networks.finished(self.folder, training.identity)))
            line = Trainings(self.screen, should_stop, [training.steps] * _programs(missing))
            line.remedies = "fewer --repeat or --pt_from, a smaller --width or a GPU"
            self.screen.log_to(self.folder / "log.txt")
            try:
                with line.shown():
                    training.make(self.folder, line, should_stop)
            except signals.Stopped as stop:
                self.screen.say("stopped: finished networks are kept; the same command trains the others", "bold")
                return stop.exit_code
        return 0

    def _header(self) -> None:
        from jaxdd import __version__

        name, count = self.settings.run.dataset_name, self.flags.repeat
        what = f"{count} network{'s' * (count > 1)} for {name}, {self.epochs} epoch{'s' * (self.epochs > 1)}"
        self.screen.fact("jaxdd", f"{__version__}   {what}", "bold")
        self.screen.fact("output", str(self.folder))
        for notice in self.settings.notices:
            self.screen.note(notice)

    def _read(self) -> Pretraining:
        from jaxdd import data
        from jaxdd.methods import Condensation
        from jaxdd.run.chain.pretrain import Pretraining

        method = self.settings.method
        assert isinstance(method, Condensation)
        dataset = data.load(self.settings.run.dataset_name, self.flags.data_path, resolution=self.flags.resolution)
        preprocessing = data.fit(dataset, family=method.family, kind=method.kind)
        return Pretraining(method, dataset, preprocessing, self.epochs, self.flags.random_seed, self.flags.repeat)

    def _facts(self, training: Pretraining, device: str) -> None:
        method, how = training.method, training.training
        augmented = f"{how.kind} {how.strategy}".rstrip() + (f", CutMix {how.mix_p:g}" if how.mix_p else "")
        self.screen.fact("data", data_line(training.dataset, training.preprocessing.space))
        self.screen.fact("network", f"{training.network}, {method.norm_type} norm")
        self.screen.fact("training", f"SGD {how.learning_rate:g}, batches of {how.batch_size}, {augmented}")
        self.screen.fact("device", device)

    def _next(self) -> str:
        """The command that uses them."""
        words = ["--method", "accdd", "--dataset", self.settings.run.dataset_name]
        words += ["--data_path", self.flags.data_path] if self.flags.data_path else []
        return f"{self.distiller} {shlex.join([*words, '--model_path', shorter_path(self.folder)])}"


def _programs(networks: int) -> int:
    """How many trainings one after another."""
    from jaxdd.core import backend

    return min(1, networks) if backend.maps_networks() else networks
