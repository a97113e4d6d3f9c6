"""The only module that decides by device: loops, maps and convolutions.

XLA:CPU runs a convolution inside `scan`, `fori_loop`, `while_loop`, `cond` or `switch` about 15 times slower than the
same convolution outside, and `vmap` over networks of different weights becomes a grouped convolution, 3 to 5 times
slower. GPUs and TPUs have neither fault. So on CPU

* short loops of known length and maps over classes or networks are unrolled;
* longer loops, and whatever stands under a condition, use convolutions written as one matrix product (im2col);
* the first layer of a network (few input channels) is always im2col: 22 ms against 81 ms;
* a batch goes through a network in pieces that the caches hold: memory is slow, about 12 GB/s on two cores.

Code that will run inside a loop is traced inside `looping()`; `loop` and `while_loop` do that for their own bodies.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxdd.core import sharding, trees
from jaxdd.core.precision import exact_products as exact_products  # beside `looping`, with which it is used
from jaxdd.core.types import Array, PyTree

UNROLL_LIMIT = 24  # longest loop that is unrolled on CPU: beyond it compilation costs more than im2col does
ROWS = 16  # images that CPU caches hold best through a network, 10 to 20 of them with im2col
MOST_PIECES = 16  # into which a batch is cut for that, where the cuts are unrolled
FEW_CHANNELS = 4  # up to this many input channels im2col beats XLA:CPU's native convolution everywhere
STEPS_PER_DISPATCH = 10  # outer steps per dispatch on an accelerator
TRAINING_STEPS_PER_DISPATCH = 100  # of a network's training, whose steps are far shorter
LARGEST_CHUNK = 128  # images of a chunk beyond which nothing is gained on CPU
UNKNOWN_MEMORY = 8 * 10**9  # bytes assumed where a device does not tell

_looping: contextvars.ContextVar[bool] = contextvars.ContextVar("jaxdd_looping", default=False)


def on_cpu() -> bool:
    """Returns whether computations run on CPU."""
    return jax.default_backend() == "cpu"


def unrolls(length: int) -> bool:
    """Returns whether a loop of this known length is unrolled here."""
    return on_cpu() and length <= UNROLL_LIMIT and not _looping.get()


def steps_per_dispatch(many: int = STEPS_PER_DISPATCH) -> int:
    """Returns how many steps one compiled program makes: many on accelerators; one on CPU, where a loop would cost
    15x."""
    return 1 if on_cpu() else many


def dispatches_parts() -> bool:
    """Returns whether the parts of a step are programs of their own, dispatched in turn, or one program together."""
    return on_cpu()


def classes_at_once(count: int) -> int:
    """Returns of how many classes the gradients are matched together: all on accelerators, one per device on CPU."""
    return count if not on_cpu() else min(count, sharding.ways())


def maps_networks() -> bool:
    """Returns whether networks of different weights are trained together in one vmapped program, else one after
    another."""
    return not on_cpu()


@contextlib.contextmanager
def looping(active: bool = True) -> Iterator[None]:
    """Marks a block of code whose convolutions will run within a device loop or under a condition."""
    token = _looping.set(_looping.get() or active)
    try:
        yield
    finally:
        _looping.reset(token)


def _in_loop(fn: Callable) -> Callable:
    def traced(*args):
        with looping():
            return fn(*args)

    return traced


def loop(length: int | Array, body: Callable[[Any, PyTree], PyTree], state: PyTree, *, unroll: bool = True) -> PyTree:
    """Returns `state = body(i, state)` for i in 0..length-1; `length` may be traced.

    Arguments:
        unroll: False keeps a short loop rolled on CPU too: for bodies that would be slow to compile many times.
    """
    if unroll and isinstance(length, int) and unrolls(length):
        for i in range(length):
            state = body(i, state)
        return state
    return jax.lax.fori_loop(0, length, _in_loop(body), state)


def bounded_while(limit: int, condition: Callable[[PyTree], Array], body: Callable, state: PyTree) -> PyTree:
    """Returns `while condition(state): state = body(state)`, at most `limit` times."""

    def counted_condition(carry):
        count, inner = carry
        return (count < limit) & condition(inner)

    def counted_body(carry):
        count, inner = carry
        return count + 1, _in_loop(body)(inner)

    return jax.lax.while_loop(counted_condition, counted_body, (jnp.zeros((), jnp.int32), state))[1]


def map(fn: Callable[[PyTree], PyTree], xs: PyTree) -> PyTree:
    """Returns `fn` over the leading axis of `xs`, stacked: unrolled on CPU, vmapped elsewhere."""
    if not on_cpu():
        return jax.vmap(fn)(xs)
    count = jax.tree.leaves(xs)[0].shape[0]
    results = [fn(jax.tree.map(lambda leaf, i=i: leaf[i], xs)) for i in range(count)]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *results)


def chunked_map(fn: Callable[[PyTree], PyTree], xs: PyTree, chunk: int) -> PyTree:
    """Returns `fn`, which works on a batch, over consecutive chunks of `xs`, concatenated: bounds the memory of one
    call."""
    count = jax.tree.leaves(xs)[0].shape[0]
    whole = count - count % chunk
    pieces = []
    if whole == chunk:
        pieces.append(fn(jax.tree.map(lambda leaf: leaf[:whole], xs)))
    elif whole:
        stacked = jax.tree.map(lambda leaf: leaf[:whole].reshape(-1, chunk, *leaf.shape[1:]), xs)
        mapped = jax.lax.map(_in_loop(fn), stacked)
        pieces.append(jax.tree.map(lambda leaf: leaf.reshape(whole, *leaf.shape[2:]), mapped))
    if whole < count:
        pieces.append(fn(jax.tree.map(lambda leaf: leaf[whole:], xs)))
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *pieces)


def rows_at_once(count: int) -> int:
    """Returns how many of a batch's images should go through a network together: all on accelerators, a cacheful on
    CPU."""
    if not on_cpu() or sharding.splits():
        return count
    least = 10 if _looping.get() else max(ROWS, -(-count // MOST_PIECES))
    if count <= 2 * least:
        return count
    return next((rows for rows in range(least, 2 * least) if count % rows == 0), least)


def by_rows(fn: Callable[[PyTree], PyTree], xs: PyTree) -> PyTree:
    """Returns `fn(xs)` for a function that works row by row: in pieces that the caches hold, concatenated."""
    count = jax.tree.leaves(xs)[0].shape[0]
    rows = rows_at_once(count)
    if rows == count:
        return fn(xs)
    if _looping.get():
        return chunked_map(fn, xs, rows)
    pieces = [fn(piece) for piece in _pieces(xs, count, rows)]
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *pieces)


def accumulate(fn: Callable[[PyTree], PyTree], xs: PyTree, chunk: int | None = None) -> PyTree:
    """Returns `fn(xs)` for a function that is a sum over rows: of pieces that the caches hold, or of `chunk` rows,
    added up.

    Arguments:
        chunk: most rows at once, which bounds the memory of one call; None for what is fastest.
    """
    count = jax.tree.leaves(xs)[0].shape[0]
    rows = min(rows_at_once(count), chunk or count)
    if rows == count:
        return fn(xs)
    if on_cpu() and not _looping.get() and count <= rows * MOST_PIECES:
        return functools.reduce(trees.add, [fn(piece) for piece in _pieces(xs, count, rows)])
    whole = count - count % rows
    stacked = jax.tree.map(lambda leaf: leaf[:whole].reshape(-1, rows, *leaf.shape[1:]), xs)
    with looping():
        total = trees.zeros_like(jax.eval_shape(fn, jax.tree.map(lambda leaf: leaf[:rows], xs)))
        total = jax.lax.scan(lambda total, piece: (trees.add(total, fn(piece)), None), total, stacked)[0]
        return total if whole == count else trees.add(total, fn(jax.tree.map(lambda leaf: leaf[whole:], xs)))


def _pieces(xs: PyTree, count: int, rows: int) -> list[PyTree]:
    return [jax.tree.map(lambda leaf, i=i: leaf[i : i + rows], xs) for i in range(0, count, rows)]


def memory_bytes() -> int:
    """Returns the bytes of one device's memory: what its allocator may hand out; on CPU those of the machine or its
    container."""
    if not on_cpu():
        return (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit", UNKNOWN_MEMORY)
    return machine_bytes()


def machine_bytes() -> int:
    """Returns bytes of the machine's own memory, or its container's."""
    if not hasattr(os, "sysconf"):
        return UNKNOWN_MEMORY
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
        return min(machine, int(pathlib.Path("/sys/fs/cgroup/memory.max").read_text()))
    return machine


def working_memory(limit: int | None = None) -> int:
    """Returns the bytes that the activations of one step may take on a device: 7/10 of it, on CPU half of that, which
    others share.

    Rounded down to whole GB, since what is chosen by it should not change with what a driver happens to set aside.

    Arguments:
        limit: bytes that a run may use in all, in place of the device's; 7/10 of it on CPU too.
    """
    if limit is not None:
        return limit * 7 // 10
    return memory_bytes() // 10**9 * 10**9 * 7 // (20 if on_cpu() else 10)


def chunk_of(count: int, most: int) -> int:
    """Returns rows of the chunks that `count` rows are cut into to bound memory: at most `most`, and equal if
    possible."""
    most = max(1, min(most, LARGEST_CHUNK if on_cpu() else most))
    return next((rows for rows in range(most, most // 2, -1) if count % rows == 0), most)


def cond(condition: Array, if_true: Callable, if_false: Callable, *operands: Any) -> Any:
    """Returns `jax.lax.cond` whose branches know that they stand under a condition."""
    return jax.lax.cond(condition, _in_loop(if_true), _in_loop(if_false), *operands)


def convolve(
    inputs: Array,
    kernel: Array,
    strides: Sequence[int] | None,
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    precision: Any = None,
    **options: Any,
) -> Array:
    """Returns a drop-in for `jax.lax.conv_general_dilated` in NHWC/HWIO; pass it to `flax.linen.Conv`.

    Arguments:
        inputs: `[n, height, width, channels]`.
        kernel: `[kernel_height, kernel_width, channels, features]`.
        strides, padding, and the rest: as in `jax.lax.conv_general_dilated`.

    Returns:
        `[n, out_height, out_width, features]`.
    """
    strides = tuple(strides or (1, 1))
    dilated = any(d != 1 for d in (*(lhs_dilation or ()), *(rhs_dilation or ())))
    plain = feature_group_count == 1 and not dilated
    if plain and on_cpu() and (_looping.get() or inputs.shape[-1] <= FEW_CHANNELS):
        return _convolve_as_matmul(inputs, kernel, strides, padding, precision)
    return jax.lax.conv_general_dilated(
        inputs,
        kernel,
        strides,
        padding,
        lhs_dilation=lhs_dilation,
        rhs_dilation=rhs_dilation,
        dimension_numbers=dimension_numbers or ("NHWC", "HWIO", "NHWC"),
        feature_group_count=feature_group_count,
        precision=precision,
        **options,
    )


def _convolve_as_matmul(inputs, kernel, strides, padding, precision):
    """Convolves by im2col: one shifted slice per kernel position, concatenated along channels, then one matrix
    product."""
    height, width, channels, features = kernel.shape
    if isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(inputs.shape[1:3], (height, width), strides, padding)
    padded = jnp.pad(inputs, ((0, 0), *[tuple(p) for p in padding], (0, 0)))
    rows = (padded.shape[1] - height) // strides[0] + 1
    columns = (padded.shape[2] - width) // strides[1] + 1
    slices = [
        padded[:, i : i + (rows - 1) * strides[0] + 1 : strides[0], j : j + (columns - 1) * strides[1] + 1 : strides[1]]
        for i in range(height)
        for j in range(width)
    ]
    patches = jnp.concatenate(slices, axis=-1).reshape(-1, height * width * channels)
    product = jnp.matmul(patches, kernel.reshape(-1, features), precision=precision)
    return product.reshape(inputs.shape[0], rows, columns, features)


@contextlib.contextmanager
def quiet_blas() -> Iterator[None]:
    """Leaves BLAS one thread on CPU: after each factorisation OpenBLAS's threads wait busily on the cores that XLA
    needs.

    At 200 images a step of RCIG took a third longer with them.
    """
    if not on_cpu():
        yield
        return
    import threadpoolctl

    with threadpoolctl.threadpool_limits(1, user_api="blas"):
        yield


def use_compilation_cache(folder: str | os.PathLike | None = None) -> pathlib.Path | None:
    """Turns on JAX's persistent compilation cache; returns its folder, or None where none can be: it goes without.

    Arguments:
        folder: where; None for the user's cache folder (`XDG_CACHE_HOME`), which a container's user may lack.
    """
    try:
        home = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
        path = pathlib.Path(folder) if folder else home / "jaxdd" / "xla"
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return None
    jax.config.update("jax_compilation_cache_dir", str(path))
    return path
