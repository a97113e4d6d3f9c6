"""Loops, maps and convolutions equal their plain forms, and CPU programs hold no convolution where XLA is slow."""

from __future__ import annotations

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd import models
from jaxdd.core import backend
from tests import hlo

DIMENSIONS = ("NHWC", "HWIO", "NHWC")
on_cpu_only = pytest.mark.skipif(jax.default_backend() != "cpu", reason="about programs for CPU")


def native(inputs, kernel, strides, padding):
    return jax.lax.conv_general_dilated(inputs, kernel, strides, padding, dimension_numbers=DIMENSIONS)


def draw(seed: int, *shape: int, dtype=jnp.float64):
    return jax.random.normal(jax.random.key(seed), shape, dtype)


@pytest.mark.fast("image2-kernel2-strides2-padding2-True")
@pytest.mark.quick
@pytest.mark.parametrize("loops", [False, True])
@pytest.mark.parametrize(
    ("image", "kernel", "strides", "padding"),
    [
        ((2, 8, 8, 3), (3, 3, 3, 4), (1, 1), ((1, 1), (1, 1))),
        ((2, 7, 5, 6), (3, 3, 6, 2), (1, 1), "SAME"),
        ((2, 9, 8, 6), (3, 3, 6, 2), (2, 2), ((1, 1), (1, 1))),
        ((1, 8, 7, 5), (1, 1, 5, 3), (2, 2), ((0, 0), (0, 0))),
        ((2, 6, 6, 1), (3, 3, 1, 4), (1, 1), ((3, 3), (3, 3))),
        ((2, 9, 9, 5), (5, 5, 5, 2), (2, 1), "VALID"),
        ((2, 8, 8, 5), (2, 4, 5, 3), (3, 2), ((0, 1), (2, 1))),
    ],
)
def test_convolution_is_laxs(x64, loops, image, kernel, strides, padding):
    x, k = draw(0, *image), draw(1, *kernel)
    reference, references = jax.vjp(lambda x, k: native(x, k, strides, padding), x, k)
    tangents, cotangent = (draw(2, *image), draw(3, *kernel)), draw(4, *reference.shape)

    def ours(x, k):
        return backend.convolve(x, k, strides, padding)

    with backend.looping() if loops else contextlib.nullcontext():
        result, pull = jax.vjp(ours, x, k)
        gradients = pull(cotangent)
        _, pushed = jax.jvp(ours, (x, k), tangents)
    _, expected = jax.jvp(lambda x, k: native(x, k, strides, padding), (x, k), tangents)
    for got, want in [(result, reference), *zip(gradients, references(cotangent), strict=True), (pushed, expected)]:
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


@pytest.mark.quick
@pytest.mark.parametrize("length", [0, 3, backend.UNROLL_LIMIT, backend.UNROLL_LIMIT + 1])
def test_loop_is_fori_loop(length):
    def body(i, state):
        return {"x": jnp.sin(state["x"]) + i, "n": state["n"] + 1}

    state = {"x": jnp.arange(3.0), "n": jnp.zeros((), jnp.int32)}
    expected = jax.lax.fori_loop(0, length, body, state)
    known, traced = backend.loop(length, body, state), jax.jit(lambda n: backend.loop(n, body, state))(length)
    for result in (known, traced):
        np.testing.assert_allclose(result["x"], expected["x"], rtol=1e-6)
        assert int(result["n"]) == length


@pytest.mark.quick
@pytest.mark.parametrize("limit", [5, backend.UNROLL_LIMIT + 6])
@pytest.mark.parametrize("needed", [0, 4, 1000])
def test_bounded_while_is_while_loop_up_to_its_limit(limit, needed):
    def bounded(needed):
        return backend.bounded_while(limit, lambda s: s[0] < needed, lambda s: (s[0] + 1, 2 * s[1]), (0, 1.0))

    rounds = min(limit, needed)
    np.testing.assert_array_equal(jax.jit(bounded)(needed), (rounds, 2.0**rounds))


@pytest.mark.quick
def test_map_is_vmap(x64):
    xs = {"a": draw(0, 4, 3), "b": draw(1, 4)}

    def fn(x):
        return {"sum": x["a"].sum() * x["b"], "a": x["a"] + x["b"]}

    for name, value in jax.vmap(fn)(xs).items():
        np.testing.assert_allclose(backend.map(fn, xs)[name], value, rtol=1e-12)


@pytest.mark.quick
@pytest.mark.parametrize("chunk", [1, 3, 5, 10, 64])
def test_chunked_map_is_one_call(x64, chunk):
    xs = (draw(0, 10, 2), draw(1, 10))

    def fn(batch):
        return {"y": jnp.tanh(batch[0]) * batch[1][:, None]}

    np.testing.assert_allclose(backend.chunked_map(fn, xs, chunk)["y"], fn(xs)["y"], rtol=1e-12)


@pytest.mark.quick
def test_cond_is_laxs():
    for condition in (True, False):
        result = jax.jit(lambda c, x: backend.cond(c, jnp.sin, jnp.cos, x))(condition, 0.3)
        assert float(result) == pytest.approx(float(np.sin(0.3) if condition else np.cos(0.3)), rel=1e-6)


@pytest.mark.quick
def test_looping_is_known_inside_bodies_only():
    seen = []

    def body(i, x):
        seen.append(backend.unrolls(1))
        return x

    jax.jit(lambda n: backend.loop(n, body, 0))(3)
    assert seen == [False] * len(seen)
    assert seen
    assert backend.unrolls(1) == backend.on_cpu()


# What the compiled programs hold.


@pytest.mark.slow
@pytest.mark.quick
@on_cpu_only
def test_the_parser_sees_convolutions():
    x, k = draw(0, 2, 8, 8, 8, dtype=jnp.float32), draw(1, 3, 3, 8, 8, dtype=jnp.float32)

    def step(x):
        return native(x, k, (1, 1), "SAME")

    outside = hlo.program(step, x)
    looped = hlo.program(lambda x, n: jax.lax.fori_loop(0, n, lambda i, y: jnp.tanh(step(y)), x), x, 5)
    branched = hlo.program(lambda x, n: jax.lax.cond(n > 3, step, lambda x: x, x), x, 5)
    nested = hlo.program(
        lambda x, n: jax.lax.fori_loop(
            0, n, lambda i, y: jax.lax.switch(i % 3, [step, jnp.sin, lambda z: step(step(z))], y), x
        ),
        x,
        5,
    )
    assert len(hlo.convolutions(outside)) == 1
    assert hlo.convolutions_under_control_flow(outside) == []
    assert len(hlo.convolutions_under_control_flow(looped)) == 1
    assert len(hlo.convolutions_under_control_flow(branched)) == 1
    assert len(hlo.convolutions_under_control_flow(nested)) == 3
    assert hlo.grouped_convolutions(looped) == []


@pytest.mark.slow
@pytest.mark.quick
@on_cpu_only
def test_the_parser_sees_groups():
    xs, ks = draw(0, 2, 2, 8, 8, 8, dtype=jnp.float32), draw(1, 2, 3, 3, 8, 8, dtype=jnp.float32)
    text = hlo.program(jax.vmap(lambda x, k: native(x, k, (1, 1), "SAME")), xs, ks)
    assert len(hlo.grouped_convolutions(text)) == 1
    assert hlo.convolutions_under_control_flow(text) == []


@pytest.fixture(scope="module")
def small():
    """A network, three stacked draws of its variables, images and targets."""
    network = models.build("conv", image_shape=(16, 16, 3), classes=4, width=8, depth=2, softplus_temp=60.0)
    init = jax.jit(network.init)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(init(jax.random.key(seed)) for seed in range(3)))
    images = jax.random.normal(jax.random.key(1), (6, 16, 16, 3))
    return network, stacked, images, jax.nn.one_hot(jnp.arange(6) % 4, 4)


def training(network, images, targets):
    """One gradient step of a network, as `(i, variables) -> variables`."""

    def loss(variables):
        return jnp.mean(jnp.square(network.apply(variables, images, train=True).logits - targets))

    def step(i, variables):
        return jax.tree.map(lambda v, g: v - 0.1 * g, variables, jax.grad(loss)(variables))

    return step


@pytest.mark.slow
@on_cpu_only
def test_training_in_a_loop_of_unknown_length_has_no_native_convolution(small):
    network, stacked, images, targets = small
    step = training(network, images, targets)

    def train(variables, length):
        return backend.loop(length, step, variables)

    variables = jax.tree.map(lambda leaf: leaf[0], stacked)
    text = hlo.program(train, variables, 7)
    assert hlo.convolutions_under_control_flow(text) == []
    assert hlo.grouped_convolutions(text) == []

    def unaware(variables, length):
        return jax.lax.fori_loop(0, length, step, variables)

    assert hlo.convolutions_under_control_flow(hlo.program(unaware, variables, 7))  # the test above can fail
    results = jax.jit(train)(variables, 3), backend.loop(3, step, variables)
    for got, want in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@on_cpu_only
def test_training_under_a_condition_has_no_native_convolution(small):
    network, stacked, images, targets = small
    step = training(network, images, targets)
    variables = jax.tree.map(lambda leaf: leaf[0], stacked)
    text = hlo.program(lambda v, c: backend.cond(c, lambda v: step(0, v), lambda v: v, v), variables, True)
    assert hlo.convolutions_under_control_flow(text) == []


@pytest.mark.slow
@on_cpu_only
def test_a_gradient_through_a_loop_has_no_native_convolution_in_it(small):
    network, stacked, images, targets = small
    variables = jax.tree.map(lambda leaf: leaf[0], stacked)

    def outer(images):
        trained = backend.loop(backend.UNROLL_LIMIT + 1, training(network, images, targets), variables)
        return network.apply(trained, images).logits.sum()

    text = hlo.program(jax.grad(outer), images)
    assert hlo.convolutions_under_control_flow(text) == []
    assert hlo.grouped_convolutions(text) == []


@pytest.mark.slow
@on_cpu_only
def test_networks_of_different_weights_make_no_grouped_convolution(small):
    network, stacked, images, targets = small
    step = training(network, images, targets)
    mapped = hlo.program(lambda stacked: backend.map(lambda v: step(0, v), stacked), stacked)
    assert hlo.convolutions(mapped)  # unrolled, they stay native
    assert hlo.grouped_convolutions(mapped) == []
    assert hlo.convolutions_under_control_flow(mapped) == []
    assert hlo.grouped_convolutions(hlo.program(jax.vmap(lambda v: step(0, v)), stacked))  # what map avoids


@pytest.mark.slow
@on_cpu_only
def test_an_unrolled_short_loop_keeps_native_convolutions(small):
    network, stacked, images, targets = small
    variables = jax.tree.map(lambda leaf: leaf[0], stacked)
    text = hlo.program(lambda v: backend.loop(2, training(network, images, targets), v), variables)
    assert hlo.convolutions(text)
    assert hlo.convolutions_under_control_flow(text) == []


@on_cpu_only
def test_chunks_have_no_native_convolution(small):
    network, stacked, images, _ = small
    variables = jax.tree.map(lambda leaf: leaf[0], stacked)
    text = hlo.program(lambda x: backend.chunked_map(lambda x: network.apply(variables, x).logits, x, 2), images)
    assert hlo.convolutions_under_control_flow(text) == []


class TestCompilationCache:
    @pytest.fixture(autouse=True)
    def nowhere(self, monkeypatch):
        """A user of whom nothing is known, and a JAX that is left as it is."""
        for name in ("HOME", "XDG_CACHE_HOME"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr("pwd.getpwuid", lambda number: (_ for _ in ()).throw(KeyError(number)))
        self.told = []
        monkeypatch.setattr(backend.jax.config, "update", lambda *words: self.told.append(words))

    def test_it_lies_in_the_users_cache_folder(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        for folder, given in ((tmp_path / ".cache/jaxdd/xla", None), (tmp_path / "named", tmp_path / "named")):
            assert backend.use_compilation_cache(given) == folder and folder.is_dir()
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
        assert backend.use_compilation_cache() == tmp_path / "xdg/jaxdd/xla"
        assert [path for _, path in self.told] == [
            str(tmp_path / p) for p in (".cache/jaxdd/xla", "named", "xdg/jaxdd/xla")
        ]

    def test_without_a_home_or_where_it_cannot_be_there_is_none(self, tmp_path, monkeypatch):
        assert backend.use_compilation_cache() is None
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("HOME", str(tmp_path / "file"))
        assert backend.use_compilation_cache() is None and not self.told
