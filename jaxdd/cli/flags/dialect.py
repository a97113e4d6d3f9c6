"""The language of one command: its flags and what they mean, as data; and one parser for all of them.

A flag gives an option of the command itself or a setting of what it runs. Its help, type and range are those of the
option or the setting. `--use_x64`, `--use_x64=True` and `--use_x64 False` are the same kind of thing, dashes and
underscores are alike, a repeatable flag takes one value or several, and an unknown flag gets the nearest name.
"""

from __future__ import annotations

import argparse
import contextvars
import dataclasses
import difflib
import functools
import inspect
import re
import shutil
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar

from jaxdd.core import config as configs
from jaxdd.core.config import Layer, Value, setting
from jaxdd.core.errors import UsageError, nearest

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


T = TypeVar("T")
NO_EFFECT = "{} is accepted but has no effect: {}"
PROGRAMS: contextvars.ContextVar[Mapping[str, str]] = contextvars.ContextVar("how each command is called")
_spoken: contextvars.ContextVar[Mapping[str, str]] = contextvars.ContextVar("names in texts -> flags as they are typed")


class Flag(NamedTuple):
    """A flag as the parser needs it.

    Arguments:
        annotation: the type of its value.
        help: what it does.
        kind: how the help shows it.
        group: the part of the help that it stands in.
    """

    annotation: Any
    help: str
    kind: Kind
    group: str

    @property
    def many(self) -> bool:
        """Whether it takes several texts."""
        return self.group == "options" and typing.get_origin(self.annotation) is tuple


class Arguments(NamedTuple, Generic[T]):
    """The words after a command, as they are meant.

    Arguments:
        options: of the command itself.
        layer: settings of what it runs; those of `--set` lie above those of flags.
        notices: what to tell.
    """

    options: T
    layer: Layer
    notices: tuple[str, ...] = ()


def as_they_are(options: Any, layer: Layer) -> tuple[Layer, Sequence[str]]:
    """Returns settings that need no translation, and nothing to tell."""
    return layer, ()


@dataclasses.dataclass(frozen=True)
class Dialect(Generic[T]):
    """The language of one command.

    Arguments:
        options: the class of the command's own options (`kinds.options`); each is a flag.
        settings: flag -> the setting that it gives; of a group as `squeeze.epochs`.
        homes: classes that have these settings; of a group by its name, of all others by the empty text.
        others: flag -> its other names, with dashes.
        no_effect: flag of the authors' script -> why it has no effect; it is accepted all the same.
        switches: of these, the ones that need no value.
        called: name in texts -> flag, where they differ.
        hint: where settings come from that no flag gives.
        grown: returns the language with flags for what the words name, such as a method.
        translate: turns options and settings into those that are meant; returns what to tell too.
    """

    options: type[T]
    settings: Mapping[str, str] = dataclasses.field(default_factory=dict)
    homes: Mapping[str, tuple[type, ...]] = dataclasses.field(default_factory=dict)
    others: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    no_effect: Mapping[str, str] = dataclasses.field(default_factory=dict)
    switches: tuple[str, ...] = ()
    called: Mapping[str, str] = dataclasses.field(default_factory=dict)
    hint: str = "(default: the config's)"
    grown: Callable[[Dialect[T], Sequence[str]], Dialect[T]] = lambda language, words: language
    translate: Callable[[T, Layer], tuple[Layer, Sequence[str]]] = as_they_are

    def parse(self, argv: Sequence[str], program: str = "") -> Arguments[T]:
        """Returns what the words after a command say; `typed` speaks this language from now on.

        Arguments:
            argv: the words.
            program: how the command is called, for the help.

        Raises:
            UsageError, ConfigError: an unknown flag, a missing value, or one of another type or range.
            SystemExit: `--help` was asked for and printed.
        """
        if (grown := self.grown(self, argv)) is not self:
            return grown.parse(argv, program)
        names: dict[str, str] = {}
        words = list(self._in_full(argv, names))
        others = {form[2:]: flag for flag, forms in self.others.items() for form in forms if form.startswith("--")}
        by_setting = {setting: flag for flag, setting in self.settings.items()}
        flags = others | by_setting | dict(self.called) | {flag: flag for flag in self.flags}
        _spoken.set({name: f"--{names.get(flag, flag)}" for name, flag in flags.items()})
        try:
            parsed, rest = self._parser(program).parse_known_args(words)
        except argparse.ArgumentError as error:
            name = (error.argument_name or "").rpartition("--")[2]
            wanted, flag = self.flags[name].annotation, f"--{names.get(name, name)}"
            raise refused("the flag lacks its value", wanted, flag) from None
        if rest:
            raise UsageError(
                f"unexpected argument '{rest[0]}'",
                where="the command line",
                expected="flags such as --dataset_name cifar10",
                remedy=nearest(f"--{rest[0]}", [f"--{name}" for name in self.flags])
                or "put a --flag before it, or remove it",
            )
        origins = {name: f"--{names.get(name, name)}" for name in vars(parsed)}
        return self.arguments({name: self._value(name, texts, origins[name]) for name, texts in vars(parsed).items()})

    def arguments(self, typed: Layer) -> Arguments[T]:
        """Returns what flags mean, by their names."""
        own = {field.name for field in configs.settings_of(self.options)}
        chosen = {name: value for name, value in typed.items() if name in own}
        options = configs.build([chosen], {"options": self.options})["options"]
        layer = {self.settings[name]: value for name, value in typed.items() if name in self.settings}
        layer, told = self.translate(options, layer)
        assigned = configs.parse_assignments(getattr(options, "set", ()))
        nothing = [NO_EFFECT.format(f"--{name}", self.no_effect[name]) for name in typed if name in self.no_effect]
        return Arguments(options, {**layer, **configs.layer(assigned, "--set")}, (*nothing, *told))

    @functools.cached_property
    def flags(self) -> dict[str, Flag]:
        """Every flag by its name."""
        known = {}
        for name, (field, hint) in _fields(self.options).items():
            kind = kind_of(hint)
            kind = dataclasses.replace(kind, hint=kind.hint.format(field.default))
            known[name] = Flag(typing.get_args(hint)[0], field.metadata["help"], kind, "options")
        for name, given in self.settings.items():
            group, _, inner = given.rpartition(".")
            field, annotation = next(fields[inner] for fields in map(_fields, self.homes[group]) if inner in fields)
            text, words = field.metadata["help"], list(map(str, configs.words_of(annotation)))
            text += "" if all(word in text for word in words) else f": {', '.join(words)}"
            known[name] = Flag(annotation, text, Kind(metavar(annotation)), "settings")
        for name, why in self.no_effect.items():
            annotation = bool if name in self.switches else str
            known.setdefault(name, Flag(annotation, why, Kind(metavar(annotation)), "no effect"))
        return known

    def _in_full(self, argv: Sequence[str], names: dict[str, str]) -> Iterator[str]:
        """Yields the words with every `--flag` under its own name; fills in `names`: its own -> that which was typed.

        Raises:
            UsageError: there is no such flag.
        """
        short = {other: name for name, others in self.others.items() for other in others}
        words = iter([*argv, ""])
        word = next(words)
        for following in words:
            if word.startswith("--") and word != "--help":
                typed, equals, value = word[2:].partition("=")
                name, off = self._known(typed.replace("-", "_"), short)
                names[name] = typed.replace("-", "_") if not off else name
                word = f"--{name}{equals}{value}" + "=False" * off
                dashed = re.match("-[^-]", following) and following.partition("=")[0] not in short
                if dashed and not equals and not is_switch(self.flags[name].annotation):
                    word, following = f"{word}={following}", next(words, "")
            yield word
            word = following

    def _known(self, name: str, others: Mapping[str, str]) -> tuple[str, bool]:
        """Returns the flag of a name, and whether it is switched off by it."""
        if name in self.flags or (name := others.get(f"--{name}", name)) in self.flags:
            return name, False
        positive = name[2:].lstrip("_") if name.startswith("no") else ""
        if positive in self.flags and is_switch(self.flags[positive].annotation):
            return positive, True
        prefixed = [known for known in self.flags if known.startswith(name) or name.startswith(known)]
        close = (difflib.get_close_matches(name, self.flags, n=1, cutoff=0.75) or prefixed[:1]) if name else []
        raise UsageError(
            f"unknown flag '--{name}'",
            where="the command line",
            expected="a flag listed by --help",
            remedy=f"did you mean '--{close[0]}'?"
            if close
            else "remove it, or see --help; settings of the config file are given as --set key=value",
        )

    def _parser(self, program: str) -> argparse.ArgumentParser:
        """Returns the parser, which knows every flag by its own name and its short forms, and keeps texts as lists."""
        about = inspect.cleandoc(self.options.__doc__ or "").partition("\n\nArguments:")[0]
        width = min(shutil.get_terminal_size().columns, 120)
        parser = argparse.ArgumentParser(
            program,
            usage=f"{program} [--flag value ...]",
            description=about,
            formatter_class=functools.partial(argparse.RawDescriptionHelpFormatter, max_help_position=30, width=width),
            allow_abbrev=False,
            exit_on_error=False,
            argument_default=argparse.SUPPRESS,
        )
        titles = {"options": "the command", "settings": f"settings {self.hint}"}
        titles["no effect"] = "accepted as in the authors' scripts, without effect"
        groups = {name: parser.add_argument_group(title) for name, title in titles.items()}
        for name, flag in self.flags.items():
            forms = self.others.get(name, ())
            text = f"{_sentence(flag.help)} {flag.kind.hint}".strip()
            if long := ", ".join(form for form in forms if form.startswith("--")):
                text += f" Also {long}."
            how: dict[str, Any] = {"dest": name, "metavar": flag.kind.metavar, "help": text.replace("%", "%%")}
            how |= {"action": "append"}
            how |= {"nargs": "?", "const": "True"} if is_switch(flag.annotation) else {}
            how |= {"nargs": "+", "action": "extend"} if flag.many else {}
            short = [form for form in forms if not form.startswith("--")]
            groups[flag.group].add_argument(*short, f"--{name}", **how)
        return parser

    def _value(self, name: str, texts: list[str], origin: str) -> Value:
        """Returns what a flag says.

        Raises:
            UsageError: it is given twice, or a text is not of its type.
        """
        flag = self.flags[name]
        if flag.many:
            return Value(tuple(texts), origin)
        if len(texts) > 1:
            raise UsageError("the flag is given twice", where=origin, remedy="keep one of the two")
        return Value(read(texts[0], flag.annotation, origin), origin)


def _sentence(text: str) -> str:
    """Returns a text as a sentence; a name at its beginning, such as `log.txt`, stays as it is."""
    first = text.split()[0]
    return (text[0].upper() + text[1:] if first.isalpha() else text).rstrip(".") + "."


@functools.cache
def _fields(cls: type) -> dict[str, tuple[dataclasses.Field, Any]]:
    """Returns the settings of a class by name, with their types and what stands beside these."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return {field.name: (field, hints[field.name]) for field in configs.settings_of(cls)}


def typed(text: str) -> str:
    """Returns a text with settings and commands as the user of this command types them.

    Arguments:
        text: in which `name`, `name=value` and `command` stand in backticks.
    """
    flags, programs = _spoken.get({}), PROGRAMS.get({})

    def as_typed(match: re.Match) -> str:
        name, equals, value = match[1].partition("=")
        if not equals and name in programs:
            return programs[name]
        if name not in flags:
            return f"--set {name}={value}" if equals else name
        return f"{flags[name]} {value}" if equals else flags[name]

    return re.sub(r"`([a-z]\w*(?:=[^`]+)?)`", as_typed, text)
