"""The meaning of a result, from the run's identity; and the distilled set inside a saved state, read without its
data."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np

from jaxdd.core import io, seal
from jaxdd.core.config import build, layer
from jaxdd.core.distilled import DistilledSet
from jaxdd.core.errors import CheckpointError
from jaxdd.core.precision import float64
from jaxdd.core.procedure import Method
from jaxdd.core.trees import describe as describe_leaves
from jaxdd.core.trees import differences
from jaxdd.core.types import Examples, PyTree
from jaxdd.methods import METHODS
from jaxdd.run.programs import initial
from jaxdd.run.storage import checkpoint
from jaxdd.run.storage import identity as identities


def meaning(
    identity: Mapping[str, Any], other: Mapping[str, Any], versions: Mapping[str, str], step: int
) -> dict[str, Any]:
    """Returns the fields of a `DistilledSet` that a method leaves open, from what `config.json` holds.

    Arguments:
        identity, other, versions: as in `config.json`.
        step: after which the set was taken.
    """
    return {
        "space": identity["preprocessing"]["space"],
        "dataset": identity["dataset"]["name"],
        "class_names": tuple(other["class_names"]),
        "preprocessing": dict(identity["preprocessing"]),
        "recipe": dict(other["recipe"]),
        "provenance": {
            "method": identity["method"],
            "settings": dict(identity["settings"]),
            "seed": identity["seed"],
            "step": step,
            "versions": dict(versions),
        },
    }


def restore(step_folder: pathlib.Path) -> DistilledSet:
    """Returns the distilled set inside one saved state of a run; true colours are left out, they need the data set.

    Arguments:
        step_folder: `<output folder>/checkpoints/<step>`.

    Raises:
        CheckpointError: damaged, or of a run that `config.json` does not tell.
    """
    step_folder = pathlib.Path(step_folder).absolute()
    config = step_folder.parents[1] / "config.json"
    if not config.is_file():
        raise CheckpointError(
            "the run's config.json is missing, without which a state cannot be read",
            where=str(config),
            expected="the output folder as it was: <folder>/config.json beside <folder>/checkpoints/",
            remedy="copy config.json too, or evaluate <folder>/distilled instead",
        )
    told = io.read_json(config)
    try:
        identity, other, versions = told["identity"], told["other"], told["versions"]
        cls = METHODS[identity["method"]].settings
        method = build([layer(identity["settings"], str(config))], {"method": cls})["method"]
        examples = shapes(identity["dataset"]["shape"], identity["dataset"]["classes"])
        meant = meaning(identity, other, versions, step=int(step_folder.name))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"the run's config.json lacks or garbles {error}",
            where=str(config),
            remedy="evaluate <folder>/distilled, or put config.json back",
        ) from None
    with precision(method):
        template = jax.eval_shape(lambda real: initial(method, real, np.uint32(0)), examples)
        return method.result(_read_state(step_folder, template, identity)).replace(**meant)


def _read_state(folder: pathlib.Path, template: PyTree, identity: Mapping[str, Any]) -> PyTree:
    """Reads one saved state, verified; it takes no lock and changes nothing, so a run may go on."""
    try:
        told = seal.verify(folder, step=int(folder.name), run=identities.digest(identity))
    except seal.Damaged as finding:
        raise CheckpointError(
            f"the state is unusable: {finding}",
            where=str(folder),
            remedy="evaluate another state, or <folder>/distilled",
        ) from None
    unlike = differences(describe_leaves(template), told["leaves"])
    if unlike:
        raise CheckpointError(
            f"the state is of another version of jaxdd: {unlike[0]}",
            where=str(folder),
            remedy="evaluate <folder>/distilled, or use the version of jaxdd that wrote the state",
        )
    return checkpoint.read_state(folder, template)


def shapes(images: Iterable[int], classes: int, *, dtype: Any = np.float32, largest: int = 0) -> Examples:
    """Returns a train split's shapes and types in place of its numbers.

    Arguments:
        images: shape of the train images.
        dtype: in which they lie on the device.
        largest: images of the largest class; 0 if that is not known.
    """
    shape: Any = tuple(images)
    pixels: Any = jax.ShapeDtypeStruct(shape, dtype)
    labels: Any = jax.ShapeDtypeStruct(shape[:1], np.int32)
    return Examples(pixels, labels, classes, largest=largest)


def precision(method: Method) -> contextlib.AbstractContextManager:
    """Returns a context of float64 where a method asks for it: arrays stay float32 unless they are made otherwise."""
    return float64(method.needs_float64)
