"""The rules of the house, checked on the source: floors, rooms, cycles, forbidden imports, printing, sizes and names.

Each rule is a function from a `House` (the parsed source tree) to a list of violations, one sentence each; the list
must be empty. The last tests build small houses with one fault each, to show that every rule sees what it is for.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import io
import pathlib
import tokenize
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
FLOORS = (
    {"core"},
    {"models", "kernels", "matching", "augment", "data"},
    {"training"},
    {"methods", "evaluation"},
    {"run", "publish"},
    {"cli"},
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
ROOF = len(FLOORS)  # jaxdd/*.py: the public face, which imports what it likes and is imported by nobody
FORBIDDEN = {"tensorflow", "torch", "pickle", "_pickle", "cloudpickle", "dill", "joblib"}
BY_NAME = {"importlib.import_module", "import_module", "__import__"}
LOUD = {"print", "sys.exit", "os._exit", "exit", "quit"}
OUR_ERRORS = {f"{kind}Error" for kind in ("Jaxdd", "Usage", "Config", "Data", "Checkpoint", "Diverged")}
VAGUE = {"util", "utils", "helper", "helpers", "misc", "common", "manager", "managers"}
FILE_CODE, FILE_RAW, FUNCTION_CODE, FUNCTION_CODE_P95, SCRIPT_CODE = 300, 500, 60, 40, 10
FLAG_TABLES: frozenset[str] = frozenset()  # files that only list flags may be longer; there is none


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
        self.everything = self.package + self.scripts + read("tests/**/*.py") + read("benchmarks/**/*.py")
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


def floors(house: House) -> list[str]:
    """Imports go down only; rooms of one floor do not know each other."""
    faults = []
    for source in house.package:
        if source.room and source.room not in FLOOR_OF:
            faults.append(f"{source.path}: '{source.room}' is not a room of the house")
            continue
        here = FLOOR_OF.get(source.room, ROOF)
        for name, line in house.imports(source):
            parts = name.split(".")
            if parts[0] != "jaxdd":
                continue
            room = parts[1] if f"jaxdd.{'.'.join(parts[1:2])}" in house.modules and parts[1] in FLOOR_OF else ""
            there = FLOOR_OF.get(room, ROOF)
            if there > here or (there == here and room != source.room):
                kind = "an upward edge" if there > here else "an edge between rooms of one floor"
                faults.append(f"{source.path}:{line} imports {name}: {kind} (floor {here} to {there})")
    return faults


def cycles(house: House) -> list[str]:
    """Inside a room (and on the roof) imports are free as long as they close no circle."""
    edges = {
        source.module: sorted({name for name, _ in house.imports(source) if name in house.modules} - {source.module})
        for source in house.package
    }
    faults, finished = [], set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        if module in trail:
            faults.append("a circle of imports: " + " -> ".join([*trail[trail.index(module) :], module]))
        elif module not in finished:
            for target in edges[module]:
                visit(target, (*trail, module))
            finished.add(module)

    for module in edges:
        visit(module, ())
    return faults


def forbidden(house: House) -> list[str]:
    """No TensorFlow, no torch, nothing that unpickles."""
    faults = []
    for source in house.package:
        for name, line in house.imports(source):
            if name.split(".")[0] in FORBIDDEN:
                faults.append(f"{source.path}:{line} imports {name}")
        for node in ast.walk(source.tree):
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle" and ast.unparse(node.value) != "False":
                faults.append(f"{source.path}:{node.lineno} allows pickle")
    return faults


def silence(house: House) -> list[str]:
    """Only cli/ prints or exits."""
    faults = []
    for source in house.package:
        if source.room == "cli" or source.module == "jaxdd.__main__":
            continue
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Call):
                name = dotted(node.func)
                if name in LOUD or name.endswith(".print"):
                    faults.append(f"{source.path}:{node.lineno} calls {name} outside cli/")
            elif isinstance(node, ast.Raise) and node.exc is not None:
                raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
                if dotted(raised) == "SystemExit":
                    faults.append(f"{source.path}:{node.lineno} raises SystemExit outside cli/")
    return faults


def remedies(house: House) -> list[str]:
    """An error of ours says what the user can do."""
    return [
        f"{source.path}:{node.lineno} raises {dotted(node.func)} without a remedy"
        for source in house.package
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call) and dotted(node.func) in OUR_ERRORS
        if not {"remedy", None} & {keyword.arg for keyword in node.keywords}
    ]


def sizes(house: House) -> list[str]:
    """Files and functions stay short enough to be read at one sitting."""
    faults = []
    for source in house.everything:
        code, raw = len(source.code_lines), len(source.text.splitlines())
        if (code > FILE_CODE or raw > FILE_RAW) and str(source.path) not in FLAG_TABLES:
            faults.append(f"{source.path}: {code} lines of code ({FILE_CODE} allowed), {raw} raw ({FILE_RAW} allowed)")
        for name, line, length in source.functions():
            if length > FUNCTION_CODE:
                faults.append(f"{source.path}:{line} {name}: {length} lines of code, {FUNCTION_CODE} allowed")
    return faults


def proportions(house: House) -> list[str]:
    """At most one function in twenty of the package is long."""
    lengths = [length for source in house.package for _, _, length in source.functions()]
    long = sum(length > FUNCTION_CODE_P95 for length in lengths)
    allowed = max(1, len(lengths) // 20)
    return [f"{long} functions are longer than {FUNCTION_CODE_P95}, {allowed} allowed"] if long > allowed else []


def scripts(house: House) -> list[str]:
    """Scripts beside the package only forward to jaxdd.cli."""
    return [
        f"{source.path}: {len(source.code_lines)} lines of code, {SCRIPT_CODE} allowed"
        for source in house.scripts
        if len(source.code_lines) > SCRIPT_CODE
    ]


def names(house: House) -> list[str]:
    """A module's name says what it holds."""
    return [
        f"{source.path}: the name says nothing about what is inside"
        for source in house.package
        if any(VAGUE & set(part.lower().split("_")) for part in source.path.with_suffix("").parts)
    ]


RULES = (floors, cycles, forbidden, silence, remedies, sizes, proportions, scripts, names)


@pytest.fixture(scope="module")
def house() -> House:
    return House(ROOT)


@pytest.mark.quick
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_house_obeys(rule, house):
    faults = rule(house)
    assert not faults, "\n".join(faults)


def test_every_room_is_there(house):
    assert {source.room for source in house.package} - {""} == set(FLOOR_OF)


LONG_FUNCTION = "def f():\n" + "    x = 1\n" * 60
FAULTS = [
    (floors, "jaxdd/core/a.py", "from jaxdd.cli import main\n", "upward"),
    (floors, "jaxdd/core/a.py", "def f():\n    import jaxdd.run.loop\n", "upward"),
    (floors, "jaxdd/core/a.py", "import importlib\nimportlib.import_module('jaxdd.cli')\n", "upward"),
    (floors, "jaxdd/core/a.py", "import jaxdd\nx = jaxdd.__version__, jaxdd.load\n", "upward"),
    (floors, "jaxdd/core/a.py", "from .. import cli\n", "upward"),
    (floors, "jaxdd/run/a.py", "from jaxdd.publish import grid\n", "between rooms"),
    (floors, "jaxdd/run/a.py", "from ..publish import grid\n", "between rooms"),
    (floors, "jaxdd/attic/a.py", "", "not a room"),
    (cycles, "jaxdd/run/loop.py", "def f():\n    from . import loop2\n", "loop -> jaxdd.run.loop2 -> jaxdd.run.loop"),
    (forbidden, "jaxdd/core/a.py", "def f():\n    import tensorflow.io\n", "tensorflow"),
    (forbidden, "jaxdd/core/a.py", "from torch import nn\n", "torch"),
    (forbidden, "jaxdd/core/a.py", "import numpy as np\nnp.load('x', allow_pickle=True)\n", "pickle"),
    (silence, "jaxdd/run/a.py", "print('hello')\n", "print"),
    (silence, "jaxdd/run/a.py", "import jax\njax.debug.print('x')\n", "print"),
    (silence, "jaxdd/run/a.py", "import sys\nsys.exit(1)\n", "exit"),
    (silence, "jaxdd/run/a.py", "raise SystemExit(2)\n", "SystemExit"),
    (remedies, "jaxdd/run/a.py", "raise UsageError('no', where='here', expected='yes')\n", "without a remedy"),
    (sizes, "jaxdd/core/a.py", "x = 1\n" * 301, "301 lines of code"),
    (sizes, "jaxdd/core/a.py", "# note\n" * 501, "501 raw"),
    (sizes, "jaxdd/core/a.py", LONG_FUNCTION, "61 lines of code"),
    (proportions, "jaxdd/core/a.py", ("def f():\n" + "    x = 1\n" * 40) * 2, "2 functions"),
    (scripts, "run.py", "x = 1\n" * 11, "11 lines of code"),
    (names, "jaxdd/core/tree_utils.py", "", "says nothing"),
]


@pytest.mark.parametrize("rule, path, text, message", FAULTS)
def test_a_fault_is_seen(rule, path, text, message, tmp_path):
    build(tmp_path)
    assert not any(check(House(tmp_path)) for check in RULES)
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_text(text)
    faults = rule(House(tmp_path))
    assert len(faults) == 1 and message in faults[0], faults


def build(root: pathlib.Path) -> None:
    """A small faultless house, with things that must not be mistaken for faults."""
    prose = '"""Says print() and sys.exit; import torch."""\n\n' + "# a comment\n" * 100
    files = {
        "jaxdd/__init__.py": "from jaxdd.run import loop\n__version__ = '1'\n",
        "jaxdd/core/io.py": prose + "x = 1\n" * 300,
        "jaxdd/run/loop.py": "from jaxdd import __version__\nfrom jaxdd.core import io\n",
        "jaxdd/run/loop2.py": "import jaxdd\nfrom . import loop\nversion = jaxdd.__version__\n",
        "jaxdd/publish/grid.py": "import jaxdd.core.io\n",
        "jaxdd/cli/main.py": "import sys\nfrom jaxdd.publish import grid\nprint(1)\nsys.exit(0)\n",
        "distill.py": "from jaxdd.cli.main import main\nmain()\n",
    }
    for folder in ("core", "run", "publish", "cli"):
        files[f"jaxdd/{folder}/__init__.py"] = ""
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
