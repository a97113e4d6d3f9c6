"""What the tests of RCIG's keys share, and the checks of the keys that shape the set, the networks and the run.

What a key does under `adam` is in the numbers recorded from the authors' code: `recorded` says in which section, and
`test_golden.py` reproduces that section.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd.augment import build as build_augmentation
from jaxdd.core.config import build, layer
from jaxdd.core.errors import ConfigError
from jaxdd.methods.rcig.method import RCIG
from jaxdd.run.settings import RunSettings
from tests.methods.rcig import tiny
from tests.oracles import rcig_golden, rcig_literal

PLAIN = tiny.method()
CHECKS = {}


def shows(check):
    """Registers `check_<key>` as the check of that key."""
    CHECKS[check.__name__.removeprefix("check_")] = check
    return check


def recorded(section: str, **config):
    """The authors' numbers in that section were made with these settings and differ from those without them."""
    golden = rcig_golden.load()
    plain, other = golden["main"], golden["variants"][section]
    assert config.items() <= other["config"].items()
    assert plain["iterations"][0]["gradient"] != other["iterations"][0]["gradient"]
    return other["iterations"][0].get("indices", {})


def refused(key: str, value):
    """The key belongs to adam: with another solver it is refused, naming key and remedy."""
    for solver in ("pcg", "dense"):
        with pytest.raises(ConfigError, match=f"'{key}' = {value!r} belongs to inner_solver = adam") as refusal:
            build([layer({key: value, "inner_solver": solver}, "file")], {"method": RCIG})
        assert solver in refusal.value.where
        assert "adam" in refusal.value.remedy
    assert getattr(build([layer({key: value, "inner_solver": "adam"}, "file")], {"m": RCIG})["m"], key) == value


def trained_member(of: RCIG):
    """The engine's and the oracle's network after the training that follows an outer step."""
    network, member, drawn = tiny.network(of), tiny.member_of(of), tiny.draws(of)
    ours = jax.jit(lambda m, s, d: of._train_member(network, m, s, d))(member, tiny.synthetic(), drawn)
    config = tiny.literal_config(pool_learning_rate=of.pool_learning_rate)
    apply = tiny.apply_of(of.softplus_temp, of.has_bn)
    start = rcig_literal.PoolModel(member.params, member.optimizer, member.variables.get("batch_stats"))

    @jax.jit
    def literal(start, steps, rows):
        choices = rcig_literal.Draws(model_index=0, pool_steps=steps, pool_indices=rows)
        problem = rcig_literal.Problem(apply, config, 0.0, start.batch_stats, choices, None, jax.lax.fori_loop)
        data = rcig_literal.training_set(tiny.literal_params(tiny.synthetic()), config)
        return rcig_literal.train_pool_model(problem, start, data)

    return ours, literal(start, drawn.pool_steps, drawn.pool_rows)


BATCH_NORM = tiny.method(has_bn=True, pool_train_batch_size=2, pool_learning_rate=0.01)


@shows
def check_pool_train_batch_size():
    rows = tiny.draws(BATCH_NORM).pool_rows
    assert rows.shape == (BATCH_NORM.n_max_steps_pool, 2)
    assert int(rows.max()) < tiny.STORED  # from the stored half alone, as in the authors' code
    ours, literal = trained_member(BATCH_NORM)
    assert int(ours.age) == int(tiny.draws(BATCH_NORM).pool_steps) > 0
    for one, other in zip(jax.tree.leaves(ours.params), jax.tree.leaves(literal.params), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-8)  # a bias before BatchNorm follows rounding
    recorded("subsampled", pool_train_batch_size=4)


@shows
def check_has_bn():
    ours, literal = trained_member(BATCH_NORM)
    before = tiny.variables(batch_norm=True)["batch_stats"]
    for one, other, old in zip(
        jax.tree.leaves(ours.variables["batch_stats"]),
        jax.tree.leaves(literal.batch_stats),
        jax.tree.leaves(before),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, rtol=1e-9)
        assert not np.allclose(one, old, rtol=1e-3)  # statistics move in the pool's training
    assert "batch_stats" not in tiny.variables()
    recorded("batch_norm", has_bn=True)


@shows
def check_aug():
    refused("aug", "flip_color_crop")
    method = tiny.method(inner_solver="adam", aug="flip_color", use_flip=False)
    key, stored = jax.random.key(3), tiny.synthetic()
    expanded = method.expand(stored, key)
    np.testing.assert_array_equal(expanded.images, build_augmentation("flip_color", 4)(key, stored.images))
    assert not np.array_equal(expanded.images, stored.images)
    np.testing.assert_array_equal(method.expand(stored).images, stored.images)
    assert tiny.draws(method).inner_augment.shape == (20,)  # a fresh view at every inner step
    recorded("augmented", aug="golden")


@shows
def check_aug_repeats():
    method = tiny.method(inner_solver="adam", aug="flip", aug_repeats=2)
    assert len(tiny.draws(method).direct) == len(tiny.draws(method).implicit) == 3
    assert len(method._views(tiny.draws(method).direct_augment)) == 3
    without = tiny.method(aug_repeats=2)  # repeats of no augmentation are none
    assert tiny.traced(without) == tiny.traced(PLAIN)
    recorded("augmented", aug_repeats=1)


@shows
def check_learn_labels():
    def weigh(training_set):
        images, labels = training_set
        return jnp.sum(images**2) + jnp.sum(labels**3)

    def slopes(learn: bool):
        method, config = tiny.method(learn_labels=learn), tiny.literal_config(learn_labels=learn)
        ours = jax.grad(lambda stored: weigh(method.expand(stored)))(tiny.synthetic())
        params = tiny.literal_params(tiny.synthetic())
        return ours, jax.grad(lambda params: weigh(rcig_literal.training_set(params, config)))(params)

    for learn in (True, False):
        ours, literal = slopes(learn)
        assert tiny.difference(ours, literal) == 0
        assert bool(ours.labels.any()) == learn
    recorded("fixed_labels", learn_labels=False)


@shows
def check_use_flip():
    for flip in (True, False):
        method = tiny.method(use_flip=flip)
        literal = rcig_literal.training_set(tiny.literal_params(tiny.synthetic()), tiny.literal_config(use_flip=flip))
        for one, other in zip(method.expand(tiny.synthetic()), literal, strict=True):
            np.testing.assert_array_equal(one, other)
        assert len(method.expand(tiny.synthetic()).images) == (6 if flip else 3)
        assert method.result(tiny.state(method)).decode.flip == flip
    recorded("no_flip", use_flip=False)


@shows
def check_softplus_temp():
    base, images = jax.tree.map(jnp.asarray, tiny.variables()), tiny.batch().images
    outputs = []
    for beta in (0.0, 6.0):
        found = tiny.network(tiny.method(softplus_temp=beta)).apply(base, images).logits
        np.testing.assert_allclose(found, tiny.apply_of(softplus_temp=beta)(base, images)[0], rtol=1e-10, atol=1e-12)
        outputs.append(found)
    assert not np.allclose(*outputs, rtol=0.01)
    recorded("relu", softplus_temp=0)


@shows
def check_init_random_noise():
    data = tiny.examples(90)
    noise, real = (
        jax.jit(tiny.method(n_images=10, init_random_noise=flag).init)(jax.random.key(0), data).synthetic
        for flag in (True, False)
    )
    stored = {image.tobytes() for image in np.asarray(data.images)}
    assert all(image.tobytes() in stored for image in np.asarray(real.images))
    assert not any(image.tobytes() in stored for image in np.asarray(noise.images))
    assert abs(float(noise.images.std()) - 0.3) < 0.02 and abs(float(noise.images.mean())) < 0.03
    for start in (noise, real):  # class-major, one-hot minus 1/k either way
        np.testing.assert_allclose(start.labels, np.repeat(np.eye(3), 10, 0) - 1 / 3, rtol=1e-6)


@shows
def check_checkpoint_iters():
    given = {"checkpoint_iters": [1, 3], "dataset_name": "digits"}
    run = build([layer(given, "file")], {"run": RunSettings})["run"]
    assert run.checkpoint_iters == (1, 3)
    with pytest.raises(ConfigError, match="out of range"):
        build([layer({"checkpoint_iters": [-1]}, "file")], {"run": RunSettings})
