"""Students that learn from a teacher's answers: the steps of a literal loop, labels on disk, statistics of batches."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd.augment.replay import Show
from jaxdd.core import backend
from jaxdd.core.errors import ConfigError, UsageError
from jaxdd.core.types import Answers, Examples
from jaxdd.data.streaming import Stream
from jaxdd.run import loop
from jaxdd.training.soft_labels import EpochExamples, Labeller, Labelling, SoftLabelTraining, spread
from jaxdd.training.soft_losses import SoftLoss
from jaxdd.training.soft_views import Views
from tests import hlo
from tests.training import soft_literal, tiny

pytestmark = pytest.mark.quick

NETWORK = tiny.network("batch")
STILL = Show(4, scale=None, flip=False, mix="none")
LIVELY = Show(4, scale=(0.3, 1.0), mix="cutmix")
SEED, BATCH, COUNT = 7, 4, 10
TRAINING = SoftLabelTraining(NETWORK, Labeller((NETWORK,)), Views(STILL, BATCH, SEED), epochs=2)


class Held(Stream):
    """Logits of every step."""

    def __init__(self, logits: np.ndarray):
        self.logits = logits

    def batch(self, step: int):
        return {"answers": Answers(self.logits[step])}


def teacher(seed: int = 11):
    """Variables with statistics that are no batch's."""
    variables = NETWORK.init(jax.random.key(seed), jnp.zeros(()).dtype)
    stats = jax.tree.map(lambda leaf: leaf + 0.3 + jnp.arange(leaf.size) * 0.2, variables["batch_stats"])
    return {**variables, "batch_stats": stats}


def data(count: int = COUNT, **changes) -> Examples:
    images, _ = tiny.data(count)
    labels = jnp.arange(count, dtype=jnp.int32) % tiny.CLASSES
    given = {"constants": ((0.1, 0.2, 0.3), (0.5, 0.6, 0.7)), "teachers": (teacher(),)} | changes
    return Examples(images, labels, tiny.CLASSES, **given)


def trained(procedure: SoftLabelTraining, examples: Examples, steps: int):
    """The last state and the losses, by one program."""
    state, step, losses = procedure.init(jax.random.key(3), examples), jax.jit(procedure.step), []
    for i in range(steps):
        state, metrics = step(state, examples, jax.random.key(i))
        losses.append(float(metrics["loss"]))
    return state, losses


class TestSteps:
    @pytest.mark.fast("None")
    @pytest.mark.parametrize("micro", [None, 2])
    def test_adamw_kl_and_cosine_are_the_literal_loops(self, micro, x64):
        procedure = dataclasses.replace(TRAINING, learning_rate=0.05, weight_decay=0.3, slowdown=2.0, micro=micro)
        examples = data()
        own = examples.teachers[0]
        start = procedure.init(jax.random.key(3), examples).variables
        rates = [soft_literal.cosine(0.05, step // 3, 2, eta=2.0) for step in range(5)]  # three batches an epoch
        expected, losses = soft_literal.train(
            NETWORK,
            start,
            lambda images: NETWORK.apply(own, images).logits,
            examples,
            loss=lambda z, t, y: soft_literal.kl(z, t, 20.0),
            rates=rates,
            batch=BATCH,
            micro=micro or BATCH,
            seed=SEED,
            rule="adamw",
            weight_decay=0.3,
            every=False,
        )
        state, found = trained(procedure, examples, 5)
        np.testing.assert_allclose(found, losses, rtol=1e-9)
        tiny.assert_close(procedure.result(state), expected, rtol=1e-6)

    @pytest.mark.slow
    def test_sgd_with_warm_up_and_squared_temperature_is_the_literal_loop(self, x64):
        loss = SoftLoss(temperature=4.0, squared=True)
        changes = {"optimizer": "sgd", "learning_rate": 0.2, "weight_decay": 0.1, "decay_all": True, "warmup": 1}
        procedure = dataclasses.replace(TRAINING, epochs=3, loss=loss, **changes)
        examples = data()
        own = examples.teachers[0]
        start = procedure.init(jax.random.key(3), examples).variables
        rates = [0.002] * 3 + [soft_literal.cosine(0.2, step // 3, 2) for step in range(4)]
        expected, losses = soft_literal.train(
            NETWORK,
            start,
            lambda images: NETWORK.apply(own, images).logits,
            examples,
            loss=lambda z, t, y: 16.0 * soft_literal.kl(z, t, 4.0),
            rates=rates,
            batch=BATCH,
            micro=BATCH,
            seed=SEED,
            rule="sgd",
            weight_decay=0.1,
            every=True,
        )
        state, found = trained(procedure, examples, 7)
        np.testing.assert_allclose(found, losses, rtol=1e-9)
        tiny.assert_close(procedure.result(state), expected, rtol=1e-6)

    @pytest.mark.slow
    def test_the_average_is_of_parameters_alone(self, x64):
        examples, decay = data(), 0.7
        plain, averaging = TRAINING, dataclasses.replace(TRAINING, ema=decay)
        expected = plain.init(jax.random.key(3), examples).variables["params"]
        for steps in (1, 2, 3):
            params = trained(plain, examples, steps)[0].variables["params"]
            expected = jax.tree.map(lambda kept, new: decay * kept + (1 - decay) * new, expected, params)
        state, _ = trained(averaging, examples, 3)
        tiny.assert_close(averaging.result(state)["params"], expected, rtol=1e-9)
        last = trained(plain, examples, 3)[0].variables
        tiny.assert_close(averaging.result(state)["batch_stats"], last["batch_stats"], rtol=1e-12)

    @pytest.mark.slow
    def test_a_step_is_one_program_without_a_convolution_in_a_loop(self):
        examples = data()
        for procedure in (TRAINING, dataclasses.replace(TRAINING, micro=2, labeller=Labeller((NETWORK,), True, 2))):
            state = procedure.init(jax.random.key(0), examples)
            text = hlo.program(procedure.step, state, examples, jax.random.key(0))
            if backend.on_cpu():
                assert not hlo.convolutions_under_control_flow(text)

    def test_without_a_teacher_or_labels_it_says_so(self):
        procedure, examples = dataclasses.replace(TRAINING, labeller=Labeller()), data(teachers=())
        with pytest.raises(UsageError, match="no teacher"):
            jax.eval_shape(procedure.step, procedure.init(jax.random.key(0), examples), examples, jax.random.key(0))

    def test_a_micro_batch_that_does_not_divide_is_refused(self):
        procedure, examples = dataclasses.replace(TRAINING, micro=3), data()
        with pytest.raises(ConfigError, match="does not divide a batch of 4"):
            jax.eval_shape(procedure.step, procedure.init(jax.random.key(0), examples), examples, jax.random.key(0))


class TestLabels:
    def test_in_eval_mode_they_are_the_teachers_logits_or_a_mean_or_a_weighted_sum(self):
        images, both = data().images, (teacher(1), teacher(2))
        one, other = (NETWORK.apply(own, images).logits for own in both)
        found = Labeller((NETWORK,)).logits(both[:1], images)
        np.testing.assert_allclose(found, one, rtol=1e-5, atol=1e-6)
        found = Labeller((NETWORK, NETWORK)).logits(both, images)
        np.testing.assert_allclose(found, (one + other) / 2, rtol=1e-5, atol=1e-6)
        found = Labeller((NETWORK, NETWORK), weights=(0.25, 0.75)).logits(both, images)
        np.testing.assert_allclose(found, 0.25 * one + 0.75 * other, rtol=1e-5, atol=1e-6)
        with pytest.raises(ConfigError, match="2 teachers with 1"):
            Labeller((NETWORK, NETWORK)).logits(both[:1], images)

    def test_in_batch_mode_each_group_has_its_own_statistics(self):
        images, own = data(8).images, teacher()
        whole = NETWORK.apply(own, images, train=True).logits
        halves = [NETWORK.apply(own, images[part], train=True).logits for part in (slice(0, 4), slice(4, 8))]
        np.testing.assert_allclose(Labeller((NETWORK,), True).logits((own,), images), whole, atol=1e-6)
        np.testing.assert_allclose(Labeller((NETWORK,), True, 8).logits((own,), images), whole, atol=1e-6)
        found = Labeller((NETWORK,), True, 4).logits((own,), images)
        np.testing.assert_allclose(found, np.concatenate(halves), atol=1e-6)
        assert np.abs(found - whole).max() > 1e-2 < np.abs(found - NETWORK.apply(own, images).logits).max()

    @pytest.mark.slow
    def test_the_teachers_running_statistics_are_never_written(self):
        examples = data()
        before = jax.tree.map(np.array, examples.teachers)
        procedure = dataclasses.replace(TRAINING, labeller=Labeller((NETWORK,), True, 2))
        loop.run(procedure, examples, steps=4, seed=0)
        jax.tree.map(np.testing.assert_array_equal, jax.tree.map(np.array, examples.teachers), before)
        # and they decide nothing: a teacher with others says the same
        others = jax.tree.map(lambda leaf: leaf * 3 + 1, before[0]["batch_stats"])
        moved = dataclasses.replace(examples, teachers=({**before[0], "batch_stats": others},))
        states = [trained(procedure, e, 2)[0].variables for e in (examples, moved)]
        jax.tree.map(np.testing.assert_array_equal, *states)

    @pytest.mark.slow
    @pytest.mark.parametrize("count", [COUNT, 11])  # of which two and three are left for the last batch
    @pytest.mark.parametrize("batch_statistics", [False, True])
    def test_a_student_that_reads_them_is_bit_equal_to_one_that_asks_for_rounded_ones(self, batch_statistics, count):
        views, rest = Views(LIVELY, BATCH, SEED), count % BATCH
        labeller = Labeller((NETWORK,), batch_statistics, 2)
        student = dataclasses.replace(TRAINING, views=views, labeller=labeller, half=True, learning_rate=0.05)
        examples, steps = data(count), 6
        asked = loop.run(student, examples, steps=steps, seed=0)
        logits = []
        for epoch in range(2):
            own = examples.extended(EpochExamples, epoch=np.int32(epoch))
            logits.append(np.array(loop.run(Labelling(labeller, views), own, steps=3, seed=99)))
        assert logits[0].shape == (3, BATCH, tiny.CLASSES) and logits[0].dtype == np.float16
        for epoch in logits:  # on disk there are those of the images alone
            epoch[-1] = epoch[-1, np.arange(BATCH) % rest]
        stored, reader = Held(np.concatenate(logits)), dataclasses.replace(student, labeller=Labeller(), streamed=True)
        read = loop.run(reader, dataclasses.replace(examples, teachers=()), steps=steps, seed=0, stream=stored)
        jax.tree.map(np.testing.assert_array_equal, asked, read)
        exact = loop.run(dataclasses.replace(student, half=False), examples, steps=steps, seed=0)
        assert any(jax.tree.leaves(jax.tree.map(lambda a, b: bool((a != b).any()), asked, exact)))

    def test_labels_that_are_stored_need_a_seed(self):
        examples = data().extended(EpochExamples, epoch=np.int32(0))
        with pytest.raises(ConfigError, match="seed of their own"):
            Labelling(Labeller((NETWORK,)), Views(STILL, BATCH)).init(jax.random.key(0), examples)

    def test_a_label_of_a_few_logits_gives_nothing_to_other_classes(self):
        logits, classes = jnp.array([[2.0, 1.0]], jnp.float16), jnp.array([[3, 1]], jnp.int16)
        full = spread(logits, classes, 4)
        np.testing.assert_array_equal(full, [[-np.inf, 1, -np.inf, 2]])
        student = jnp.array([[0.5, -0.5, 1.0, 0.0]])
        p = np.exp([1.0, 2.0]) / np.exp([1.0, 2.0]).sum()
        q = np.exp(student[0]) / np.exp(student[0]).sum()
        expected = (p * (np.log(p) - np.log(q[np.array([1, 3])]))).sum()
        loss = SoftLoss(temperature=1.0)
        np.testing.assert_allclose(loss(student, full, jnp.array([3])), expected, rtol=1e-5)
        assert np.isfinite(jax.grad(lambda z: loss(z, full, jnp.array([3])))(student)).all()


class TestViews:
    @pytest.mark.slow
    def test_an_epoch_is_a_permutation_and_its_last_batch_repeats_its_own_views(self):
        views, examples = Views(LIVELY, BATCH, SEED), data()
        found = [views.at(examples, jnp.uint32(SEED), jnp.int32(i)) for i in range(6)]
        rows = [np.asarray(view.rows) for view in found]
        for epoch in (np.concatenate(rows[:3]), np.concatenate(rows[3:])):
            assert sorted(epoch[:COUNT]) == list(range(COUNT))
            np.testing.assert_array_equal(epoch[COUNT:], epoch[COUNT - 2 : COUNT])
        assert (np.concatenate(rows[:3]) != np.concatenate(rows[3:])).any()
        for view in (found[2], found[5]):  # crops and mixes too: there are no more views than labels
            np.testing.assert_array_equal(view.images[:2], view.images[2:])
        assert len(np.unique(np.asarray(found[0].images), axis=0)) == BATCH

    @pytest.mark.slow
    def test_one_batch_has_all_images_and_one_image_fills_a_batch(self):
        for count, batch in ((4, 4), (5, 4), (3, 4)):
            views, examples = Views(STILL, min(batch, count), SEED), data(count)
            steps = views.steps_per_epoch(count)
            rows = np.concatenate([views.at(examples, jnp.uint32(1), jnp.int32(i)).rows for i in range(steps)])
            assert steps == (2 if count == 5 else 1) and set(rows) == set(range(count))
            assert len(set(rows[4:])) == (1 if count == 5 else 0)

    def test_uint8_images_are_standardised_after_they_are_shown(self):
        raw = np.random.default_rng(0).integers(0, 256, (COUNT, 4, 4, 3), np.uint8)
        examples = dataclasses.replace(data(), images=jnp.asarray(raw))
        view = Views(STILL, BATCH, SEED).at(examples, jnp.uint32(SEED), jnp.int32(0))
        mean, std = (np.array(constant) for constant in examples.constants or ())
        np.testing.assert_allclose(view.images, (raw[view.rows] / 255 - mean) / std, rtol=1e-5, atol=1e-5)

    def test_students_have_their_own_views_unless_a_seed_is_given(self):
        own = dataclasses.replace(TRAINING, views=Views(STILL, BATCH))
        seeds = [int(p.init(jax.random.key(i), data()).seed) for p in (own, TRAINING) for i in (0, 1)]
        assert seeds[0] != seeds[1] and seeds[2:] == [SEED, SEED]

    def test_a_pool_is_gone_through_without_replacement_within_an_epoch_or_with_it(self):
        views = Views(STILL, BATCH, SEED, pool=2)
        numbers = [[int(views.number(jnp.uint32(s), jnp.int32(i), COUNT)) for i in range(30)] for s in (0, 1)]
        epochs = np.asarray(numbers).reshape(20, 3)
        assert all(len(set(epoch)) == 3 for epoch in epochs) and set(epochs.ravel()) == set(range(6))
        assert numbers[0] != numbers[1]
        again = dataclasses.replace(views, replacement=True)
        drawn = [int(again.number(jnp.uint32(0), jnp.int32(i), COUNT)) for i in range(30)]
        assert set(drawn) == set(range(6))
        assert any(len(set(drawn[i : i + 3])) < 3 for i in range(0, 30, 3))


class TestLosses:
    Z = np.random.default_rng(1).normal(size=(4, 3))
    T = np.random.default_rng(2).normal(size=(4, 3)) * 3
    Y = np.array([0, 2, 1, 1])

    def found(self, loss: SoftLoss) -> float:
        return float(loss(*map(jnp.asarray, (self.Z, self.T, self.Y))))

    def test_mse_with_a_share_of_cross_entropy(self, x64):
        expected = sum((self.Z[i, k] - self.T[i, k]) ** 2 for i in range(4) for k in range(3)) / 12
        ce = -sum(self.Z[i, y] - np.log(np.exp(self.Z[i]).sum()) for i, y in enumerate(self.Y)) / 4
        np.testing.assert_allclose(self.found(SoftLoss("mse", ce_weight=0.025)), expected + 0.025 * ce, rtol=1e-12)

    def test_gift_is_one_minus_the_cosine_with_a_refined_label(self, x64):
        total = 0.0
        for z, t, y in zip(self.Z, self.T, self.Y, strict=True):
            smooth = np.full(3, 0.1 / 3)
            smooth[y] += 0.9
            target = t / np.linalg.norm(t) + 0.1 * smooth / np.linalg.norm(smooth)
            total += 1 - z @ target / np.linalg.norm(z) / np.linalg.norm(target)
        np.testing.assert_allclose(self.found(SoftLoss("cosine")), total / 4, rtol=1e-12)

    def test_kl_is_torchs(self, x64):
        torch = pytest.importorskip("torch")
        z, t = map(torch.tensor, (self.Z, self.T))
        log = torch.nn.functional.log_softmax(z / 5, 1)
        expected = torch.nn.KLDivLoss(reduction="batchmean")(log, torch.nn.functional.softmax(t / 5, 1))
        np.testing.assert_allclose(self.found(SoftLoss(temperature=5.0)), float(expected), rtol=1e-12)
        np.testing.assert_allclose(
            self.found(SoftLoss(temperature=5.0, squared=True)), 25 * float(expected), rtol=1e-12
        )
