"""Settings: dataclass fields are the one source of names, types, ranges and help; files and flags obey them.

A config file is JSON whose whole-line `//` comments are allowed; those at the top say `// paper: ...`,
`// command: ...`, `// accuracy: ...`, `// cost: ...`. An unknown key, a wrong type or a value out of range is refused
with the key, the file's line and the nearest valid name.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import pathlib
import re
import sys
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeVar

import ml_collections

from jaxdd.core.errors import ConfigError, nearest
from jaxdd.core.io import expanded

T = TypeVar("T")

# Words that settings choose among: they stand here, as settings stand in modules that import no JAX.
Precision = Literal["float32", "bfloat16"]  # of activations (`core.precision`)
Formation = Literal["single", "multi", "bound"]  # how an image encodes several (`core.formation`)
FeatureMetric = Literal["mse", "l1", "l1_mean", "cos"]  # distances (`matching.distances`)
GradientMetric = Literal["mse", "l1", "l1_mean", "cos", "ours", "vector_cos"]
Norm = Literal["filter", "layer", "weight", "dfilter", "dlayer"]  # perturbed networks (`matching.perturbation`)
Ignore = Literal["biasbn", "none"]
Scope = Literal["weights", "states"]
Mix = Literal["none", "cutmix", "mixup"]  # of two images (`augment.replay`)
SoftKind = Literal["kl", "mse", "cosine"]  # of soft losses (`training.soft_losses`)
BOUND = 128  # training images that the formation `bound` makes at the most


def setting(default: Any, help: str, *, low: float | None = None, high: float | None = None) -> Any:
    """Returns a dataclass field that is a setting: its default, its one doc line, and the closed range it must lie
    in."""
    return dataclasses.field(default=default, metadata={"help": help, "low": low, "high": high})


@dataclasses.dataclass(frozen=True)
class ConfigFile:
    """A config file as read: values by key, the line each stands on, and what its header says.

    Arguments:
        path: where it was found.
        values: key -> JSON value, historical names already mapped.
        lines: key -> line number in the file.
        header: `paper`, `command`, `accuracy`, `cost`, ... from the comments at the top.
        notices: what a user should be told, e.g. historical names that were mapped.
    """

    path: str
    values: dict[str, Any]
    lines: dict[str, int] = dataclasses.field(default_factory=dict)
    header: dict[str, str] = dataclasses.field(default_factory=dict)
    notices: tuple[str, ...] = ()

    def where(self, key: str) -> str:
        """Returns `file:line, key` for messages."""
        line = self.lines.get(key)
        return f"{self.path}:{line}, key '{key}'" if line else f"{self.path}, key '{key}'"

    @property
    def layer(self) -> Layer:
        """The values with their places."""
        return {key: Value(value, self.where(key)) for key, value in self.values.items()}


class Value(NamedTuple):
    """A setting as it was given.

    Arguments:
        value: of JSON's types.
        origin: a flag, a line of a file, or the like, for messages.
    """

    value: Any
    origin: str


Layer = Mapping[str, Value]  # setting -> its value; several layers lie above each other, and the last one wins


def layer(values: Mapping[str, Any], origin: str) -> dict[str, Value]:
    """Returns settings that all come from one place."""
    return {name: Value(value, origin) for name, value in values.items()}


def values_of(settings: Layer) -> dict[str, Any]:
    """Returns the values alone."""
    return {name: value for name, (value, _) in settings.items()}


class Implied(NamedTuple):
    """Settings that those in a file imply.

    Arguments:
        values: setting -> value, for settings that the file leaves out.
        notices: what the user should be told of it.
    """

    values: dict[str, Any]
    notices: tuple[str, ...] = ()


def find_config(path: str) -> pathlib.Path:
    """Resolves a config path: as given, then from the working directory, then among the packaged ones.

    Raises:
        ConfigError: no such file; names the nearest packaged one.
    """
    place = expanded(path)
    packaged = packaged_configs()
    for candidate in (place, pathlib.Path.cwd() / place):
        if candidate.is_file():
            return candidate
    for start in range(len(place.parts)):  # configs_final/frepo/digits.txt, then frepo/digits.txt, then digits.txt
        name = "/".join(place.parts[start:])
        for known in (name, f"{name}.txt"):
            if known in packaged:
                return packaged[known]
    raise ConfigError(
        f"config file '{path}' not found",
        where="`config_path`",
        expected=f"a path, or a packaged config: {_listed(packaged)}",
        remedy=nearest(place.name, packaged) or "give the path of an existing .txt file",
    )


def _listed(names: Mapping[str, Any]) -> str:
    """Returns `depth_3.txt, digits.txt, frepo/*`: of folders, the name alone."""
    return ", ".join(sorted({f"{name.partition('/')[0]}/*" if "/" in name else name for name in names}))


@functools.cache
def packaged_configs() -> dict[str, pathlib.Path]:
    """Returns the name (relative to `configs_final/`) -> path of every config shipped with jaxdd."""
    here = pathlib.Path(__file__).resolve()
    for folder in (here.parents[1] / "configs_final", here.parents[2] / "configs_final"):
        if folder.is_dir():
            return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*.txt"))}
    return {}


def read_config(path: str | pathlib.Path, *, historical: Mapping[str, str] | None = None) -> ConfigFile:
    """Reads a config file.

    Arguments:
        path: an existing file.
        historical: old key -> today's key; a mapped key gives a notice, and today's name wins if both are present.

    Raises:
        ConfigError: not UTF-8 text, not JSON, not an object, or a key given twice.
    """
    try:
        text = pathlib.Path(path).read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"cannot read the config file: {error}",
            where=str(path),
            expected="UTF-8 JSON",
            remedy="check the path, and save the file as UTF-8 text",
        ) from None
    rows = text.splitlines()
    header = {}
    for row in rows:
        match = re.match(r"\s*//\s*(\w[\w ]*?)\s*:\s*(.+)", row)
        if match:
            header.setdefault(match[1].lower(), match[2].strip())
        elif row.strip() and not row.lstrip().startswith("//"):
            break
    values = _parse("\n".join("" if row.lstrip().startswith("//") else row for row in rows), str(path))
    lines = {}
    for number, row in enumerate(rows, start=1):
        if match := re.match(r'\s*\{?\s*"([^"]+)"\s*:', row):
            lines.setdefault(match[1], number)
    notices = []
    for old, new in (historical or {}).items():
        if old not in values:
            continue
        value = values.pop(old)
        used = new not in values
        values.setdefault(new, value)
        lines.setdefault(new, lines.get(old, 0))
        verdict = f"read as '{new}'" if used else f"ignored: '{new}' is given too"
        notices.append(f"{path}:{lines.get(old, '?')}: historical key '{old}' {verdict}")
    return ConfigFile(str(path), values, lines, header, tuple(notices))


def _parse(text: str, where: str) -> dict[str, Any]:
    def unique(pairs):
        seen: dict[str, Any] = {}
        for key, value in pairs:
            if key in seen:
                raise ConfigError(f"key '{key}' is given twice", where=where, remedy="keep one of the two")
            seen[key] = value
        return seen

    try:
        values = json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"not valid JSON: {error.msg}",
            where=f"{where}:{error.lineno}",
            expected="a JSON object; whole-line // comments are allowed",
            remedy="look for a missing or trailing comma on that line or the one before",
        ) from None
    except RecursionError:
        raise ConfigError(
            "nested too deeply",
            where=where,
            expected='{"key": value, ...}',
            remedy="a config is one flat object: one line for each setting",
        ) from None
    if not isinstance(values, dict):
        raise ConfigError(
            "not a JSON object",
            where=where,
            expected='{"key": value, ...}',
            remedy="put the settings between braces, as the files in configs_final/ do",
        )
    return values


def parse_assignments(assignments: Sequence[str]) -> dict[str, Any]:
    """Returns the settings that `key=value` texts of `--set` name: JSON where it parses, else the bare text.

    Raises:
        ConfigError: a text without `=`.
    """
    values = {}
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise ConfigError(
                f"cannot read '{text}'",
                where="`set`",
                expected="key=value, e.g. `l2_rate=0.001`",
                remedy="write the key, an equals sign and the value without spaces between them",
            )
        try:
            values[key.strip()] = json.loads(value)
        except json.JSONDecodeError:
            values[key.strip()] = {"True": True, "False": False, "None": None}.get(value, value)
    return values


def build(layers: Iterable[Layer], classes: Mapping[str, type]) -> dict[str, Any]:
    """Builds one settings object per class from layers of settings.

    Arguments:
        layers: from the weakest to the strongest, e.g. what a data set implies, a config file, flags. Every key must be
            a field of one of the classes; what no layer has keeps the class's default.
        classes: name -> frozen dataclass whose fields were made with `setting`.

    Returns:
        name -> instance.

    Raises:
        ConfigError: unknown key, wrong type, or out of range; says where it was given.
    """
    checked = check(layers, classes)
    return {name: cls(**checked[name]) for name, cls in classes.items()}


def check(layers: Iterable[Layer], classes: Mapping[str, type]) -> dict[str, dict[str, Any]]:
    """Checks settings as `build` does and makes nothing; returns the values of each class by field."""
    merged: dict[str, Value] = {}
    for settings in layers:
        merged |= settings
    require_known(merged, classes.values())
    return {
        name: {
            field.name: _checked(cls, field, merged[field.name]) for field in settings_of(cls) if field.name in merged
        }
        for name, cls in classes.items()
    }


def require_known(settings: Layer, classes: Iterable[type]) -> None:
    """Refuses a key that is no setting of any of the classes.

    Raises:
        ConfigError: says where it was given, and the nearest key there is.
    """
    known = {field.name for cls in classes for field in settings_of(cls)}
    for key, (_, origin) in settings.items():
        if key not in known:
            raise ConfigError(
                f"unknown key '{key}'",
                where=origin,
                expected="a key listed in configs_final/example_config.txt (other methods: configs_final/METHOD/)",
                remedy=nearest(key, known) or "remove the key",
            )


def settings_of(cls: type) -> list[dataclasses.Field]:
    """Returns the fields of `cls` that users may set."""
    return [field for field in dataclasses.fields(cls) if "help" in field.metadata]


def _checked(cls: type, field: dataclasses.Field, chosen: Value) -> Any:
    """Returns the value of one field, coerced to the field's type; raises `ConfigError` on a wrong type or range."""
    annotation, value = _hints(cls)[field.name], chosen.value
    coerced = _coerce(value, annotation)
    if coerced is NOTHING:
        words = [word for word in words_of(annotation) if isinstance(word, str)]
        misspelt = isinstance(value, str) and bool(words)
        raise ConfigError(
            f"'{field.name}' is {json.dumps(value)}, which " + ("is unknown" if misspelt else "has the wrong type"),
            where=chosen.origin,
            expected=f"{in_words(annotation)}; it means: {field.metadata['help']}",
            remedy=(nearest(value, words) if misspelt else "") or "change it, or leave it out for its default",
        )
    low, high = field.metadata["low"], field.metadata["high"]
    for number in coerced if isinstance(coerced, tuple) else (coerced,):
        is_number = isinstance(number, int | float) and not isinstance(number, bool)
        if is_number and ((low is not None and number < low) or (high is not None and number > high)):
            bounds = f">= {low}" if high is None else f"<= {high}" if low is None else f"between {low} and {high}"
            raise ConfigError(
                f"'{field.name}' is {json.dumps(value)}, out of range",
                where=chosen.origin,
                expected=f"{bounds}; it means: {field.metadata['help']}",
                remedy="change it, or leave it out for its default",
            )
    return coerced


NOTHING = object()  # in place of a value that is not of its type
YES, NO = ("true", "1", "yes", "y"), ("false", "0", "no", "n")


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _coerce(value: Any, annotation: Any) -> Any:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return next((c for a in arguments if (c := _coerce(value, a)) is not NOTHING), NOTHING)
    if origin is typing.Literal:
        return value if value in arguments else NOTHING
    if origin is tuple and isinstance(value, list | tuple):
        inner = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else list(arguments)
        parts = [_coerce(v, a) for v, a in zip(value, inner, strict=False)]
        return NOTHING if len(inner) != len(value) or any(p is NOTHING for p in parts) else tuple(parts)
    if origin is dict or annotation is dict:
        return dict(value) if isinstance(value, dict) else NOTHING
    if annotation is type(None):
        return None if value is None else NOTHING
    if annotation is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) if abs(value) < sys.float_info.max else NOTHING  # JSON as Python reads it knows NaN
    if annotation is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if annotation in (bool, str) and isinstance(value, annotation):
        return value
    return NOTHING


def from_text(text: str, annotation: Any) -> Any:
    """Returns the value of a type that a text stands for; NOTHING where it stands for none.

    Where there is a choice of words, any other text is taken too: it is refused when the words are known to be wrong.
    """
    kinds = alternatives(annotation)
    if text in words_of(annotation) or (text and kinds[0] not in (bool, int, float)):
        return text
    if kinds[0] is bool:
        return text.lower() in YES if text.lower() in (*YES, *NO) else NOTHING
    for number in (kind for kind in kinds if kind in (int, float)):
        with contextlib.suppress(ValueError):
            return number(text)
    return NOTHING


def alternatives(annotation: Any) -> list[Any]:
    """Returns the types that a value may have, without None."""
    union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return [kind for kind in (typing.get_args(annotation) if union else (annotation,)) if kind is not type(None)]


def words_of(annotation: Any) -> tuple[Any, ...]:
    """Returns the values that a `Literal`, or one inside a union, allows."""
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is typing.Literal:
        return arguments
    union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return sum(map(words_of, arguments), ()) if union else ()


def in_words(annotation: Any) -> str:
    """Returns `an integer or null`, and the like."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(in_words(a) for a in arguments)
    if origin is typing.Literal:
        return "one of " + ", ".join(json.dumps(a) for a in arguments)
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return f"a list of {in_words(arguments[0])}"
        return "a list of " + ", ".join(in_words(a) for a in arguments)
    names = {int: "an integer", float: "a number", bool: "true or false", str: "a text", type(None): "null"}
    return names.get(annotation, "an object")


def reference(method: str, dataset: str, ipc: int) -> str:
    """Returns the accuracy that the header of a packaged config tells of a method; the empty text where none does.

    Arguments:
        method, dataset: their names.
        ipc: images per class: those that the header tells of (`1 / 10 images per class`), else the file's.
    """
    for path in packaged_configs().values():
        file = read_config(path)
        usual = file.header.get("accuracy", "") if file.values.get("dataset_name", "cifar10") == dataset else ""
        told = file.header.get(f"accuracy {dataset}", usual)
        named = re.search(r"([\d /]+) images per class", told)
        numbers = map(int, named[1].split("/")) if named else [file.values.get("n_images", ipc)]
        if told and file.values.get("method", "rcig") == method and ipc in numbers:
            return told
    return ""


def as_config_dict(*settings: Any) -> ml_collections.ConfigDict:
    """Returns the settings of the given dataclass instances as one locked `ConfigDict`, in field order."""
    merged = {f.name: getattr(s, f.name) for s in settings for f in settings_of(type(s))}
    return ml_collections.ConfigDict(merged).lock()


def as_dict(*settings: Any) -> dict[str, Any]:
    """Returns the same as plain JSON types (tuples become lists): what `config.json` holds and resuming compares."""
    return json.loads(json.dumps({f.name: getattr(s, f.name) for s in settings for f in settings_of(type(s))}))
