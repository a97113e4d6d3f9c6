"""Networks at an early stage of training, which AccDD and GA-DD start from, in a folder of their own."""

from __future__ import annotations

import json
import pathlib
import shlex
from collections.abc import Sequence
from functools import partial

from jaxdd import data
from jaxdd.cli.command import Job, Session, data_line, require_one_device
from jaxdd.cli.flags.matching import Pretrain
from jaxdd.cli.flags.shared import Run
from jaxdd.cli.screen.progress import Trainings
from jaxdd.core import backend
from jaxdd.core.io import shorter_path
from jaxdd.methods import Condensation
from jaxdd.methods.condensation.early import recipe
from jaxdd.run.chain import pretrain as pretrained
from jaxdd.run.chain.pretrain import Pretraining
from jaxdd.run.control import Control
from jaxdd.run.settings import Settings
from jaxdd.run.storage import identity, networks
from jaxdd.run.storage.identity import require_writable


def job(options: Pretrain, settings: Settings, epochs: int, folder: pathlib.Path) -> Job:
    """Returns the training of what is missing, checked; it says at the end how good the networks are.

    Arguments:
        options: how.
        settings: of the method whose networks they are.
        epochs: of each network.
        folder: where they are and will be.

    Raises:
        JaxddError: anything a user can mend.
    """
    name, count, method = settings.run.dataset_name, options.repeat, settings.method
    assert isinstance(method, Condensation)
    _check(options, settings, folder)

    def work(session: Session) -> None:
        if not _complete(options, settings, recipe(method, epochs), folder):
            _train(session, options, method, name, epochs, folder)
        session.screen.fact("networks", pretrained.describe(folder), "bold green")
        words = {"method": "accdd", "dataset": name, "data_path": options.data_path}
        session.advise("condense", **words, model_path=shorter_path(folder))

    what = f"{count} network{'s' * (count > 1)} for {name}, {epochs} epoch{'s' * (epochs > 1)}"
    return Job(what, work, settings.notices, {"output": folder})


def networks_for(
    settings: Settings, options: Run, *, epochs: int | None = None, named: Sequence[pathlib.Path | str] = ()
) -> tuple[pathlib.Path, ...]:
    """Returns the folders of networks that a run starts from, checked.

    Arguments:
        settings, options: of the run.
        epochs: that such networks would be trained for; None for the published ones.
        named: as in `run.chain.pretrain.find`.

    Raises:
        UsageError, CheckpointError: there are none, or of another kind; says how `pretrain` trains such.
    """
    words = advised(settings, epochs=epochs, data_path=options.data_path, resolution=options.resolution)
    return pretrained.find(settings, options.resolution, f"`pretrain` {shlex.join(words)}", named)


def advised(settings: Settings, *, epochs: int | None, data_path: str | None, resolution: int | None) -> list[str]:
    """Returns the flags by which `pretrain` trains the networks that a run needs."""
    rest = pretrained.wanted(settings)
    flags = {"dataset": settings.run.dataset_name, "data_path": data_path, "resolution": resolution}
    flags |= {name: rest.pop(name) for name in ("net_type", "norm_type") if name in rest} | {"pt_from": epochs}
    pairs = [(name, str(value)) for name, value in flags.items() if value is not None]
    pairs += [("set", f"{name}={json.dumps(value)}") for name, value in rest.items()]  # --depth has limits
    return [word for name, value in pairs for word in (f"--{name}", value)]


def _check(options: Pretrain, settings: Settings, folder: pathlib.Path) -> None:
    """Refuses all that can be before a device is touched or an image is read."""
    name = settings.run.dataset_name
    require_one_device(options.devices)
    data.check_available(name, options.data_path)
    spec = data.describe(name, options.data_path, resolution=options.resolution)
    if spec.resolution and spec.channels:
        settings.method.describe((spec.resolution, spec.resolution, spec.channels), spec.classes)
    require_writable(folder)
    if (folder / "manifest.json").exists():
        networks.read_manifest(folder)  # which refuses what are no networks


def _complete(options: Pretrain, settings: Settings, recipe: dict[str, object], folder: pathlib.Path) -> bool:
    """Returns whether nothing is missing, by what the manifest tells without the images."""
    if not (folder / "manifest.json").exists():
        return False
    manifest = networks.read_manifest(folder)
    how = {"recipe": recipe, "seed": options.random_seed}
    same = identity.as_json(how) == {name: manifest.get(name) for name in how}
    fitting = same and not pretrained.unlike(folder, manifest, settings, options.resolution)
    return fitting and len(manifest["networks"]) >= options.repeat


def _train(
    session: Session, options: Pretrain, method: Condensation, name: str, epochs: int, folder: pathlib.Path
) -> None:
    """Trains the networks that are missing."""
    read = partial(data.load, name, options.data_path, resolution=options.resolution)
    _, device, dataset = session.begin(options.devices, read)
    preprocessing = data.fit(dataset, family=method.family, kind=method.kind)
    training = Pretraining(method, dataset, preprocessing, epochs, options.random_seed, options.repeat)
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
