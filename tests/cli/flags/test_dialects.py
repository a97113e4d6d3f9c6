"""Arguments as people type them: forms of booleans, dashes, typos, wrong types; and every script's flags, all there."""

from __future__ import annotations

import contextvars
import json
import pathlib

import pytest

from jaxdd.cli.flags.dialect import PROGRAMS, typed
from jaxdd.cli.flags.rcig import DISTILL, EVAL
from jaxdd.cli.main import COMMANDS, dialect
from jaxdd.core.errors import JaxddError, UsageError

GOLDEN = pathlib.Path(__file__).resolve().parents[2] / "golden" / "flags.json"
pytestmark = pytest.mark.quick

# The options of the original's two scripts with their defaults; the config file, or the set's recipe, decides the rest.
PLACES = dict.fromkeys(("data_path", "zca_path", "output_dir", "config_path", "log_dir"))
ORIGINAL = {
    "distill": {**PLACES, "message": None, "random_seed": 0},
    "eval": {**PLACES, "message": "eval_log", "random_seed": 0, "save_name": "eval", "checkpoint_path": None},
}


@pytest.mark.parametrize("command", COMMANDS)
def test_the_flags_and_their_other_names_are_those_on_record(command):
    language = dialect(command)
    assert set(language.others) <= set(language.flags), "another name of no flag"
    known = {name: sorted(language.others.get(name, ())) for name in language.flags}
    assert known == json.loads(GOLDEN.read_text())[command]


@pytest.mark.parametrize("command", ORIGINAL)
def test_defaults_are_the_originals(command):
    options = dialect(command).parse([]).options
    assert {name: getattr(options, name) for name in ORIGINAL[command]} == ORIGINAL[command]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_flag_parses_by_each_of_its_names(command):
    language = dialect(command)
    for name, flag in language.flags.items():
        words = {"[BOOL]": "True", "BOOL": "True", "N": "3", "X": "0.5", "MODE": "auto", "KEY=VALUE": "a=1"}
        value = {"devices_mode": "pool"}.get(name, words.get(flag.kind.metavar, "word"))
        for form in (f"--{name}", *language.others.get(name, ())):
            _, told = [], language._in_full([form, value], names := {})
            texts = vars(language._parser("").parse_args(list(told)))[name]
            assert str(language._value(name, texts, form).value).strip("(),'") == value, (form, names)


@pytest.mark.parametrize(
    "words, expected",
    [
        (["--use_x64"], True),
        (["--use_x64=True"], True),
        (["--use_x64", "False"], False),
        (["--use-x64", "true"], True),
        (["--use_x64=0"], False),
        (["--nouse_x64"], False),
        (["--no-use-x64"], False),
        (["--use_x64", "--width", "4"], True),
        ([], None),
    ],
)
def test_booleans_in_every_form(words, expected):
    given = DISTILL.parse(words).layer
    assert (given["use_x64"].value if given else None) is expected


def test_assignments_repeat_and_keep_their_values():
    words = ["--set", "aug=null", "--set=direct_batch_sizes=[null, 4]", "--set", "l2_rate=-1"]
    assert DISTILL.parse(words).options.set == ("aug=null", "direct_batch_sizes=[null, 4]", "l2_rate=-1")


def test_dashes_and_values_with_dashes():
    words = ["--dataset-name", "mnist", "--message", "-a note-", "--output_dir=a b", "--log-dir", "-x:1"]
    options, given, _ = DISTILL.parse(words)
    assert (options.message, options.output_dir, options.log_dir) == ("-a note-", "a b", "-x:1")
    assert given["dataset_name"] == ("mnist", "--dataset_name")


def test_a_value_knows_the_flag_as_it_was_typed():
    assert DISTILL.parse(["--dataset", "x"]).layer["dataset_name"] == ("x", "--dataset")
    assert (
        contextvars.copy_context().run(lambda: (DISTILL.parse(["--dataset", "x"]), typed("`dataset_name`"))[1])
        == "--dataset"
    )


@pytest.mark.parametrize("language", [DISTILL, EVAL])
def test_a_typo_in_a_flag_finds_its_neighbour(language):
    names = [name for name in language.flags if len(name) > 3]
    typos = [(name, name[:i] + name[i + 1 :]) for name in names for i in range(1, len(name))]
    typos += [(name, name[:i] + name[i + 1] + name[i] + name[i + 2 :]) for name in names for i in range(len(name) - 1)]
    known = {*language.flags, *(form[2:] for forms in language.others.values() for form in forms)}
    found = 0
    for name, typo in (typos := [pair for pair in typos if pair[1] not in known]):
        with pytest.raises(UsageError) as refusal:
            language.parse([f"--{typo}", "1"])
        found += f"'--{name}'" in refusal.value.remedy
    assert found >= 0.95 * len(typos)


@pytest.mark.parametrize(
    "words, message",
    [
        (["--width", "x"], "'x' is not an integer"),
        (["--width", "4.5"], "'4.5' is not an integer"),
        (["--checkpoint_every", "often"], "'often' is not a number"),
        (["--checkpoint_every", "nan"], "is NaN"),
        (["--use_x64=maybe"], "'maybe' is not true or false"),
        (["--random_seed", "-1"], "is -1, out of range"),
        (["--random_seed", str(2**32)], "out of range"),
        (["--devices", "0"], "is 0, out of range"),
        (["--resolution", "4096"], "is 4096, out of range"),
        (["--width"], "lacks its value"),
        (["--width", "--n_images", "1"], "lacks its value"),
        (["--width", "4", "--width", "8"], "given twice"),
        (["--output_dir", ""], "the value is empty"),
        (["cifar10"], "unexpected argument 'cifar10'"),
        (["-w", "4"], "unexpected argument '-w'"),
        (["--"], "unknown flag"),
    ],
)
def test_what_is_no_argument_is_refused(words, message):
    with pytest.raises(JaxddError, match=message) as refusal:
        DISTILL.parse(words)
    assert refusal.value.exit_code == 2


@pytest.mark.parametrize(
    "command, text, expected",
    [
        ("distill", "another `output_dir`, or `squeeze`", "another --output_dir, or python squeeze.py"),
        ("distill", "`stream=never` or `devices_mode=pool`", "--stream never or --devices_mode pool"),
        ("distill", "`l2_rate=0.1` and `l2_rate`", "--set l2_rate=0.1 and l2_rate"),
        (
            "recover",
            "`teacher`, `lr_img`, `n_images`, `dataset_name=mnist`",
            "--arch_path, --lr, --ipc_end, --dataset mnist",
        ),
        ("condense", "`networks`, `pretrain`, `pretrain=true`", "--model_path, pretrain, --pretrain true"),
        ("validate", "`learning_rate` of `a b` in `<folder>/x`", "--learning_rate of `a b` in `<folder>/x`"),
    ],
)
def test_settings_and_commands_in_a_text_are_named_as_the_user_types_them(command, text, expected):
    def spoken() -> str:
        PROGRAMS.set({"squeeze": "python squeeze.py", "pretrain": "pretrain"})
        dialect(command).parse([])
        return typed(text)

    assert contextvars.copy_context().run(spoken) == expected


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_explains_every_flag(command, capsys):
    with pytest.raises(SystemExit) as leaving:
        dialect(command).parse(["--help"], "jaxdd")
    assert not leaving.value.code
    text = capsys.readouterr().out
    assert all(f"--{name} " in text and flag.help for name, flag in dialect(command).flags.items())
    assert "None" not in text and "{}" not in text
