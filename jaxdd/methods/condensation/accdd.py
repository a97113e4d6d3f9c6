"""AccDD: accelerating dataset distillation via model augmentation (arXiv 2212.06152): networks at an early stage.

IDC matches at a new random network in every outer iteration; AccDD at one of N networks that were trained for a few
epochs beforehand (`pretrain.py`), moved a little at random:

    theta ~ uniform {theta_1, ..., theta_N}         with replacement, once per outer iteration
    theta' = theta + a_x d_x + a_y d_y              filter-normalised directions, abs(a) uniform in [vmin, vmax]

and trains it on, as IDC does. As it starts from better networks, a fifth to a twentieth of IDC's iterations suffice.

| paper            | here                                                                      |
|------------------|---------------------------------------------------------------------------|
| N models         | `Examples.early_networks`; the documented default is 5                    |
| P epochs         | `pretrain.py --pt_from`: 2 for CIFAR, 10 for ImageNet subsets             |
| alpha            | `vmin`, `vmax`: a_x and a_y are drawn independently                       |

From the released code differs: it draws an index up to N inclusive and then fails; here up to N - 1.
"""

from __future__ import annotations

from typing import Any

import jax

from jaxdd.core import trees
from jaxdd.core.errors import UsageError
from jaxdd.core.random import purpose_key
from jaxdd.core.types import Examples, Key, PyTree
from jaxdd.matching.perturbation import perturb
from jaxdd.methods.condensation.settings import CondensationSettings

DEFAULTS: dict[str, Any] = {"source": "pretrained", "perturb": True}
RATES = {"cifar10": 1e-2, "cifar100": 1e-2}  # of the images, in place of IDC's
ITERATIONS = {
    "cifar10": 400,
    "cifar100": 400,
    "imagenet10": 100,
    "imagenet100": 100,
}  # a fifth of IDC's: what the paper calls 5x


def early_stage(settings: CondensationSettings, key: Key, data: Examples, fresh: PyTree) -> PyTree:
    """Returns the variables of a network trained beforehand, chosen at random, and perturbed if `perturb` is set.

    Arguments:
        fresh: variables of a new network, whose shapes they must have.

    Raises:
        UsageError: there are none, or they are of another architecture.
    """
    stored = data.early_networks
    if stored is None:
        raise UsageError(
            "no networks trained beforehand were given",
            where="source = pretrained",
            expected="networks trained for a few epochs on the same data set",
            remedy="make them: `pretrain`, and name their folder with `networks`; or add `pretrain=true`",
        )
    wanted, actual = (
        {(path, leaf.shape[skip:]) for path, leaf in trees.paths(tree)} for tree, skip in ((fresh, 0), (stored, 1))
    )
    if wanted != actual:
        unlike = min(wanted ^ actual)[0]
        raise UsageError(
            f"the networks trained beforehand are of another architecture: '{unlike}' differs",
            where="`networks`",
            expected="the same net_type, norm_type, depth, width, data set and number of classes",
            remedy="train others with `pretrain`, or change these settings",
        )
    chosen = one_of(stored, purpose_key(key, "which"))
    if not settings.perturb:
        return chosen
    return perturb(
        purpose_key(key, "perturbation"),
        chosen,
        low=settings.vmin,
        high=settings.vmax,
        xnorm=settings.xnorm,
        ynorm=settings.ynorm,
        xignore=settings.xignore,
        yignore=settings.yignore,
        same_dir=settings.same_dir,
        dir_type=settings.dir_type,
    )


def one_of(stored: PyTree, key: Key) -> PyTree:
    """Returns one of several stacked networks, each with the same probability."""
    count = jax.tree.leaves(stored)[0].shape[0]
    return trees.take(stored, jax.random.randint(key, (), 0, count))
