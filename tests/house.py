"""The source as tests read it: every module's text, tree, names and imports; nothing is imported or run."""

from __future__ import annotations

import ast
import dataclasses
import functools
import io
import pathlib
import tokenize
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).resolve().parents[1]
BY_NAME = {"importlib.import_module", "import_module", "__import__"}


@dataclasses.dataclass(frozen=True)
class Source:
    """One Python file: its path relative to the repository, its text and its syntax tree."""

    path: pathlib.PurePath
    text: str

    @functools.cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, str(self.path))

    @property
    def module(self) -> str:
        """Dotted name: `jaxdd.core.io`; a package is named without `__init__`."""
        parts = self.path.with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @property
    def room(self) -> str:
        """The folder below `jaxdd/`, or the empty text for `jaxdd/*.py`."""
        return self.path.parts[1] if len(self.path.parts) > 2 else ""

    @functools.cached_property
    def code_lines(self) -> set[int]:
        """Numbers of the lines that hold code: not blank, not only a comment, not in a docstring."""
        quiet = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
        lines: set[int] = set()
        for token in tokenize.generate_tokens(io.StringIO(self.text).readline):
            if token.type not in quiet:
                lines.update(range(token.start[0], token.end[0] + 1))
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                first = node.body[0] if node.body else None
                if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant | ast.JoinedStr):
                    lines.difference_update(range(first.lineno, (first.end_lineno or first.lineno) + 1))
        return lines

    def asks_only_the_version(self) -> bool:
        """Whether `import jaxdd` serves for `jaxdd.__version__` alone: a constant, not an edge."""
        used = [dotted(node) for node in ast.walk(self.tree) if isinstance(node, ast.Attribute)]
        return {name for name in used if name.count(".") == 1 and name.startswith("jaxdd.")} == {"jaxdd.__version__"}

    def functions(self) -> Iterator[tuple[str, int, int]]:
        """Name, line and number of code lines of every function, nested ones and methods included."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                inside = self.code_lines & set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
                yield node.name, node.lineno, len(inside)


class House:
    """The sources below `root`: the package, the scripts beside it, and the tests and benchmarks."""

    def __init__(self, root: pathlib.Path):
        def read(pattern: str) -> list[Source]:
            return [Source(path.relative_to(root), path.read_text()) for path in sorted(root.glob(pattern))]

        self.package = read("jaxdd/**/*.py")
        self.scripts = read("*.py")
        self.benchmarks = read("benchmarks/**/*.py")
        self.everything = self.package + self.scripts + self.benchmarks + read("tests/**/*.py")
        self.modules = {source.module for source in self.package}

    def imports(self, source: Source) -> Iterator[tuple[str, int]]:
        """Every import, at any depth: the dotted name, as long as it names a module of ours, and the line."""
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Import):
                names = {alias.name for alias in node.names} - ({"jaxdd"} if source.asks_only_the_version() else set())
                yield from ((name, node.lineno) for name in sorted(names))
            elif isinstance(node, ast.ImportFrom):
                package = source.module.split(".")
                above = node.level - (source.path.name == "__init__.py")
                start = package[: len(package) - above] if node.level else []
                base = ".".join([*start, *([node.module] if node.module else [])])
                for alias in node.names:
                    if (base, alias.name) == ("jaxdd", "__version__"):
                        continue  # see above
                    full = f"{base}.{alias.name}"
                    yield (full if full in self.modules else base), node.lineno
            elif isinstance(node, ast.Call) and dotted(node.func) in BY_NAME:
                yield from ((str(name.value), node.lineno) for name in node.args[:1] if isinstance(name, ast.Constant))


def dotted(node: ast.AST) -> str:
    """`a.b.c` for a chain of names, else the empty text."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return ""
