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
from typing import Any, Generic, NamedTuple, TypeVar

from jaxdd.cli.flags.kinds import Kind, is_switch, kind_of, metavar, read, refused
from jaxdd.core import config as configs
from jaxdd.core.config import Layer, Value
from jaxdd.core.errors import UsageError, nearest

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
        for name, setting in self.settings.items():
            group, _, inner = setting.rpartition(".")
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
            forms = [form for form in self.others.get(name, ()) if not form.startswith("--")]
            text = f"{flag.help[0].upper()}{flag.help[1:].rstrip('.')}. {flag.kind.hint}".replace("%", "%%").strip()
            how: dict[str, Any] = {"dest": name, "metavar": flag.kind.metavar, "help": text, "action": "append"}
            how |= {"nargs": "?", "const": "True"} if is_switch(flag.annotation) else {}
            how |= {"nargs": "+", "action": "extend"} if flag.many else {}
            groups[flag.group].add_argument(*forms, f"--{name}", **how)
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
