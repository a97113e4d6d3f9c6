"""Infinite-width kernels: neural-tangents called directly, a dense closed form, derivatives, chunks, refusals."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd.core.errors import ConfigError, UsageError
from jaxdd.kernels import ntk_compat
from jaxdd.kernels.infinite import InfiniteKernel

pytestmark = pytest.mark.quick
W, B = 2**0.5, 0.1


@pytest.fixture
def nt(x64):
    """The package, in float64; skips where it is not installed."""
    try:
        return ntk_compat.import_neural_tangents()
    except UsageError as error:
        pytest.skip(error.what)


def _images(count: int, seed: int, side: int = 4) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=(count, side, side, 2)))


def _arc_cosine(x: np.ndarray, y: np.ndarray, depth: int) -> dict[str, np.ndarray]:
    """The recursion for fully connected ReLU networks, written out: `nngp` and `ntk`, `[n, m]`."""
    x, y = x.reshape(len(x), -1), y.reshape(len(y), -1)
    cross, own_x, own_y = (B**2 + W**2 * product / x.shape[1] for product in (x @ y.T, (x * x).sum(1), (y * y).sum(1)))
    tangent = cross
    for _ in range(depth):
        norms = np.sqrt(np.outer(own_x, own_y))
        angle = np.arccos(np.clip(cross / norms, -1, 1))
        slopes = (np.pi - angle) / (2 * np.pi)
        cross = B**2 + W**2 * norms * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi)
        own_x, own_y = B**2 + W**2 * own_x / 2, B**2 + W**2 * own_y / 2
        tangent = cross + W**2 * tangent * slopes
    return {"nngp": cross, "ntk": tangent}


@pytest.mark.parametrize("kind", ["ntk", "nngp"])
@pytest.mark.parametrize("depth", [0, 1, 3])
def test_fully_connected_kernels_are_the_arc_cosine_recursion(nt, kind, depth):
    x, y = _images(5, 0), _images(4, 1)
    y = y.at[0].set(x[2])  # an angle of zero
    found = jax.jit(InfiniteKernel("fc", depth, kind))(x, y)
    assert found.dtype == jnp.float64
    expected = _arc_cosine(np.asarray(x), np.asarray(y), depth)[kind]
    np.testing.assert_allclose(found, expected, rtol=1e-7)  # the square root at angle zero halves the digits
    np.testing.assert_allclose(np.delete(found, 2, 0), np.delete(expected, 2, 0), rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("leading, pooling", [(True, False), (False, True)])
def test_convolutional_kernels_are_those_of_neural_tangents(nt, leading, pooling):
    x, y = _images(3, 0), _images(2, 1)
    stax, stds = nt.stax, {"W_std": W, "b_std": B}
    layers = [stax.Conv(7, (3, 3), padding="SAME", **stds), stax.Relu()] if leading else []
    for _ in range(2):
        layers += [stax.Conv(7, (3, 3), padding="SAME", **stds), stax.Relu(), stax.AvgPool((2, 2), (2, 2))]
    layers += [stax.GlobalAvgPool() if pooling else stax.Flatten(), stax.Dense(7, **stds)]
    kernel_fn = stax.serial(*layers)[2]
    direct = jax.jit(lambda x, y: kernel_fn(x, y, ("ntk", "nngp")))(x, y)
    for kind in ("ntk", "nngp"):
        found = jax.jit(InfiniteKernel("conv", 2, kind, leading_conv=leading, global_pooling=pooling))(x, y)
        np.testing.assert_allclose(found, getattr(direct, kind), rtol=1e-12)


@pytest.mark.slow
def test_pooling_and_the_leading_convolution_change_the_kernel(nt):
    x = _images(3, 0)
    plain = InfiniteKernel("conv", 1)
    others = [dataclasses.replace(plain, leading_conv=False), dataclasses.replace(plain, global_pooling=True)]
    first, *rest = (np.asarray(jax.jit(kernel)(x)) for kernel in (plain, *others))
    assert all(np.abs(first - other).max() > 1e-3 for other in rest)


@pytest.mark.slow
@pytest.mark.parametrize("kernel", [InfiniteKernel("fc", 2), InfiniteKernel("conv", 1)])
def test_chunks_change_neither_value_nor_gradient(nt, kernel):
    x, y, weights = _images(7, 0), _images(3, 1), jnp.asarray(np.random.default_rng(2).normal(size=(7, 3)))

    def both(kernel):
        return jax.jit(jax.value_and_grad(lambda x, y: (weights * kernel(x, y)).sum(), argnums=(0, 1)))(x, y)

    for whole, pieces in zip(
        *map(jax.tree.leaves, map(both, (kernel, dataclasses.replace(kernel, chunk=2)))), strict=True
    ):
        np.testing.assert_allclose(pieces, whole, rtol=1e-10, atol=1e-12)


def test_the_gradient_of_a_symmetric_matrix_is_that_of_finite_differences(nt):
    """On the diagonal the angle is zero, where a square root makes 1e-8 of rounding: so steps are long, of order 4."""
    x, direction, weights = _images(4, 3), _images(4, 5), np.random.default_rng(4).normal(size=(4, 4))

    def total(x):
        return (weights * InfiniteKernel("fc", 2)(x)).sum()

    slope = float((jax.jit(jax.grad(total))(x) * direction).sum())
    value, h = jax.jit(total), 1e-2
    ahead, behind = (float(value(x + k * h * direction) - value(x - k * h * direction)) for k in (1, 2))
    assert slope == pytest.approx((8 * ahead - behind) / (12 * h), rel=1e-5)


def test_a_kernel_is_a_hashable_value():
    assert {InfiniteKernel("fc", 2): "found"}[InfiniteKernel("fc", 2)] == "found"
    assert InfiniteKernel("fc", 2) != InfiniteKernel("fc", 2, "nngp")


def test_more_blocks_than_the_images_have_halvings_are_refused():
    with pytest.raises(ConfigError, match=r"(?s)8 pixels.*0 to 3"):
        jax.eval_shape(InfiniteKernel("conv", 4), jax.ShapeDtypeStruct((2, 8, 8, 1), np.float32))


def test_a_missing_package_is_refused_with_the_command_that_installs_it(monkeypatch):
    def absent(name):
        raise ntk_compat.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(ntk_compat.importlib.metadata, "version", absent)
    with pytest.raises(UsageError, match="pip install"):
        ntk_compat.require_neural_tangents()
