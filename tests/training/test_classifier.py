"""Training a classifier: the steps of the literal loop, and what happens to images and labels on their way into it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd import augment, models
from jaxdd.core import backend
from jaxdd.core.errors import UsageError
from jaxdd.core.random import purpose_key
from jaxdd.core.types import Examples
from jaxdd.run import loop
from jaxdd.training import sgd
from jaxdd.training.sgd import ClassifierTraining, probabilities
from tests import hlo
from tests.training import tiny
from tests.training.literal_sgd import literal_sgd

PLAIN = ClassifierTraining(tiny.network(), learning_rate=0.1, weight_decay=0.05, resolution=4)


def data(count: int = 9) -> Examples:
    """With hard labels."""
    images, _ = tiny.data(count)
    return Examples(images, jnp.arange(count, dtype=jnp.int32) % tiny.CLASSES, tiny.CLASSES)


def after_one_step(procedure: ClassifierTraining, examples: Examples):
    """Variables after the first step with a fixed key, from fixed variables."""
    state = PLAIN.init(jax.random.key(0), examples)
    return procedure.result(jax.jit(procedure.step)(state, examples, jax.random.key(1))[0])


@pytest.mark.fast("False-restarts0")
@pytest.mark.parametrize("restart, restarts", [(False, ()), (True, (2, 4))])
def test_steps_are_those_of_the_literal_loop_with_its_schedule(restart, restarts, x64):
    procedure = dataclasses.replace(PLAIN, milestones=(2, 4), factor=0.2, restart=restart)
    examples = data()
    start = procedure.init(jax.random.key(3), examples).trained.variables
    rule = {"momentum": 0.9, "weight_decay": 0.05, "restarts": restarts}
    batches = [(examples.images, jnp.eye(tiny.CLASSES)[examples.labels])] * 6
    rates = np.float32([0.1, 0.1, 0.02, 0.02, 0.004, 0.004])
    expected, losses = literal_sgd(procedure.network, start, batches, rates, **rule)
    state, step = procedure.init(jax.random.key(3), examples), jax.jit(procedure.step)
    found = []
    for i in range(6):
        state, metrics = step(state, examples, jax.random.key(i))
        found.append(float(metrics["loss"]))
    tiny.assert_close(procedure.result(state), expected, rtol=1e-6)
    np.testing.assert_allclose(found, losses, rtol=1e-6)


@pytest.mark.slow
def test_a_batch_is_drawn_without_replacement_and_the_loop_runs_it():
    procedure = dataclasses.replace(PLAIN, batch_size=4)
    assert (procedure.batch_rule.kind, procedure.batch_rule.size) == ("uniform", 4)
    assert PLAIN.batch_rule.kind == "all"
    before = sgd.fresh(PLAIN.network, jax.random.key(0)).variables
    after = loop.run(procedure, data(), steps=200, seed=0)
    examples = data()
    correct = [
        np.mean(np.argmax(PLAIN.network.apply(v, examples.images).logits, 1) == np.asarray(examples.labels))
        for v in (before, after)
    ]
    assert correct[1] == 1.0 > correct[0]


@pytest.mark.slow
def test_class_indices_and_their_one_hot_form_train_alike_and_soft_labels_stay():
    examples = data()
    soft = dataclasses.replace(examples, labels=jnp.eye(tiny.CLASSES)[examples.labels])
    tiny.assert_close(after_one_step(PLAIN, examples), after_one_step(PLAIN, soft), rtol=1e-6)
    smooth = dataclasses.replace(examples, labels=jnp.full((9, tiny.CLASSES), 1 / tiny.CLASSES))
    np.testing.assert_array_equal(probabilities(smooth), smooth.labels)
    difference = jax.tree.map(
        lambda a, b: jnp.abs(a - b).max(), *(after_one_step(PLAIN, e) for e in (examples, smooth))
    )
    assert max(jax.tree.leaves(difference)) > 1e-3


class TestImages:
    CONSTANTS = ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))

    def pair(self):
        """The same images raw and standardised."""
        mean, std = (np.asarray(c, np.float32).reshape(1, 1, 1, 3) for c in self.CONSTANTS)
        standard = data()
        raw = dataclasses.replace(standard, images=standard.images * std + mean, constants=self.CONSTANTS)
        return raw, standard

    @pytest.mark.slow
    def test_raw_ones_are_standardised_before_the_augmentation_of_small_images(self):
        raw, standard = self.pair()
        procedure = dataclasses.replace(PLAIN, kind="diffaug", strategy="color_crop")
        tiny.assert_close(after_one_step(procedure, raw), after_one_step(procedure, standard), rtol=1e-4)

    @pytest.mark.slow
    def test_and_after_that_of_imagenet_which_works_on_pixels(self):
        raw, standard = self.pair()
        procedure = dataclasses.replace(PLAIN, kind="imagenet")
        augmented = augment.imagenet(4)(purpose_key(jax.random.key(1), "augment"), raw.images)
        expected = dataclasses.replace(standard, images=raw.standardise(augmented))
        tiny.assert_close(after_one_step(procedure, raw), after_one_step(PLAIN, expected), rtol=1e-4)

    @pytest.mark.slow
    @pytest.mark.parametrize("kind, strategy", [("diffaug", "color_crop"), ("dsa", "color_crop_flip"), ("dc", "crop")])
    def test_every_kind_is_that_family_s_own_with_draws_for_each_image(self, kind, strategy):
        family = {
            "diffaug": lambda: augment.diffaug(strategy, 4, siamese=False),
            "dsa": lambda: augment.dsa(strategy, 4, siamese=False),
            "dc": lambda: augment.dc(strategy),
        }[kind]
        examples = data()
        augmented = family()(purpose_key(jax.random.key(1), "augment"), examples.images)
        expected = after_one_step(PLAIN, dataclasses.replace(examples, images=augmented))
        procedure = dataclasses.replace(PLAIN, kind=kind, strategy=strategy)
        tiny.assert_close(after_one_step(procedure, examples), expected, rtol=1e-4)

    @pytest.mark.slow
    def test_cutmix_comes_last_and_mixes_the_labels(self):
        examples = data()
        procedure = dataclasses.replace(PLAIN, mix_p=1.0)
        targets = jax.nn.one_hot(examples.labels, tiny.CLASSES)
        key = purpose_key(jax.random.key(1), "cutmix")
        images, mixed = augment.cutmix(key, examples.images, targets, probability=1.0, beta=1.0)
        assert float(jnp.abs(mixed - targets).max()) > 0.05  # or there would be nothing to see
        expected = after_one_step(PLAIN, dataclasses.replace(examples, images=images, labels=mixed))
        tiny.assert_close(after_one_step(procedure, examples), expected, rtol=1e-5)


@pytest.mark.quick
def test_a_strategy_that_does_not_exist_is_refused():
    procedure = dataclasses.replace(PLAIN, kind="dsa", strategy="color_crpo")
    with pytest.raises(UsageError, match="crpo"):
        procedure.step(procedure.init(jax.random.key(0), data()), data(), jax.random.key(0))


@pytest.mark.slow
@pytest.mark.skipif(not backend.on_cpu(), reason="what is slow on CPU only")
def test_no_convolution_of_a_step_stands_inside_a_loop():
    network = models.build("conv", image_shape=tiny.SHAPE, classes=tiny.CLASSES, width=8, depth=2)
    procedure = dataclasses.replace(PLAIN, network=network, kind="diffaug", strategy="color_crop", mix_p=0.5)
    examples = data(64)
    text = hlo.program(procedure.step, procedure.init(jax.random.key(0), examples), examples, jax.random.key(0))
    assert hlo.convolutions(text) and hlo.convolutions_under_control_flow(text) == []
