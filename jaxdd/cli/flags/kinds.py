"""Kinds of options: a type, a word for the value in the help, and the range that it must lie in.

None in place of a default means that the config file, the preset, the distilled set or what is published decides.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from typing import Annotated, Any, Literal, TypeVar

from jaxdd.core import config as configs
from jaxdd.core.config import setting
from jaxdd.core.errors import UsageError

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Kind:
    """How the help shows an option, and its range.

    Arguments:
        metavar: a word for its value.
        hint: a remark at the end of its help; `default` stands for the default.
        low, high: the closed range of a number.
    """

    metavar: str
    hint: str = ""
    low: float | None = None
    high: float | None = None


MOST = 2**31 - 1
SEEDS = 2**32 - 1
STATED = "(default: {})"  # the default itself
AS_PUBLISHED = "(default: as published)"

Text = Annotated[str | None, Kind("TEXT")]
Name = Annotated[str | None, Kind("NAME")]
Path = Annotated[str | None, Kind("PATH")]
Paths = Annotated[tuple[str, ...], Kind("PATH", "(one or several)")]
Number = Annotated[float | None, Kind("X", AS_PUBLISHED)]
Count = Annotated[int | None, Kind("N", low=1, high=MOST)]
Switch = Annotated[bool, Kind("BOOL")]
Choice = Annotated[bool | None, Kind("BOOL", AS_PUBLISHED)]
Usual = Annotated[str, Kind("NAME", STATED)]  # a text with a default of its own
Seed = Annotated[int, Kind("N", STATED, 0, SEEDS)]
Minutes = Annotated[float, Kind("X", STATED, 0)]
Side = Annotated[int | None, Kind("N", low=1, high=1024)]
Devices = Annotated[int | Literal["all", "-1"] | None, Kind("N", low=1, high=2**16)]
Stream = Annotated[Literal["auto", "always", "never"], Kind("MODE", STATED)]
Assignments = Annotated[tuple[str, ...], Kind("KEY=VALUE", "(repeatable)")]


def read(text: str, annotation: Any, flag: str) -> Any:
    """Returns the value that a text stands for, whose range is checked with the settings.

    Arguments:
        text: as it was typed.
        annotation: a type.
        flag: for the message.

    Raises:
        UsageError: the text is empty or no number.
    """
    value = configs.from_text(text, annotation)
    if value is configs.NOTHING:
        what = f"'{text}' is not {configs.in_words(annotation)}" if text else "the value is empty"
        raise refused(what, annotation, flag)
    return value


def refused(what: str, annotation: Any, flag: str) -> UsageError:
    """Returns the error of a flag whose value is wrong or missing."""
    wanted = configs.in_words(annotation)
    return UsageError(what, where=flag, expected=wanted, remedy=f"give {flag} {wanted}, or leave the flag out")


def is_switch(annotation: Any) -> bool:
    """Returns whether a value is True or False."""
    return bool in configs.alternatives(annotation)


def metavar(annotation: Any) -> str:
    """Returns a word for a value of a type."""
    return {bool: "BOOL", int: "N", float: "X"}.get(configs.alternatives(annotation)[0], "TEXT")


def kind_of(annotation: object) -> Kind:
    """Returns the kind beside a type."""
    return next(note for note in typing.get_args(annotation) if isinstance(note, Kind))


@typing.dataclass_transform(frozen_default=True)
def options(cls: type[T]) -> type[T]:
    """Makes a class of options of its annotations: a frozen dataclass, whose fields are settings (`core.config`).

    A field's help is its line under "Arguments:" in the class's docstring; its range is its kind's.
    """
    text = inspect.cleandoc(cls.__doc__ or "").partition("Arguments:\n")[2]
    told = {
        name: " ".join(lines.split())
        for name, lines in re.findall(r"^ {4}(\w+): ((?:.+\n?(?: {8}.+\n?)*))", text, re.M)
    }
    hints = typing.get_type_hints(cls, include_extras=True)
    for name in inspect.get_annotations(cls):
        kind = kind_of(hints[name])
        setattr(cls, name, setting(getattr(cls, name), told[name], low=kind.low, high=kind.high))
    return dataclasses.dataclass(frozen=True)(cls)
