"""Starting a run from a distilled set: another method's, or one's own to go on from.

The images are taken in true colours and brought into the space of the new run. A set whose images encode several each
(`core.formation`) starts a run of the same factor as it is, and one of factor 1 with its training images.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib

import numpy as np

from jaxdd.core import formation
from jaxdd.core.distilled import DistilledSet
from jaxdd.core.errors import ConfigError
from jaxdd.core.procedure import Method
from jaxdd.data import Dataset


@dataclasses.dataclass(frozen=True, eq=False)
class Start:
    """Images that a run starts from, taken from a distilled set.

    Arguments:
        pixels: `[p, side, side, channels]` float32 in [0, 1], class-major, equally many of every class.
    """

    pixels: np.ndarray

    @functools.cached_property
    def digest(self) -> str:
        """sha256 of shape and numbers: what the result of a run that starts here depends on."""
        hasher = hashlib.sha256(repr(self.pixels.shape).encode())
        hasher.update(np.ascontiguousarray(self.pixels))
        return hasher.hexdigest()

    @classmethod
    def of(cls, distilled: DistilledSet, method: Method, dataset: Dataset) -> Start:
        """Returns the start that a set makes for a run of `method` on `dataset`.

        Raises:
            ConfigError: another number of images or classes, or another size; or the set has no true colours.
        """
        factor, of_method = distilled.decode.factor, getattr(method, "factor", 1)
        pixels, labels = distilled.pixels, distilled.class_indices
        if pixels is None:
            raise ConfigError(
                "the set has no true colours", where="init_from", remedy="name a folder that a run has written"
            )
        if of_method == 1 and factor > 1:
            how = distilled.decode.formation
            labels = labels[formation.sources(len(pixels), factor, how)]
            pixels = np.asarray(formation.decode(pixels, factor, how))
        counts, wanted = np.bincount(labels, minlength=dataset.classes), method.n_images
        fits = pixels.shape[1:] == dataset.image_shape and len(counts) == dataset.classes and of_method in (1, factor)
        if not fits or (counts != wanted).any():
            shape = "x".join(map(str, pixels.shape[1:]))
            described = f"{len(pixels)} images {shape} of {distilled.classes} classes, factor {factor}"
            raise ConfigError(
                f"the set to start from has {described}",
                where="init_from",
                expected=f"{wanted} images per class of '{dataset.name}', of its size, factor {of_method}",
                remedy="ask for as many images per class (of a multi-formation set: factor^2 times as many), or start "
                "from another set",
            )
        return cls(np.clip(pixels[np.argsort(labels, kind="stable")], 0, 1).astype(np.float32))
