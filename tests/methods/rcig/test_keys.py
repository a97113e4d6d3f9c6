"""Every key of the authors' configuration files: its effect against the literal oracle, or its refusal.

Under `pcg` and `dense` the oracle solves the inner problem exactly through an explicit Hessian. Here are the keys of
the gradients and solvers; those of the set, the networks and the run are in `keys.py`.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd.core.random import purpose_key
from jaxdd.data.device.sampling import sample
from jaxdd.methods.rcig import solve as solving
from jaxdd.methods.rcig.method import RCIG
from jaxdd.methods.rcig.solve import draw
from jaxdd.run.settings import RunSettings
from tests.methods.rcig import tiny
from tests.methods.rcig.keys import CHECKS, PLAIN, recorded, refused, shows
from tests.oracles import rcig_literal

TOLERANCE = 1e-10
KEYS = (
    "direct_batch_sizes",
    "implicit_batch_size",
    "hinv_batch_size",
    "inner_train_batch_size",
    "pool_train_batch_size",
    "max_forward_batch_size",
    "do_precompute",
    "normal_repeats",
    "aug",
    "aug_repeats",
    "has_bn",
    "linearize",
    "learn_labels",
    "use_flip",
    "softplus_temp",
    "checkpoint_iters",
    "naive_loss",
    "use_x64",
    "skip_tune",
    "init_random_noise",
    "n_inner_steps",
    "n_hinv_steps",
)
UNCOMPILED = ("do_precompute", "aug", "aug_repeats", "linearize", "learn_labels", "use_flip", "softplus_temp")
UNCOMPILED += ("checkpoint_iters", "naive_loss", "use_x64")


@pytest.mark.fast("implicit_batch_size", *UNCOMPILED)
@pytest.mark.parametrize("key", KEYS)
def test_key(key, request):
    if key != "init_random_noise":  # which is about drawing, in the type of a run
        request.getfixturevalue("x64")
    owners = [cls for cls in (RCIG, RunSettings) if key in {field.name for field in dataclasses.fields(cls)}]
    assert len(owners) == 1
    CHECKS[key]()


def equals_oracle(of: RCIG, *, like: RCIG | None = None, tolerance: float = TOLERANCE):
    """Its meta-gradient is the oracle's for its own random choices, or for those of another method."""
    found, expected = tiny.found(of), tiny.oracle(like or of)
    np.testing.assert_allclose(found.metrics["loss"], expected["loss"], rtol=tolerance)
    assert tiny.difference(found.direct, expected["direct"]) <= tolerance
    assert tiny.difference(found.implicit, expected["implicit"]) <= tolerance


SAMPLED = tiny.method(direct_batch_sizes=(4, 3), implicit_batch_size=4)


@shows
def check_direct_batch_sizes():
    (rows,) = tiny.draws(SAMPLED).direct
    assert len(set(rows.synthetic.tolist())) == 4 and set(rows.synthetic.tolist()) <= set(range(6))
    assert len(set(rows.real.tolist())) == 3 and set(rows.real.tolist()) <= set(range(5))
    (only_real,) = tiny.draws(tiny.method(direct_batch_sizes=(None, 3))).direct
    assert only_real.synthetic is None and only_real.real.shape == (3,)
    equals_oracle(SAMPLED)
    assert tiny.difference(tiny.found(SAMPLED).direct, tiny.oracle(PLAIN)["direct"]) > 0.01
    np.testing.assert_allclose(tiny.found(SAMPLED).metrics["loss"], tiny.oracle(PLAIN)["loss"], rtol=1e-12)
    recorded("subsampled", direct_batch_sizes=[8, 10])


@shows
def check_implicit_batch_size():
    (rows,) = tiny.draws(SAMPLED).implicit
    assert len(set(rows.tolist())) == 4
    equals_oracle(SAMPLED)
    left_out = np.setdiff1d(np.arange(3), np.asarray(rows) % 3)
    changed = tiny.found(SAMPLED).implicit.images.any((1, 2, 3))
    assert changed.sum() == 3 - len(left_out) and not changed[left_out].any()
    assert np.shape(recorded("subsampled", implicit_batch_size=7)["implicit"]) == (2, 7)


@shows
def check_normal_repeats():
    twice = dataclasses.replace(SAMPLED, normal_repeats=2)
    first, second = tiny.draws(twice).direct
    assert first.synthetic.tolist() != second.synthetic.tolist()
    assert [rows.shape for rows in tiny.draws(twice).implicit] == [(4,), (4,)]
    equals_oracle(twice)
    recorded("subsampled", normal_repeats=2)


def is_a_chunk_size(**setting):
    """Under pcg the full operator is applied in chunks: the result is that without them."""
    exact = {"inner_solver": "pcg", "solver_steps": 60, "solver_tolerance": 1e-13}
    chunked = tiny.method(**exact, **setting)
    assert tiny.traced(chunked) != tiny.traced(tiny.method(**exact))
    assert tiny.draws(chunked).inner is None and tiny.draws(chunked).hinv is None
    return chunked


@shows
def check_inner_train_batch_size():
    equals_oracle(is_a_chunk_size(inner_train_batch_size=4), like=PLAIN, tolerance=1e-8)
    indices = recorded("subsampled", inner_train_batch_size=9)
    by_adam = tiny.draws(tiny.method(inner_solver="adam", inner_train_batch_size=4))
    assert np.shape(indices["inner"]) == (20, 9) and by_adam.inner.shape == (20, 4)


@shows
def check_hinv_batch_size():
    same = is_a_chunk_size(inner_train_batch_size=4)
    assert tiny.traced(is_a_chunk_size(hinv_batch_size=4)) == tiny.traced(same)  # the smaller of the two is the chunk
    assert tiny.traced(is_a_chunk_size(hinv_batch_size=4, inner_train_batch_size=5)) == tiny.traced(same)
    indices = recorded("subsampled", hinv_batch_size=6)
    by_adam = tiny.draws(tiny.method(inner_solver="adam", hinv_batch_size=4))
    assert np.shape(indices["hinv"]) == (20, 6) and by_adam.hinv.shape == (20, 4)


@shows
def check_max_forward_batch_size():
    chunked = dataclasses.replace(SAMPLED, max_forward_batch_size=2)
    assert tiny.traced(chunked) != tiny.traced(SAMPLED)
    equals_oracle(chunked, like=SAMPLED)
    recorded("subsampled", max_forward_batch_size=5)


@shows
def check_do_precompute():
    precomputing = dataclasses.replace(SAMPLED, do_precompute=True)
    assert tiny.traced(precomputing) == tiny.traced(SAMPLED)  # a matter of cost only, and always done
    recorded("subsampled", do_precompute=True)


@shows
def check_linearize():
    refused("linearize", False)
    recorded("nonlinear", linearize=False)


@shows
def check_naive_loss():
    refused("naive_loss", True)
    recorded("naive", naive_loss=True)


@shows
def check_use_x64():
    single = jax.tree.map(
        lambda leaf: leaf.astype(jnp.float32) if leaf.dtype == jnp.float64 else leaf, tiny.arguments(PLAIN)
    )

    def kernel_types(method: RCIG):
        def run(*given):
            return method.meta_gradient(tiny.network(method), *given)

        gradient = jax.eval_shape(run, *single).total
        assert {leaf.dtype for leaf in jax.tree.leaves(gradient)} == {np.dtype("float32")}
        return "f64[6,6]" in str(jax.make_jaxpr(run)(*single))

    assert kernel_types(tiny.method(use_x64=True))
    assert not kernel_types(tiny.method(use_x64=False))


STEPS = tiny.method(
    inner_solver="adam",
    n_inner_steps=3,
    n_hinv_steps=2,
    skip_tune=True,
    inner_learning_rate=1e-3,
    hvp_learning_rate=0.1,
)


def adam_against_the_oracle():
    """The engine's and the oracle's outer step with few Adam steps."""
    ours = tiny.found(STEPS)
    rates = {"inner_lr": STEPS.inner_learning_rate, "hvp_lr": STEPS.hvp_learning_rate}
    config = tiny.literal_config(**rates, n_inner_steps=STEPS.n_inner_steps, n_hinv_steps=STEPS.n_hinv_steps)
    member = tiny.member_of(STEPS)
    model = rcig_literal.PoolModel(member.params, member.optimizer, None)
    stored = tiny.synthetic()
    coreset = rcig_literal.new_coreset(stored.images, stored.labels, config)
    coreset.params["log_temp"] = stored.log_temperature

    @jax.jit
    def literal(model, coreset, real):
        return rcig_literal.outer_step(
            tiny.apply_of(), config, model, coreset, real, rcig_literal.Draws(0, jnp.asarray(1))
        )[2]

    return ours, literal(model, coreset, tiny.literal_batch())


@shows
def check_n_inner_steps():
    ours, literal = adam_against_the_oracle()
    assert ours.losses.shape == (3,)
    np.testing.assert_allclose(ours.losses, literal["inner_losses"], rtol=TOLERANCE)
    assert tiny.difference(ours.direct, literal["direct"]) <= TOLERANCE
    assert tiny.difference(ours.direct, tiny.oracle(PLAIN)["direct"]) > 1e-3  # three steps are not the solution
    assert tiny.traced(tiny.method(n_inner_steps=3)) == tiny.traced(PLAIN)  # the exact solvers know no such steps


@shows
def check_n_hinv_steps():
    ours, literal = adam_against_the_oracle()
    assert ours.residuals.shape == (2,)
    np.testing.assert_allclose(ours.residuals, literal["residuals"], rtol=TOLERANCE)
    assert tiny.difference(ours.implicit, literal["implicit"]) <= TOLERANCE
    assert tiny.traced(tiny.method(n_hinv_steps=3)) == tiny.traced(PLAIN)


@shows
def check_skip_tune():
    key, data = jax.random.key(5), tiny.examples()
    tuned = jax.jit(dataclasses.replace(STEPS, skip_tune=False).init)(key, data)
    skipped = jax.jit(STEPS.init)(key, data)
    assert (float(skipped.rates.inner), float(skipped.rates.hvp)) == (1e-3, 0.1)
    assert (RCIG().inner_learning_rate, RCIG().hvp_learning_rate) == (1e-5, 5e-5)  # where tuning starts by default
    own = purpose_key(key, "tune")
    batch = sample(data, STEPS.batch_rule, own)
    drawn = draw(STEPS, own, stored=tiny.STORED, real=tiny.REAL)
    member = jax.tree.map(lambda leaf: leaf[0], tuned.pool)

    def statuses(**rates):
        state = skipped._replace(rates=skipped.rates._replace(**{k: jnp.asarray(v) for k, v in rates.items()}))
        found = tiny.compiled(STEPS)(member, state, batch, drawn)
        return int(solving.status(found.losses)), int(solving.status(found.residuals))

    inner, hvp = float(tuned.rates.inner), float(tuned.rates.hvp)
    failing_inner, failing_hvp = inner / 0.84, hvp / 0.84  # final = 0.84 x first failing
    assert statuses(inner=failing_inner / 1.2)[0] == 1 != statuses(inner=failing_inner)[0]
    assert statuses(inner=inner, hvp=failing_hvp / 1.2)[1] == 1 != statuses(inner=inner, hvp=failing_hvp)[1]


@pytest.mark.slow
def test_a_run_with_use_x64_starts_with_as_many_images_of_every_class(x64):
    start = jax.jit(tiny.method(n_images=10).init)(jax.random.key(0), tiny.examples(90)).synthetic
    np.testing.assert_allclose(start.labels, np.repeat(np.eye(3), 10, 0) - 1 / 3, rtol=1e-12)
