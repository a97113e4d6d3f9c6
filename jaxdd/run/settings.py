"""The settings of a run that belong to no method: what a config file says beside the method's own keys."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from jaxdd.core.config import ConfigFile, setting

if TYPE_CHECKING:
    from jaxdd.core.procedure import Method

SGD_PROTOCOLS = ("idc", "dc")  # of evaluation, named after their families; all other families have RCIG's


@dataclasses.dataclass(frozen=True)
class RunSettings:
    """Which method on which data, for how long, and how its result is to be evaluated."""

    method: str = setting("rcig", "the method")
    dataset_name: str = setting("cifar10", "the data set")
    max_steps: int = setting(10000, "steps in all", low=1)
    checkpoint_iters: tuple[int, ...] = setting((), "steps after which the set and its picture are also kept", low=0)
    img_size: int | None = setting(None, "side of the images in pixels that the file was written for", low=1)
    test_aug: str | None = setting(
        "flip_color_crop_rotate_translate_cutout", "augmentation of the augmented evaluation; null: none"
    )
    recipe: dict[str, Any] = dataclasses.field(  # a mutable default: `setting` cannot make it
        default_factory=dict,
        metadata={"help": "evaluation: what differs from the published recipe", "low": None, "high": None},
    )

    def stored_recipe(self, method: Any) -> dict[str, Any]:
        """Returns the evaluation recipe that goes into the artefact: networks of the method's own size unless told
        otherwise.

        Arguments:
            method: the procedure, of which `width` and `depth` are read where it has them, and the family, whose
                protocol it is evaluated by; of a matching method, its networks and DSA's augmentation too.
        """
        family = getattr(method, "family", "")
        protocol = self.recipe.get("protocol", family if family in SGD_PROTOCOLS else "rcig")
        how = {"protocol": protocol} if protocol in SGD_PROTOCOLS else {"test_aug": self.test_aug}
        sizes = {name: getattr(method, name, None) for name in ("width", "depth")}
        of_method = {name: size for name, size in sizes.items() if size is not None}
        return {**how, **of_method, **_as_matched(method, protocol), **self.recipe}


def _as_matched(method: Any, protocol: str) -> dict[str, Any]:
    """Returns the architecture of a matching method's networks and, in DC's family, the strategy that they train
    with."""
    network, norm, strategy = (getattr(method, name, None) for name in ("net_type", "norm_type", "aug_type"))
    recipe = {} if network in (None, "convnet") else {"eval_arch": "resnet_idc" if network == "resnet" else network}
    recipe |= {} if norm in (None, "instance") else {"normalization": norm}
    return recipe | ({"dsa_strategy": strategy} if strategy and protocol == "dc" else {})


@dataclasses.dataclass(frozen=True)
class Settings:
    """All settings of a run.

    Arguments:
        config: the file, with everything that overrides it.
        run: settings of the run.
        method: the procedure with its settings.
        notices: what the user should be told.
    """

    config: ConfigFile
    run: RunSettings
    method: Method
    notices: tuple[str, ...]

    @property
    def ipc(self) -> int:
        """Images per class."""
        return self.method.n_images
