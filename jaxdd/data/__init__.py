"""F1: data sets and their preprocessing; see `readers`, `device`, `registry`.

Names are loaded when first used, so that a command can check its arguments before JAX is imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaxdd.core.lazy import loader

if TYPE_CHECKING:
    from jaxdd.data.dataset import Dataset
    from jaxdd.data.device.preprocess import Preprocessing, clip, examples, fit, resident_type
    from jaxdd.data.device.sampling import real_images, real_rows, sample
    from jaxdd.data.device.selection import kmeans_images
    from jaxdd.data.large import LargeDataset, test_examples
    from jaxdd.data.readers.locate import check_available, require_grain
    from jaxdd.data.readers.read import describe, load
    from jaxdd.data.registry import SPECS, DataSpec, canonical

__all__ = [
    "SPECS",
    "DataSpec",
    "Dataset",
    "LargeDataset",
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
    "real_rows",
    "require_grain",
    "resident_type",
    "sample",
    "test_examples",
]

_HOMES = {
    "SPECS": "registry",
    "DataSpec": "registry",
    "Dataset": "dataset",
    "LargeDataset": "large",
    "Preprocessing": "device.preprocess",
    "canonical": "registry",
    "check_available": "readers.locate",
    "clip": "device.preprocess",
    "describe": "readers.read",
    "examples": "device.preprocess",
    "fit": "device.preprocess",
    "kmeans_images": "device.selection",
    "load": "readers.read",
    "real_images": "device.sampling",
    "real_rows": "device.sampling",
    "require_grain": "readers.locate",
    "resident_type": "device.preprocess",
    "sample": "device.sampling",
    "test_examples": "large",
}


__getattr__ = loader(__name__, _HOMES)
