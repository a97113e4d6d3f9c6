"""The functions of `import jaxdd`: every method by its name, from data in memory, with or without a folder.

Defaults are those of the command line: for the digits the packaged quick settings, for a data set that a method's paper
has results for the published ones. What a user should be told comes as a warning of the kind `core.errors.Notice`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import shutil
import tempfile
import warnings
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from jaxdd import data as data_room
from jaxdd.core import config as configs
from jaxdd.core.config import ConfigFile, Value
from jaxdd.core.distilled import DistilledSet
from jaxdd.core.errors import DataError, Notice, UsageError, choose
from jaxdd.core.io import absolute
from jaxdd.data import Dataset, DataSpec, Preprocessing
from jaxdd.evaluation.protocol import Evaluation
from jaxdd.evaluation.recipe import Recipe
from jaxdd.methods import METHODS, Condensation
from jaxdd.methods.condensation.early import COUNT, published_epochs
from jaxdd.run import evaluating
from jaxdd.run import settings as runs
from jaxdd.run.chain import chain, students, teachers
from jaxdd.run.chain.pretrain import Pretraining
from jaxdd.run.chain.relabel import Relabelling
from jaxdd.run.chain.settings import USUAL, Decoupled, build_chain
from jaxdd.run.chain.teachers import Teacher
from jaxdd.run.distillation import Distillation, Distilling
from jaxdd.run.settings import Settings
from jaxdd.run.storage import networks as stored
from jaxdd.run.storage import sets
from jaxdd.run.storage.networks import Networks
from jaxdd.training.stored_labels import StoredLabels

Folder = str | os.PathLike
Data = Dataset | tuple | list
Config = str | os.PathLike | ConfigDict | None


def load(name: str, data_path: Folder | None = None, *, resolution: int | None = None) -> Dataset:
    """Reads a data set.

    Arguments:
        name: `digits`, `mnist`, `cifar10`, ..., or your own: `folder:DIR`, `npz:FILE`, `parquet:DIR`.
        data_path: folder with local files in `<data_path>/<name>/`; default TensorFlow Datasets' folder.
        resolution: side in pixels to resize to; default the data set's own.

    Raises:
        JaxddError: the name is unknown, or the data are not there or not readable.
    """
    return data_room.load(name, data_path, resolution=resolution)


def config(name: Folder, *, dataset: str | None = None) -> ConfigDict:
    """Returns every setting of a config file, as a run would have it.

    Arguments:
        name: of a packaged file, such as depth_3 or cda/cda_tiny, or a path.
        dataset: another data set than the file's; some settings follow from it.

    Returns:
        A locked `ml_collections.ConfigDict`, which `distill` takes as `config`. Unlock it to change a setting.

    Raises:
        ConfigError, UsageError: there is no such file, or one of its settings is wrong.
    """
    layer = {} if dataset is None else {"dataset_name": Value(dataset, "dataset")}
    file = runs.read(os.fspath(name))
    if METHODS[str(file.values.get("method", "rcig"))].is_chain:
        return build_chain(layer, source=file, describe=data_room.describe).as_config_dict()
    chosen = runs.build(os.fspath(name), layer, at_hand=True)
    return configs.as_config_dict(chosen.run, chosen.method)


def distill(
    data: Data,
    *,
    method: str | None = None,
    ipc: int | None = None,
    steps: int | None = None,
    seed: int = 0,
    config: Config = None,
    output_dir: Folder | None = None,
    teacher: Any = None,
    networks: Any = None,
    start: DistilledSet | None = None,
    **settings: Any,
) -> DistilledSet:
    """Distils a data set.

    Arguments:
        data: from `load`; or arrays `(images, labels)` or `((images, labels), (images, labels))`, images
            `[n, side, side, channels]` uint8 or floats in [0, 1], labels `[n]` integers.
        method: a key of `METHODS`; default the config's, or `rcig`.
        ipc: images per class of the result.
        steps: outer steps; of a method that recovers images from a teacher, iterations, shared among its stages as
            published.
        seed: of every random choice.
        config: a config file, the name of a packaged one such as depth_3 or matching/dream_cifar10_10, or what
            `jaxdd.config` returns.
        output_dir: where to save, and to resume from; None leaves nothing on disk.
        teacher: that images are recovered from (`squeeze`): a `Teacher`, its folder, or several; None: one is trained.
        networks: that `accdd` and `ga` start from (`pretrain`): `Networks`, their folder or several folders, or
            variables stacked along a leading axis; None: they are trained.
        start: a distilled set to start from, another method's or one's own; None for what the method chooses.
        settings: of the method, e.g. `width=32`: see `METHODS[method].settings`.

    Returns:
        The distilled set; its `pixels` or raw `images` are true colours.

    Raises:
        JaxddError: an unknown method or setting, a bad value, or data that are not what they should be.
    """
    dataset = _dataset(data, test=False)
    method = _method(method, config)
    folder = None if output_dir is None else absolute(output_dir)
    if METHODS[method].is_chain:
        _refuse(method, networks=networks, start=start)
        return _recovered(dataset, method, _given(settings, ipc=ipc), steps, seed, config, folder, teacher)
    _refuse(method, teacher=teacher)
    chosen = _settings(dataset, method, _given(settings, ipc=ipc, max_steps=steps), config)
    begun = None if networks is None else _networks(networks)
    if begun is None and chosen.starts_from_networks:
        with _room(folder) as place:
            begun = _pretraining(chosen, dataset, seed=seed).make(place / "pretrained")
    run = Distillation.of(chosen, dataset, seed=seed, networks=begun, start=start)
    return run.drive() if folder is None else Distilling(run, picture=_writers().picture).make(folder)


def squeeze(
    data: Data,
    *,
    method: str = USUAL,
    seed: int = 0,
    weights: Folder | None = None,
    output_dir: Folder | None = None,
    **settings: Any,
) -> Teacher:
    """Trains the teacher of SRe2L, CDA and their successors, or imports one.

    Arguments:
        data: as in `distill`.
        method: for whose teacher the defaults are.
        seed: of every random choice.
        weights: a safetensors file with the names of torchvision or timm, which is imported in place of training.
        output_dir: the teacher's folder; None leaves nothing on disk.
        settings: `arch_name` (resnet18, ..., vit or conv) and `width`; and of the training, the fields of
            `training.recipe.TeacherRecipe`, e.g. `epochs=10`.

    Raises:
        JaxddError: an unknown setting, a bad value, or weights of another architecture.
    """
    dataset = _dataset(data, test=True)
    kind = {name: settings.pop(name) for name in ("arch_name", "width") if name in settings}
    chosen = _chain(dataset, method, {**kind, **{f"squeeze.{name}": value for name, value in settings.items()}}, None)
    _tell(chosen.notices)
    preprocessing = data_room.fit(dataset, **students.KIND)
    with _room(output_dir) as place:
        if weights is not None:
            teachers.require_weights(path := pathlib.Path(weights))
            return teachers.imported(path, dataset, preprocessing, chosen.chain.architecture(), folder=place)
        (first, *_) = chain.of_recovery(chosen, dataset, preprocessing, seed=seed).links
        return first.link({}).make(place)


def pretrain(
    data: Data,
    *,
    method: str = "accdd",
    count: int = COUNT,
    epochs: int | None = None,
    seed: int = 0,
    output_dir: Folder | None = None,
    **settings: Any,
) -> Networks:
    """Trains networks for a few epochs, from which AccDD and GA-DD start.

    Arguments:
        data: as in `distill`.
        method: whose networks they will be: its settings say how they are trained.
        count: how many.
        epochs: of each; default as published.
        seed: of every random choice.
        output_dir: the networks' folder, where finished ones are kept; None leaves nothing on disk.
        settings: of the method, e.g. `width=32`.

    Raises:
        JaxddError: an unknown setting or a bad value.
    """
    dataset = _dataset(data, test=True)
    chosen = _settings(dataset, _method(method, None), settings, None)
    with _room(output_dir) as place:
        return _pretraining(chosen, dataset, epochs, seed, count).make(place)


def relabel(
    distilled: DistilledSet | Folder,
    *,
    teacher: Any = None,
    keep: int | None = None,
    output_dir: Folder | None = None,
    **recipe: Any,
) -> StoredLabels:
    """Stores a teacher's soft labels of a set, for every epoch of a student (FKD).

    Arguments:
        distilled: the set, which was recovered from a teacher; or its folder.
        teacher: a `Teacher`, its folder, or several; default the set's own.
        keep: how many logits of each image are stored; None for all.
        output_dir: the labels' folder; None: a temporary one, that goes when the labels do.
        recipe: what differs from the set's recipe, e.g. `epochs=100`; fields of `evaluation.students.SoftRecipe`.

    Returns:
        The labels, which `evaluate` takes as `labels`.

    Raises:
        JaxddError: the set learns from no teacher, the teacher is not there, or the folder holds other labels.
    """
    small, folder = _set(distilled, "")
    if small.recipe.get("protocol") != "soft":
        raise UsageError(
            "the set learns from no teacher",
            where="distilled",
            expected="one that was recovered from a teacher: sre2l, cda, rded, sre2l_pp or fadrm",
            remedy="distil it by one of these methods",
        )
    known = _known_teachers(teacher, small, folder)
    (how,) = Recipe.for_students(small.recipe, recipe, (), small)
    labels = Relabelling.by(known, small, Preprocessing.of_raw(small.preprocessing), how, keep)
    if output_dir is not None:
        return labels.make(absolute(output_dir))
    room = tempfile.mkdtemp()
    made = labels.make(room)
    weakref.finalize(made, shutil.rmtree, room, ignore_errors=True)
    return made


def evaluate(
    distilled: DistilledSet | Folder,
    data: Data,
    *,
    teacher: Any = None,
    labels: StoredLabels | Folder | None = None,
    seed: int = 0,
    baselines: Iterable[str] = ("random", "kmeans"),
    full_data: bool = False,
    **recipe: Any,
) -> Evaluation:
    """Trains fresh networks on a distilled set and on baselines, and measures them on the real test images.

    Arguments:
        distilled: the set, or the folder of a set or of a run.
        data: the data it was distilled from; of arrays, both splits.
        teacher: of a set with soft labels: a `Teacher`, its folder, or several. Default the one that `distill` kept in
            memory, or that lies beside the set's folder.
        labels: those that `relabel` stored, or their folder; default what lies beside the set's folder, else the
            teacher is asked.
        seed: of networks and baselines.
        baselines: of `random` and `kmeans`: as many real images, chosen so.
        full_data: also train on the whole data set.
        recipe: what differs from the set's own recipe, e.g. `models_to_test=1`; fields of
            `jaxdd.evaluation.recipe.Recipe`, or of the recipe of the set's protocol.

    Returns:
        Rows of accuracies in [0, 1], each with `name`, `runs`, `mean` and `std`.

    Raises:
        JaxddError: another data set than the set's own, a bad recipe, or a teacher that is not there.
    """
    dataset = _dataset(data, test=True)
    small, folder = _set(distilled, dataset.name)
    options: dict[str, Any] = {"seed": seed, "baselines": tuple(baselines), "full_data": full_data}
    if small.recipe.get("protocol") != "soft":
        return evaluating.evaluate(small, dataset, Recipe.of({**small.recipe, **recipe}), **options)
    kept = labels.folder if isinstance(labels, StoredLabels) else None if labels is None else pathlib.Path(labels)
    soft = students.Labels(stored=kept and kept.absolute(), loaded=_known_teachers(teacher, small, folder))
    if folder is not None or kept is not None:
        soft = soft.beside(folder or kept.absolute())  # pyright: ignore[reportOptionalMemberAccess]
    recipes = Recipe.for_students({**small.recipe, **soft.recipe}, recipe, (), small)
    link, _ = soft.attach(evaluating.Evaluating(small, dataset, recipes, options=options), dataset)
    return evaluating.evaluate(small, dataset, link.recipes[0], **link.options)


def _recovered(
    dataset: Dataset,
    method: str,
    changes: Mapping[str, Any],
    steps: int | None,
    seed: int,
    config: Config,
    folder: pathlib.Path | None,
    teacher: Any,
) -> DistilledSet:
    """Runs a chain; the set has its teachers with it."""
    settings = _chain(dataset, method, changes, config)
    if steps is not None and settings.recovery.iterations:
        settings = _chain(dataset, method, {**changes, "iterations": steps}, config)
    elif steps is not None:
        warnings.warn(f"{method} optimises nothing: steps={steps} has no effect", Notice, stacklevel=3)
    _tell(settings.notices)
    preprocessing = data_room.fit(dataset, **students.KIND)
    known = () if teacher is None else _teachers(teacher)
    writers = chain.Writers() if folder is None else _writers()
    with _room(folder) as place:
        links = chain.of_recovery(settings, dataset, preprocessing, seed=seed, teachers=known, writers=writers)
        if folder is None:  # labels on disk would be gone
            links = dataclasses.replace(links, links=[link for link in links.links if link.name != "labels"])
        made = links.run(place)
    return made["set"].replace(teachers=chain.several(made["teacher"]))


def _pretraining(
    chosen: Settings,
    dataset: Dataset,
    epochs: int | None = None,
    seed: int = 0,
    count: int = COUNT,
) -> Pretraining:
    method = chosen.method
    if not isinstance(method, Condensation):
        raise UsageError(
            f"'{chosen.run.method}' starts from no networks",
            where="method",
            expected="accdd, ga, or another matching method",
            remedy="leave method out",
        )
    preprocessing = data_room.fit(dataset, family=method.family, kind=method.kind)
    return Pretraining(method, dataset, preprocessing, epochs or published_epochs(dataset.name), seed, count)


def _settings(dataset: Dataset, method: str, changes: Mapping[str, Any], config: Config) -> Settings:
    """Returns settings as the command line would have them for these data."""
    layer = {"method": Value(method, "method"), "dataset_name": Value(dataset.name, "data")}
    source, told = (_file(config), []) if config else runs.for_dataset(dataset.name, method)
    settings = runs.build(source, {**layer, **configs.layer(changes, "jaxdd.distill")}, notices=told, at_hand=True)
    _tell(settings.notices)
    return settings


def _chain(dataset: Dataset, method: str, changes: Mapping[str, Any], config: Config) -> Decoupled:
    """Returns the settings of a chain as the command line would have them."""
    side, _, channels = dataset.image_shape
    spec = DataSpec(dataset.name, side, channels, dataset.classes)
    layer = {"method": Value(method, "method"), "dataset_name": Value(dataset.name, "data")}
    layer |= configs.layer(changes, "jaxdd.distill")
    preset = "digits" if config is None and dataset.name == "digits" else None
    return build_chain(layer, source=_file(config), preset=preset, describe=lambda name: spec)


def _tell(notices: Iterable[str]) -> None:
    for notice in notices:
        warnings.warn(notice, Notice, stacklevel=4)


def _given(settings: Mapping[str, Any], ipc: int | None, max_steps: int | None = None) -> dict[str, Any]:
    named = {"n_images": ipc, "max_steps": max_steps}
    return {**{name: value for name, value in named.items() if value is not None}, **settings}


def _method(method: str | None, config: Config) -> str:
    """Returns the method that is named, or the config's."""
    file = _file(config).values if config else {}
    return choose(str(method or file.get("method", "rcig")), METHODS, kind="method", where="method")


def _file(source: Any) -> Any:
    """Returns a config file, or what a `ConfigDict` holds as one; None of None."""
    if isinstance(source, ConfigDict):
        return ConfigFile("config", source.to_dict())
    return None if source is None else runs.read(os.fspath(source))


def _refuse(method: str, **arguments: Any) -> None:
    for name, value in arguments.items():
        if value is not None:
            raise UsageError(f"'{method}' takes no {name}", where=name, remedy="leave it out, or choose another method")


def _writers() -> chain.Writers:
    """Returns what draws and publishes; matplotlib, which it takes, makes folders of its own where it is imported."""
    from jaxdd.publish import image_folder
    from jaxdd.publish.grid import grid

    return chain.Writers(grid, image_folder.write)


@contextlib.contextmanager
def _room(folder: Folder | None) -> Iterator[pathlib.Path]:
    """Returns the folder that is named, or one that is gone afterwards."""
    if folder is not None:
        yield absolute(folder)
        return
    with tempfile.TemporaryDirectory() as place:
        yield pathlib.Path(place)


def _set(distilled: DistilledSet | Folder, dataset: str) -> tuple[DistilledSet, pathlib.Path | None]:
    """Returns a set, and the folder that results about it belong to, if it has one."""
    if isinstance(distilled, DistilledSet):
        return distilled, None
    place = sets.find(absolute(distilled), name="distilled")
    return place.read(dataset=dataset, flip=True), place.beside


def _known_teachers(teacher: Any, small: DistilledSet, folder: pathlib.Path | None) -> tuple[Teacher, ...]:
    """Returns the teachers that are named, those kept in memory, or those that lie beside the set.

    Raises:
        CheckpointError: there is none.
    """
    if teacher is not None:
        return _teachers(teacher)
    if small.teachers:
        return small.teachers
    if folder is None:
        raise UsageError(
            "the set's teacher is not at hand",
            where="teacher",
            expected="a set that `distill` has just made, the folder of one, or its teacher",
            remedy="pass teacher=, or the folder that the set was saved in in place of the set",
        )
    beside = students.Labels(online=True).beside(folder)
    beside.require()
    known = _teachers(list(beside.teachers))
    students.require_own(known, beside.teachers, small)
    return known


def _teachers(known: Any) -> tuple[Teacher, ...]:
    """Returns teachers from what a user has."""
    some = known if isinstance(known, list | tuple) else [known]
    return tuple(each if isinstance(each, Teacher) else teachers.load(each) for each in some)


def _networks(known: Any) -> Networks:
    """Returns networks trained beforehand, from what a user has."""
    if isinstance(known, Networks):
        return known
    if isinstance(known, str | os.PathLike):
        known = [known]
    is_folders = isinstance(known, Sequence) and all(isinstance(each, str | os.PathLike) for each in known)
    return stored.load_all(list(known)) if is_folders else Networks(known)


def _dataset(data: Any, *, test: bool) -> Dataset:
    """Returns a data set from what a user has."""
    if isinstance(data, Dataset):
        return data
    pairs = data if isinstance(data, tuple | list) and len(data) == 2 else None
    if pairs is None or any(isinstance(pair, tuple | list) and len(pair) != 2 for pair in pairs):
        raise DataError(
            f"data of type {type(data).__name__}",
            where="the data given",
            expected="a Dataset, (images, labels), or ((images, labels), (test images, test labels))",
            remedy="pass one of these, e.g. jaxdd.distill((images, labels))",
        )
    both = all(isinstance(pair, tuple | list) for pair in pairs)
    if test and not both:
        raise DataError(
            "a test split is needed",
            where="the data given",
            expected="((images, labels), (test images, test labels))",
            remedy="add test images and labels, or take a Dataset",
        )
    train, held_out = pairs if both else (pairs, pairs)  # distilling never looks at the test split
    return Dataset.of_arrays(*train, *held_out)
