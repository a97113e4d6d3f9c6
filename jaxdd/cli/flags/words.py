"""Arguments as people type them, checked before anything heavy is imported and handed to tyro in one plain form.

`--use_x64`, `--use_x64=True` and `--use_x64 False` are the same kind of thing; dashes and underscores are alike; `-d`
stands for the flag that has this short form; a repeatable flag takes one value or several; an unknown flag gets the
nearest name; a number that is none is refused here, with the other errors' four lines.
"""

from __future__ import annotations

import contextvars
import dataclasses
import difflib
import functools
import math
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import tyro

from jaxdd.core.errors import UsageError, nearest

T = TypeVar("T")

YES, NO = ("true", "1", "yes", "y"), ("false", "0", "no", "n")
RANGES: dict[str, tuple[float, float]] = {
    "random_seed": (0, 2**32 - 1),
    "devices": (1, 2**16),
    "num_processes": (1, 2**16),
    "process_id": (0, 2**16 - 1),
    "resolution": (1, 1024),
    "log_every": (1, 2**31 - 1),
    "checkpoint_every": (0, math.inf),
    "niter": (1, 2**31 - 1),
    "max_steps": (1, 2**31 - 1),
    "pt_from": (-1, 10**6),
    "repeat": (1, 1000),
    "val_interval": (1, 2**31 - 1),
    "ipc_start": (0, 10**6),
    "ipc_end": (1, 10**6),
    "iteration": (1, 2**31 - 1),
    "epochs": (0, 10**6),
    "batch_size": (1, 2**31 - 1),
    "milestone": (0, 1),
    "prune": (1, 10**6),
    "keep_epochs": (1, 10**6),
}
SAME = (  # one flag under the names of several authors' scripts; each command has it under one of them
    ("dataset_name", "dataset"),
    ("data_path", "data_dir"),
    ("output_dir", "save_dir"),
    ("random_seed", "seed"),
    ("n_images", "ipc"),
    ("resolution", "size"),
    ("models_to_test", "repeat"),
    ("ipc_end", "ipc"),
    ("ipc_end", "n_images"),
    ("jitter", "image_shifting"),
    ("iteration", "iterations"),
    ("arch_name", "model"),
    ("arch_path", "teacher_path"),
    ("learning_rate", "lr"),
    ("verifier_arch_path", "verifier_path"),
    ("checkpoint_path", "data"),
    ("arch_name", "arch"),
    ("weight_decay", "wd"),
)
WORDS = {"devices": {"all": "-1", "-1": "-1"}}  # what stands for a number, whatever the range


MEANT = {"teacher": "arch_path", "networks": "model_path", "lr_img": "lr", "iterations": "iteration"}  # -> flag
PROGRAMS: contextvars.ContextVar[Mapping[str, str]] = contextvars.ContextVar("how each command is called")
_flags: contextvars.ContextVar[type] = contextvars.ContextVar("flags of the command at work")


def typed(text: str) -> str:
    """Returns a text with settings and commands as the user of this command types them.

    Arguments:
        text: in which `name`, `name=value` and `command` stand in backticks.
    """
    flags, programs = _flags.get(None), PROGRAMS.get({})
    known = {} if flags is None else _kinds(flags)

    def as_typed(match: re.Match) -> str:
        name, equals, value = match[1].partition("=")
        flag = next((flag for flag in (name, MEANT.get(name), *_same(name)) if flag in known), None)
        if not equals and name in programs:
            return programs[name]
        if flag is None:
            return f"--set {name}={value}" if equals else name
        return f"--{flag} {value}" if equals else f"--{flag}"

    return re.sub(r"`([a-z]\w*(?:=[^`]+)?)`", as_typed, text)


def parse(flags: type[T], argv: Sequence[str], program: str) -> T:
    """Returns the flags of one command, whose language `typed` speaks from now on.

    Arguments:
        flags: a dataclass of `cli.flags`.
        argv: the words after the command.
        program: how the command is called, for the help text.

    Raises:
        UsageError: an unknown flag, a missing value, or a value that is not of the flag's type or range.
        SystemExit: `--help` was asked for and printed.
    """
    _flags.set(flags)
    words = normalise(flags, argv)
    config = (tyro.conf.FlagConversionOff,)
    return tyro.cli(flags, prog=program, args=words, use_underscores=True, config=config)


def normalise(flags: type, argv: Sequence[str]) -> list[str]:
    """Returns every flag as one word `--name=value`, checked; booleans as True or False; `--help` as it is.

    Raises:
        UsageError: see `parse`.
    """
    kinds = _kinds(flags)
    words, position, seen = [], 0, set()
    while position < len(argv):
        word = argv[position]
        position += 1
        if word in ("-h", "--help"):
            words.append("--help")
            continue
        name, equals, value = _flag(word, kinds, _short_forms(flags)).partition("=")
        kind = kinds[name]
        following = argv[position] if position < len(argv) else None
        if not equals:
            if kind is bool and (following is None or following.lower() not in (*YES, *NO)):
                value = "True"
            elif following is None or (following.startswith("--") and following != "--"):
                raise UsageError(
                    "the flag lacks its value",
                    where=f"--{name}",
                    expected=_expected(kind),
                    remedy=f"give --{name} {_expected(kind)}, or leave the flag out",
                )
            else:
                value, position = following, position + 1
        if name in seen and kind is not tuple:
            raise UsageError("the flag is given twice", where=f"--{name}", remedy="keep one of the two")
        seen.add(name)
        words.append(f"--{name}={_checked(name, kind, value)}")
        while kind is tuple and not equals and position < len(argv) and not argv[position].startswith("-"):
            words.append(f"--{name}={_checked(name, kind, argv[position])}")
            position += 1
    return words


def _flag(word: str, kinds: dict[str, Any], short: dict[str, str]) -> str:
    """Returns `name` or `name=value` of one word, with the name known and in underscores."""
    letters, equals, value = word.partition("=")
    if letters in short:
        return f"{short[letters]}{equals}{value}"
    if not word.startswith("--"):
        raise UsageError(
            f"unexpected argument '{word}'",
            where="the command line",
            expected="flags such as --dataset_name cifar10",
            remedy=nearest(f"--{word}", [f"--{name}" for name in kinds]) or "put a --flag before it, or remove it",
        )
    name, equals, value = word[2:].partition("=")
    name = name.replace("-", "_")
    if name not in kinds:
        name = next((other for other in _same(name) if other in kinds), name)
    if name in kinds:
        return f"{name}{equals}{value}"
    if name[:2] == "no" and kinds.get(name[2:].lstrip("_")) is bool and not equals:
        return f"{name[2:].lstrip('_')}=False"
    raise UsageError(
        f"unknown flag '--{name}'",
        where="the command line",
        expected="a flag listed by --help",
        remedy=_nearest_flag(name, kinds)
        or "remove it, or see --help; settings of the config file are given as --set key=value",
    )


def _same(name: str) -> Iterator[str]:
    """Yields the other names of a flag."""
    return (other for pair in SAME for this, other in (pair, pair[::-1]) if this == name)


def _nearest_flag(name: str, kinds: dict[str, Any]) -> str:
    prefixed = [known for known in kinds if known.startswith(name) or name.startswith(known)]
    close = difflib.get_close_matches(name, kinds, n=1, cutoff=0.75) or prefixed[:1]
    return f"did you mean '--{close[0]}'?" if close else ""


@functools.cache
def _short_forms(flags: type) -> dict[str, str]:
    """Returns `-d` -> the flag's name, as the flags' annotations tell tyro."""
    hints = typing.get_type_hints(flags, include_extras=True)
    notes = [(name, note) for name, hint in hints.items() for note in typing.get_args(hint)]
    return {short: name for name, note in notes for short in getattr(note, "aliases", None) or ()}


@functools.cache
def _kinds(flags: type) -> dict[str, Any]:
    """Returns bool, int, float, str or (for repeatable flags) tuple, by name."""
    hints = typing.get_type_hints(flags)
    return {field.name: _kind(hints[field.name]) for field in dataclasses.fields(flags)}


def _kind(annotation: Any) -> Any:
    options = [a for a in typing.get_args(annotation) if a is not type(None)]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        annotation = options[0]
    return typing.get_origin(annotation) or annotation


def _expected(kind: Any) -> str:
    return {bool: "True or False", int: "an integer", float: "a number", tuple: "a value or several"}.get(
        kind, "a text"
    )


def _checked(name: str, kind: Any, value: str) -> str:
    wrong = UsageError(
        f"'{value}' is not {_expected(kind)}",
        where=f"--{name}",
        expected=_expected(kind),
        remedy=f"give --{name} {_expected(kind)}; --help lists every flag",
    )
    if kind is bool:
        if value.lower() not in (*YES, *NO):
            raise wrong
        return str(value.lower() in YES)
    if value in WORDS.get(name, ()):
        return WORDS[name][value]
    if kind in (int, float):
        try:
            number = kind(value)
        except ValueError:
            raise wrong from None
        low, high = RANGES.get(name, (-math.inf, math.inf))
        if not (math.isfinite(number) and low <= number <= high):
            raise UsageError(
                f"{value} is out of range",
                where=f"--{name}",
                expected=_range(low, high),
                remedy=f"give --{name} a value in that range, or leave it out for its default",
            )
        return repr(number)
    if not value:
        raise UsageError(
            "the value is empty",
            where=f"--{name}",
            expected=_expected(kind),
            remedy=f"give --{name} {_expected(kind)}, or leave the flag out",
        )
    return value


def _range(low: float, high: float) -> str:
    if math.isinf(low) and math.isinf(high):
        return "a finite number"
    return f"at least {low}" if math.isinf(high) else f"{low} to {high}"
