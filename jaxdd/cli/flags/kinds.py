"""Kinds of flags: a type, a word for the value in the help, and who decides where nothing is said.

None in place of a default means that the config file, the preset, the distilled set or what is published decides.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar

import tyro

T = TypeVar("T")

_CONFIG = "(default: the config's)"
_SET = "(default: the set's recipe)"


def default(value: str) -> str:
    """Returns a value as the help states it."""
    return f"(default: {value})"


def shown(metavar: str, hint: str | Callable[[str], str] = "", *forms: str, help: str | None = None) -> Any:
    """Returns how the help shows a flag.

    Arguments:
        metavar: a word for its value.
        hint: a remark, or a function of the default that makes one.
        forms: short forms, such as `-b`.
        help: its help; None for its line in the class's docstring.
    """
    return tyro.conf.arg(metavar=metavar, help_behavior_hint=hint, aliases=forms or None, help=help)


ConfigText = Annotated[str | None, shown("TEXT", _CONFIG)]
ConfigInt = Annotated[int | None, shown("N", _CONFIG)]
ConfigSwitch = Annotated[bool | None, shown("[BOOL]", _CONFIG)]
RecipeText = Annotated[str | None, shown("TEXT", _SET)]
RecipeInt = Annotated[int | None, shown("N", _SET)]
RecipeSwitch = Annotated[bool | None, shown("[BOOL]", _SET)]
RecipeNumber = Annotated[float | None, shown("X", _SET)]
Text = Annotated[str | None, shown("TEXT")]
Path = Annotated[str | None, shown("PATH")]
OptionalInt = Annotated[int | None, shown("N")]
Int = Annotated[int, shown("N", default)]
Number = Annotated[float, shown("X", default)]
Switch = Annotated[bool, shown("[BOOL]")]
Assignments = Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], shown("KEY=VALUE", "(repeatable)")]


AS_IN_SCRIPT = "(default: the preset's, else the script's)"
AS_PUBLISHED = "(default: as published)"
ScriptInt = Annotated[int | None, shown("N", AS_IN_SCRIPT)]
ScriptNumber = Annotated[float | None, shown("X", AS_IN_SCRIPT)]
PublishedInt = Annotated[int | None, shown("N", AS_PUBLISHED)]
PublishedNumber = Annotated[float | None, shown("X", AS_PUBLISHED)]
PublishedText = Annotated[str | None, shown("TEXT", AS_PUBLISHED)]
Paths = Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], shown("PATH", "(one or several)")]


def made(kind: type, help: str, hint: str = "", *forms: str, metavar: str = "") -> Any:
    """Returns a flag, not given as a rule, whose help stands beside its kind.

    Arguments:
        kind: bool, int, float or str.
        help, hint, forms: as in `shown`.
        metavar: the word for the value; the kind's if it is empty.
    """
    metavar = metavar or {bool: "[BOOL]", int: "N", float: "X"}.get(kind, "TEXT")
    return Annotated[kind | None, shown(metavar, hint, *forms, help=help)]


def extended(flags: type[T], more: Mapping[str, Any]) -> type[T]:
    """Returns a subclass of `flags` with more of them, name -> as `made`, which are None where they are not given."""
    fields = [(name, flag, None) for name, flag in more.items()]
    namespace = {"__doc__": flags.__doc__, "__module__": flags.__module__}
    return dataclasses.make_dataclass(flags.__name__, fields, bases=(flags,), namespace=namespace, frozen=True)
