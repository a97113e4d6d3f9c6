"""Settings from files and flags: what is read, and how everything else is refused."""

import dataclasses
from typing import Any, Literal

import pytest

from jaxdd.core.config import (
    as_config_dict,
    as_dict,
    build,
    find_config,
    layer,
    packaged_configs,
    parse_assignments,
    read_config,
    reference,
    setting,
)
from jaxdd.core.errors import ConfigError

pytestmark = pytest.mark.quick


@dataclasses.dataclass(frozen=True)
class Oven:
    """Settings of every type."""

    degrees: int = setting(180, "how hot", low=0, high=300)
    minutes: float = setting(1.0, "how long", low=0)
    fan: bool = setting(False, "whether air moves")
    dish: str | None = setting(None, "what is in it")
    mode: Literal["bake", "grill"] = setting("bake", "from where")
    shelves: tuple[int | None, int | None] = setting((None, None), "used shelves, [upper, lower]", low=1)
    alarms: tuple[int, ...] = setting((), "when to ring", low=0)
    notes: dict[str, Any] = dataclasses.field(default_factory=dict, metadata={"help": "x", "low": None, "high": None})


@dataclasses.dataclass(frozen=True)
class Table:
    """Settings of another class in the same file."""

    seats: int = setting(4, "how many sit", low=1)


def write(folder, text: str):
    path = folder / "meal.txt"
    path.write_text(text)
    return path


def build_from(folder, text: str):
    return build([read_config(write(folder, text)).layer], {"oven": Oven, "table": Table})


class TestReading:
    def test_values_reach_the_class_they_belong_to_with_their_types(self, tmp_path):
        text = '{"degrees": 200, "minutes": 30, "shelves": [null, 2], "seats": 2, "alarms": [1, 5], "mode": "grill"}'
        found = build_from(tmp_path, text)
        assert found["oven"] == Oven(200, 30.0, False, None, "grill", (None, 2), (1, 5))
        assert isinstance(found["oven"].minutes, float)
        assert found["table"].seats == 2

    def test_whole_line_comments_are_skipped_and_the_top_ones_are_the_header(self, tmp_path):
        text = '// paper: Some Title\n// cost: 3 h\n\n{\n  // a remark: not in the header\n  "fan": true\n}\n'
        config = read_config(write(tmp_path, text))
        assert config.header == {"paper": "Some Title", "cost": "3 h"}
        assert (config.values, config.lines) == ({"fan": True}, {"fan": 6})

    def test_slashes_inside_a_text_are_no_comment(self, tmp_path):
        assert read_config(write(tmp_path, '{\n"dish": "a // b"\n}')).values == {"dish": "a // b"}

    def test_the_last_layer_wins_and_a_bad_value_is_told_where_it_was_given(self, tmp_path):
        file = read_config(write(tmp_path, '{\n"degrees": 500\n}')).layer
        assert build([file, layer({"degrees": 100}, "--degrees")], {"oven": Oven})["oven"].degrees == 100
        with pytest.raises(ConfigError, match=":2, key 'degrees'"):
            build([layer({"degrees": 100}, "implied"), file], {"oven": Oven})
        with pytest.raises(ConfigError, match="--degrees"):
            build([file, layer({"degrees": 1000}, "--degrees")], {"oven": Oven})

    def test_a_historical_key_is_mapped_with_a_notice(self, tmp_path):
        path = write(tmp_path, '{\n"degress": 90\n}')
        config = read_config(path, historical={"degress": "degrees"})
        assert config.values == {"degrees": 90}
        assert f"{path}:2" in config.notices[0] and "read as 'degrees'" in config.notices[0]

    def test_today_s_key_wins_over_a_historical_one(self, tmp_path):
        config = read_config(write(tmp_path, '{"old": 1,\n"degrees": 2}'), historical={"old": "degrees"})
        assert config.values == {"degrees": 2}
        assert "ignored" in config.notices[0]

    def test_a_byte_order_mark_is_no_obstacle(self, tmp_path):
        path = tmp_path / "bom.txt"
        path.write_bytes(b"\xef\xbb\xbf{}")
        assert read_config(path).values == {}


REFUSED = [  # text, line, what the message names, what it expects or advises
    ('{\n"degres": 1\n}', 2, "unknown key 'degres'", "did you mean 'degrees'?"),
    ('{\n"zzzzzz": 1\n}', 2, "unknown key 'zzzzzz'", "remove the key"),
    ('{\n\n"degrees": "hot"\n}', 3, "'degrees' is \"hot\", which has the wrong type", "an integer"),
    ('{"degrees": 1.5}', 1, "'degrees' is 1.5", "an integer"),
    ('{"degrees": true}', 1, "'degrees' is true", "an integer"),
    ('{"minutes": false}', 1, "'minutes' is false", "a number"),
    ('{"fan": 1}', 1, "'fan' is 1", "true or false"),
    ('{"dish": 3}', 1, "'dish' is 3", "a text or null"),
    ('{"mode": "fry"}', 1, "'mode' is \"fry\"", 'one of "bake", "grill"'),
    ('{"mode": "gril"}', 1, "'mode' is \"gril\", which is unknown", "did you mean 'grill'?"),
    ('{"shelves": [1]}', 1, "'shelves' is [1]", "a list of an integer or null, an integer or null"),
    ('{"shelves": 1}', 1, "'shelves' is 1", "a list of"),
    ('{"notes": []}', 1, "'notes' is []", "an object"),
    ('{"degrees": 301}', 1, "'degrees' is 301, out of range", "between 0 and 300"),
    ('{"minutes": -0.5}', 1, "'minutes' is -0.5, out of range", ">= 0"),
    ('{"minutes": NaN}', 1, "'minutes' is NaN", "a number"),
    ('{"minutes": -Infinity}', 1, "'minutes' is -Infinity", "a number"),
    ("[" * 200_000, None, "nested too deeply", "{"),
    ('{"shelves": [null, 0]}', 1, "'shelves' is [null, 0], out of range", ">= 1"),
    ('{"alarms": [3, -1]}', 1, "out of range", ">= 0"),
    ('{\n"fan": true\n"dish": null\n}', 3, "not valid JSON", "comma"),
    ('{"fan": true,\n "fan": false}', None, "'fan' is given twice", "keep one of the two"),
    ("[1]", None, "not a JSON object", "{"),
    ("", 1, "not valid JSON", "JSON object"),
]


@pytest.mark.parametrize("text, line, what, advice", REFUSED)
def test_a_wrong_file_is_refused_with_place_and_advice(text, line, what, advice, tmp_path):
    with pytest.raises(ConfigError) as refusal:
        build_from(tmp_path, text)
    error = refusal.value
    assert what in error.what
    assert str(tmp_path / "meal.txt") + (f":{line}" if line else "") in error.where
    assert advice in error.expected + error.remedy
    assert error.exit_code == 2


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "meal.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot read"):
        read_config(tmp_path / "meal.txt")


class TestAssignments:
    def test_json_where_it_parses_else_text(self):
        given = ["degrees=3", "fan=true", "dish=fish pie", "dish2=null", "x=None", "y=False", "z=a=b", "s=[1,null]"]
        assert parse_assignments(given) == {
            "degrees": 3,
            "fan": True,
            "dish": "fish pie",
            "dish2": None,
            "x": None,
            "y": False,
            "z": "a=b",
            "s": [1, None],
        }

    @pytest.mark.parametrize("text", ["degrees", "=3", " =3", ""])
    def test_a_text_without_key_or_value_is_refused(self, text):
        with pytest.raises(ConfigError, match="cannot read"):
            parse_assignments([text])


class TestFinding:
    def test_a_given_path_comes_first_then_the_packaged_name(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert find_config("depth_3") == packaged_configs()["depth_3.txt"]
        (tmp_path / "depth_3.txt").write_text("{}")
        assert find_config("depth_3.txt").resolve() == tmp_path / "depth_3.txt"
        assert find_config(str(tmp_path / "depth_3.txt")) == tmp_path / "depth_3.txt"

    def test_the_original_s_folder_name_leads_to_the_packaged_file(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert find_config("./configs_final/depth_3.txt") == packaged_configs()["depth_3.txt"]

    def test_a_method_s_folder_is_part_of_the_name(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        own = packaged_configs()["frepo/digits.txt"]
        assert find_config("configs_final/frepo/digits.txt") == find_config("frepo/digits") == own
        assert find_config("digits") == packaged_configs()["digits.txt"]

    def test_an_absent_file_is_refused_with_the_nearest_name(self):
        with pytest.raises(ConfigError) as refusal:
            find_config("configs_final/dept_3.txt")
        assert "depth_3" in refusal.value.remedy and "digits.txt" in refusal.value.expected


def test_config_dict_is_locked_and_json_form_is_plain():
    oven = Oven(shelves=(1, None))
    merged = as_config_dict(oven, Table())
    assert (merged.degrees, merged.seats) == (180, 4)
    with pytest.raises(AttributeError, match="degrees"):
        merged.degres = 3
    assert as_dict(oven)["shelves"] == [1, None]
    rebuilt = build([layer(as_dict(oven, Table()), "again")], {"oven": Oven, "table": Table})
    assert rebuilt == {"oven": oven, "table": Table()}


@pytest.mark.parametrize(
    "method, dataset, ipc, told",
    [
        ("rcig", "digits", 1, "94.3 +- 0.7"),
        ("rcig", "cifar10", 10, "53.9 +- 1.0 / 69.1 +- 0.4"),
        ("rcig", "cifar100", 1, "39.3 +- 0.3 / 44.1 +- 0.4"),
        ("rcig", "digits", 2, ""),
        ("dream", "digits", 10, ""),
        ("frepo", "digits", 1, "90.9 +- 1.1"),
        ("cda", "svhn_cropped", 10, ""),
    ],
)
def test_a_reference_is_that_of_the_method_the_data_set_and_the_number_of_images(method, dataset, ipc, told):
    found = reference(method, dataset, ipc)
    assert told in found if told else found == ""
