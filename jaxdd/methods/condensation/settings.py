"""The settings of gradient and distribution matching, under the names of the authors' flags where there are any.

Every method of the family is a choice among them: `methods.condensation.published` tells which, by method and data set.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

from jaxdd.core.config import BOUND, Formation, GradientMetric, Norm, Precision, setting
from jaxdd.core.errors import ConfigError

if TYPE_CHECKING:
    from jaxdd import augment
    from jaxdd.models.network import Network

NAMES = ("dc", "dsa", "dm", "idc", "accdd", "dream", "dream_plus", "ga")
NETWORKS = Literal["convnet", "resnet", "resnet_ap", "densenet"]
LR_IMG = 5e-3  # by which images are learned where gradients are compared by `mse`
ARCHITECTURES = {"convnet": "conv", "resnet": "resnet_idc"}  # names in `models.registry` that differ from theirs


@dataclasses.dataclass(frozen=True)
class CondensationSettings:
    """Every hyper-parameter of the matching methods; the procedure in `methods.condensation.method` adds the functions.

    The defaults are IDC's for CIFAR-10 and no multi-formation.

    Raises:
        ConfigError: settings that contradict each other.
    """

    n_images: int = setting(1, "images per class (ipc)", low=1)
    space: Literal["raw", "standardised"] = setting("raw", "the images live in [0, 1] (IDC) or are standardised (DC)")

    factor: int = setting(1, "multi-formation: every image encodes this many squared", low=1, high=16)
    decode_type: Formation = setting("single", "how images are decoded while distilling; see core.formation")
    batch_syn_max: int = setting(BOUND, "most decoded images of a class that are matched at once", low=1)
    initial: Literal["random", "real", "noise", "kmean", "mix"] = setting(
        "random",
        "start from: each class's first images, random ones, noise, k-means representatives; mix: see f2_init",
    )
    f2_init: Literal["random", "kmean"] = setting("random", "which images a decoded set is mixed from (factor > 1)")

    selection: Literal["random", "kmean"] = setting(
        "random", "real images to match: random, or representatives (DREAM)"
    )
    interval: int = setting(10, "inner iterations for which representatives are kept", low=1)
    subsample: int = setting(1, "representatives of each cluster (DREAM+)", low=1)
    rank: Literal["cluster", "overall"] = setting("cluster", "the nearest of each cluster, or the nearest overall")
    candidates: int | None = setting(
        None, "images of each class that representatives are sought among; null: all", low=1
    )
    kmean_space: Literal["raw", "standardised"] = setting("raw", "what networks embed for k-means: raw as published")
    batch_real: int = setting(64, "real images per class and matching; and per step of the network", low=1)

    match: Literal["grad", "feat", "bi_match"] = setting("grad", "match gradients, mean features, or both (DREAM+)")
    metric: GradientMetric = setting("mse", "distance between gradients")
    bias: bool = setting(False, "match the gradients of biases and normalisation too")
    fc: bool = setting(False, "match the gradient of the classifier too")
    f_idx: str | None = setting(None, "feat: block, or blocks `from,to`, whose features count; null: the last block")

    inner_loop: int = setting(100, "inner iterations, one network's", low=1)
    fix_iter: int = setting(1, "outer iterations that a network is kept", low=1)
    early: int = setting(0, "epochs that a new network trains on real data first", low=0)
    source: Literal["random", "pretrained"] = setting("random", "networks: fresh, or trained beforehand (AccDD)")
    perturb: bool = setting(False, "perturb a pretrained network's parameters (AccDD)")
    vmin: float = setting(0.01, "smallest length of a perturbation, relative to the filter", low=0)
    vmax: float = setting(0.09, "greatest length of a perturbation", low=0)
    dir_type: Literal["weights", "states"] = setting(
        "weights", "what is perturbed: parameters, or running statistics too"
    )
    xnorm: Norm = setting("filter", "scale of the first direction")
    ynorm: Norm = setting("filter", "scale of the second direction")
    xignore: Literal["biasbn", "none"] = setting("biasbn", "parameters without a first direction")
    yignore: Literal["biasbn", "none"] = setting("biasbn", "parameters without a second direction")
    same_dir: bool = setting(False, "use one direction twice")

    train_on: Literal["real", "synthetic"] = setting("real", "what networks train on between matchings (DC: synthetic)")
    n_data: int = setting(2000, "real images that a network trains on per inner iteration", low=0)
    net_epoch: int = setting(1, "passes over them, or over the synthetic set", low=0)
    lr: float = setting(0.01, "learning rate of the networks", low=0)
    momentum: float = setting(0.9, "momentum of the networks' SGD", low=0, high=1)
    weight_decay: float = setting(5e-4, "weight decay of the networks' SGD", low=0)
    aug_family: Literal["diffaug", "dsa"] = setting("diffaug", "what a strategy means: IDC's way or DSA's")
    aug_type: str | None = setting("color_crop_cutout", "augmentation of both sides while matching; null: none")
    net_aug: str | None = setting("color_crop", "augmentation while networks train; null: none")
    mixup_net: Literal["cut", "vanilla"] = setting("cut", "CutMix while networks train; vanilla: none")
    mix_p: float = setting(0.5, "probability of CutMix per batch", low=0, high=1)
    beta: float = setting(1.0, "CutMix: lambda is drawn from Beta(beta, beta)", low=1e-3)

    lr_img: float = setting(LR_IMG, "learning rate of the images, before base_size scales it", low=0)
    base_size: int | None = setting(
        None, "multiplies lr_img by ipc/10 and (side/base_size)^2, as IDC tunes it; null: lr_img as it is", low=1
    )
    mom_img: float = setting(0.5, "momentum of the images' SGD", low=0, high=1)
    shared_momentum: bool = setting(
        True, "one momentum for all classes, moved by each class's step (IDC); else each its own"
    )

    lcs_weight: float = setting(0.0, "weight of the gradient matching with shifted labels (GA-DD)", low=0)
    lcs_shift: Literal["fixed", "cyclic"] = setting(
        "fixed", "label c + 1, or c + 1 + outer iteration mod (classes - 1)"
    )
    exit_mode: Literal["fixed", "plateau"] = setting(
        "fixed", "when shifted labels end: at exit_at, or when no longer learned"
    )
    exit_at: int = setting(200, "outer iteration at which shifted labels end at the latest", low=0)
    exit_window: int = setting(10, "plateau: outer iterations whose mean losses are compared", low=1)
    exit_tolerance: float = setting(0.01, "plateau: relative improvement below which shifted labels end", low=0)
    dm_weight: float = setting(0.0, "weight of feature matching after shifted labels have ended (GA-DD)", low=0)
    compat_released_code: bool = setting(
        False, "the released form of it: 1.2 times the gradients' distance, and the last block's features alone"
    )
    ema_decay: float = setting(
        0.0, "the result averages the images over steps with this decay; 0: it does not", low=0, high=1
    )
    ema_every: Literal["class", "inner"] = setting("class", "what counts as a step of it: each class's, or a sweep")

    net_type: NETWORKS = setting("convnet", "architecture of the networks")
    half_width: bool = setting(False, "ResNets with half the channels, as IDC has them for CIFAR-10 and CIFAR-100")
    norm_type: Literal["instance", "batch", "none"] = setting("instance", "their normalisation")
    depth: int | None = setting(None, "their depth; null: the ConvNet by resolution, the others 10", low=1)
    width: int = setting(128, "channels of the ConvNet's blocks; 128 for the others' published size", low=1)
    precision: Precision = setting("float32", "activations in float32 or bfloat16; all else stays float32")

    def __post_init__(self):
        for strategy in (self.aug_type, self.net_aug):
            self.augmentation(strategy, 32, siamese=True)
        if self.interval < self.inner_loop and self.inner_loop % self.interval:
            raise ConfigError(
                f"{self.inner_loop} inner iterations are no multiple of {self.interval}",
                where="interval",
                expected="a divisor of inner_loop: representatives belong to one network",
                remedy="set interval to a divisor of inner_loop",
            )
        if self.batch_real % self.subsample:
            raise ConfigError(
                f"{self.subsample} representatives of each cluster do not make {self.batch_real}",
                where="subsample",
                expected="a divisor of batch_real",
                remedy="set subsample to a divisor of batch_real",
            )
        for name in ("lcs_weight", "dm_weight"):
            if self.match == "feat" and getattr(self, name):
                raise ConfigError(
                    "it adds to the matching of gradients",
                    where=name,
                    expected="0 with match = feat",
                    remedy=f"leave {name} out, or set match = grad",
                )

    @property
    def shifts_labels(self) -> bool:
        """Whether there is a first stage with shifted labels."""
        return self.lcs_weight > 0 and self.exit_at > 0

    @property
    def embeds_first_images(self) -> bool:
        """Whether k-means on a network's features chooses what the set starts from."""
        decodes = self.factor > 1 or self.initial == "mix"
        return self.f2_init == "kmean" if decodes else self.initial == "kmean"

    @property
    def averages(self) -> Literal["none", "class", "inner"]:
        """The unit of steps in which the average of the images counts; `none`: there is no average."""
        return self.ema_every if self.ema_decay else "none"

    def rate(self, side: int) -> float:
        """Returns the learning rate of the images.

        Arguments:
            side: of the images, in pixels.
        """
        if self.base_size is None:
            return self.lr_img
        return self.lr_img * (self.n_images / 10) * (side / self.base_size) ** 2

    def network(self, image_shape: tuple[int, int, int], classes: int) -> Network:
        """Returns the architecture."""
        from jaxdd import models

        return models.build(
            ARCHITECTURES.get(self.net_type, self.net_type),
            image_shape=image_shape,
            classes=classes,
            width=self.width,
            depth=self.depth,
            normalization=self.norm_type,
            cifar=self.half_width,
            precision=self.precision,
            **models.AS_IN_PYTORCH,
        )

    def augmentation(self, strategy: str | None, resolution: int, *, siamese: bool) -> augment.Augmentation:
        """Returns the augmentation that a strategy means in this family.

        Raises:
            UsageError: an unknown operation.
        """
        from jaxdd import augment

        family = {"diffaug": augment.diffaug, "dsa": augment.dsa}[self.aug_family]
        return family(strategy, resolution, siamese=siamese)
