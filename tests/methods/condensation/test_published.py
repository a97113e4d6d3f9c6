"""What a method's name, a data set and a number of images imply: every row of the published tables."""

from __future__ import annotations

from typing import Any

import pytest

from jaxdd.evaluation.matching import IdcRecipe
from jaxdd.methods import Condensation
from jaxdd.methods.condensation.published import implied
from jaxdd.methods.condensation.settings import NAMES

SIDES = {"mnist": 28, "fashion_mnist": 28, "tiny_imagenet": 64, "imagenet10": 224, "imagenet100": 224}
IMAGENET = {"net_type": "resnet_ap", "metric": "l1", "n_data": 500, "mix_p": 1.0}
HUNDRED = {"lr": 0.1, "weight_decay": 1e-4, "batch_real": 128}
COMMON = {"factor": 1, "inner_loop": 100, "mix_p": 0.5, "mom_img": 0.5, "batch_syn_max": 128, "fix_iter": 1}
NETWORK = {"lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4, "net_epoch": 1, "train_on": "real", "mixup_net": "cut"}
MATCHING = {"space": "raw", "match": "grad", "bias": False, "fc": False, "shared_momentum": True, "width": 128}
AUGMENTING = {"aug_family": "diffaug", "aug_type": "color_crop_cutout", "net_aug": "color_crop"}
IDC = {**COMMON, **NETWORK, **MATCHING, **AUGMENTING, "batch_real": 64, "net_type": "convnet", "early": 0}
DSA = "color_crop_cutout_flip_scale_rotate"

IDC_ROWS: dict[str, dict[str, Any]] = {
    "cifar10": {"metric": "mse", "lr_img": 5e-3, "n_data": 2000, "max_steps": 200_000},
    "cifar100": {"metric": "mse", "lr_img": 5e-3, "n_data": 2000, "max_steps": 200_000},
    "svhn_cropped": {"metric": "mse", "lr_img": 5e-3, "n_data": 500, "max_steps": 200_000},
    "mnist": {"metric": "l1", "lr_img": 1e-4, "n_data": 500, "max_steps": 200_000},
    "fashion_mnist": {"metric": "l1", "lr_img": 1e-4, "n_data": 500, "max_steps": 200_000},
    "imagenet10": {**IMAGENET, "lr_img": 3e-3, "early": 10, "max_steps": 50_000},
    "imagenet100": {**IMAGENET, "lr_img": 1e-3, "early": 0, "max_steps": 50_000, **HUNDRED},
}
ACCDD_ROWS = {
    "cifar10": {**IDC_ROWS["cifar10"], "lr_img": 1e-2, "max_steps": 40_000},  # 5 times as fast as IDC
    "cifar100": {**IDC_ROWS["cifar100"], "lr_img": 1e-2, "max_steps": 40_000},
    "svhn_cropped": IDC_ROWS["svhn_cropped"],
    "mnist": IDC_ROWS["mnist"],
    "fashion_mnist": IDC_ROWS["fashion_mnist"],
    "imagenet10": {**IDC_ROWS["imagenet10"], "early": 0, "max_steps": 10_000},
    "imagenet100": {**IDC_ROWS["imagenet100"], "max_steps": 10_000},
}
TINY = {"metric": "mse", "lr_img": 5e-3, "n_data": 1000, "depth": 4, "batch_real": 64, "max_steps": 200_000}
DREAM = {"selection": "kmean", "f2_init": "kmean", "initial": "kmean", "interval": 10, "subsample": 1}


def settings(name: str, dataset: str, n_images: int = 10, **given: Any) -> dict[str, Any]:
    """All that is implied beside what is given, with the method's own defaults for the rest."""
    values = {"method": name, "dataset_name": dataset, "n_images": n_images, **given}
    found = {**values, **implied(values).values}
    fields = {key: value for key, value in found.items() if key in Condensation.__dataclass_fields__}
    return {**vars(Condensation(**fields)), **found}


def assert_has(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert {key: found[key] for key in wanted} == wanted


@pytest.mark.quick
@pytest.mark.parametrize("dataset", IDC_ROWS)
def test_idc(dataset):
    found = settings("idc", dataset)
    assert_has(found, {**IDC, **IDC_ROWS[dataset], "selection": "random", "initial": "random", "source": "random"})
    if found["net_type"] != "convnet":
        assert (
            "depth" not in implied({"method": "idc", "dataset_name": "tiny_imagenet", "net_type": "resnet_ap"}).values
        )


@pytest.mark.quick
@pytest.mark.parametrize("dataset", ["cifar10", "cifar100", "svhn_cropped"])
def test_images_are_matched_in_the_resnet_that_they_are_tested_in(dataset):
    fields = Condensation.__dataclass_fields__
    given = {key: value for key, value in settings("idc", dataset, net_type="resnet").items() if key in fields}
    matched = Condensation(**given).network((32, 32, 3), 10)
    tested = IdcRecipe(eval_arch="resnet_idc").network((32, 32, 3), 10, dataset)
    assert matched.module.clone(normalization="batch") == tested.module  # as IDC tests it
    assert matched.module.cifar == dataset.startswith("cifar")


@pytest.mark.quick
def test_idc_with_several_images_in_one():
    assert_has(settings("idc", "mnist", factor=2), {"aug_type": "color_crop", "mixup_net": "vanilla"})
    assert settings("idc", "mnist", factor=2)["net_aug"] == "color_crop"
    decoded = {
        (count, factor): settings("idc", "imagenet10", count, factor=factor)["decode_type"]
        for count in (10, 20)
        for factor in (2, 3)
    }
    assert decoded == {(10, 2): "single", (10, 3): "single", (20, 2): "single", (20, 3): "bound"}
    assert settings("idc", "cifar10", 50, factor=3)["decode_type"] == "single"


@pytest.mark.quick
@pytest.mark.parametrize("dataset", ACCDD_ROWS)
def test_accdd(dataset):
    networks = {"source": "pretrained", "perturb": True, "vmin": 0.01, "vmax": 0.09, "xnorm": "filter"}
    assert_has(settings("accdd", dataset), {**IDC, **ACCDD_ROWS[dataset], **networks, "selection": "random"})


@pytest.mark.quick
@pytest.mark.parametrize("dataset", [*IDC_ROWS, "tiny_imagenet"])
def test_dream(dataset):
    row = TINY if dataset == "tiny_imagenet" else {**IDC_ROWS[dataset], "batch_real": 128}
    assert_has(settings("dream", dataset), {**IDC, **row, **DREAM, "rank": "cluster"})
    if dataset == "imagenet10":
        return
    plus = settings("dream_plus", dataset)
    rank = "overall" if dataset == "tiny_imagenet" else "cluster"
    assert_has(plus, {**IDC, **row, **DREAM, "match": "bi_match", "early": 1, "rank": rank})


@pytest.mark.quick
def test_dream_for_tiny_imagenet_with_many_images():
    assert settings("dream", "tiny_imagenet", 50)["lr_img"] == 1e-6


@pytest.mark.quick
@pytest.mark.parametrize("dataset", ["cifar10", "cifar100"])
def test_gradient_amplification(dataset):
    stages = {"lcs_weight": 1.0, "lcs_shift": "fixed", "exit_mode": "fixed", "exit_at": 200, "dm_weight": 0.2}
    average = {"ema_decay": 0.999, "ema_every": "class", "compat_released_code": False}
    row = {"metric": "mse", "lr_img": 1e-2, "n_data": 2000, "batch_real": 64, "early": 0}
    networks = {"source": "pretrained", "perturb": True, "vmin": 0.01, "vmax": 0.09}
    found = settings("ga", dataset)
    assert_has(found, {**IDC, **row, **DREAM, **stages, **average, **networks})
    if dataset == "cifar10":
        assert found["max_steps"] == 50_000


@pytest.mark.quick
@pytest.mark.parametrize(
    ("n_images", "matchings", "epochs"),
    [(1, 1, 1), (10, 10, 50), (20, 20, 25), (30, 30, 20), (40, 40, 15), (50, 50, 10)],
)
def test_dc_and_dsa(n_images, matchings, epochs):
    common = {
        "space": "standardised",
        "metric": "ours",
        "lr_img": 0.1,
        "base_size": None,
        "mom_img": 0.5,
        "batch_real": 256,
        "train_on": "synthetic",
        "lr": 0.01,
        "momentum": 0.0,
        "weight_decay": 0.0,
        "mixup_net": "vanilla",
        "shared_momentum": False,
        "inner_loop": matchings,
        "net_epoch": epochs,
        "max_steps": 1001 * matchings,
        "factor": 1,
    }
    dc, dsa = settings("dc", "cifar10", n_images), settings("dsa", "cifar10", n_images)
    assert_has(dc, {**common, "initial": "noise", "aug_type": None, "net_aug": None})
    assert_has(dsa, {**common, "initial": "real", "aug_type": DSA, "net_aug": DSA, "aug_family": "dsa"})


@pytest.mark.quick
def test_dsa_does_not_mirror_figures():
    for dataset in ("mnist", "svhn_cropped"):
        assert settings("dsa", dataset)["aug_type"] == "color_crop_cutout_scale_rotate"
    assert settings("dsa", "fashion_mnist")["aug_type"] == DSA


@pytest.mark.quick
def test_dm():
    common = {"match": "feat", "initial": "real", "aug_type": DSA, "batch_real": 256, "inner_loop": 1, "mom_img": 0.5}
    common |= {"max_steps": 20_001, "base_size": None, "space": "standardised", "f_idx": None}
    for dataset, n_images, rate in (("cifar10", 50, 1.0), ("cifar10", 100, 10.0), ("cifar100", 100, 1.0)):
        assert_has(settings("dm", dataset, n_images), {**common, "lr_img": rate})
    assert settings("dm", "tiny_imagenet")["depth"] is None  # 3 at 64 pixels in the authors' script, 4 in later papers


@pytest.mark.quick
@pytest.mark.parametrize(
    ("name", "dataset", "wanted"),
    [
        ("idc", "cifar10", (5e-4, 5e-3, 1e-2, 2.5e-2)),
        ("dream", "cifar100", (5e-4, 5e-3, 1e-2, 2.5e-2)),
        ("idc", "svhn_cropped", (5e-4, 5e-3, 1e-2, 2.5e-2)),
        ("accdd", "cifar10", (1e-3, 1e-2, 2e-2, 5e-2)),
        ("ga", "cifar100", (1e-3, 1e-2, 2e-2, 5e-2)),
        ("idc", "mnist", (1e-5, 1e-4, 2e-4, 5e-4)),
        ("idc", "fashion_mnist", (7.65625e-6, 7.65625e-5, 1.53125e-4, 3.828125e-4)),
        ("dream", "tiny_imagenet", (2e-3, 2e-2, 4e-2, 2e-5)),
        ("idc", "imagenet10", (3e-4, 3e-3, 6e-3, 1.5e-2)),
        ("idc", "imagenet100", (1e-4, 1e-3, 2e-3, 5e-3)),
    ],
)
def test_the_learning_rate_of_the_images(name, dataset, wanted):
    for n_images, rate in zip((1, 10, 20, 50), wanted, strict=True):
        found = settings(name, dataset, n_images)
        fields = {key: found[key] for key in Condensation.__dataclass_fields__}
        assert Condensation(**fields).rate(SIDES.get(dataset, 32)) == pytest.approx(rate, rel=1e-9)


@pytest.mark.quick
@pytest.mark.parametrize("name", NAMES)
def test_what_is_given_stays_as_it_is(name):
    given = {"method": name, "dataset_name": "cifar10", "n_images": 7, "lr_img": 0.7, "inner_loop": 3}
    found = implied(given).values
    assert not set(found) & set(given) and found["max_steps"] % 3 == 0
    assert (
        implied({**given, "aug_type": "crop_cutout", "mixup_net": "cut"}).values.get("net_aug") == "crop"
        or name == "dc"
    )
    assert settings(name, "someone's own", 7)["n_images"] == 7
