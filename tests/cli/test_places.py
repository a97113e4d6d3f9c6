"""A setting's name stands as a string in its dialect alone; elsewhere the command line asks settings, not words."""

from __future__ import annotations

import ast
import collections

import pytest

from jaxdd.cli.main import COMMANDS, dialect
from jaxdd.core.config import settings_of
from tests.house import ROOT, House

pytestmark = pytest.mark.quick

OF_ALL = {"method", "dataset_name"}  # which decide what else is asked for
NO_RENAMING = {"max_steps", "iterations", "depth", "normalization"}  # in `cli.settings`: what flags alone do not decide


def names() -> set[str]:
    """The settings that any flag gives."""
    homes = {cls for command in COMMANDS for classes in dialect(command).homes.values() for cls in classes}
    return {field.name for cls in homes for field in settings_of(cls)}


def keys(tree: ast.AST) -> set[str]:
    """Strings by which settings are looked up: `layer["x"]`, `layer.get("x")`, `"x" in layer`, `{"x": Value(...)}`."""
    found: set[str] = set()
    for node in ast.walk(tree):
        parts: list[ast.expr | None] = []
        if isinstance(node, ast.Subscript) and ast.unparse(node.value) in ("layer", "changes", "options"):
            parts = [node.slice]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("layer.get", "changes.get", "getattr"):
            parts = [node.args[0] if ast.unparse(node.func) != "getattr" else node.args[1]]
        elif isinstance(node, ast.Compare) and ast.unparse(node.comparators[0]) in ("layer", "changes"):
            parts = [node.left]
        elif isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            parts = [key for key, value in pairs if isinstance(value, ast.Call) and ast.unparse(value.func) == "Value"]
        found |= {part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)}
    return found


def test_only_dialects_name_settings():
    for source in House(ROOT).package:
        if source.room == "cli" and source.path.parent.name != "flags":
            known = OF_ALL | (NO_RENAMING if source.path.name == "settings.py" else {"use_flip"})
            assert not (keys(source.tree) & names()) - known, source.path


@pytest.mark.parametrize("command", COMMANDS)
def test_one_flag_gives_a_setting(command):
    language = dialect(command)
    counts = collections.Counter(language.settings.values())
    assert max(counts.values(), default=1) == 1, counts
    assert not set(language.settings) & {field.name for field in settings_of(language.options)}
    for name, flag in language.flags.items():
        assert flag.help and (name in language.no_effect or flag.group != "no effect")
