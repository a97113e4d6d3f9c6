"""Networks trained beforehand that a run starts from: in folders that are named, or where `pretrain` puts them."""

from __future__ import annotations

import pathlib
import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from jaxdd.core import io
from jaxdd.core.errors import CheckpointError, UsageError, garbled
from jaxdd.core.io import shorter_path
from jaxdd.data.registry import one_word
from jaxdd.run import presets
from jaxdd.run.settings import Settings


def needed(settings: Settings) -> bool:
    """Returns whether the method starts from networks trained beforehand."""
    return getattr(settings.method, "source", "random") == "pretrained"


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
    from jaxdd.run.storage.networks import read_manifest

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
    from jaxdd.run.storage.networks import read_manifest

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
    from jaxdd.run.storage.networks import read_manifest

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
    from jaxdd.methods.condensation.early import HALVED

    method: Any = settings.method
    usual = {"norm_type": "instance", "width": 128, "depth": None}
    settings_of_networks = {name: getattr(method, name) for name in ("net_type", *usual)}
    settings_of_networks |= {"half_width": method.half_width} if method.net_type in HALVED else {}
    return {name: value for name, value in settings_of_networks.items() if name not in usual or value != usual[name]}


def of_networks(settings: Settings) -> Settings:
    """Returns the settings by which the networks that a run needs are trained: AccDD's, whatever the run's method."""
    overrides = {"dataset_name": settings.run.dataset_name, **wanted(settings), "method": "accdd"}
    return presets.build(presets.PUBLISHED, {name: ("the run's own", value) for name, value in overrides.items()})


def describe(folder: pathlib.Path) -> str:
    """Returns `5 networks of pretrained/cifar10/convnet_0: cifar10, 2 epochs, test accuracy 61.3 %`."""
    from jaxdd.run.storage.networks import read_manifest

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
    from jaxdd import data
    from jaxdd.methods.condensation.early import architecture
    from jaxdd.run.storage import identity, networks

    try:
        stored = {"dataset": manifest["dataset"]["name"], **manifest["architecture"]}
        height, width, channels = stored["image_shape"]
        wanted = architecture(settings.method, (height, width, channels), stored["classes"])  # pyright: ignore
    except (KeyError, ValueError, TypeError) as error:
        raise garbled(error, folder, networks.AGAIN) from None
    known = data.SPECS.get(settings.run.dataset_name)
    if known is not None and known.resolution and known.channels:
        side = resolution or known.resolution
        wanted |= {"image_shape": [side, side, known.channels], "classes": known.classes}
    elif resolution is not None:
        wanted |= {"image_shape": [resolution, resolution, channels]}
    return identity.changes(stored, identity.as_json({"dataset": settings.run.dataset_name, **wanted}))


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
