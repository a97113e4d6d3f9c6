"""The ConvNet against the plain Flax module of the oracles and against numbers from the original PyTorch network."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd import models
from jaxdd.core import backend
from tests.oracles import convnet as oracle


@pytest.mark.slow
@pytest.mark.quick
@pytest.mark.parametrize(
    ("shape", "depth", "batch_norm", "loops"),
    [
        ((8, 8, 3), 3, True, False),
        ((8, 8, 3), 3, True, True),
        ((28, 28, 1), 1, False, False),
        ((9, 12, 3), 2, False, False),
    ],
)
def test_it_is_the_oracles_network(x64, shape, depth, batch_norm, loops):
    options = {"depth": depth, "width": 4, "softplus_temp": 60.0}
    normalization = "batch" if batch_norm else "identity"
    network = models.build("conv", image_shape=shape, classes=3, normalization=normalization, **options)
    reference = oracle.apply_fn(oracle.ConvNet(3, batch_norm=batch_norm, **options))
    variables = network.init(jax.random.key(0), jnp.float64)
    images = jax.random.normal(jax.random.key(1), (5, *shape), jnp.float64)

    def ours(params, images):
        outputs = network.apply({**variables, "params": params}, images, train=True)
        return outputs.logits, outputs.features, outputs.variables.get("batch_stats")

    def theirs(params, images):
        return reference({**variables, "params": params}, images, train=True)

    def with_gradients(apply):
        def run(params, images):
            results, pull = jax.vjp(apply, params, images)
            return results, pull(jax.tree.map(lambda x: jnp.cos(jnp.arange(x.size)).reshape(x.shape), results))

        return jax.jit(run)(variables["params"], images)

    with backend.looping(loops):
        results = with_gradients(ours), with_gradients(theirs)
    assert (results[0][0][2] is None) == (not batch_norm)
    for a, b in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.quick
def test_it_is_the_network_of_condensation(x64):
    """Logits that the authors' PyTorch ConvNet of IDC (arXiv 2205.14959) gives for sinusoidal weights and images."""
    network = models.build(
        "conv",
        image_shape=(8, 8, 3),
        classes=3,
        width=4,
        depth=3,
        widening=False,
        normalization="instance",
        norm_epsilon=1e-5,
    )

    def wave(tensor, *shape):
        return np.sin(0.7 * np.arange(np.prod(shape)) + tensor).reshape(shape)

    params = {}
    for i, inputs in enumerate((3, 4, 4)):
        kernel, bias = 0.3 * wave(2 * i, 4, inputs, 3, 3), 0.3 * wave(2 * i + 1, 4)
        params[f"Conv_{i}"] = {"kernel": kernel.transpose(2, 3, 1, 0), "bias": bias}
        params[f"GroupNorm_{i}"] = {"scale": 1 + 0.1 * wave(6 + 2 * i, 4), "bias": 0.3 * wave(7 + 2 * i, 4)}
    params["Dense_0"] = {"kernel": 0.3 * wave(12, 3, 4).T, "bias": 0.3 * wave(13, 3)}
    images = np.sin(0.9 * np.arange(4 * 3 * 8 * 8)).reshape(4, 3, 8, 8).transpose(0, 2, 3, 1)
    logits = network.apply({"params": jax.tree.map(jnp.asarray, params)}, jnp.asarray(images)).logits
    np.testing.assert_allclose(logits[0], [0.3402156247, 0.1580695680, 0.2898249414], atol=5e-10)
    loss = -jax.nn.log_softmax(logits)[:, 1].mean()
    assert float(loss) == pytest.approx(1.2039967327, abs=5e-10)
