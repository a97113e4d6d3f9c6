"""What is known of the data sets before any is read."""

from __future__ import annotations

import pytest

from jaxdd.core.errors import UsageError
from jaxdd.data import registry

pytestmark = pytest.mark.quick

NAMES = [
    *("digits", "mnist", "fashion_mnist", "svhn_cropped", "cifar10", "cifar100", "tiny_imagenet"),
    *("imagenette", "imagewoof", "imagenet10", "imagenet100", "imagenet1k", "imagenet21k"),
    *("imagenet_resized/32x32", "imagenet_resized/64x64", "caltech_birds2011"),
]


def test_all_sets_are_known_and_consistent():
    assert list(registry.SPECS) == NAMES
    for spec in registry.SPECS.values():
        assert spec.class_names == () or len(set(spec.class_names)) == spec.classes
        assert spec.space == ("standardised" if spec.channels == 1 or spec.subset else "zca")
        for family, constants in registry.CONSTANTS.items():
            if spec.name in constants:
                assert [len(row) for row in constants[spec.name]] == [spec.channels] * 2, (family, spec.name)
    assert registry.SPECS["tiny_imagenet"].tfds is None and registry.SPECS["imagewoof"].tfds is None


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("fashion", "fashion_mnist"), ("svhn", "svhn_cropped"), ("tinyimagenet", "tiny_imagenet"), ("cifar10", "cifar10")],
)
def test_a_name_as_papers_type_it_means_the_stored_one(typed, meant):
    assert registry.canonical(typed) == meant == registry.canonical(meant)
    assert registry.spec(typed) is registry.SPECS[meant]


def test_published_constants_differ_between_families():
    assert registry.statistics("rcig", "cifar10") == ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
    assert registry.statistics("idc", "cifar10") == ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
    assert registry.statistics("rcig", "caltech_birds2011") == ((0.4810, 0.4964, 0.4245), (0.2129, 0.2084, 0.2468))
    assert registry.statistics("rcig", "svhn_cropped") is None
    for name in ("imagenet10", "imagenet100", "imagenet20:3", "imagenet10:0:7"):
        assert registry.statistics("idc", name) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        assert registry.statistics("rcig", name) is None


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("cifar-10", "cifar10"), ("minst", "mnist"), ("imagenete", "imagenette"), ("CIFAR100", "cifar100")],
)
def test_a_typo_is_answered_with_the_nearest_name(typed, meant):
    with pytest.raises(UsageError, match=f"did you mean '{meant}'"):
        registry.spec(typed)


@pytest.mark.parametrize("typed", ["folder:", "folder:PATH", "", "zip:x", "digits ", "imagenet:x", "imagenet10:1:2:3"])
def test_what_is_no_name_is_refused(typed):
    assert typed == "folder:PATH" or registry.user_kind(typed) is None
    with pytest.raises(UsageError):
        registry.spec(typed)


def test_an_unknown_family_is_refused():
    with pytest.raises(UsageError, match="rcig"):
        registry.statistics("rcgi", "mnist")
