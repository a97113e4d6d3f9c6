"""The linearised network: its tangent kernel, chunked products, and sub-sampled derivatives."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd.core.errors import UsageError
from jaxdd.kernels import ntk_compat, solvers
from jaxdd.kernels.linearized import dense_jacobian, gram, in_chunks, linearize, on_rows, tangent_output
from tests.kernels import tiny

pytestmark = [pytest.mark.quick, pytest.mark.usefixtures("x64")]


def assert_trees_close(found, expected, tolerance: float):
    """Leaf by leaf, relative to the largest entry of the expected leaf."""
    for (path, leaf), other in zip(jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(expected), strict=True):
        error = np.max(np.abs(leaf - other)) / np.max(np.abs(other))
        assert error <= tolerance, f"{jax.tree_util.keystr(path)}: {error:.1e}"


@pytest.fixture
def tangent_kernel():
    """A - lam I as a matrix `[n k, n k]`: the operator applied to every unit vector."""

    @jax.jit
    def matrix(base, images):
        linear = linearize(tiny.forward, base, images)
        ridge = tiny.problem(base).ridge(linear.features)
        operator = solvers.tangent_operator(linear, ridge, tiny.freeze)
        units = jnp.eye(images.shape[0] * 3).reshape(-1, images.shape[0], 3)
        return jax.lax.map(lambda v: operator(v)[0], units).reshape(len(units), -1) - tiny.LAM * jnp.eye(len(units))

    return matrix(tiny.params(), tiny.images(5, seed=3))


def test_operator_is_the_gram_of_the_dense_jacobian(tangent_kernel):
    jacobian = jax.jit(lambda p, x: gram(dense_jacobian(tiny.forward, p, x)))
    expected = jacobian(tiny.params(), tiny.images(5, seed=3))
    assert_trees_close(tangent_kernel, expected, 1e-10)


@pytest.mark.fast("1")
@pytest.mark.filterwarnings("ignore:size requires ndarray:DeprecationWarning")  # neural-tangents calls jnp.size
@pytest.mark.parametrize("implementation", [1, 2])
def test_operator_is_the_empirical_kernel_of_neural_tangents(implementation, tangent_kernel):
    pytest.importorskip("frozendict")
    try:
        nt = ntk_compat.import_neural_tangents()
    except UsageError as error:
        pytest.skip(error.what)

    def network(p, x):
        return tiny.forward(p, x)[0]

    kernel_fn = nt.empirical_ntk_fn(network, trace_axes=(), vmap_axes=0, implementation=implementation)
    found = jax.jit(lambda x, p: kernel_fn(x, None, p))(tiny.images(5, seed=3), tiny.params())
    expected = jnp.moveaxis(found, 1, 2).reshape(15, 15)  # [n, n', k, k'] -> [n k, n' k']
    assert_trees_close(tangent_kernel, expected, 1e-10)
    assert "tensorflow" not in sys.modules


@pytest.mark.slow
def test_chunked_linearisation_equals_the_whole():
    @jax.jit
    def products(base, images, theta, v):
        whole, chunked = (linearize(tiny.forward, base, images, chunk=chunk) for chunk in (None, 3))
        return [(each.features, each.push(theta), each.pull(v)) for each in (whole, chunked)]

    v = jnp.asarray(np.random.default_rng(5).normal(size=(7, 3)))
    whole, chunked = products(tiny.params(), tiny.images(7, seed=4), tiny.params(seed=1), v)
    assert_trees_close(chunked, whole, 1e-12)


def test_push_and_pull_are_adjoint_and_the_derivative():
    base, theta, images = tiny.params(), tiny.params(seed=1), tiny.images(4, seed=4)
    v = jnp.asarray(np.random.default_rng(5).normal(size=(4, 3)))

    @jax.jit
    def products(base, theta):
        linear = linearize(tiny.forward, base, images)
        difference = tangent_output(tiny.forward, base, theta, images, linear=False)
        return linear.push(theta), linear.pull(v), tangent_output(tiny.forward, base, theta, images), difference

    pushed, pulled, (output, features), (difference, other_features) = products(base, theta)
    inner = sum(jnp.sum(a * b) for a, b in zip(jax.tree.leaves(pulled), jax.tree.leaves(theta), strict=True))
    np.testing.assert_allclose(inner, jnp.sum(pushed * v), rtol=1e-12)
    np.testing.assert_allclose(output, pushed, rtol=1e-12)
    np.testing.assert_array_equal(features, other_features)
    step = 1e-5
    small = products(base, jax.tree.map(lambda leaf: step * leaf, theta))[3][0] / step
    np.testing.assert_allclose(small, pushed, atol=1e-3 * np.abs(pushed).max())
    assert np.abs(difference - pushed).max() > 0.1 * np.abs(pushed).max()  # theta is large: not the first-order term


@pytest.mark.parametrize("chunk", [None, 2])
def test_on_rows_has_all_values_and_derivatives_of_its_rows_only(chunk):
    weights = jnp.asarray([1.0, 2.0, 3.0])

    def network(images, w):
        return jnp.sin(images.sum((1, 2))) * w[None]

    images, rows = tiny.images(7, seed=6), jnp.asarray([5, 0, 3])

    def total(images, w, rows):
        values = on_rows(tiny.problem({}, chunk=chunk).bounded(lambda x: network(x, w)), images, rows)
        return jnp.sum(values**2), values

    derivative = jax.jit(jax.value_and_grad(total, (0, 1), has_aux=True))
    (_, values), (by_images, by_weights) = derivative(images, weights, rows)
    (_, every), (all_images, _) = derivative(images, weights, None)
    rounding = 1e-12  # of the largest entry: the two programs may sum pixels in different orders
    np.testing.assert_allclose(values, every, rtol=0, atol=rounding * np.abs(every).max())
    np.testing.assert_allclose(by_images[rows], all_images[rows], rtol=0, atol=rounding * np.abs(all_images).max())
    others = np.setdiff1d(np.arange(7), rows)
    assert not by_images[others].any()
    assert all_images[others].any()
    np.testing.assert_allclose(by_weights, 2 * jnp.sum(values[rows] ** 2, 0) / weights, rtol=1e-12)


@pytest.mark.parametrize("chunk", [1, 3, 7, 8, None])
def test_chunks_come_back_in_order(chunk):
    images = tiny.images(7, seed=6)
    sizes = []

    def network(batch):
        sizes.append(batch.shape[0])
        return batch * 2, batch.sum((1, 2, 3))

    doubled, sums = in_chunks(network, images, chunk)
    np.testing.assert_array_equal(doubled, 2 * images)
    np.testing.assert_allclose(sums, images.sum((1, 2, 3)), atol=1e-12)
    assert max(sizes) <= (chunk or 7)


class TestNeuralTangents:
    """The compat module."""

    def test_jax_is_left_as_it_was(self):
        before = set(vars(jax.core)), "jax.util" in sys.modules
        with ntk_compat._restored_names():
            assert "Jaxpr" in vars(jax.core)
            assert sys.modules["jax.util"].safe_map(lambda a, b: a + b, [1, 2], [3, 4]) == [4, 6]
            assert sys.modules["neural_tangents.experimental"].__name__ == "neural_tangents.experimental"
        assert (set(vars(jax.core)), "jax.util" in sys.modules) == before

    @pytest.mark.parametrize("version", [None, "0.7.0"])
    def test_an_absent_or_other_version_is_refused_with_the_way_to_install_it(self, version, monkeypatch):
        def installed(name):
            if version is None:
                raise ntk_compat.importlib.metadata.PackageNotFoundError(name)
            return version

        monkeypatch.setattr(ntk_compat.importlib.metadata, "version", installed)
        monkeypatch.delitem(sys.modules, "neural_tangents", raising=False)
        with pytest.raises(UsageError, match=r"jaxdd\[ntk\]") as refusal:
            ntk_compat.import_neural_tangents()
        assert refusal.value.where == "extra 'ntk'"
        assert (version or "not installed") in refusal.value.what

    def test_a_package_that_breaks_while_it_is_imported_is_refused_and_not_left_behind(self, monkeypatch, tmp_path):
        (tmp_path / "neural_tangents").mkdir()
        (tmp_path / "neural_tangents" / "__init__.py").write_text("from jax.core import NoSuchName\n")
        for name in [name for name in sys.modules if name.split(".")[0] == "neural_tangents"]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setattr(ntk_compat.importlib.metadata, "version", lambda name: ntk_compat.VERSION)
        monkeypatch.syspath_prepend(tmp_path)
        with pytest.raises(UsageError, match="NoSuchName"):
            ntk_compat.import_neural_tangents()
        assert "neural_tangents" not in sys.modules
