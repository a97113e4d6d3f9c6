"""The precision policy: words, and contexts that end."""

import jax
import jax.numpy as jnp
import pytest

from jaxdd.core import backend, precision
from jaxdd.core.errors import UsageError

pytestmark = pytest.mark.quick


def test_words_name_the_types_of_activations():
    assert precision.activations("float32") is None
    assert precision.activations("bfloat16") == jnp.bfloat16
    with pytest.raises(UsageError, match="float32"):
        precision.activations("tf32")  # pyright: ignore[reportArgumentType]


def test_exact_products_are_exact_inside_only_also_after_an_error():
    before = jax.config.jax_default_matmul_precision
    with pytest.raises(ZeroDivisionError), precision.exact_products():
        with precision.exact_products():
            assert precision.exact()
        assert precision.exact()
        traced = jax.make_jaxpr(lambda x: x @ x)(jnp.ones((2, 2)))
        raise ZeroDivisionError
    assert "HIGHEST" in str(traced).upper()
    assert not precision.exact() and jax.config.jax_default_matmul_precision == before
    assert backend.exact_products is precision.exact_products


@pytest.mark.parametrize("enabled", [False, True])
def test_float64_is_possible_inside_if_enabled(enabled):
    with precision.float64(enabled):
        assert jnp.zeros(1, jnp.float64 if enabled else jnp.float32).dtype == ("float64" if enabled else "float32")
        assert jnp.zeros(1, "float32").dtype == "float32"
    assert not jax.config.jax_enable_x64
