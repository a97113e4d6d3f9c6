"""The settings of the recovery; `published` has their values for each method and data set.

| method     | is                                                                                  | source     |
|------------|-------------------------------------------------------------------------------------|------------|
| `sre2l`    | from noise; crops of any size throughout                                            | 2306.13092 |
| `cda`      | SRe2L with crops that begin with the whole image and become smaller                 | 2311.18838 |
| `sre2l_pp` | SRe2L from real images of medium difficulty                                         | 2501.07575 |
| `fadrm`    | the same at two resolutions in turn, mixed with those real images between them      | 2506.24125 |
| `rded`     | mosaics of real crops, not optimised                                                | 2312.03526 |

Facts from the authors' scripts. FADRM computes in float16 there; here in float32, unless `precision` says otherwise.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from jaxdd.core.config import Precision, as_dict, setting
from jaxdd.core.errors import ConfigError

NAMES = ("sre2l", "cda", "rded", "sre2l_pp", "fadrm")
GROUP = 100  # images, of as many classes, whose statistics are matched together
CANDIDATES = 300  # images per class that RDED cuts from


@dataclasses.dataclass(frozen=True)
class Recovery:
    """Every setting of how images are recovered and stored; the defaults are SRe2L's for ImageNet-1K.

    Raises:
        ConfigError: settings that contradict each other.
    """

    method: Literal["sre2l", "cda", "rded", "sre2l_pp", "fadrm"] = setting(
        "sre2l", "whose published settings these are"
    )
    n_images: int = setting(10, "images per class (ipc)", low=1)
    initialise: Literal["noise", "random", "medium", "mosaic"] = setting(
        "noise",
        "noise; random real images; those of medium difficulty for the teacher; mosaics of crops",
    )
    mosaic: int = setting(1, "crops along each side of a mosaic", low=1, high=16)
    candidates: int = setting(CANDIDATES, "images per class that crops are taken from", low=1)
    crops: int = setting(5, "random crops of each of them, of which the best is kept", low=1)

    iterations: int = setting(4000, "iterations of all stages together; 0: images stay as they start", low=0)
    lr_img: float = setting(0.25, "learning rate of the images' Adam; it falls along a cosine", low=0)
    betas: tuple[float, float] = setting((0.5, 0.9), "betas of Adam", low=0, high=0.9999999)
    ce_weight: float = setting(1.0, "weight of the cross-entropy", low=0)
    r_bn: float | tuple[float, ...] = setting(
        0.01, "weight of the statistics, or one for each teacher: ResNet-50's are 100 times ResNet-18's", low=0
    )
    first_bn_multiplier: float = setting(10.0, "weight of the first normalisation among the others", low=0)
    tv_l2: float = setting(
        0.0, "weight of the total variation; SRe2L's script has 1e-4, its published command 0", low=0
    )
    l2_scale: float = setting(0.0, "weight of the images' mean norm; in the script 1e-5, published 0", low=0)

    crop: bool = setting(True, "show a random crop, the same of all images of a group")
    flip: bool = setting(True, "flip half of the time")
    min_scale: float = setting(0.08, "least share of the image's area in a crop", low=0.0001, high=1)
    easy2hard_mode: Literal["none", "step", "linear", "cosine"] = setting(
        "none", "how the least share falls from 1 to min_scale (CDA)"
    )
    milestone: float = setting(0.0, "share of the iterations that it takes; 0: no curriculum", low=0, high=1)
    jitter: int = setting(32, "most pixels by which images are rolled", low=0)
    jitter_signed: bool = setting(False, "roll to both sides; else by 0 to jitter")

    batch_size: int = setting(GROUP, "images that are recovered together, of as many classes", low=1)
    statistics_group: int = setting(GROUP, "images of which the statistics are matched; has its own crop", low=1)
    stages: tuple[tuple[int, int], ...] | None = setting(
        None, "[[side in pixels, iterations], ...]; null: one stage at the data set's resolution"
    )
    merge: float = setting(1.0, "share of the images when they meet their patches between stages", low=0, high=1)
    reset: bool = setting(True, "begin Adam anew at every stage")
    precision: Precision = setting("float32", "activations in float32 or bfloat16; all else stays float32")
    store: Literal["jpg", "png", "none"] = setting("jpg", "image files of the result: lossy, exact, or none")
    quality: int = setting(75, "of the JPEG files; published 75", low=1, high=100)

    def __post_init__(self):
        if not self.crop and self.easy2hard_mode != "none" and self.milestone > 0:
            raise ConfigError(
                "a curriculum of crops for images that are not cropped",
                where="crop = false, easy2hard_mode, milestone",
                expected="crops, or milestone 0 (SRe2L on CIFAR crops nothing)",
                remedy="set milestone = 0, or crop = true",
            )
        if self.stages is None:
            return
        if any(size < 1 or iterations < 1 for size, iterations in self.stages) or not self.stages:
            raise ConfigError(
                "a stage without pixels or iterations",
                where="stages",
                expected="[[size, iterations], ...]",
                remedy="give every stage a size and at least one iteration",
            )
        total = sum(iterations for _, iterations in self.stages)
        if total != self.iterations:
            raise ConfigError(
                f"the stages make {total} iterations, not {self.iterations}",
                where="stages",
                expected="stages whose iterations add up to 'iterations'",
                remedy="change one of the two",
            )
        if self.initialise == "noise" and self.merge < 1 and len(self.stages) > 1:
            raise ConfigError(
                "images that start from noise have no patches to meet",
                where=f"initialise = noise, merge = {self.merge:g}",
                expected="merge 1, or real images to start from",
                remedy="set merge = 1, or initialise = medium, as FADRM does",
            )
        if not self.reset and len({size for size, _ in self.stages}) > 1:
            raise ConfigError(
                "Adam cannot go on at another resolution",
                where="reset",
                expected="true with these stages",
                remedy="set reset = true, or stages of one size",
            )

    @property
    def identity(self) -> dict[str, Any]:
        """The settings on which an image depends, as JSON types.

        The number of images is none of them, so that a set can grow; but mosaics share out the best crops among all.
        """
        every = as_dict(self)
        return every if self.initialise == "mosaic" else {k: value for k, value in every.items() if k != "n_images"}

    def r_bn_of(self, teacher: int) -> float:
        """Returns `r_bn` for one teacher."""
        return self.r_bn[teacher] if isinstance(self.r_bn, tuple) else self.r_bn
