"""The soft-label recipe: its published values, and students of a few digits beside their baselines."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd import data as data_room
from jaxdd.core.config import as_dict
from jaxdd.core.distilled import DistilledSet
from jaxdd.core.errors import ConfigError, DataError, UsageError
from jaxdd.evaluation import protocol
from jaxdd.evaluation.base import Subject
from jaxdd.evaluation.recipe import Recipe
from jaxdd.evaluation.students import SoftRecipe, for_student, published, teacher_accuracies
from jaxdd.run import loop
from jaxdd.training.sgd import ClassifierTraining
from jaxdd.training.stored_labels import StoredLabels

pytestmark = pytest.mark.quick

RECIPE = SoftRecipe(eval_arch="conv", width=4, depth=1, epochs=3, batch_size=4, models_to_test=2, tests=3, mix="none")


@functools.cache
def digits():
    """Three classes of scikit-learn's digits, raw."""
    whole = data_room.load("digits")

    def part(images, labels, count):
        chosen = np.flatnonzero(labels < 3)[:count]
        return images[chosen], labels[chosen]

    train = part(whole.train_images, whole.train_labels, 90)
    test = part(whole.test_images, whole.test_labels, 60)
    dataset = data_room.Dataset.of_arrays(*train, *test, name="three digits")
    return dataset, data_room.fit(dataset, family="sre2l", kind="raw")


@functools.cache
def teacher():
    """A network and its variables after a little training."""
    dataset, preprocessing = digits()
    network = RECIPE.network(dataset.image_shape, 3)
    training = ClassifierTraining(network, learning_rate=0.1, batch_size=30)
    return network, loop.run(training, data_room.examples(dataset, preprocessing), steps=15, seed=0)


def distilled() -> DistilledSet:
    """Two real images per class, as uint8, as if they were a distilled set."""
    dataset, preprocessing = digits()
    rows = np.concatenate([np.flatnonzero(dataset.train_labels == c)[:2] for c in range(3)])
    return DistilledSet(
        dataset.train_images[rows],
        dataset.train_labels[rows],
        dataset=dataset.name,
        class_names=dataset.class_names,
        preprocessing=preprocessing.describe(),
        recipe={"protocol": "soft", "eval_arch": "conv", "width": 4},
    )


def training(recipe: SoftRecipe, ipc: int = 10, **changes):
    settings = {"classes": 10, "resolution": 8} | changes
    subject = Subject(ipc * settings["classes"], **settings)
    return recipe.training(RECIPE.network((8, 8, 1), 10), subject)


class TestPublished:
    def test_sre2l_and_cda_on_imagenet_differ_in_the_batch_alone(self):
        own, other = (published(method, "imagenet1k", 50) for method in ("sre2l", "cda"))
        assert (own["batch_size"], own.pop("micro"), other["batch_size"]) == (1024, 512, 128)
        assert {**own, "batch_size": 0} == {**other, "batch_size": 0}
        how = training(SoftRecipe.published("cda", "imagenet1k", 50)).procedure
        assert (how.optimizer, how.learning_rate, how.weight_decay, how.decay_all) == ("adamw", 1e-3, 0.01, False)
        assert (how.loss.kind, how.loss.temperature, how.loss.squared, how.epochs) == ("kl", 20.0, False, 300)
        assert (how.views.show.mix, how.views.show.alpha, how.views.show.scale) == ("cutmix", 1.0, (0.08, 1.0))

    def test_tiny_imagenet_is_trained_by_sgd_with_warm_up_and_the_squared_temperature(self):
        how = training(SoftRecipe.published("cda", "tiny_imagenet", 50, resolution=64, classes=200)).procedure
        assert (how.optimizer, how.learning_rate, how.weight_decay, how.decay_all) == ("sgd", 0.2, 1e-4, True)
        assert (how.warmup, how.epochs, how.loss.squared, how.views.show.mix) == (5, 100, True, "none")

    def test_cifar_mixes_and_lets_the_teacher_see_the_batch(self):
        how = training(
            SoftRecipe.published("sre2l", "cifar100", 50, resolution=32, classes=100), resolution=32
        ).procedure
        assert (how.views.show.mix, how.views.show.alpha, how.views.show.padding) == ("mixup", 0.8, 4)
        assert how.views.show.scale is None and how.labeller.batch_statistics and how.labeller.group is None
        assert (how.loss.temperature, how.epochs, how.views.batch_size, how.decay_all) == (30.0, 400, 100, True)

    @pytest.mark.parametrize(
        "dataset, ipc, sizes, batch",
        [
            *[("imagenet1k", ipc, (224, 1000), batch) for ipc, batch in ((1, 20), (10, 100), (50, 200))],
            *[("cifar10", ipc, (32, 10), batch) for ipc, batch in ((1, 10), (10, 50), (50, 100))],
            ("tiny_imagenet", 10, (64, 200), 100),
        ],
    )
    def test_rdeds_batches_grow_with_the_set_and_the_rate_falls_to_a_half(self, dataset, ipc, sizes, batch):
        found = published("rded", dataset, ipc, resolution=sizes[0], classes=sizes[1])
        factor = 2 if sizes[0] >= 128 else 1
        assert (found["batch_size"], found["slowdown"]) == (batch, 2.0)
        assert (found["patches"], found["min_scale"]) == (factor, 1 / factor)

    def test_sre2l_pp_and_fadrm_label_and_train_in_halves_of_sixteen(self):
        for method in ("sre2l_pp", "fadrm"):
            how = training(SoftRecipe.published(method, "imagenet1k", 10)).procedure
            assert (how.views.batch_size, how.micro, how.labeller.group, how.slowdown) == (16, 8, 8, 2.0)
            assert how.labeller.batch_statistics
            assert training(SoftRecipe.published(method, "imagenet1k", 50)).procedure.slowdown == 1.0
        tiny = published("fadrm", "tiny_imagenet", 1, resolution=64, classes=200)
        assert (tiny["epochs"], tiny["batch_statistics"], tiny["slowdown"]) == (1000, False, 2.0)
        nette = published("fadrm", "imagenette", 50, resolution=224, classes=10)
        assert (nette["eval_lr"], nette["slowdown"], nette["batch_size"], nette["group"]) == (5e-4, 2.0, 10, None)

    def test_larger_students_have_the_rates_published_for_them(self):
        imagenet = {"resolution": 224, "classes": 1000}

        def rates(method, ipc, student, dataset="imagenet1k", **sizes):
            found = published(method, dataset, ipc, **(sizes or imagenet), student=student)
            return found["eval_lr"], found.get("slowdown", 1.0)

        assert [rates("fadrm", ipc, "resnet101") for ipc in (1, 10, 50)] == [(3.5e-3, 2), (1e-3, 2), (5e-4, 1)]
        assert [rates("fadrm", ipc, "resnet50") for ipc in (1, 10, 50)] == [(5e-4, 2), (1e-3, 2), (1e-3, 1)]
        assert rates("sre2l_pp", 50, "resnet101") == (5e-4, 2)
        assert rates("sre2l_pp", 10, "resnet50") == rates("sre2l_pp", 10, "resnet18") == (1e-3, 2)
        tiny = {"resolution": 64, "classes": 200}
        assert rates("sre2l_pp", 50, "resnet50", "tiny_imagenet", **tiny) == (1e-3, 1)
        for student in ("resnet50", "resnet101", "conv"):  # without rates of their own
            assert published("cda", "imagenet1k", 50, **imagenet, student=student) == published(
                "cda", "imagenet1k", 50, **imagenet
            )

    def test_what_the_user_has_set_stays_for_another_student_too(self):
        stored = published("fadrm", "imagenet1k", 1)
        of = ("fadrm", "imagenet1k", 1)
        assert for_student(stored, *of, before="resnet18", student="resnet101") == {"eval_lr": 3.5e-3}
        own = {**stored, "eval_lr": 7e-4}
        assert for_student(own, *of, before="resnet18", student="resnet101") == {}
        assert for_student(stored, *of, before="resnet18", student="resnet18") == {}

    def test_every_published_recipe_is_one(self):
        for method in ("sre2l", "cda", "rded", "sre2l_pp", "fadrm"):
            for dataset, side, classes in (("digits", 8, 10), ("parquet:x", 64, 20), ("imagenet21k", 224, 10450)):
                for ipc in (1, 10, 50):
                    values = published(method, dataset, ipc, resolution=side, classes=classes)
                    recipe = Recipe.of({"protocol": "soft", **json.loads(json.dumps(values))})
                    assert isinstance(recipe, SoftRecipe) and as_dict(recipe) == {**as_dict(SoftRecipe()), **values}


class TestRecipe:
    def test_batches_and_groups_shrink_with_the_set_and_still_divide(self):
        recipe = SoftRecipe(batch_size=16, micro=8, batch_statistics=True, group=8, epochs=10)
        how, steps, every, tests = training(recipe, ipc=1)
        assert (how.views.batch_size, how.micro, how.labeller.group) == (10, 5, 5)
        assert (steps, every, tests) == (10, 2, 5)
        assert training(recipe, ipc=10).steps == 70  # seven batches of 16 for 100 images

    def test_a_batch_that_nothing_divides_stays_whole(self):
        recipe = SoftRecipe(batch_size=16, micro=8, batch_statistics=True, group=8, epochs=10)
        how = training(recipe, ipc=1, classes=11).procedure
        assert (how.views.batch_size, how.micro, how.labeller.group) == (11, None, None)

    def test_digits_are_not_mirrored_unless_asked_for(self):
        flips = [training(RECIPE, dataset=name).procedure.views.show.flip for name in ("digits", "cifar10")]
        assert flips == [False, True]
        assert training(dataclasses.replace(RECIPE, flip=True), dataset="digits").procedure.views.show.flip

    def test_it_is_read_back_and_misspelt_words_are_refused(self):
        assert Recipe.of({"protocol": "soft", **as_dict(RECIPE)}) == RECIPE
        with pytest.raises(ConfigError, match="loss"):
            Recipe.of({"protocol": "soft", "loss": "kll"})
        with pytest.raises(UsageError, match="cannot be cut"):
            SoftRecipe(patches=3).check(8)
        assert "AdamW 0.001, cosine, 75 steps of 4 images, soft labels, kl T 20" in RECIPE.summary(training(RECIPE))


class TestEvaluation:
    @pytest.mark.slow
    def test_the_set_and_real_images_learn_from_the_same_teacher(self):
        dataset, preprocessing = digits()
        network, variables = teacher()
        changes = {"epochs": 40, "batch_size": 6, "eval_lr": 0.02, "min_scale": 0.5}
        recipe = dataclasses.replace(RECIPE, teachers=(network,), **changes)
        options = {"run": loop.run, "seed": 0, "teachers": (variables,)}
        found = protocol.evaluate(distilled(), dataset, preprocessing, recipe, **options)
        assert [row.name for row in found.rows] == ["distilled", "random real", "k-means real"]
        for row in found.rows:
            assert len(row.runs) == 2 and row.mean > 0.5  # chance is a third
            assert all(best >= last for best, last in zip(row.best, row.runs, strict=True))
        assert found.as_dict()["recipe"]["protocol"] == "soft"
        json.dumps(found.as_dict())

    def test_labels_are_the_sets_own_and_the_baselines_ask_the_teacher(self):
        dataset, preprocessing = digits()
        network, variables = teacher()
        seen = []

        def run(procedure, data, *, steps, seed, stream=None):
            seen.append((data, procedure.batch_rule.kind, stream))
            return procedure.network.init(jax.random.key(seed))

        labels = StoredLabels((), 6, RECIPE.views(Subject(6, resolution=8)))
        recipe = dataclasses.replace(RECIPE, teachers=(network,), models_to_test=1, tests=1)
        options = {"run": run, "seed": 0, "teachers": (variables,), "labels": labels, "baselines": ("random",)}
        protocol.evaluate(distilled(), dataset, preprocessing, recipe, **options)
        (own, *of_own), (_, *of_random) = seen
        assert of_own == ["stream", labels] and of_random == ["all", None]
        assert own.images.dtype == jnp.uint8 and own.labels.shape == (6,) and own.constants is not None
        assert all(len(data.teachers) == 1 for data, *_ in seen)

    def test_a_teacher_that_does_not_know_the_classes_is_refused(self):
        dataset, preprocessing = digits()
        network, variables = teacher()
        test = data_room.examples(dataset, preprocessing, "test")
        (reached,) = teacher_accuracies((network,), (variables,), test)
        assert reached > 0.8
        turned = dataclasses.replace(test, labels=(test.labels + 1) % 3)
        with pytest.raises(DataError, match="no more than by chance"):
            teacher_accuracies((network,), (variables,), turned)
