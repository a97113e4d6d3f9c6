"""How the gradient- and distribution-matching methods are evaluated: SGD on the cross-entropy, hard labels.

    idc    E epochs of batches of 64; rate 0.01, times 0.2 after the epochs 2E//3 and 5E//6; every image augmented by
           DSA's operations (IDC's reading of them), then CutMix with probability 1/2. E = 1000, and above 64 pixels
           by the number of images per class that the set decodes to. Tested after every E//4 epochs: the last accuracy
           is what counts, the best of the four what the authors' tables hold (chosen on the test images).
    dc     E + 1 epochs of batches of 256; rate 0.01, and a new optimiser at a tenth of it after the epoch E//2 + 1
           (counted from 0). E = 1000 with augmentation (DSA, DM), else 300 (DC). Tested once, at the end.

Both with momentum 0.9 and weight decay 5e-4, and networks as PyTorch draws them. An epoch has as many steps as the
authors' would; what a batch holds is drawn anew at every step (`training.classifier`). Facts from their code: IDC
`test.py`, `train.py`, `argument.py` (arXiv 2205.14959); DC `utils.py` (2006.05929).
"""

from __future__ import annotations

import abc
import dataclasses
import math

from jaxdd import models
from jaxdd.data.registry import one_way
from jaxdd.evaluation.base import BaseRecipe, Subject, Training
from jaxdd.evaluation.settings import DcSettings, IdcSettings, SgdSettings
from jaxdd.models.network import Network
from jaxdd.training.schedules import two_thirds_and_five_sixths
from jaxdd.training.sgd import ClassifierTraining, Kind, augmentation

STRATEGY = "color_crop_cutout_flip_scale_rotate"
CIFAR = ("cifar10", "cifar100")
SMALL = 64  # pixels; above, the published rules are those of ImageNet subsets
EPOCHS = ((1, 3000), (10, 2000), (50, 1500), (200, 1000), (500, 500))  # up to so many images per class -> epochs
FEWEST_EPOCHS = WHOLE_EPOCHS = 300  # for more of them; on a whole training split


def without(strategy: str, *names: str) -> str:
    """Returns the strategy without some of its operations."""
    return "_".join(name for name in strategy.split("_") if name not in names)


def imagenet_epochs(images: int, classes: int) -> int:
    """Returns the number of epochs for a subset of ImageNet; from 100 classes on two thirds, in whole hundreds.

    Arguments:
        images: per class that the set decodes to (ipc times factor squared).
        classes: number of classes.
    """
    epochs = next((epochs for most, epochs in EPOCHS if images <= most), FEWEST_EPOCHS)
    return epochs if classes < 100 else epochs * 2 // 3 // 100 * 100


@dataclasses.dataclass(frozen=True)
class SgdRecipe(SgdSettings, BaseRecipe):
    """Settings that both protocols share."""

    def network(self, image_shape: tuple[int, int, int], classes: int, dataset: str = "") -> Network:
        """Returns the architecture as PyTorch draws it; the ConvNet's blocks all have `width` channels."""
        options = {"normalization": self.normalized, "cifar": dataset in CIFAR and self.protocol == "idc"}
        return self.built(image_shape, classes, **options, **models.AS_IN_PYTORCH)

    @property
    def normalized(self) -> str:
        """The networks' normalisation."""
        return self.normalization or "instance"

    @abc.abstractmethod
    def augmentation_of(self, subject: Subject) -> tuple[Kind, str]:
        """Returns kind and strategy of the augmentation."""

    def ways(self, subject: Subject) -> tuple[bool, ...]:
        """Returns the one way of training: augmented, unless there is no augmentation."""
        return (self.augmentation_of(subject)[0] != "none",)

    def summary(self, training: Training) -> str:
        """Describes a training by its rate, steps, augmentation, mixing and normalisation."""
        how = training.procedure
        assert isinstance(how, ClassifierTraining)
        parts = [f"SGD {how.learning_rate:g}", f"{training.steps} steps of {how.batch_size or 'all'} images"]
        parts += [f"{how.kind} {how.strategy}".rstrip()] * (how.kind != "none")
        parts += [f"CutMix {how.mix_p:g}"] * (how.mix_p > 0)
        return ", ".join([*parts, f"{self.normalized} normalization"])

    def check(self, resolution: int) -> None:
        """Refuses an augmentation that does not exist."""
        kind, strategy = self.augmentation_of(Subject(1, resolution=resolution))
        augmentation(kind, strategy, resolution)


@dataclasses.dataclass(frozen=True)
class IdcRecipe(IdcSettings, SgdRecipe):
    """IDC's protocol, which AccDD, DREAM and GA-DD share; see the module's header."""

    @property
    def normalized(self) -> str:
        """The networks' normalisation: instance where sets are distilled with it, else batch."""
        return self.normalization or ("instance" if self.eval_arch in ("conv", "convnet", "resnet_ap") else "batch")

    def training(self, network: Network, subject: Subject, *, augmented: bool) -> Training:
        """Returns the training of one network for E epochs."""
        hundred = subject.resolution > SMALL and subject.classes >= 100
        batch = self.batch_size or (128 if hundred else 64)
        epochs, per_epoch = self.epochs_of(subject), math.ceil(subject.images / batch)
        decay = self.weight_decay if self.weight_decay is not None else 1e-4 if hundred else 5e-4
        kind, strategy = self.augmentation_of(subject) if augmented else ("none", "")
        procedure = ClassifierTraining(
            network,
            learning_rate=self.eval_lr if self.eval_lr is not None else 0.1 if hundred else 0.01,
            milestones=tuple(epoch * per_epoch for epoch in two_thirds_and_five_sixths(epochs)),
            momentum=self.momentum,
            weight_decay=decay,
            batch_size=batch if subject.images > batch else None,
            kind=kind,
            strategy=strategy,
            resolution=subject.resolution,
            mix_p=self.mix_p_of(subject),
            mix_beta=self.mix_beta,
        )
        every = epochs // self.tests * per_epoch
        return Training(procedure, epochs * per_epoch, every, self.tests if every else 1)

    def epochs_of(self, subject: Subject) -> int:
        """Returns E, the number of epochs."""
        epochs = self.epochs
        if epochs is None and subject.whole:
            epochs = WHOLE_EPOCHS
        elif epochs is None and subject.resolution > SMALL:
            epochs = imagenet_epochs(subject.ipc * subject.factor**2, subject.classes)
        elif epochs is None:
            dense = self.eval_arch == "densenet" and subject.ipc >= 50 and subject.factor > 1 and not self.same_compute
            epochs = 400 if dense else 1000
        return max(1, epochs // subject.factor**2) if self.same_compute else epochs

    def mix_p_of(self, subject: Subject) -> float:
        """Returns the probability of CutMix: 0 for MNIST with several images in one, and for SVHN with single ones."""
        alone = subject.dataset == "svhn_cropped" and subject.factor == 1 and subject.ipc == 1
        several = subject.dataset == "mnist" and subject.factor > 1
        if (self.mixup or ("vanilla" if alone or several else "cut")) == "vanilla":
            return 0.0
        return self.mix_p if self.mix_p is not None else 1.0 if subject.resolution > SMALL else 0.5

    def augmentation_of(self, subject: Subject) -> tuple[Kind, str]:
        """Returns kind and strategy: ImageNet's augmentation for large coloured images, else DSA's operations.

        Digits are not flipped. There is no cutout beside CutMix, nor for MNIST with several images in one.
        """
        if self.dsa_strategy is None and subject.resolution > SMALL and subject.channels == 3:
            return "imagenet", ""
        flips = ("flip",) if one_way(subject.dataset) else ()
        several = subject.dataset == "mnist" and subject.factor > 1
        cuts = ("cutout",) if self.mix_p_of(subject) or several else ()
        strategy = without(STRATEGY if self.dsa_strategy is None else self.dsa_strategy, *flips, *cuts, "none")
        return ("diffaug", strategy) if strategy else ("none", "")


@dataclasses.dataclass(frozen=True)
class DcRecipe(DcSettings, SgdRecipe):
    """DC's protocol, which DSA and DM share; see the module's header."""

    def augmentation_of(self, subject: Subject) -> tuple[Kind, str]:
        """Returns DSA's augmentation where it is asked for, else DC's, which is none for most sets."""
        if strategy := without(self.dsa_strategy or "", "none"):
            return "dsa", strategy
        of_network = "crop_noise" if self.eval_arch == "conv" and self.normalized == "batch" else ""
        published = of_network or ("crop_scale_rotate" if subject.dataset == "mnist" else "")
        strategy = without(published if self.dc_aug is None else self.dc_aug, "none")
        return ("dc", strategy) if strategy else ("none", "")

    def training(self, network: Network, subject: Subject, *, augmented: bool) -> Training:
        """Returns the training of one network for E + 1 epochs."""
        epochs = self.epochs or (1000 if augmented and not subject.whole else 300)
        per_epoch = math.ceil(subject.images / self.batch_size)
        kind, strategy = self.augmentation_of(subject) if augmented else ("none", "")
        procedure = ClassifierTraining(
            network,
            learning_rate=self.eval_lr,
            milestones=((epochs // 2 + 2) * per_epoch,),
            factor=0.1,
            restart=True,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            batch_size=self.batch_size if subject.images > self.batch_size else None,
            kind=kind,
            strategy=strategy,
            resolution=subject.resolution,
        )
        return Training(procedure, (epochs + 1) * per_epoch)
