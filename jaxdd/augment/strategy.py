"""Augmentations, and how a strategy such as `color_crop_cutout` names its operations."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from jaxdd.core.errors import UsageError, choose
from jaxdd.core.types import Array, Key

Augmentation = Callable[[Key, Array], Array]  # (key, images [n, height, width, channels]) -> images


def parse(strategy: str | None, operations: Iterable[str]) -> tuple[str, ...]:
    """Returns the operations that a strategy names, in its order.

    Arguments:
        strategy: names joined by `_`; None, "" or "none" for none at all.
        operations: the names that there are.

    Raises:
        UsageError: an unknown or repeated operation.
    """
    names = tuple(strategy.lower().split("_")) if strategy and strategy.lower() != "none" else ()
    for name in names:
        choose(name, operations, kind="operation", where=f"augmentation strategy '{strategy}'")
    if len(set(names)) < len(names):
        raise UsageError(f"the strategy '{strategy}' repeats an operation", where="augmentation", remedy="name it once")
    return names


def check_resolution(resolution: int) -> None:
    """Refuses images without pixels.

    Raises:
        UsageError: a resolution below one pixel.
    """
    if resolution < 1:
        raise UsageError(
            f"resolution is {resolution}",
            where="augmentation",
            expected="at least 1 pixel",
            remedy="give the images' side in pixels",
        )
