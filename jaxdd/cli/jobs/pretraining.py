"""Networks at an early stage of training, which AccDD and GA-DD start from, in a folder of their own."""

from __future__ import annotations

import pathlib
from functools import partial

from jaxdd import data
from jaxdd.cli.devices import start_one
from jaxdd.cli.flags.matching import Pretrain
from jaxdd.cli.screen.progress import Trainings
from jaxdd.cli.session import Session, data_line, opened
from jaxdd.core import backend
from jaxdd.core.io import shorter_path
from jaxdd.methods import Condensation
from jaxdd.methods.condensation.early import recipe
from jaxdd.run.chain import networks as pretrained
from jaxdd.run.chain.pretrain import Pretraining
from jaxdd.run.control import Control
from jaxdd.run.settings import Settings
from jaxdd.run.storage import identity, networks
from jaxdd.run.storage.precheck import require_writable


def perform(flags: Pretrain, settings: Settings, epochs: int, folder: pathlib.Path) -> None:
    """Checks, trains what is missing, and says how good the networks are.

    Arguments:
        flags: how.
        settings: of the method whose networks they are.
        epochs: of each network.
        folder: where they are and will be.

    Raises:
        JaxddError: anything a user can mend.
        Stopped: by a signal.
    """
    name, count, method = settings.run.dataset_name, flags.repeat, settings.method
    assert isinstance(method, Condensation)
    _check(flags, settings, folder)
    with opened() as session:
        what = f"{count} network{'s' * (count > 1)} for {name}, {epochs} epoch{'s' * (epochs > 1)}"
        session.header(what, notices=settings.notices, output=folder)
        if not _complete(flags, settings, recipe(method, epochs), folder):
            _train(session, flags, method, name, epochs, folder)
        session.screen.fact("networks", pretrained.describe(folder), "bold green")
        words = {"method": "accdd", "dataset": name, "data_path": flags.data_path}
        session.advise("condense", **words, model_path=shorter_path(folder))


def _check(flags: Pretrain, settings: Settings, folder: pathlib.Path) -> None:
    """Refuses all that can be before a device is touched or an image is read."""
    name = settings.run.dataset_name
    data.check_available(name, flags.data_path)
    spec = data.describe(name, flags.data_path, resolution=flags.resolution)
    if spec.resolution and spec.channels:
        settings.method.describe((spec.resolution, spec.resolution, spec.channels), spec.classes)
    require_writable(folder)
    if (folder / "manifest.json").exists():
        networks.read_manifest(folder)  # which refuses what are no networks


def _complete(flags: Pretrain, settings: Settings, recipe: dict[str, object], folder: pathlib.Path) -> bool:
    """Returns whether nothing is missing, by what the manifest tells without the images."""
    if not (folder / "manifest.json").exists():
        return False
    manifest = networks.read_manifest(folder)
    how = {"recipe": recipe, "seed": flags.random_seed}
    same = identity.as_json(how) == {name: manifest.get(name) for name in how}
    fitting = same and not pretrained.unlike(folder, manifest, settings, flags.resolution)
    return fitting and len(manifest["networks"]) >= flags.repeat


def _train(
    session: Session, flags: Pretrain, method: Condensation, name: str, epochs: int, folder: pathlib.Path
) -> None:
    """Trains the networks that are missing."""
    read = partial(data.load, name, flags.data_path, resolution=flags.resolution)
    device, dataset = session.begin(partial(start_one, flags.devices), read)
    preprocessing = data.fit(dataset, family=method.family, kind=method.kind)
    training = Pretraining(method, dataset, preprocessing, epochs, flags.random_seed, flags.repeat)
    how = training.training
    augmented = f"{how.kind} {how.strategy}".rstrip() + (f", CutMix {how.mix_p:g}" if how.mix_p else "")
    session.screen.facts(
        data=data_line(dataset, preprocessing.space),
        network=f"{training.network}, {method.norm_type} norm",
        training=f"SGD {how.learning_rate:g}, batches of {how.batch_size}, {augmented}",
        device=device,
    )
    missing = max(0, training.count - len(networks.finished(folder, training.identity)))
    programs = min(1, missing) if backend.maps_networks() else missing  # one after another
    line = Trainings(session.screen, session.should_stop, [training.steps] * programs)
    line.remedies = "fewer --repeat or --pt_from, a smaller --width or a GPU"
    line.kept = "finished networks are kept; the same command trains the others"
    session.screen.log_to(folder / "log.txt")
    with line.shown():
        training.make(folder, Control(line, session.should_stop))
