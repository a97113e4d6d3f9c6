"""What a method and a data set imply: every published row, and how other data sets go by them."""

from __future__ import annotations

import pytest

from jaxdd.core.config import build, layer
from jaxdd.methods.recovery import published
from jaxdd.methods.recovery.settings import NAMES, Recovery

COSINE = {"easy2hard_mode": "cosine", "milestone": 1.0}
PLAIN = {"easy2hard_mode": "none", "milestone": 0.0}
SMALL = {"iterations": 1000, "lr_img": 0.25, "r_bn": 0.01, "jitter": 4}
LARGE = {"iterations": 4000, "lr_img": 0.25, "r_bn": 0.01, "jitter": 32}
FOUR = ((200, 500), (224, 500), (200, 500), (224, 500))
PUBLISHED = [
    ("sre2l", "cifar100", {**SMALL, **PLAIN, "crop": False, "flip": False, "initialise": "noise"}),
    ("sre2l", "tiny_imagenet", {"iterations": 4000, "lr_img": 0.1, "r_bn": 1.0, "jitter": 4, "jitter_signed": True}),
    ("sre2l", "imagenet", {**LARGE, **PLAIN, "crop": True, "flip": True, "jitter_signed": False, "min_scale": 0.08}),
    ("cda", "tiny_imagenet", {"iterations": 4000, "lr_img": 0.4, "r_bn": 0.05, "jitter": 4, **COSINE}),
    ("cda", "imagenet1k", {**LARGE, **COSINE, "initialise": "noise", "store": "jpg", "quality": 75}),
    ("cda", "imagenet21k", {"iterations": 2000, "lr_img": 0.05, "r_bn": 0.25, "jitter": 32, **COSINE}),
    ("sre2l_pp", "imagenet", {**LARGE, **PLAIN, "initialise": "medium", "mosaic": 1, "batch_size": 100}),
    ("sre2l_pp", "cifar10", {**LARGE, "jitter": 4, "batch_size": 10, "statistics_group": 10, "crop": True}),
    ("fadrm", "imagenet", {**LARGE, "iterations": 2000, "stages": FOUR, "merge": 0.5, "reset": True, "store": "png"}),
    ("fadrm", "cifar100", {**LARGE, "iterations": 2000, "jitter": 4, "stages": ((32, 500),) * 4, "merge": 0.5}),
    ("fadrm", "tiny_imagenet", {"iterations": 1000, "lr_img": 0.01, "jitter": 4, "stages": ((64, 500),) * 2}),
    ("fadrm", "imagenette", {"lr_img": 0.05, "batch_size": 10}),
    ("rded", "imagenet", {"initialise": "mosaic", "mosaic": 2, "iterations": 0, "candidates": 300, "crops": 5}),
    ("rded", "cifar100", {"mosaic": 1, "iterations": 0, "store": "jpg"}),
]


def settings(**given) -> Recovery:
    values = {**given, **published.implied(given).values}
    values.pop("dataset_name", None)
    return build([layer(values, "a test")], {"recovery": Recovery})["recovery"]


@pytest.mark.quick
@pytest.mark.parametrize(("method", "dataset", "expected"), PUBLISHED)
def test_published_rows(method, dataset, expected):
    found = settings(method=method, dataset_name=dataset)
    assert {name: getattr(found, name) for name in expected} == expected
    assert found.first_bn_multiplier == 10 and found.betas == (0.5, 0.9) and not found.tv_l2 and not found.l2_scale
    assert published.implied({"method": method, "dataset_name": dataset}).notices == ()


@pytest.mark.quick
@pytest.mark.parametrize("method", NAMES)
@pytest.mark.parametrize(("resolution", "classes", "kind"), [(8, 10, "cifar"), (64, 20, "tiny"), (256, 7000, "21k")])
def test_other_data_sets_go_by_what_they_are_like_and_say_so(method, resolution, classes, kind):
    given = {"method": method, "dataset_name": "parquet:some/where"}
    found = published.implied(given, resolution=resolution, classes=classes)
    (notice,) = found.notices
    assert kind in notice and str(classes) in notice
    assert found.values["batch_size"] == min(classes, 100)
    assert found.values["jitter"] == {8: 1, 64: 4, 256: 37}[resolution]


@pytest.mark.quick
def test_what_was_never_published_is_said_to_be_borrowed():
    (notice,) = published.implied({"method": "cda", "dataset_name": "cifar10"}).notices
    assert "no published settings for cifar10" in notice


@pytest.mark.quick
def test_what_is_given_stays_and_the_rest_follows():
    found = settings(method="fadrm", dataset_name="tiny_imagenet", iterations=501, lr_img=1.0)
    assert (found.iterations, found.lr_img, found.stages) == (501, 1.0, ((64, 250), (64, 251)))
    found = settings(method="fadrm", dataset_name="tiny_imagenet", stages=[[32, 5], [64, 6]])
    assert (found.iterations, found.stages) == (11, ((32, 5), (64, 6)))
    assert settings(method="fadrm", dataset_name="cifar10", iterations=0).stages is None


@pytest.mark.quick
def test_every_teacher_may_have_its_weight():
    assert [Recovery(r_bn=(0.1, 0.2)).r_bn_of(teacher) for teacher in (0, 1)] == [0.1, 0.2]
    assert Recovery(r_bn=0.3).r_bn_of(1) == 0.3
