"""The published rules of IDC's and DC's evaluation: epochs, rates, augmentation, networks."""

import pytest

from jaxdd.core.errors import ConfigError, UsageError
from jaxdd.evaluation.base import Subject
from jaxdd.evaluation.matching import DcRecipe, IdcRecipe, imagenet_epochs
from jaxdd.evaluation.recipe import Recipe

pytestmark = pytest.mark.quick

IDC, DC = IdcRecipe(width=4), DcRecipe(width=4)


def subject(dataset: str = "cifar10", ipc: int = 10, factor: int = 1, **changes) -> Subject:
    settings = {"classes": 10, "resolution": 32, "dataset": dataset, "factor": factor} | changes
    stored = ipc * settings["classes"]
    return Subject(stored, stored * factor**2, **settings)


def training(recipe, of: Subject):
    network = IDC.network((8, 8, 1), 2)
    (augmented,) = recipe.ways(of)
    return recipe.training(network, of, augmented=augmented)


class TestIdc:
    def test_a_thousand_epochs_with_the_published_schedule(self):
        found = training(IDC, subject())
        how = found.procedure
        assert found.steps == 2000  # 100 images are two batches of 64
        assert (how.learning_rate, how.momentum, how.weight_decay, how.batch_size) == (0.01, 0.9, 5e-4, 64)
        assert (how.milestones, how.factor, how.restart) == ((1332, 1666), 0.2, False)
        assert (found.test_every, found.tests) == (500, 4)

    def test_steps_count_what_the_set_decodes_to(self):
        assert training(IDC, subject(factor=2)).steps == 7000  # 400 images are seven batches
        small = training(IDC, subject(ipc=1))
        assert small.steps == 1000 and small.procedure.batch_size is None

    def test_the_same_compute_divides_by_the_images_in_one(self):
        assert training(IdcRecipe(width=4, same_compute=True), subject(factor=2)).steps == 250 * 7

    @pytest.mark.parametrize(
        "ipc, factor, ten, hundred",
        [
            *[(1, 1, 3000, 2000), (10, 1, 2000, 1300), (20, 1, 1500, 1000), (50, 1, 1500, 1000)],
            *[(1, 3, 2000, 1300), (10, 3, 1000, 600), (20, 3, 1000, 600), (50, 3, 500, 300), (100, 3, 300, 200)],
        ],
    )
    def test_epochs_for_subsets_of_imagenet(self, ipc, factor, ten, hundred):
        assert imagenet_epochs(ipc * factor**2, 10) == ten
        assert imagenet_epochs(ipc * factor**2, 100) == hundred

    def test_a_hundred_classes_of_imagenet_have_a_higher_rate_and_larger_batches(self):
        ten, hundred = (training(IDC, subject("", 10, 3, resolution=224, classes=n)) for n in (10, 100))
        assert ten.steps == 1000 * 15 and hundred.steps == 600 * 71
        assert (ten.procedure.learning_rate, ten.procedure.weight_decay, ten.procedure.batch_size) == (0.01, 5e-4, 64)
        how = hundred.procedure
        assert (how.learning_rate, how.weight_decay, how.batch_size) == (0.1, 1e-4, 128)
        assert (how.kind, how.strategy, how.mix_p) == ("imagenet", "", 1.0)

    @pytest.mark.parametrize(
        "of, strategy, mix_p",
        [
            (subject("cifar10", 1), "color_crop_flip_scale_rotate", 0.5),
            (subject("fashion_mnist", 10, 2), "color_crop_flip_scale_rotate", 0.5),
            (subject("svhn_cropped", 10), "color_crop_scale_rotate", 0.5),
            (subject("svhn_cropped", 1, 2), "color_crop_scale_rotate", 0.5),
            (subject("svhn_cropped", 1), "color_crop_cutout_scale_rotate", 0.0),
            (subject("mnist", 1), "color_crop_scale_rotate", 0.5),
            (subject("mnist", 1, 2), "color_crop_scale_rotate", 0.0),
        ],
    )
    def test_augmentation_by_data_set(self, of, strategy, mix_p):
        how = training(IDC, of).procedure
        assert (how.kind, how.strategy, how.mix_p, how.resolution) == ("diffaug", strategy, mix_p, 32)

    def test_large_grey_images_have_the_augmentation_of_small_ones(self):
        large = {"resolution": 128, "classes": 10}
        assert [IDC.augmentation_of(subject("", 1, **large, channels=n))[0] for n in (3, 1)] == ["imagenet", "diffaug"]

    def test_mixing_and_augmentation_can_be_chosen(self):
        vanilla = training(IdcRecipe(width=4, mixup="vanilla"), subject()).procedure
        assert (vanilla.strategy, vanilla.mix_p) == ("color_crop_cutout_flip_scale_rotate", 0.0)
        forced = training(IdcRecipe(width=4, mixup="cut"), subject("mnist", 1, 2)).procedure
        assert forced.mix_p == 0.5
        for nothing in ("", "none"):
            recipe = IdcRecipe(width=4, dsa_strategy=nothing)
            assert recipe.ways(subject()) == (False,) and training(recipe, subject()).procedure.kind == "none"

    def test_a_densenet_has_fewer_epochs_on_large_sets(self):
        dense = IdcRecipe(width=4, eval_arch="densenet")
        assert [dense.epochs_of(subject(ipc=ipc, factor=f)) for ipc, f in ((50, 2), (50, 1), (10, 2))] == [
            400,
            1000,
            1000,
        ]

    def test_the_whole_data_set_is_trained_on_for_300_epochs(self):
        assert IDC.epochs_of(subject(whole=True)) == 300

    def test_few_epochs_are_tested_as_often_as_there_are_tests_to_make(self):
        found = training(IdcRecipe(width=4, epochs=3), subject(ipc=1))
        assert (found.test_every, found.tests) == (0, 1)

    def test_networks_are_those_of_the_family(self):
        conv = IDC.network((32, 32, 3), 10, "cifar10").module
        assert (conv.widening, conv.normalization, conv.norm_epsilon, conv.initialization) == (
            *(False, "instance", 1e-5),
            "pytorch",
        )
        resnet = IdcRecipe(eval_arch="resnet_idc").network((32, 32, 3), 10, "cifar10").module
        assert (resnet.normalization, resnet.depth, resnet.cifar) == ("batch", 10, True)
        assert not IdcRecipe(eval_arch="resnet_idc").network((32, 32, 3), 10, "svhn_cropped").module.cifar


class TestDc:
    def test_one_more_epoch_than_is_said_and_a_new_optimiser_after_half(self):
        found = training(DC, subject())  # one batch of 100
        how = found.procedure
        assert (found.steps, found.test_every) == (301, 0)
        assert (how.milestones, how.factor, how.restart) == ((152,), 0.1, True)
        assert (how.learning_rate, how.batch_size, how.kind, how.mix_p) == (0.01, None, "none", 0.0)
        large = training(DC, subject(ipc=50))
        assert (large.steps, large.procedure.milestones, large.procedure.batch_size) == (602, (304,), 256)

    def test_a_thousand_epochs_with_augmentation(self):
        recipe = DcRecipe(width=4, dsa_strategy="color_crop_cutout_flip_scale_rotate")
        found = training(recipe, subject())
        assert (found.steps, found.procedure.kind) == (1001, "dsa")
        assert recipe.ways(subject()) == (True,)

    def test_dc_augments_mnist_and_networks_with_batch_normalisation(self):
        assert DC.augmentation_of(subject("mnist")) == ("dc", "crop_scale_rotate")
        assert training(DC, subject("mnist")).steps == 1001
        assert DcRecipe(normalization="batch").augmentation_of(subject()) == ("dc", "crop_noise")
        assert DcRecipe(dc_aug="").augmentation_of(subject("mnist")) == ("none", "")


class TestStored:
    def test_a_set_names_its_protocol_and_old_ones_are_rcig_s(self):
        kinds = {"": Recipe, "rcig": Recipe, "idc": IdcRecipe, "dc": DcRecipe}
        for name, cls in kinds.items():
            found = Recipe.of({"width": 4, **({"protocol": name} if name else {})})
            assert type(found) is cls and found.width == 4

    def test_an_unknown_protocol_or_a_setting_of_another_is_refused(self):
        with pytest.raises(UsageError, match="idcc") as refusal:
            Recipe.of({"protocol": "idcc"})
        assert "idc" in refusal.value.remedy
        with pytest.raises(ConfigError, match="warmup_steps"):
            Recipe.of({"protocol": "idc", "warmup_steps": 3})
        with pytest.raises(ConfigError, match="mixup"):
            Recipe.of({"protocol": "idc", "mixup": "classic"})

    def test_another_architecture_leaves_depth_and_normalisation_behind(self):
        stored = {"protocol": "idc", "width": 8, "depth": 2, "normalization": "instance"}
        assert Recipe.stored_for(stored, "ConvNet") == {**stored, "eval_arch": "conv"}
        assert Recipe.stored_for(stored, "resnet_idc") == {"protocol": "idc", "width": 8, "eval_arch": "resnet_idc"}
        assert Recipe.stored_for({"depth": 2, "normalization": "batch"}, "vgg") == {
            "normalization": "batch",
            "eval_arch": "vgg",
        }

    @pytest.mark.parametrize("recipe, operation", [(IDC, "cutout"), (DC, "flip")])
    def test_a_misspelt_augmentation_is_refused(self, recipe, operation):
        recipe.check(32)
        with pytest.raises(UsageError, match=f"{operation}t"):
            type(recipe)(dsa_strategy=f"color_{operation}t").check(32)
