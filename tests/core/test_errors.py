"""What an error says, and the nearest name it proposes."""

import pytest

from jaxdd.core.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    DivergedError,
    JaxddError,
    UsageError,
    choose,
    nearest,
)

pytestmark = pytest.mark.quick


def test_a_message_is_one_line_each_for_what_where_expected_and_remedy():
    error = DataError("it broke", where="here", expected="whole", remedy="mend it")
    assert str(error).splitlines() == ["it broke", "  where:    here", "  expected: whole", "  remedy:   mend it"]
    assert str(DataError("it broke", remedy="mend it")).splitlines() == ["it broke", "  remedy:   mend it"]


def test_arguments_and_settings_exit_with_2_data_and_checkpoints_with_3():
    codes = {cls: cls("x").exit_code for cls in (UsageError, ConfigError, DataError, CheckpointError, DivergedError)}
    assert list(codes.values()) == [2, 2, 3, 3, 3]
    assert all(issubclass(cls, JaxddError) for cls in codes)


@pytest.mark.parametrize(
    "given, found", [("cifar1O", "cifar10"), ("CIFAR10", "cifar10"), ("Mnist", "mnist"), ("digit", "digits")]
)
def test_the_nearest_name_is_proposed_whatever_its_case(given, found):
    assert nearest(given, ["mnist", "cifar10", "cifar100", "digits"]) == f"did you mean '{found}'?"


def test_nothing_is_proposed_when_nothing_is_near():
    assert nearest("zebra", ["mnist", "cifar10"]) == ""
    assert nearest("", ["mnist"]) == ""
    assert nearest("x", []) == ""


def test_choose_returns_a_known_name_and_refuses_others_with_the_choice():
    assert choose("b", ("a", "b"), kind="letter", where="--letter") == "b"
    with pytest.raises(ConfigError) as refusal:
        choose("mnst", iter(["mnist", "digits"]), kind="data set", where="--dataset", error=ConfigError)
    error = refusal.value
    assert (error.what, error.where) == ("unknown data set 'mnst'", "--dataset")
    assert error.expected == "one of mnist, digits" and "mnist" in error.remedy
