"""The DenseNet for CIFAR against its layers written out in NumPy; published sizes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd import models
from jaxdd.models.densenet import LAYOUT, DenseNet
from tests.models import plain
from tests.models.test_registry import size

SHORT = (2, 1, 1, 2)


@pytest.mark.slow
@pytest.mark.quick
@pytest.mark.parametrize(("classes", "count"), [(10, 1_000_618), (100, 1_035_268)])
def test_published_sizes(classes, count):
    network = models.build("densenet", image_shape=(32, 32, 3), classes=classes)
    assert size(network) == count
    assert network.feature_size == 384
    kernels = [
        leaf.shape
        for leaf in jax.tree.leaves(jax.eval_shape(network.init, jax.random.key(0))["params"])
        if leaf.ndim > 1
    ]
    assert len(kernels) == 2 * sum(LAYOUT) + 3 + 2 == 121


@pytest.mark.slow
@pytest.mark.quick
def test_it_is_its_layers_written_out(x64):
    network = models.Network(DenseNet(3, width=22, layout=SHORT), (16, 16, 3))  # a growth of 2
    variables = plain.variables(network)
    params = variables["params"]
    images = np.random.default_rng(1).normal(size=(3, 16, 16, 3))
    outputs = jax.jit(lambda v, x: network.apply(v, x, train=True))(variables, jnp.asarray(images))

    layer = iter(range(100))

    def composite(x, activate=True):
        """The next normalisation, ReLU and convolution."""
        index = next(layer)
        x = plain.relu(plain.normalize(x, params, index - 1)) if activate else x
        return plain.convolve(x, params[f"Conv_{index}"])

    x = composite(images, activate=False)
    blocks = [x]
    for stage, count in enumerate(SHORT):
        if stage:
            x = plain.average_pool(composite(x), 2)
            blocks.append(x)
        for _ in range(count):
            new = composite(composite(x))
            assert new.shape[-1] == 2
            x = np.concatenate([new, x], -1)
    blocks += [x, plain.relu(plain.normalize(x, params, next(layer) - 1)).mean((1, 2))]
    for found, wanted in zip(outputs.blocks, blocks, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-8, atol=1e-9)
    logits = plain.linear(blocks[-1], params["Dense_0"])
    np.testing.assert_allclose(outputs.logits, logits, rtol=1e-8, atol=1e-9)
