"""The memory of an outer step of RCIG, from shapes alone, and the chunks in which a big set is made to fit.

    per image  kept   = what linearising the network keeps for the solver, and what the direct gradient keeps for its
                        backward pass; the implicit gradient keeps less
    fixed      fixed  = the n-by-n kernel matrix and its factors, copies of images and features; a dense Jacobian
    whole      fixed + n kept                      fastest: nothing is computed twice
    chunks     fixed + chunk kept                  of a chunk only its images are kept: derivatives repeat its forward
                                                   pass (`jax.checkpoint` with its default policy, nothing saveable)

A set is cut only when the whole would take more than `backend.working_memory`, and only its activations are then
bounded: everything that grows with n stays, of which K is the largest.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd.core import backend, sharding, trees
from jaxdd.core.procedure import Demand
from jaxdd.core.types import Array, PyTree
from jaxdd.kernels.linearized import tangent_output
from jaxdd.methods.rcig.settings import RCIGSettings
from jaxdd.models.network import Network

SLACK = 1.1  # what XLA takes per image over what is kept, measured on CPU at widths 32 and 128
MATRICES = 4  # n-by-n arrays held at a time: K, its factor, and what their making and solving takes
COPIES = 4  # of the images, features and logits of the whole set
PARAMETER_COPIES = 8  # of one network: tangents, gradients, vectors of the solver


class Footprint(NamedTuple):
    """The memory of one outer step on each device, in bytes.

    Arguments:
        kept: bytes of one image's activations.
        fixed: bytes of all that does not become smaller with the chunks.
        chunk: images at once; None for all.
        rows: images whose activations are held at a time.
    """

    kept: int
    fixed: int
    chunk: int | None
    rows: int

    @property
    def bytes(self) -> int:
        """The most that a step holds at a time."""
        return self.fixed + self.rows * self.kept


def footprint(settings: RCIGSettings, network: Network, *, stored: int, real: int) -> Footprint:
    """Returns the memory of a step, and the chunks that bound it.

    Arguments:
        network: of the pool.
        stored: images in the set, before mirroring.
        real: images in the real batch.
    """
    n = stored * (2 if settings.use_flip else 1)
    kept = int(SLACK * sum(_kept(network, settings.inner_solver == "pcg"))) // sharding.ways()
    fixed = _fixed(settings, network, n)
    whole = n + backend.rows_at_once(real)
    chunk = settings.max_forward_batch_size
    room = backend.working_memory(limit_bytes(settings)) - fixed
    if chunk is None and whole * kept > room:
        chunk = backend.chunk_of(n, room // kept)
    return Footprint(kept, fixed, chunk, whole if chunk is None else min(chunk, n) + min(chunk, whole - n))


def demand(settings: RCIGSettings, network: Network, *, stored: int, real: int) -> Demand:
    """Returns the memory of a step in words for users, and the settings that lower it."""
    needs = footprint(settings, network, stored=stored, real=real)
    n = stored * (2 if settings.use_flip else 1)
    cut = needs.chunk is not None and needs.chunk < n
    smaller = (
        f"`max_forward_batch_size={max(1, (needs.chunk or n) // 2)}`, " if needs.rows * needs.kept > needs.fixed else ""
    )
    return Demand(
        needs.bytes,
        f"chunks of {needs.chunk} images, whose forward passes are repeated" if cut else "",
        f"{smaller}a smaller `n_images`, `width` or `batch_size`",
    )


def limit_bytes(settings: RCIGSettings) -> int | None:
    """Returns `memory_limit` in bytes."""
    return None if settings.memory_limit is None else int(settings.memory_limit * 1e9)


def _fixed(settings: RCIGSettings, network: Network, n: int) -> int:
    classes, size = network.classes, 8 if settings.use_x64 else 4
    params = trees.byte_size(_variables(network)["params"])
    row = 4 * (int(np.prod(network.image_shape)) + network.feature_size + classes)
    dense = (2 * n * classes * params + 2 * size * (n * classes) ** 2) if settings.inner_solver == "dense" else 0
    return MATRICES * size * n**2 + COPIES * n * row + PARAMETER_COPIES * params + dense


def _variables(network: Network) -> PyTree:
    return jax.eval_shape(network.init, jax.random.key(0))


@functools.cache
def _kept(network: Network, looped: bool) -> tuple[int, int]:
    """Returns the bytes that the solver and the direct gradient keep of one image: the sizes of what JAX saves.

    Arguments:
        looped: the solver applies the network within a device loop.
    """
    variables = _variables(network)

    def forward(params: PyTree, images: Array) -> tuple[Array, Array]:
        outputs = network.apply({**variables_of(params), "params": params}, images)
        return outputs.logits, outputs.features

    def variables_of(params: PyTree) -> PyTree:
        dtype = jax.tree.leaves(params)[0].dtype
        return {name: jax.tree.map(lambda leaf: jnp.ones(leaf.shape, dtype), tree) for name, tree in variables.items()}

    def solver(params: PyTree, images: Array) -> PyTree:
        with backend.looping(looped), backend.exact_products():
            return jax.linearize(lambda p: forward(p, images), params)[1]

    def direct(params: PyTree, images: Array) -> PyTree:
        return jax.vjp(lambda theta, x: tangent_output(forward, params, theta, x), params, images)[1]

    def saved(fn, count: int) -> int:
        images = jax.ShapeDtypeStruct((count, *network.image_shape), jnp.float32)
        return trees.byte_size(jax.eval_shape(fn, variables["params"], images))

    return tuple(saved(fn, 3) - saved(fn, 2) for fn in (solver, direct))  # pyright: ignore[reportReturnType]
