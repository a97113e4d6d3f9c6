"""`Network`: the one interface behind which every architecture stands."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdd.core import precision, sharding
from jaxdd.core.errors import choose
from jaxdd.core.types import Array, Key, PyTree
from jaxdd.models.layers import TAPS

Variables = dict[str, Any]  # {"params": ..., optionally "batch_stats": ...}

LAST = "Dense_0"  # every architecture has exactly one Dense layer at its top level: the classifier


class Outputs(NamedTuple):
    """Results of a network for a batch.

    Arguments:
        logits: `[n, classes]`.
        blocks: features after each stage; the last are the flattened `[n, d]` that the classifier reads.
        taps: statistics asked for by name -> tuple of their values, in the order of computation.
        variables: with updated batch statistics if `train`, else the very object that was passed in.
    """

    logits: Array
    blocks: tuple[Array, ...]
    taps: dict[str, tuple[PyTree, ...]]
    variables: Variables

    @property
    def features(self) -> Array:
        """The penultimate features, `[n, d]`."""
        return self.blocks[-1]


@dataclasses.dataclass(frozen=True)
class Network:
    """An architecture for images of one shape: pure functions over explicit variables; hashable, so a static argument.

    Arguments:
        module: a `flax.linen` module with a field `classes`, called as `module(images, train=...)`, which returns
            `(logits, blocks)` and has one top-level Dense layer, the classifier. What it sows into the collection
            "taps" can be asked for by name.
        image_shape: `(height, width, channels)` of the images.
        activations: type in which the module computes, which must have a field `dtype` then; None to follow the images
            and parameters. What goes in and what comes out are of the parameters' type in either case.
    """

    module: nn.Module
    image_shape: tuple[int, int, int]
    activations: Any = None

    @property
    def classes(self) -> int:
        """Number of outputs."""
        return self.module.classes  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def description(self) -> dict[str, Any]:
        """Kind and size: `{"module": "ConvNet", "depth": 3, "width": 128}`; JSON types."""
        sizes = {name: getattr(self.module, name) for name in ("depth", "width") if hasattr(self.module, name)}
        return {"module": type(self.module).__name__, **sizes}

    def __str__(self) -> str:
        """Returns `ConvNet, depth 3, width 128`."""
        module, *sizes = self.description.items()
        return ", ".join([module[1], *(f"{name} {size}" for name, size in sizes)])

    @property
    def feature_size(self) -> int:
        """Number d of penultimate features; found by shape alone."""
        return _last_kernel(self).shape[0]

    def init(self, key: Key, dtype: Any = jnp.float32) -> Variables:
        """Returns fresh variables; runs no convolution, only the random draws.

        Arguments:
            key: fixes the draw, which is made in float32 whatever `dtype` is: float64 variables are the same numbers.
            dtype: of every leaf.

        Returns:
            `{"params": ..., "batch_stats": ...}`, nested dicts; the latter only if the network normalises by batch.
        """
        image = jax.ShapeDtypeStruct((1, *self.image_shape), jnp.float32)
        variables: Any = self.module.lazy_init(key, image, mutable=["params", "batch_stats"])
        return jax.tree.map(lambda leaf: leaf.astype(dtype), variables)

    def apply(self, variables: Variables, images: Array, *, train: bool = False, taps: Sequence[str] = ()) -> Outputs:
        """Runs the network.

        Arguments:
            variables: as from `init`, or as returned in `Outputs.variables`.
            images: `[n, height, width, channels]`.
            train: normalise by the batch's own statistics and update the running ones.
            taps: names of the statistics wanted; none is computed unless asked for.

        Raises:
            UsageError: the network has no statistic of a name in `taps`.
        """
        collections = [*(["batch_stats"] if train and "batch_stats" in variables else []), *([TAPS] if taps else [])]
        module, widen = self.module, lambda tree: tree
        if self.activations is not None and not precision.exact():
            module = module.clone(dtype=self.activations)
            widen = functools.partial(_cast, dtype=variables["params"][LAST]["kernel"].dtype)
        run: Any = functools.partial(module.apply, variables, sharding.rows(images), train=train)
        if not collections:
            logits, blocks = widen(run())
            return Outputs(logits, blocks, {}, variables)
        (logits, blocks), updated = run(mutable=collections)
        logits, blocks, tapped = widen((logits, blocks, _by_name(updated.pop(TAPS, {}), taps)))
        return Outputs(logits, blocks, tapped, {**variables, **updated} if updated else variables)

    def split_last(self, params: PyTree) -> tuple[PyTree, PyTree]:
        """Divides parameters into `(body, last)`; `last` is the classifier: kernel `[d, classes]`, bias `[classes]`."""
        return {name: leaf for name, leaf in params.items() if name != LAST}, params[LAST]

    def join_last(self, body: PyTree, last: PyTree) -> PyTree:
        """Returns the inverse of `split_last`."""
        return {**body, LAST: last}


def _cast(tree: PyTree, dtype: Any) -> PyTree:
    return jax.tree.map(lambda leaf: leaf.astype(dtype), tree)


@functools.cache
def _last_kernel(network: Network) -> jax.ShapeDtypeStruct:
    return jax.eval_shape(network.init, jax.random.key(0))["params"][LAST]["kernel"]


def _by_name(sown: PyTree, names: Sequence[str]) -> dict[str, tuple[PyTree, ...]]:
    # Flax files what is sown under the path of the module that sowed it, and wraps it in a tuple; callers want the
    # statistic's own name and every layer's value.
    named: dict[str, tuple[PyTree, ...]] = {}

    def walk(node):
        for name, value in node.items():
            if isinstance(value, tuple):
                named[name] = (*named.get(name, ()), *value)
            else:
                walk(value)

    walk(sown)
    return {choose(name, named, kind="statistic", where="Network.apply(taps=...)"): named[name] for name in names}
