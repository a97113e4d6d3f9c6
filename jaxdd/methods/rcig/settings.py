"""The settings of RCIG, under the names of the authors' configuration files."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from jaxdd.core.config import Implied, Precision, setting
from jaxdd.core.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class RCIGSettings:
    """Every hyper-parameter of RCIG; the procedure in `methods.rcig.method` adds the functions.

    Raises:
        ConfigError: a setting that only the `adam` solver knows stands beside another solver.
    """

    n_images: int = setting(1, "images per class (ipc)", low=1)
    batch_size: int = setting(1024, "real images per outer step", low=1)
    proto_learning_rate: float = setting(0.003, "AdaBelief learning rate of images and labels", low=0)
    learn_labels: bool = setting(True, "learn the labels too")
    init_random_noise: bool = setting(False, "start from noise (0.3 x normal) instead of real images")
    use_flip: bool = setting(True, "use the set together with its mirror images")
    l2_rate: float = setting(5e-4, "ridge coefficient per stored image", low=0)

    width: int = setting(128, "channels of the network's first block", low=1)
    depth: int | None = setting(None, "blocks of the network; null: 3 at 28 and 32 pixels, 4 at 64, 5 at 128", low=1)
    has_bn: bool = setting(False, "networks with batch normalisation")
    softplus_temp: float = setting(60.0, "softplus(beta x) / beta with this beta instead of ReLU; 0 means ReLU", low=0)
    pool_model_count: int = setting(30, "networks in the pool", low=1)
    max_online_steps: int = setting(100, "a network that has trained this many steps is replaced", low=1)
    n_max_steps_pool: int = setting(16, "a chosen network trains 1 to this minus 1 steps", low=2)
    pool_learning_rate: float = setting(5e-5, "Adam learning rate of the pool's networks", low=0)
    pool_train_batch_size: int | None = setting(None, "stored images per pool step; null for all", low=1)

    inner_solver: Literal["pcg", "dense", "adam"] = setting("pcg", "how the inner problem is solved")
    solver_steps: int = setting(50, "pcg: most steps per solve", low=1)
    solver_tolerance: float = setting(0.1, "pcg: relative residual at which it stops", low=0)
    n_inner_steps: int = setting(20, "adam: steps for theta", low=0)
    n_hinv_steps: int = setting(20, "adam: steps for the inverse-Hessian product", low=0)
    inner_learning_rate: float = setting(1e-5, "adam: learning rate for theta before tuning", low=0)
    hvp_learning_rate: float = setting(5e-5, "adam: learning rate for the inverse-Hessian product before tuning", low=0)
    skip_tune: bool = setting(False, "adam: keep the two learning rates instead of tuning them first")
    warm_inner_adam: bool = setting(True, "adam: bias correction starts at the network's age, as published")
    base_drift: bool = setting(True, "adam: base parameters coast on their momentum meanwhile, as published")
    hinv_last_kernel: bool = setting(True, "the last kernel takes part in the inverse-Hessian product, as published")
    linearize: bool = setting(True, "linearise the networks; false (adam only): use their exact difference")
    naive_loss: bool = setting(False, "adam only: plain squared loss instead of kernel ridge regression")
    aug: str | None = setting(None, "adam only: augmentation while distilling, e.g. flip_color_crop")
    aug_repeats: int = setting(0, "augmented gradients averaged per step", low=0)
    normal_repeats: int = setting(1, "gradients (of different sub-samples) averaged per step", low=1)

    direct_batch_sizes: tuple[int | None, int | None] = setting(
        (None, None), "direct gradient: images it flows through, [synthetic, real]; null for all", low=1
    )
    implicit_batch_size: int | None = setting(None, "implicit gradient: images it flows through; null for all", low=1)
    inner_train_batch_size: int | None = setting(None, "inner problem: images per chunk (adam: per sub-sample)", low=1)
    hinv_batch_size: int | None = setting(None, "inverse Hessian: images per chunk (adam: per sub-sample)", low=1)
    max_forward_batch_size: int | None = setting(
        None, "most images in one pass through a network; null for as many as memory_limit allows", low=1
    )
    memory_limit: float | None = setting(
        None, "GB of each device's memory that a run may use; null for the device's", low=0.01
    )
    do_precompute: bool = setting(False, "accepted; values without gradients are always computed once per step")
    use_x64: bool = setting(False, "form and factorise the kernel matrix in float64")
    precision: Precision = setting("float32", "activations in float32 or bfloat16; kernels and solves stay float32")
    monitor_losses: bool = setting(False, "adam: report the first loss of the inner problem beside the last")

    historical_names: ClassVar[dict[str, str]] = {
        "pool_model_6count": "pool_model_count",
        "outer_train_batch_size": "pool_train_batch_size",
    }

    def __post_init__(self):
        if self.inner_solver != "adam":
            for name in adam_only(dataclasses.asdict(self)):
                raise ConfigError(
                    f"'{name}' = {getattr(self, name)!r} belongs to inner_solver = adam",
                    where=f"inner_solver = {self.inner_solver}",
                    remedy=f"set inner_solver to adam, or leave '{name}' out",
                )

    @classmethod
    def implied(cls, values: Mapping[str, Any]) -> Implied:
        """Returns the original's default of `n_images`, and the `adam` solver where given settings need it."""
        settings: dict[str, Any] = {} if "n_images" in values else {"n_images": 10}
        only = [] if "inner_solver" in values else adam_only(values)
        if only:
            settings["inner_solver"] = "adam"
        return Implied(
            settings, tuple(f"'{name}' belongs to the adam solver: inner_solver = adam is selected" for name in only)
        )

    def notices(self) -> tuple[str, ...]:
        """Returns notices about two settings that mean something else under the exact solvers."""
        sizes = {"inner_train_batch_size": self.inner_train_batch_size, "hinv_batch_size": self.hinv_batch_size}
        used = ", ".join(f"{name} = {size}" for name, size in sizes.items() if size is not None)
        if not used or self.inner_solver == "adam":
            return ()
        return (f"{used}: chunk sizes of the full operator under inner_solver = {self.inner_solver}, not sub-samples",)

    @property
    def needs_float64(self) -> bool:
        """Whether the kernel matrix is float64."""
        return self.use_x64

    def outline(self) -> Self:
        """Returns these settings without the tuning of the learning rates."""
        return dataclasses.replace(self, skip_tune=True)


def adam_only(values: Mapping[str, Any]) -> list[str]:
    """Returns the names of those given settings whose values belong to the `adam` solver alone."""
    uses = {
        "aug": values.get("aug") is not None,
        "linearize": values.get("linearize") is False,
        "naive_loss": values.get("naive_loss") is True,
    }
    return [name for name, used in uses.items() if used]
