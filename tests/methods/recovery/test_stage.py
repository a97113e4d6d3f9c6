"""The recovery against a literal loop in float64, and what must not matter: pieces, chunks, stages, dispatches."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd.augment import shared
from jaxdd.core import backend
from jaxdd.core.errors import ConfigError
from jaxdd.core.random import key_for, purpose_key
from jaxdd.methods.recovery import plan
from jaxdd.methods.recovery.objective import objective
from jaxdd.methods.recovery.settings import Recovery
from jaxdd.run import loop
from tests.methods.recovery import tiny
from tests.oracles import sre2l_literal as literal

EVERYTHING = {"tv_l2": 0.01, "l2_scale": 0.02, "ce_weight": 0.7, "first_bn_multiplier": 7.0}
WEIGHTS = literal.Weights(ce=0.7, bn=0.05, first=7.0, tv=0.01, norm=0.02)


def drawn(procedure, iteration, group=0):
    """What the engine draws for an iteration of a group, from the keys that its rules name."""
    of = procedure.settings
    key = jax.random.fold_in(jax.random.fold_in(tiny.key(iteration - procedure.stage.first), iteration), group)
    shape = (1, procedure.stage.size, procedure.stage.size, 3)
    least = literal.min_scale(iteration, of.iterations, of.easy2hard_mode, of.milestone)
    box = shared.draw_box(purpose_key(key, "crop"), shape, (jnp.float32(least), 1.0))
    coin = jax.random.bernoulli(purpose_key(key, "flip"))
    roll = shared.draw_roll(purpose_key(key, "roll"), of.jitter, of.jitter_signed)
    return literal.Draw(tuple(int(each) for each in box), bool(coin), tuple(int(each) for each in roll))


@pytest.mark.slow
@pytest.mark.quick
@pytest.mark.parametrize("rows", [6, 4])
def test_loss_and_slope_are_literal_in_pieces_of_any_size(rows, x64, monkeypatch):
    monkeypatch.setattr(backend, "rows_at_once", lambda count: rows)
    data, settings, network = tiny.examples(6, np.float64), Recovery(**{**tiny.GIVEN, **EVERYTHING}), tiny.network()
    (held,) = data.teachers

    def mine(x):
        found = objective(settings, network, held, x, data.labels, r_bn=settings.r_bn)
        return found.loss, found

    def theirs(x):
        return literal.loss(held, x, np.asarray(data.labels), WEIGHTS)

    (value, parts), slope = jax.jit(jax.value_and_grad(mine, has_aux=True))(data.images)
    (wanted, (ce, statistics)), direction = jax.jit(jax.value_and_grad(theirs, has_aux=True))(data.images)
    np.testing.assert_allclose(
        [value, parts.loss, parts.cross_entropy, parts.statistics], [wanted, wanted, ce, statistics], rtol=1e-12
    )
    np.testing.assert_allclose(slope, direction, rtol=0, atol=1e-12 * float(jnp.abs(direction).max()))


@pytest.mark.fast("given0")
@pytest.mark.quick
@pytest.mark.parametrize(
    "given",
    [
        {"easy2hard_mode": "cosine", "milestone": 0.5, "jitter_signed": True, **EVERYTHING},
        {"r_bn": 0.05, **EVERYTHING},
    ],
)
def test_the_loop_is_the_literal_one(given, x64):
    (procedure,) = tiny.stages(initialise="medium", **given)
    data, steps = tiny.examples(6, np.float64), 4
    state, _ = tiny.run(procedure, data, steps)
    draws = [drawn(procedure, i) for i in range(steps)]
    assert len({draw.box for draw in draws}) > 2 and len({draw.coin for draw in draws}) == 2
    wanted = literal.recover(
        data.teachers[0],
        np.asarray(data.images),
        np.asarray(data.labels),
        draws,
        total=procedure.settings.iterations,
        peak=procedure.settings.lr_img,
        betas=procedure.settings.betas,
        mean=tiny.MEAN,
        std=tiny.STD,
        weights=WEIGHTS,
    )
    np.testing.assert_allclose(state.images, wanted, rtol=0, atol=1e-10)
    assert int(state.step) == steps and state.images.dtype == np.float64


@pytest.mark.quick
def test_without_crop_flip_and_roll_all_is_seen_as_it_is():
    (procedure,) = tiny.stages(crop=False, flip=False, jitter=0)
    view = procedure.view(jax.random.key(0), jnp.int32(0), (1, 8, 8, 3), jnp.dtype(np.float32))
    np.testing.assert_array_equal(view.rows, np.eye(8))
    np.testing.assert_array_equal(view.columns, np.eye(8))


@pytest.mark.slow
@pytest.mark.quick
def test_pixels_stay_within_what_0_and_1_become():
    (procedure,) = tiny.stages(lr_img=1e3)
    images = np.asarray(tiny.run(procedure, tiny.examples(6), 1)[0].images)
    least, most = -np.divide(tiny.MEAN, tiny.STD), np.divide(np.subtract(1, tiny.MEAN), tiny.STD)
    np.testing.assert_allclose(images.min((0, 1, 2)), least, rtol=1e-6)
    np.testing.assert_allclose(images.max((0, 1, 2)), most, rtol=1e-6)
    plain = dataclasses.replace(procedure, constants=None)  # networks that see [0, 1], as those of ImageNet-21K
    assert [end.ravel().tolist() for end in plain.bounds(3, jnp.dtype(np.float32))] == [[0, 0, 0], [1, 1, 1]]


@pytest.mark.slow
@pytest.mark.quick
def test_groups_are_recovered_as_if_alone(monkeypatch):
    (procedure,) = tiny.stages(statistics_group=3)
    with monkeypatch.context() as patched:
        patched.setattr(backend, "map", lambda fn, xs: jax.vmap(fn)(xs))  # as on accelerators
        both, metrics = tiny.run(procedure, tiny.examples(6), 3)
    one_by_one, _ = tiny.run(procedure, tiny.examples(6), 3)
    np.testing.assert_allclose(both.images, one_by_one.images, atol=1e-5)
    losses = []
    for group in (0, 1):
        rows, whole = slice(3 * group, 3 * group + 3), tiny.examples(6)
        numbers = jnp.asarray([group], jnp.int32)
        alone = dataclasses.replace(whole, images=whole.images[rows], labels=whole.labels[rows], groups=numbers)
        state, found = tiny.run(procedure, alone, 3)
        np.testing.assert_allclose(both.images[rows], state.images, atol=1e-5)
        losses.append(found["loss"])
    assert np.abs(both.images[:3] - both.images[3:]).max() > 0.1
    assert float(metrics["loss"]) == pytest.approx(np.mean(losses), rel=1e-5)


@pytest.mark.quick
def test_chunks_that_groups_do_not_divide_are_refused():
    (procedure,) = tiny.stages(statistics_group=4)
    with pytest.raises(ConfigError, match="groups of 4"):
        procedure.init(jax.random.key(0), tiny.examples(6))
    assert procedure.init(jax.random.key(0), tiny.examples(3)).images.shape == (3, 8, 8, 3)  # smaller than a group


@pytest.mark.quick
def test_noise_has_unit_variance_and_real_images_start_as_they_are():
    (procedure,) = tiny.stages(statistics_group=300)
    data = tiny.examples(300)
    noise = np.asarray(procedure.init(key_for(0, "init"), data).images)
    assert abs(noise.mean()) < 0.02 and abs(noise.std() - 1) < 0.02
    assert np.abs(np.corrcoef(noise.reshape(300, -1))[np.triu_indices(300, 1)]).max() < 0.5
    (procedure,) = tiny.stages(initialise="medium", statistics_group=300)
    np.testing.assert_array_equal(procedure.init(key_for(0, "init"), data).images, data.images)


@pytest.mark.slow
@pytest.mark.quick
def test_stages_without_merging_are_one_long_stage():
    whole = tiny.stages(initialise="medium", iterations=4)[0]
    parts = tiny.stages(initialise="medium", iterations=4, stages=((8, 2), (8, 2)), reset=False)
    data = tiny.examples(6)
    first, _ = tiny.run(parts[0], data)
    data = dataclasses.replace(data, images=first.images, adam=first.adam)
    state = parts[1].init(key_for(0, "init"), data)
    assert int(state.step) == 2
    other, _ = tiny.run(whole, tiny.examples(6), 2)
    np.testing.assert_array_equal(state.images, other.images)
    a, b = (jax.jit(of.step)(begun, data, tiny.key(0))[0] for of, begun in ((parts[1], state), (whole, other)))
    np.testing.assert_array_equal(a.images, b.images)
    np.testing.assert_array_equal(a.adam.count, 3)


@pytest.mark.slow
@pytest.mark.quick
def test_stages_grow_meet_their_patches_and_begin_adam_anew():
    teachers = (tiny.pooled(),)
    first, second = tiny.stages(teachers, initialise="medium", iterations=4, stages=((6, 2), (8, 2)), merge=0.5)
    data = tiny.examples(6, teachers=teachers)
    state, _ = tiny.run(first, data)
    assert state.images.shape == (6, 6, 6, 3)
    later = dataclasses.replace(data, images=state.images, patches=data.images)
    begun = second.init(key_for(0, "init"), later)
    np.testing.assert_allclose(begun.images, plan.merge(state.images, data.images, 8, 0.5), atol=1e-6)
    assert int(begun.step) == 2 and int(begun.adam.count) == 0 and not np.asarray(begun.adam.mu).any()
    ended, _ = tiny.run(second, later)
    assert int(ended.step) == 4 and second.result(ended).shape == (6, 8, 8, 3)


@pytest.mark.quick
def test_teachers_that_cannot_see_a_stages_images_are_refused():
    first, _ = tiny.stages(initialise="medium", iterations=4, stages=((6, 2), (8, 2)))
    with pytest.raises(ConfigError, match="6 pixels"):
        first.init(key_for(0, "init"), tiny.examples(6))


@pytest.mark.slow
@pytest.mark.quick
def test_teachers_take_turns():
    teachers = tiny.network(), tiny.network(depth=1), tiny.network(normalization="identity")
    (procedure,) = tiny.stages(teachers, initialise="medium", iterations=4, r_bn=(0.05, 0.2, 0.05))
    data = tiny.examples(6, teachers=teachers)
    assert procedure.steps == 2  # of three teachers: the last two of the second turn make no iteration
    state, metrics = tiny.run(procedure, data)
    assert int(state.step) == 4 and int(state.adam.count) == 4
    assert (
        metrics["statistics_2"] == 0 and metrics["loss_2"] == metrics["ce_2"]
    )  # nothing to match: cross-entropy alone
    assert metrics["loss_1"] == pytest.approx(float(metrics["ce_1"] + 0.2 * metrics["statistics_1"]), rel=1e-5)
    assert [part.name for part in procedure.parts(data)] == ["teacher 0", "teacher 1", "teacher 2"]


@pytest.mark.slow
@pytest.mark.quick
def test_an_iteration_lowers_the_loss_that_it_saw():
    (procedure,) = tiny.stages(crop=False, flip=False, jitter=0, iterations=40, lr_img=0.05)
    data = tiny.examples(6)
    (_, first), (_, last) = (tiny.run(procedure, data, steps) for steps in (1, 20))
    assert all(last[name] < first[name] for name in ("loss", "ce", "statistics"))
    assert float(last["loss"]) == pytest.approx(float(last["ce"] + 0.05 * last["statistics"]), rel=1e-5)


@pytest.mark.slow
@pytest.mark.quick
def test_in_bfloat16_only_activations_are_rounded():
    (exact,) = tiny.stages()
    (rounded,) = tiny.stages((tiny.network(precision="bfloat16"),))
    data = tiny.examples(6)
    (a, found), (b, other) = (tiny.run(each, data, 1) for each in (exact, rounded))
    assert {leaf.dtype for leaf in jax.tree.leaves(b)} == {np.dtype(np.float32), np.dtype(np.int32)}
    for name in found:
        assert other[name] != found[name] and float(other[name]) == pytest.approx(float(found[name]), rel=0.02)
    assert np.corrcoef(np.ravel(a.adam.mu), np.ravel(b.adam.mu))[0, 1] > 0.99


@pytest.mark.slow
@pytest.mark.quick
def test_many_steps_of_a_dispatch_are_those_one_by_one():
    (procedure,) = tiny.stages(iterations=5)
    data = tiny.examples(6)
    one, many = (loop.run(procedure, data, steps=5, seed=3, steps_per_dispatch=each) for each in (1, 3))
    np.testing.assert_allclose(one, many, atol=1e-5)
