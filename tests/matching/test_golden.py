"""The losses of DC, DM, IDC, DREAM+ and GA-DD against numbers that the authors' code gave in float64.

One ConvNet (depth 3, width 4, instance normalisation) on 8x8 images of 3 channels and 3 classes, every parameter and
pixel a sine of its place. The authors' tensors are NCHW and OIHW; ours are transposed here.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd import models
from jaxdd.matching.distances import feature_distance, gradient_distance, moments

NETWORK = models.build(
    "conv",
    image_shape=(8, 8, 3),
    classes=3,
    width=4,
    depth=3,
    widening=False,
    normalization="instance",
    norm_epsilon=1e-5,
)

# name -> loss, norm of its derivative in the synthetic images, that derivative at image 0, channel 0, row 0, column 0
GOLDEN = {
    "IDC mse": (0.0115033296, 0.0807051744, 5.9938280e-05),
    "IDC l1": (1.3962072309, 7.4788120294, 9.5105795e-03),  # the last: 9.510579500518e-03 in PyTorch and here
    "IDC l1_mean": (0.0418784310, 0.2788953156, 1.2526412e-04),
    "IDC cos": (10.9769288893, 10.5748620371, 1.6200908e-01),
    "IDC mse, fc": (0.0116639989, 0.0727902667, 3.3387569e-05),
    "IDC mse, fc, bias": (0.0117075558, 0.0714760891, 3.0823271e-05),
    "DC ours": (10.9769717293, 10.5745671708, 1.6202063e-01),
    "DC cos": (0.0042939043, 0.0276531656, 1.6604496e-05),
    "DM": (0.0001809056, 0.0101050143, -3.4094223e-05),
    "IDC features 0..2": (8.2764206377, 19.0228991937, 1.3850064e00),
    "DREAM+": (0.0116842352, 0.0716581097, 2.5844057e-05),
    "GA stage 1": (0.0135236746, 0.0847934702, 1.5682057e-04),
    "GA stage 2, as released": (0.0138401767, 0.0950154738, 6.5107092e-05),
    "GA stage 2, sum over layers": (1.6667874572, 3.7884433614, 2.7706122e-01),
}
GRADIENTS = {
    "IDC mse": ("mse", {}),
    "IDC l1": ("l1", {}),
    "IDC l1_mean": ("l1_mean", {}),
    "IDC cos": ("cos", {}),
    "IDC mse, fc": ("mse", {"fc": True}),
    "IDC mse, fc, bias": ("mse", {"fc": True, "bias": True}),
    "DC ours": ("ours", {}),
    "DC cos": ("vector_cos", {}),
}


LABELS = np.array([1, 2], np.int32)  # the class's own, and the shifted one


def sine(shape, tensor, scale=0.3, offset=0.0):
    """Element k, in the authors' order, of their tensor number `tensor`."""
    return offset + scale * np.sin(0.7 * np.arange(np.prod(shape)) + tensor).reshape(shape)


def setting(dtype):
    """`(variables, real, synthetic)` in `dtype`."""
    params = {}
    for block, inputs in enumerate((3, 4, 4)):
        kernel = sine((4, inputs, 3, 3), 2 * block).transpose(2, 3, 1, 0)
        params[f"Conv_{block}"] = {"kernel": kernel, "bias": sine(4, 2 * block + 1)}
        scale, bias = sine(4, 6 + 2 * block, 0.1, 1.0), sine(4, 7 + 2 * block)
        params[f"GroupNorm_{block}"] = {"scale": scale, "bias": bias}
    params["Dense_0"] = {"kernel": sine((3, 4), 12).T, "bias": sine(3, 13)}
    pixels = np.arange(4 * 3 * 8 * 8)
    real = np.sin(0.9 * pixels).reshape(4, 3, 8, 8).transpose(0, 2, 3, 1)
    synthetic = np.sin(1.3 * pixels[: len(pixels) // 2] + 0.5).reshape(2, 3, 8, 8).transpose(0, 2, 3, 1)
    variables = {"params": params}
    shapes = jax.tree.map(jnp.shape, jax.eval_shape(NETWORK.init, jax.random.key(0)))
    assert jax.tree.map(np.shape, variables) == shapes
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), (variables, real, synthetic))


def losses(synthetic, variables, real):
    """Every loss of the table."""

    (g_real, other_real), means_real = moments(NETWORK, variables, real, LABELS, (0, 1, 2))
    (g, other), means = moments(NETWORK, variables, synthetic, LABELS, (0, 1, 2))
    found = {name: gradient_distance(g_real, g, metric, **layers) for name, (metric, layers) in GRADIENTS.items()}
    shifted = gradient_distance(other_real, other, "mse")
    last = feature_distance(means_real[2:], means[2:], "mse")
    every = feature_distance(means_real, means, "mse")
    return found | {
        "DM": last,
        "IDC features 0..2": every,
        "DREAM+": found["IDC mse"] + last,
        "GA stage 1": found["IDC mse"] + shifted,
        # The released code's accumulator starts anew at each layer, from the gradients' distance: the last one remains.
        "GA stage 2, as released": 1.2 * found["IDC mse"] + 0.2 * last,
        "GA stage 2, sum over layers": found["IDC mse"] + 0.2 * every,
    }


@pytest.fixture(scope="module")
def computed():
    """In one type, computed once: the losses, and their derivatives in the synthetic images."""

    @functools.cache
    def table(dtype):
        variables, real, synthetic = setting(dtype)
        program = jax.jit(lambda *given: (losses(*given), jax.jacrev(losses)(*given)))
        return program(synthetic, variables, real)

    return table


@pytest.mark.slow
@pytest.mark.quick
@pytest.mark.parametrize("name", GOLDEN)
def test_loss_to_the_last_printed_digit(name, computed, x64):
    found, slopes = computed(jnp.float64)
    loss, norm, corner = GOLDEN[name]
    assert abs(found[name] - loss) < 0.51e-10
    assert abs(jnp.linalg.norm(slopes[name]) - norm) < 0.51e-10
    unit = 1e-7 * 10 ** np.floor(np.log10(abs(corner)))
    assert abs(slopes[name][0, 0, 0, 0] - corner) < 0.51 * unit


@pytest.mark.slow
@pytest.mark.quick
def test_float32_keeps_five_digits(computed):
    found, slopes = computed(jnp.float32)
    assert found.keys() == GOLDEN.keys()
    for name, (loss, norm, corner) in GOLDEN.items():
        assert found[name].dtype == slopes[name].dtype == jnp.float32
        np.testing.assert_allclose(found[name], loss, rtol=1e-5, atol=5e-7, err_msg=name)  # 1 - cosine cancels
        np.testing.assert_allclose(jnp.linalg.norm(slopes[name]), norm, rtol=1e-5, err_msg=name)
        np.testing.assert_allclose(slopes[name][0, 0, 0, 0], corner, rtol=0, atol=1e-5 * norm, err_msg=name)


@pytest.mark.slow
@pytest.mark.quick
def test_network_is_the_authors(x64):
    variables, real, synthetic = setting(jnp.float64)
    apply = jax.jit(lambda images: NETWORK.apply(variables, images).logits)
    logits, of_synthetic = apply(real), apply(synthetic)
    np.testing.assert_allclose(logits[0], [0.3402156247, 0.1580695680, 0.2898249414], rtol=0, atol=0.51e-10)
    for found, expected in ((logits, 1.2039967327), (of_synthetic, 1.2078055310)):
        entropy = -jax.nn.log_softmax(found)[:, 1].mean()
        np.testing.assert_allclose(entropy, expected, rtol=0, atol=0.51e-10)
