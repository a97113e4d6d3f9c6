"""The rules of the house, checked on the source: floors, rooms, cycles, forbidden imports, printing, sizes, names.

Each rule is a function from a `House` (the parsed source tree) to a list of violations, one sentence each; the list
must be empty. The last tests build small houses with one fault each, to show that every rule sees what it is for.
"""

from __future__ import annotations

import ast
import collections
import pathlib
import re
from typing import TypeGuard

import pytest

from tests.house import ROOT, House, dotted

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
APART = {  # a package -> what its parts, modules or packages of their own, are called; they do not know each other
    "jaxdd.methods": "families of methods",
    "jaxdd.cli.commands": "commands",
}
STRANGERS = {("jaxdd.cli.flags", "jaxdd.cli.screen")}  # the first knows nothing of the second
FORBIDDEN = {"tensorflow", "torch", "pickle", "_pickle", "cloudpickle", "dill", "joblib"}
LOUD = {"print", "sys.exit", "os._exit", "exit", "quit"}
OUR_ERRORS = {f"{kind}Error" for kind in ("Jaxdd", "Usage", "Config", "Data", "Checkpoint", "Diverged")}
VAGUE = {"util", "utils", "helper", "helpers", "misc", "common", "manager", "managers"}
FILE_CODE, FILE_RAW, FUNCTION_CODE, FUNCTION_CODE_P95, SCRIPT_CODE = 300, 500, 60, 40, 10
FOLDER = 14  # modules, `__init__` not counted
NOT_OURS = {"--no-deps", "distill_dataset.py"}  # pip's flag, and the script of RCIG's authors
FLAG_TABLES: frozenset[str] = frozenset()  # files that only list flags may be longer; there is none


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


def edges_between_parts(house: House, package: str) -> dict[tuple[str, str], str]:
    """Pairs of parts of a package of which the first imports the second -> where."""
    found = {}
    for source in house.package:
        here = part_of(source.module, package)
        for name, line in house.imports(source):
            there = part_of(name, package)
            if here and there and here != there:
                found.setdefault((here, there), f"{source.path}:{line} imports {name}")
    return found


def part_of(module: str, package: str) -> str:
    """`rcig` for `jaxdd.methods.rcig.solve` in `jaxdd.methods`; the empty text for what is not inside."""
    return module.removeprefix(f"{package}.").partition(".")[0] if module.startswith(f"{package}.") else ""


def parts(house: House) -> list[str]:
    """Families of methods do not know each other, nor do commands; flags know nothing of what is printed."""
    faults = []
    for package, kind in APART.items():
        found = edges_between_parts(house, package)
        faults += [f"{where}: an edge between {kind}" for where in found.values()]
    for source in house.package:
        for package, stranger in STRANGERS:
            if f"{source.module}.".startswith(f"{package}."):
                seen = [item for item in house.imports(source) if f"{item[0]}.".startswith(f"{stranger}.")]
                faults += [f"{source.path}:{line} imports {name}: {package} knows no {stranger}" for name, line in seen]
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


def flags_below(house: House) -> list[str]:
    """Below cli/, a text names settings in backticks, which the command line replaces by its flags."""
    faults = []
    for source in house.package:
        if source.room == "cli":
            continue
        docs = {id(node.body[0].value) for node in ast.walk(source.tree) if _has_docstring(node)}
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
                flags = set(re.findall(r"(?<![\w-])--[a-z][\w-]*|\b\w+\.py\b", node.value)) - NOT_OURS
                faults += [f"{source.path}:{node.lineno} names {flag} below cli/" for flag in sorted(flags)]
    return faults


def _has_docstring(node: ast.AST) -> TypeGuard[ast.Module | ast.ClassDef | ast.FunctionDef]:
    return isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None


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


def folders(house: House) -> list[str]:
    """A folder of the package can be overlooked at one glance."""
    inside = collections.Counter(source.path.parent for source in house.package if source.path.name != "__init__.py")
    return [f"{folder}: {count} modules, {FOLDER} allowed" for folder, count in inside.items() if count > FOLDER]


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


RULES = (floors, parts, cycles, forbidden, silence, remedies, flags_below, sizes, folders, proportions, scripts, names)


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
    (parts, "jaxdd/methods/rcig/a.py", "from jaxdd.methods.kip import KIP\n", "between families of methods"),
    (parts, "jaxdd/methods/rcig/a.py", "from ..kip import KIP\n", "between families of methods"),
    (parts, "jaxdd/methods/a.py", "def f():\n    import jaxdd.methods.rcig.solve\n", "between families of methods"),
    (parts, "jaxdd/cli/commands/a.py", "from jaxdd.cli.commands.evaluate import run\n", "between commands"),
    (parts, "jaxdd/cli/commands/a.py", "from . import evaluate\n", "between commands"),
    (parts, "jaxdd/cli/flags/a.py", "from jaxdd.cli.screen.screen import Screen\n", "knows no jaxdd.cli.screen"),
    (cycles, "jaxdd/run/loop.py", "def f():\n    from . import loop2\n", "loop -> jaxdd.run.loop2 -> jaxdd.run.loop"),
    (forbidden, "jaxdd/core/a.py", "def f():\n    import tensorflow.io\n", "tensorflow"),
    (forbidden, "jaxdd/core/a.py", "from torch import nn\n", "torch"),
    (forbidden, "jaxdd/core/a.py", "import numpy as np\nnp.load('x', allow_pickle=True)\n", "pickle"),
    (silence, "jaxdd/run/a.py", "print('hello')\n", "print"),
    (silence, "jaxdd/run/a.py", "import jax\njax.debug.print('x')\n", "print"),
    (silence, "jaxdd/run/a.py", "import sys\nsys.exit(1)\n", "exit"),
    (silence, "jaxdd/run/a.py", "raise SystemExit(2)\n", "SystemExit"),
    (remedies, "jaxdd/run/a.py", "raise UsageError('no', where='here', expected='yes')\n", "without a remedy"),
    (flags_below, "jaxdd/run/a.py", "x = 'choose another --output_dir'\n", "--output_dir"),
    (flags_below, "jaxdd/run/a.py", "x = 1\ny = f'make {x} with squeeze.py'\n", "squeeze.py"),
    (sizes, "jaxdd/core/a.py", "x = 1\n" * 301, "301 lines of code"),
    (sizes, "jaxdd/core/a.py", "# note\n" * 501, "501 raw"),
    (sizes, "jaxdd/core/a.py", LONG_FUNCTION, "61 lines of code"),
    (folders, "jaxdd/publish/a.py", "", "15 modules"),
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
        "jaxdd/methods/kip.py": "from jaxdd.core import io\n",
        "jaxdd/methods/rcig/method.py": "from jaxdd.methods.rcig import solve\n",
        "jaxdd/methods/rcig/solve.py": "",
        "jaxdd/cli/commands/evaluate.py": "",
        "jaxdd/cli/commands/validate.py": "from jaxdd.cli.jobs import evaluating\n",
        "jaxdd/cli/jobs/evaluating.py": "",
        "jaxdd/cli/main.py": "import sys\nfrom jaxdd.publish import grid\nprint(1)\nsys.exit(0)\n",
        "distill.py": "from jaxdd.cli.main import main\nmain()\n",
    }
    files |= {f"jaxdd/publish/picture_{number}.py": "" for number in range(FOLDER - 1)}
    for folder in ("core", "run", "publish", "methods", "methods/rcig", "cli", "cli/commands", "cli/jobs"):
        files[f"jaxdd/{folder}/__init__.py"] = ""
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
