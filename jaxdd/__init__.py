"""jaxdd: dataset distillation in JAX.

Turns a large labelled image set into a tiny synthetic one on which networks train almost as well:

>>> import jaxdd
>>> digits = jaxdd.load("digits")
>>> small = jaxdd.distill(digits, ipc=1, steps=2, width=4, pool_model_count=2)  # a real run takes hundreds of steps
>>> small.pixels.shape, small.labels.shape
((10, 8, 8, 1), (10, 10))
>>> result = jaxdd.evaluate(small, digits, width=4, models_to_test=1, plain_steps=5, test_aug=None, baselines=())
>>> [(row.name, len(row.runs)) for row in result.rows]
[('distilled', 1)]

Plain arrays serve as well, one split as `(images, labels)` or both as `((images, labels), (images, labels))`:

>>> arrays = (digits.train_images, digits.train_labels)
>>> jaxdd.distill(arrays, ipc=1, steps=2, width=4, pool_model_count=2).pixels.shape
(10, 8, 8, 1)

`small.save("my_set")` and `jaxdd.DistilledSet.load("my_set")` write and read it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxdd.core.distilled import DistilledSet
    from jaxdd.data import Dataset
    from jaxdd.evaluation.protocol import Evaluation
    from jaxdd.run.storage.networks import Networks

__version__ = "0.1.0"
__all__ = ["DistilledSet", "__version__", "distill", "evaluate", "load"]


def load(name: str, data_path: str | os.PathLike | None = None, *, resolution: int | None = None) -> Dataset:
    """Reads a data set.

    Arguments:
        name: `digits`, `mnist`, `cifar10`, ..., or your own: `folder:DIR`, `npz:FILE`, `parquet:DIR`.
        data_path: folder with local files in `<data_path>/<name>/`; default TensorFlow Datasets' folder.
        resolution: side in pixels to resize to; default the data set's own.

    Raises:
        JaxddError: the name is unknown, or the data are not there or not readable.
    """
    from jaxdd import data

    return data.load(name, data_path, resolution=resolution)


def distill(
    data: Dataset | tuple,
    *,
    ipc: int = 1,
    steps: int = 1000,
    seed: int = 0,
    method: str = "rcig",
    output_dir: str | os.PathLike | None = None,
    networks: Any = None,
    start: DistilledSet | None = None,
    **settings: Any,
) -> DistilledSet:
    """Distils a data set.

    Arguments:
        data: from `load`; or arrays `(images, labels)` or `((images, labels), (images, labels))`, images
            `[n, side, side, channels]` uint8 or floats in [0, 1], labels `[n]` integers.
        ipc: images per class of the result.
        steps: outer steps.
        seed: of every random choice.
        method: a key of `jaxdd.methods.METHODS`.
        output_dir: where to save, and to resume from; None keeps everything in memory.
        networks: trained beforehand, which `accdd` and `ga` start from: a folder that `pretrain` made, several of them,
            or their variables stacked along a leading axis.
        start: a distilled set to start from, another method's or one's own; None for what the method chooses.
        settings: of the method, e.g. `width=32`; the fields of its class. What a matching method's paper uses for the
            data set is the default.

    Returns:
        The distilled set; its `pixels` are true colours in [0, 1].

    Raises:
        JaxddError: an unknown method or setting, a bad value, or data that are not what they should be.
    """
    from jaxdd.core.config import ConfigFile, build, settings_of
    from jaxdd.core.errors import choose
    from jaxdd.methods import METHODS
    from jaxdd.run import api
    from jaxdd.run.settings import RunSettings

    cls = METHODS[choose(method, METHODS, kind="method", where="method")]
    dataset = _dataset(data, test=False)
    given = {"n_images": ipc, **settings}
    implied = cls.implied({"method": method, "dataset_name": dataset.name, **given}).values
    known = {field.name for field in settings_of(cls)}
    given |= {name: value for name, value in implied.items() if name in known}
    procedure = build(ConfigFile("jaxdd.distill", given), {"method": cls})["method"]
    return api.distill(
        procedure,
        dataset,
        steps=steps,
        seed=seed,
        name=method,
        output_dir=output_dir,
        recipe=RunSettings().stored_recipe(procedure),
        networks=None if networks is None else _networks(networks),
        start=start,
    )


def evaluate(
    distilled: DistilledSet,
    data: Dataset | tuple,
    *,
    seed: int = 0,
    baselines: Iterable[str] = ("random", "kmeans"),
    full_data: bool = False,
    **recipe: Any,
) -> Evaluation:
    """Trains fresh networks on a distilled set and on baselines, and measures them on the real test images.

    Arguments:
        distilled: the set.
        data: the data it was distilled from; of arrays, both splits.
        seed: of networks and baselines.
        baselines: of `random` and `kmeans`: as many real images, chosen so.
        full_data: also train on the whole data set.
        recipe: what differs from the set's own recipe, e.g. `models_to_test=1`; fields of
            `jaxdd.evaluation.recipe.Recipe`, or of the recipe of the set's protocol.

    Returns:
        Rows of accuracies in [0, 1], each with `name`, `runs`, `mean` and `std`.

    Raises:
        JaxddError: another data set than the set's own, or a bad recipe.
    """
    from jaxdd.evaluation.recipe import Recipe
    from jaxdd.run import api

    own = Recipe.of({**distilled.recipe, **recipe})
    return api.evaluate(
        distilled, _dataset(data, test=True), own, seed=seed, baselines=tuple(baselines), full_data=full_data
    )


def _networks(given: Any) -> Networks:
    """Networks trained beforehand, from what a user has."""
    from jaxdd.run.storage.networks import Networks, load_all

    if isinstance(given, str | os.PathLike):
        given = [given]
    return load_all(given) if isinstance(given, list | tuple) else Networks(given)


def _dataset(data: Any, *, test: bool) -> Dataset:
    """A data set from what a user has."""
    from jaxdd.core.errors import DataError
    from jaxdd.data import Dataset

    if isinstance(data, Dataset):
        return data
    pairs = data if isinstance(data, tuple | list) and len(data) == 2 else None
    if pairs is None or any(isinstance(pair, tuple | list) and len(pair) != 2 for pair in pairs):
        raise DataError(
            f"data of type {type(data).__name__}",
            where="the data given",
            expected="a Dataset, (images, labels), or ((images, labels), (test images, test labels))",
            remedy="pass one of these, e.g. jaxdd.distill(..., data=(images, labels))",
        )
    both = all(isinstance(pair, tuple | list) for pair in pairs)
    if test and not both:
        raise DataError(
            "a test split is needed",
            where="the data given",
            expected="((images, labels), (test images, test labels))",
            remedy="add test images and labels, or evaluate on a Dataset",
        )
    train, held_out = pairs if both else (pairs, pairs)  # distilling never looks at the test split
    return Dataset.of_arrays(*train, *held_out)


def __getattr__(name: str) -> Any:
    if name == "DistilledSet":
        from jaxdd.core.distilled import DistilledSet

        return DistilledSet
    raise AttributeError(f"module 'jaxdd' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
