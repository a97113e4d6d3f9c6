"""Arguments as people type them: forms of booleans, dashes, typos, wrong types; and the original's flags, all there."""

from __future__ import annotations

import contextvars
import dataclasses
import inspect
import typing

import pytest

from jaxdd.cli.flags.chain import Recover, Relabel, Squeeze, Validate
from jaxdd.cli.flags.matching import condense, pretrain
from jaxdd.cli.flags.rcig import Distill, Eval
from jaxdd.cli.flags.words import PROGRAMS, normalise, parse, typed
from jaxdd.core.errors import UsageError

pytestmark = pytest.mark.quick

# The flags of the original's two scripts with their defaults. CONFIG: here the config file, or the distilled set's
# recipe, decides; it holds the original's default wherever a config of the original is used.
CONFIG = None
DATA = {"dataset_name": CONFIG, "data_path": None, "zca_path": None, "train_log": None, "train_img": None}
PLACES = {"output_dir": None, "config_path": None, "log_dir": None}
SWITCHES = dict.fromkeys(("use_x64", "skip_tune", "naive_loss", "init_random_noise"), CONFIG)
SIZES = dict.fromkeys(("depth", "normalization", "eval_lr", "eval_arch", "models_to_test"), CONFIG)
NAMES = {"message": "eval_log", "save_name": "eval", "checkpoint_path": None}
BOTH = DATA | PLACES | {"width": CONFIG, "random_seed": 0}
ORIGINAL = {
    Distill: BOTH | SWITCHES | {"message": None, "n_images": CONFIG, "max_steps": CONFIG},
    Eval: BOTH | SIZES | NAMES | {"max_cycles": 1000},
}
OURS = {
    Distill: {
        "method",
        "init_from",
        "set",
        "resolution",
        "checkpoint_every",
        "log_every",
        "devices",
        "devices_mode",
        "distributed",
        "coordinator_address",
        "num_processes",
        "process_id",
        "dry_run",
        "debug",
        "stream",
    },
    Eval: {
        *("full_data", "baselines", "set", "resolution", "stream", "devices", "debug"),
        *("epochs", "same_compute", "dsa_strategy", "mixup"),
    },
}


@pytest.mark.parametrize("flags", [Distill, Eval])
def test_the_flags_are_the_originals_and_ours(flags):
    defaults = {field.name: field.default for field in dataclasses.fields(flags)}
    assert {name: defaults[name] for name in ORIGINAL[flags]} == ORIGINAL[flags]
    assert set(defaults) == set(ORIGINAL[flags]) | OURS[flags]


@pytest.mark.parametrize("flags", [Distill, Eval])
def test_every_flag_parses(flags):
    values = {"int": "3", "float": "0.5", "bool": "True"}
    for field in dataclasses.fields(flags):
        alias = str(field.type).removeprefix("kinds.")
        kind = next((kind for kind in values if f"[{kind} " in alias + " "), None)
        numeric = {"ConfigInt", "RecipeInt", "OptionalInt", "Int", "Number", "RecipeNumber"}
        value = "3" if alias in numeric else values.get(kind or "", "word=1")
        value = "True" if "Switch" in alias else value
        found = getattr(parse(flags, [f"--{field.name}", value], "x"), field.name)
        assert str(found).strip("(),'") in (value, "3.0")


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
    assert parse(Distill, words, "x").use_x64 is expected


def test_assignments_repeat_and_keep_their_values():
    words = ["--set", "aug=null", "--set=direct_batch_sizes=[null, 4]", "--set", "l2_rate=-1"]
    assert parse(Distill, words, "x").set == ("aug=null", "direct_batch_sizes=[null, 4]", "l2_rate=-1")


def test_dashes_and_values_with_dashes():
    found = parse(Distill, ["--dataset-name", "mnist", "--message", "-a note-", "--output_dir=a b"], "x")
    assert (found.dataset_name, found.message, found.output_dir) == ("mnist", "-a note-", "a b")


@pytest.mark.parametrize("flags", [Distill, Eval])
def test_a_typo_in_a_flag_finds_its_neighbour(flags):
    names = [field.name for field in dataclasses.fields(flags) if len(field.name) > 3]
    typos = [(name, name[:i] + name[i + 1 :]) for name in names for i in range(1, len(name))]
    typos += [(name, name[:i] + name[i + 1] + name[i] + name[i + 2 :]) for name in names for i in range(len(name) - 1)]
    known = {field.name for field in dataclasses.fields(flags)}
    found = 0
    for name, typo in (typos := [pair for pair in typos if pair[1] not in known]):
        with pytest.raises(UsageError) as refusal:
            normalise(flags, [f"--{typo}", "1"])
        found += f"'--{name}'" in refusal.value.remedy
    assert found >= 0.95 * len(typos)


@pytest.mark.parametrize(
    "words, message",
    [
        (["--width", "x"], "'x' is not an integer"),
        (["--width", "4.5"], "'4.5' is not an integer"),
        (["--checkpoint_every", "often"], "'often' is not a number"),
        (["--checkpoint_every", "nan"], "nan is out of range"),
        (["--use_x64=maybe"], "'maybe' is not True or False"),
        (["--random_seed", "-1"], "-1 is out of range"),
        (["--random_seed", str(2**32)], "out of range"),
        (["--devices", "0"], "0 is out of range"),
        (["--resolution", "4096"], "4096 is out of range"),
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
    with pytest.raises(UsageError, match=message) as refusal:
        normalise(Distill, words)
    assert refusal.value.exit_code == 2


@pytest.mark.parametrize(
    "flags, text, expected",
    [
        (Distill, "another `output_dir`, or `squeeze`", "another --output_dir, or python squeeze.py"),
        (Distill, "`stream=never` or `devices_mode=pool`", "--stream never or --devices_mode pool"),
        (Distill, "`l2_rate=0.1` and `l2_rate`", "--set l2_rate=0.1 and l2_rate"),
        (
            Recover,
            "`teacher`, `lr_img`, `n_images`, `dataset_name=mnist`",
            "--arch_path, --lr, --ipc_end, --dataset mnist",
        ),
        (condense(), "`networks`, `pretrain`, `pretrain=true`", "--model_path, pretrain, --pretrain true"),
        (Validate, "`learning_rate` of `a b` in `<folder>/x`", "--learning_rate of `a b` in `<folder>/x`"),
    ],
)
def test_settings_and_commands_in_a_text_are_named_as_the_user_types_them(flags, text, expected):
    def spoken() -> str:
        PROGRAMS.set({"squeeze": "python squeeze.py", "pretrain": "pretrain"})
        parse(flags, [], "x")
        return typed(text)

    assert contextvars.copy_context().run(spoken) == expected


@pytest.mark.parametrize("flags", [Distill, Eval, Squeeze, Recover, Relabel, Validate, condense(), pretrain()])
def test_the_help_explains_every_flag(flags, capsys):
    with pytest.raises(SystemExit) as leaving:
        parse(flags, ["--help"], "jaxdd")
    assert not leaving.value.code
    text = capsys.readouterr().out
    assert all(f"--{field.name}" in text for field in dataclasses.fields(flags))
    assert "None" not in text and "{default}" not in text
    documented = "".join(inspect.cleandoc(cls.__doc__ or "") for cls in flags.__mro__)
    hints = typing.get_type_hints(flags, include_extras=True)
    for field in dataclasses.fields(flags):
        notes = [note for note in typing.get_args(hints[field.name]) if getattr(note, "help", None)]
        assert notes or f"\n    {field.name}: " in documented, field.name
