"""jaxdd: dataset distillation in JAX.

Turns a large labelled image set into a tiny synthetic one on which networks train almost as well:

>>> import jaxdd
>>> digits = jaxdd.load("digits")
>>> small = jaxdd.distill(digits, ipc=1, steps=2, width=4, pool_model_count=2)  # a real run takes hundreds of steps
>>> small.pixels.shape, small.labels.shape
((10, 8, 8, 1), (10, 10))
>>> result = jaxdd.evaluate(small, digits, width=4, models_to_test=1, plain_steps=5, test_aug=None, baselines=())
>>> [(row.name, len(row.runs)) for row in result.rows]
[('distilled', 1)]

`jaxdd.METHODS` has the sixteen methods. Those that recover images from a teacher make one on the way, or take yours:

>>> teacher = jaxdd.squeeze(digits, epochs=1, width=8)
>>> small = jaxdd.distill(digits, method="cda", ipc=1, steps=2, teacher=teacher)
>>> labels = jaxdd.relabel(small, epochs=2)
>>> result = jaxdd.evaluate(small, digits, labels=labels, epochs=2, models_to_test=1, baselines=())

Plain arrays serve as well, one split as `(images, labels)` or both as `((images, labels), (images, labels))`.
`small.save("my_set")` and `jaxdd.DistilledSet.load("my_set")` write and read a set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaxdd.core.lazy import loader

if TYPE_CHECKING:
    from jaxdd.core.distilled import DistilledSet
    from jaxdd.methods import METHODS
    from jaxdd.verbs import config, distill, evaluate, load, pretrain, relabel, squeeze

__version__ = "0.1.0"
__all__ = [
    "METHODS",
    "DistilledSet",
    "__version__",
    "config",
    "distill",
    "evaluate",
    "load",
    "pretrain",
    "relabel",
    "squeeze",
]

_HOMES = {
    "DistilledSet": "core.distilled",
    "METHODS": "methods",
    **dict.fromkeys(("config", "distill", "evaluate", "load", "pretrain", "relabel", "squeeze"), "verbs"),
}
__getattr__ = loader(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
