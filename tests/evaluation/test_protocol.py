"""The protocol on a few real digits: rows, baselines and refusals."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd import data as data_room
from jaxdd.core import backend
from jaxdd.core.distilled import Decode, DistilledSet
from jaxdd.core.errors import CheckpointError
from jaxdd.evaluation import protocol
from jaxdd.evaluation.recipe import Recipe
from jaxdd.run import loop

RECIPE = Recipe(
    width=4, depth=1, steps=4, plain_steps=30, warmup_steps=2, eval_lr=0.03, models_to_test=2, test_aug="flip"
)


@functools.cache
def digits():
    """Three classes of scikit-learn's digits, and their preprocessing."""
    whole = data_room.load("digits")

    def part(images, labels, count):
        chosen = np.flatnonzero(labels < 3)[:count]
        return images[chosen], labels[chosen]

    train = part(whole.train_images, whole.train_labels, 90)
    test = part(whole.test_images, whole.test_labels, 60)
    dataset = data_room.Dataset.of_arrays(*train, *test, name="three digits")
    return dataset, data_room.fit(dataset)


@functools.cache
def distilled() -> DistilledSet:
    """Two real images per class, as if they were a distilled set."""
    dataset, preprocessing = digits()
    chosen = data_room.real_images(data_room.examples(dataset, preprocessing), 2, jax.random.key(1))
    labels = np.eye(3, dtype=np.float32)[np.asarray(chosen.labels)] - 1 / np.float32(3)
    return DistilledSet(
        np.asarray(chosen.images),
        labels,
        space=preprocessing.space,
        decode=Decode(flip=True),
        dataset=dataset.name,
        preprocessing=preprocessing.describe(),
    )


class Recorder:
    """A runner that writes down what it is given and returns an untrained network."""

    def __init__(self):
        self.calls = []

    def __call__(self, procedure, data, *, steps, seed, stream=None):
        self.calls.append((procedure, data, steps, seed))
        return procedure.network.init(jax.random.key(seed))


@pytest.fixture(scope="module")
def recorded():
    """An evaluation with every baseline, its runner's notes, and the rows as they were reported."""
    dataset, preprocessing = digits()
    runner, reported = Recorder(), []
    options = {"run": runner, "seed": 3, "full_data": True, "report": reported.append}
    return protocol.evaluate(distilled(), dataset, preprocessing, RECIPE, **options), runner.calls, reported


NAMES = ["distilled", "random real", "k-means real", "full data"]


class TestRows:
    def test_every_set_has_a_row_without_and_one_with_augmentation_reported_as_they_come(self, recorded):
        evaluation, calls, reported = recorded
        assert [(row.name, row.augmented) for row in evaluation.rows] == [(n, a) for n in NAMES for a in (False, True)]
        assert tuple(reported) == evaluation.rows
        assert len(calls) == 8 * RECIPE.models_to_test
        assert [call[2] for call in calls[:4]] == [30, 30, 4, 4]
        assert [call[0].augment for call in calls[:4]] == [None, None, "flip", "flip"]

    def test_network_i_starts_alike_in_every_row_and_unlike_the_others(self, recorded):
        seeds = [call[3] for call in recorded[1]]
        assert len(set(seeds)) == RECIPE.models_to_test
        assert seeds == seeds[:2] * 8

    def test_runs_are_accuracies_on_the_test_split(self, recorded):
        evaluation, calls, _ = recorded
        test = data_room.examples(*digits(), "test")
        procedure, _, _, seed = calls[1]
        logits = procedure.network.apply(procedure.network.init(jax.random.key(seed)), test.images).logits
        expected = np.mean(np.argmax(logits, 1) == np.asarray(test.labels))
        np.testing.assert_allclose(evaluation.rows[0].runs[1], expected, rtol=1e-6)

    def test_without_an_augmentation_there_are_plain_rows_only(self):
        recipe = Recipe.of({**RECIPE.__dict__, "test_aug": None})
        found = protocol.evaluate(distilled(), *digits(), recipe, run=Recorder(), seed=0, baselines=())
        assert [(row.name, row.augmented) for row in found.rows] == [("distilled", False)]

    def test_json_holds_every_run_mean_and_population_deviation(self):
        rows = (protocol.Row("distilled", False, (0.5, 0.7)),)
        found = protocol.Evaluation(rows, RECIPE, 3, "digits").as_dict()
        (row,) = found["rows"]
        assert row["runs"] == [0.5, 0.7]
        np.testing.assert_allclose((row["mean"], row["std"]), (0.6, 0.1))
        assert found["recipe"]["width"] == 4 and (found["seed"], found["dataset"]) == (3, "digits")


class TestTrainingSets:
    def given(self, recorded, row: int, network: int):
        return recorded[1][row * RECIPE.models_to_test + network][1]

    def test_the_set_is_used_with_its_mirror_images_and_learned_labels(self, recorded):
        images, labels = distilled().decoded()
        np.testing.assert_array_equal(self.given(recorded, 0, 0).images, images)
        np.testing.assert_array_equal(self.given(recorded, 1, 1).labels, labels)
        assert len(images) == 12

    def test_random_images_are_as_many_real_ones_of_every_class_others_for_each_network(self, recorded):
        first, second = self.given(recorded, 2, 0), self.given(recorded, 2, 1)
        again = self.given(recorded, 3, 0)
        real = {image.tobytes() for image in np.asarray(data_room.examples(*digits()).images)}
        for found in (first, second):
            assert found.images.shape == (12, 8, 8, 1)
            assert all(image.tobytes() in real for image in np.asarray(found.images[:6]))
            np.testing.assert_array_equal(found.images[6:], found.images[:6, :, ::-1])
            np.testing.assert_allclose(found.labels[:6], np.repeat(np.eye(3), 2, 0) - 1 / 3, atol=1e-6)
        assert not np.array_equal(first.images, second.images)
        np.testing.assert_array_equal(first.images, again.images)  # the augmented row compares like with like

    def test_k_means_images_are_real_and_the_same_for_every_network(self, recorded):
        first, second = self.given(recorded, 4, 0), self.given(recorded, 4, 1)
        np.testing.assert_array_equal(first.images, second.images)
        train = data_room.examples(*digits())
        chosen = data_room.kmeans_images(np.asarray(train.images), np.asarray(train.labels), 2, 3)
        np.testing.assert_array_equal(first.images[:6], train.images[chosen])

    def test_full_data_is_the_whole_training_split(self, recorded):
        assert len(self.given(recorded, 6, 0)) == 2 * len(digits()[0].train_images)


def test_training_beats_chance_by_far():
    dataset, preprocessing = digits()
    recipe = Recipe.of({**RECIPE.__dict__, "test_aug": None})
    found = protocol.evaluate(distilled(), dataset, preprocessing, recipe, run=loop.run, seed=0, baselines=("random",))
    for row in found.rows:
        assert row.mean > 0.6, row


class TestRefusals:
    def refuse(self, changed: DistilledSet, dataset=None, preprocessing=None):
        run = Recorder()
        known = digits()
        with pytest.raises(CheckpointError) as refusal:
            protocol.evaluate(changed, dataset or known[0], preprocessing or known[1], RECIPE, run=run, seed=0)
        assert not run.calls  # before anything is trained
        return refusal.value

    def test_another_image_shape(self):
        error = self.refuse(distilled().replace(images=np.zeros((6, 16, 16, 1), np.float32)))
        assert "(16, 16, 1)" in error.what and "(8, 8, 1)" in error.expected and "`dataset_name`" in error.remedy

    def test_another_number_of_classes(self):
        error = self.refuse(distilled().replace(labels=np.zeros((6, 4), np.float32)))
        assert "4 classes" in error.what and "3 classes" in error.expected

    def test_another_preprocessing_of_the_same_data(self):
        raw = data_room.fit(digits()[0], kind="raw")
        error = self.refuse(distilled(), preprocessing=raw)
        assert raw.digest[:12] in error.expected and distilled().preprocessing["digest"][:12] in error.where

    def test_other_data_of_the_same_shape(self):
        whole = digits()[0]
        images = np.array(whole.train_images)[::-1].copy()
        images[0] = 255 - images[0]
        other = data_room.Dataset.of_arrays(
            images, whole.train_labels[::-1], whole.test_images, whole.test_labels, name="others"
        )
        error = self.refuse(distilled(), dataset=other, preprocessing=data_room.fit(other))
        assert "other data" in error.what


def test_a_set_without_a_digest_is_taken_at_its_word():
    protocol.require_same_origin(distilled().replace(preprocessing={}), *digits())


def test_jax_arrays_are_what_networks_are_trained_on(recorded):
    assert all(isinstance(call[1].images, jnp.ndarray) for call in recorded[1])


class TestTogether:
    """Networks of a row trained in one program, as accelerators do it, forced on whatever this machine is."""

    RECIPE = Recipe.of({**RECIPE.__dict__, "models_to_test": 3, "plain_steps": 12, "batch_size": 4})

    def evaluate(self, run, **options):
        options = {"run": run, "seed": 5, "baselines": ("random", "kmeans"), **options}
        return protocol.evaluate(distilled(), *digits(), self.RECIPE, **options)

    @pytest.mark.slow
    def test_accuracies_are_those_of_networks_trained_one_after_another(self, monkeypatch):
        monkeypatch.setattr(backend, "maps_networks", lambda: False)
        in_turn = self.evaluate(loop.run)
        monkeypatch.setattr(backend, "maps_networks", lambda: True)
        together = self.evaluate(loop.run)
        assert [(row.name, row.augmented) for row in together.rows] == [(r.name, r.augmented) for r in in_turn.rows]
        one_image = 1 / len(digits()[0].test_images)
        for found, expected in zip(together.rows, in_turn.rows, strict=True):
            np.testing.assert_allclose(found.runs, expected.runs, atol=1.01 * one_image)
        assert len({run for row in in_turn.rows for run in row.runs}) > 3  # they could differ

    @pytest.mark.slow
    def test_one_training_per_row_holds_each_network_s_own_set_and_seed(self, monkeypatch):
        calls = []

        def run(procedure, data, *, steps, seed, stream=None):
            calls.append((procedure, data))
            return procedure.result(procedure.init(jax.random.key(seed), data))

        monkeypatch.setattr(backend, "maps_networks", lambda: True)
        assert protocol.trainings_per_row(self.RECIPE) == 1
        recipe_rows = self.evaluate(run).rows
        assert len(calls) == len(recipe_rows) == 6 and all(len(row.runs) == 3 for row in recipe_rows)
        alone = Recorder()
        monkeypatch.setattr(backend, "maps_networks", lambda: False)
        self.evaluate(alone)
        assert len(alone.calls) == 6 * protocol.trainings_per_row(self.RECIPE) == 18
        for row, (ensemble, data) in enumerate(calls):
            own = alone.calls[3 * row : 3 * row + 3]
            assert ensemble.training == own[0][0] and list(ensemble.seeds) == [seed for _, _, _, seed in own]
            assert data.images.ndim == (5 if row in (2, 3) else 4)  # random images are others for each network
            for i, (_, expected, _, _) in enumerate(own):
                np.testing.assert_array_equal(data.images[i] if row in (2, 3) else data.images, expected.images)


class TestMatchingProtocols:
    """Sets of the methods that match gradients: raw, several images in one, trained with SGD and tested on the way."""

    RECIPE = Recipe.of(
        {"protocol": "idc", "width": 4, "depth": 1}, models_to_test=2, epochs=8, dsa_strategy="color_crop"
    )

    @staticmethod
    def raw() -> tuple[DistilledSet, data_room.Preprocessing]:
        """Real images on the [0, 1] scale, each of which stands for four small ones."""
        dataset, _ = digits()
        preprocessing = data_room.fit(dataset, family="idc", kind="raw")
        chosen = data_room.real_images(data_room.examples(dataset, preprocessing), 2, jax.random.key(1))
        packed = DistilledSet(
            np.asarray(chosen.images),
            np.eye(3, dtype=np.float32)[np.asarray(chosen.labels)],
            decode=Decode(factor=2),
            dataset=dataset.name,
            preprocessing=preprocessing.describe(),
        )
        return packed, preprocessing

    def evaluate(self, run, recipe=RECIPE, **options):
        packed, preprocessing = self.raw()
        return protocol.evaluate(packed, digits()[0], preprocessing, recipe, run=run, seed=1, **options)

    @pytest.mark.slow
    def test_what_networks_are_given(self, monkeypatch):
        monkeypatch.setattr(backend, "maps_networks", lambda: False)
        calls = []

        def run(procedure, data, *, steps, seed, stream=None):
            calls.append((procedure, data, steps))
            return loop.run(procedure, data, steps=steps, seed=seed)

        found = self.evaluate(run, full_data=False, baselines=("random",))
        packed, preprocessing = self.raw()
        assert [(row.name, row.augmented) for row in found.rows] == [("distilled", True), ("random real", True)]
        own, real = calls[0][1], calls[2][1]
        np.testing.assert_allclose(own.images, packed.decoded()[0])
        assert own.images.shape == (24, 8, 8, 1) and own.labels.tolist() == packed.decoded()[1].argmax(1).tolist()
        assert own.constants == real.constants == (preprocessing.mean, preprocessing.std)
        pixels = {image.tobytes() for image in np.asarray(data_room.examples(digits()[0], preprocessing).images)}
        assert len(real.images) == 6 and all(image.tobytes() in pixels for image in np.asarray(real.images))
        assert [steps for _, _, steps in calls] == [8] * 4  # 24 and 6 images are less than one batch of 64

    @pytest.mark.slow
    @pytest.mark.parametrize("together", [False, True])
    def test_the_last_accuracy_counts_and_the_best_of_four_is_told(self, together, monkeypatch):
        monkeypatch.setattr(backend, "maps_networks", lambda: together)
        by_seed = {}

        def run(procedure, data, *, steps, seed, stream=None):
            assert steps == 8 and (procedure.every, procedure.count) == (2, 3)
            variables = loop.run(procedure, data, steps=steps, seed=seed)
            by_seed[seed] = variables
            return variables

        (row,) = self.evaluate(run, baselines=()).rows
        _, preprocessing = self.raw()
        test = data_room.examples(digits()[0], preprocessing, "test")
        network = self.RECIPE.network((8, 8, 1), 3)
        stacked = list(by_seed.values())
        if not together:
            stacked = [jax.tree.map(lambda *leaves: jnp.stack(leaves, 1), *stacked)]
        for i in range(2):
            accuracies = []
            for t in range(4):
                variables = jax.tree.map(lambda leaf, t=t, i=i: leaf[t, i], stacked[0])
                logits = network.apply(variables, test.standardise(test.images)).logits
                accuracies.append(np.mean(np.argmax(logits, 1) == np.asarray(test.labels)))
            np.testing.assert_allclose((row.runs[i], row.best[i]), (accuracies[-1], max(accuracies)), rtol=1e-6)
        told = row.as_dict()
        assert told["best_mean"] == np.mean(row.best) >= told["mean"] and told["architecture"] == "conv"

    @pytest.mark.slow
    def test_other_architectures_get_all_rows_again(self, monkeypatch):
        monkeypatch.setattr(backend, "maps_networks", lambda: False)
        other = Recipe.of({"protocol": "dc", "eval_arch": "mlp", "width": 4}, models_to_test=1, epochs=3)
        found = self.evaluate(Recorder(), Recipe.of({"test_aug": None, "width": 4, "depth": 1}), others=(other,))
        rows = [(row.architecture, row.name, len(row.runs)) for row in found.rows]
        names = ("distilled", "random real", "k-means real")
        assert rows == [("conv", name, 5) for name in names] + [("mlp", name, 1) for name in names]

    @pytest.mark.slow
    def test_the_plan_is_what_is_run(self, monkeypatch):
        monkeypatch.setattr(backend, "maps_networks", lambda: False)
        run, packed = Recorder(), self.raw()[0]
        recipes = (Recipe.of({"width": 4, "depth": 1, "models_to_test": 1}), Recipe.of({"protocol": "dc", "width": 4}))
        self.evaluate(run, recipes[0], others=recipes[1:], full_data=True)
        expected = protocol.planned(packed, digits()[0], recipes, full_data=True)
        assert [call[2] for call in run.calls] == [training.steps for training in expected]
        assert [call[0] for call in run.calls] == [training.procedure for training in expected]


@pytest.mark.slow
def test_bfloat16_is_the_recipe_s_choice_and_keeps_the_test_images_in_it():
    recipe = Recipe.of({**RECIPE.__dict__, "test_aug": None, "precision": "bfloat16"})
    network = recipe.network((8, 8, 1), 3)
    assert network.activations == jnp.bfloat16 and RECIPE.network((8, 8, 1), 3).activations is None
    found = protocol.evaluate(distilled(), *digits(), recipe, run=loop.run, seed=0, baselines=())
    assert found.rows[0].mean > 0.6
    assert found.as_dict()["recipe"]["precision"] == "bfloat16"
