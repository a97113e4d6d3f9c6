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
    """How the help states a value."""
    return f"(default: {value})"


def shown(metavar: str, hint: str | Callable[[str], str] = "", short: str = ""):
    """How the help shows a flag: a word for its value, a remark, and a letter that stands for it."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint=hint, aliases=(f"-{short}",) if short else None)


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


def short(metavar: str, *forms: str, hint: Any = AS_PUBLISHED) -> Any:
    """A flag that has short forms, such as `-b`."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint=hint, aliases=forms)


def made(kind: type, text: str, *, hint: str = "", short: str = "", metavar: str = "") -> Any:
    """A flag, not given as a rule, with its help beside its kind.

    Arguments:
        kind: bool, int, float or str.
        text: the help.
        hint, short: as in `shown`.
        metavar: the word for the value; the kind's if it is empty.
    """
    metavar = metavar or {bool: "[BOOL]", int: "N", float: "X"}.get(kind, "TEXT")
    aliases = (f"-{short}",) if short else None
    return Annotated[kind | None, tyro.conf.arg(metavar=metavar, help=text, help_behavior_hint=hint, aliases=aliases)]


def extended(flags: type[T], more: Mapping[str, Any]) -> type[T]:
    """A subclass of `flags` with more of them, name -> as `made`, which are None where they are not given."""
    fields = [(name, flag, None) for name, flag in more.items()]
    namespace = {"__doc__": flags.__doc__, "__module__": flags.__module__}
    return dataclasses.make_dataclass(flags.__name__, fields, bases=(flags,), namespace=namespace, frozen=True)
