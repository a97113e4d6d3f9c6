"""F1: data sets and their preprocessing; see `readers`, `preprocess`, `sampling`.

Names are loaded when first used, so that a command can check its arguments before JAX is imported.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxdd.data.dataset import Dataset
    from jaxdd.data.locate import check_available
    from jaxdd.data.preprocess import Preprocessing, clip, examples, fit
    from jaxdd.data.readers import describe, load
    from jaxdd.data.registry import SPECS, DataSpec, canonical
    from jaxdd.data.resident import resident_type
    from jaxdd.data.sampling import real_images, sample
    from jaxdd.data.selection import kmeans_images

__all__ = [
    "SPECS",
    "DataSpec",
    "Dataset",
    "Preprocessing",
    "canonical",
    "check_available",
    "clip",
    "describe",
    "examples",
    "fit",
    "kmeans_images",
    "load",
    "real_images",
    "resident_type",
    "sample",
]

_HOMES = {
    "SPECS": "registry",
    "DataSpec": "registry",
    "Dataset": "dataset",
    "Preprocessing": "preprocess",
    "canonical": "registry",
    "check_available": "locate",
    "clip": "preprocess",
    "describe": "readers",
    "examples": "preprocess",
    "fit": "preprocess",
    "kmeans_images": "selection",
    "load": "readers",
    "real_images": "sampling",
    "resident_type": "resident",
    "sample": "sampling",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
