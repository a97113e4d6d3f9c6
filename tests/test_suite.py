"""The rules of the suite, checked on its source: it passes on any machine, however slow and however busy.

Each rule is a function from a parsed file to a list of violations; the last test shows that every rule sees its fault.
"""

from __future__ import annotations

import ast
import pathlib
import subprocess

import pytest

TESTS = pathlib.Path(__file__).parent
CLOCKS = {"time", "monotonic", "perf_counter", "process_time", "thread_time"}
CLOCKS |= {f"{name}_ns" for name in CLOCKS}
READ = {f"time.{name}" for name in CLOCKS} | {"os.times", "resource.getrusage", "timeit.timeit", "datetime.now"}
LENGTHS = ("second", "elapsed", "duration", "_ms")  # parts of names of lengths of time


def dotted(node: ast.AST) -> str:
    """`a.b.c` for a chain of names, else the empty text."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def clocks(tree: ast.AST) -> list[str]:
    """No test reads a clock; what it cannot read it cannot assert."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and any(dotted(node).endswith(name) for name in READ):
            found.append(f"{node.lineno} reads {dotted(node)}")
        elif isinstance(node, ast.ImportFrom) and node.module == "time":
            found += [f"{node.lineno} imports {alias.name}" for alias in node.names if alias.name in CLOCKS]
    return found


def bounds(tree: ast.AST) -> list[str]:
    """No test asserts that something takes less than a length of time."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            for part in ast.walk(node.test):
                if isinstance(part, ast.Compare):
                    found += [f"{node.lineno} asserts {ast.unparse(part)}" for less in _smaller(part) if _length(less)]
    return found


def _smaller(comparison: ast.Compare) -> list[ast.expr]:
    """What a comparison calls the smaller side: of `a < b <= c`, a and b."""
    sides = [comparison.left, *comparison.comparators]
    found = []
    for left, operator, right in zip(sides, comparison.ops, sides[1:], strict=False):
        if isinstance(operator, ast.Lt | ast.LtE):
            found.append(left)
        elif isinstance(operator, ast.Gt | ast.GtE):
            found.append(right)
    return found


def _length(side: ast.expr) -> bool:
    names = [node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "") for node in ast.walk(side)]
    names += [node.value for node in ast.walk(side) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return any(part in name for name in names for part in LENGTHS)


def limits(tree: ast.AST) -> list[str]:
    """What ends a hanging test is one constant, `tests.limits.TIMEOUT`."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            given = [word.value for word in node.keywords if word.arg == "timeout"]
            given += node.args[:1] if dotted(node.func) == "pytest.mark.timeout" else []
            found += [f"{node.lineno} has a limit of its own" for value in given if ast.unparse(value) != "TIMEOUT"]
    return found


RULES = (clocks, bounds, limits)


@pytest.fixture(scope="module")
def trees() -> dict[str, ast.Module]:
    """The syntax tree of every file by its path; the hook in conftest is the one place that measures."""
    files = {str(path.relative_to(TESTS)): path for path in sorted(TESTS.rglob("*.py"))}
    return {name: ast.parse(path.read_text()) for name, path in files.items() if name != "conftest.py"}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_suite_obeys(rule, trees):
    faults = [f"tests/{name}:{fault}" for name, tree in trees.items() for fault in rule(tree)]
    assert not faults, "\n".join(faults)


def test_one_test_is_the_smoke(trees):
    """The others that start a process are slow: conftest refuses a process to any other test."""
    marked = [
        f"{name}:{node.lineno}"
        for name, tree in trees.items()
        for node in ast.walk(tree)
        if dotted(node) == "pytest.mark.smoke"
    ]
    assert len(marked) == 1, marked


@pytest.mark.parametrize(
    "rule, text",
    [
        (clocks, "import time\nstart = time.perf_counter()"),
        (clocks, "from time import monotonic"),
        (clocks, "import resource\nresource.getrusage(0)"),
        (bounds, "assert outcome.seconds < 1.5"),
        (bounds, "assert 0 < found.seconds_per_step < 5"),
        (bounds, "assert any(seconds() < 1.5 for _ in range(2))"),
        (bounds, "assert 3 > entry['seconds'] and True"),
        (limits, "subprocess.run([], timeout=60)"),
        (limits, "@pytest.mark.timeout(600)\ndef test(): pass"),
    ],
)
def test_a_fault_is_seen(rule, text):
    assert len(rule(ast.parse(text))) == 1


@pytest.mark.parametrize(
    "text", ["assert seconds > 0", "assert duration(seconds) == text", "subprocess.run([], timeout=TIMEOUT)"]
)
def test_what_holds_on_any_machine_is_no_fault(text):
    assert not [fault for rule in RULES for fault in rule(ast.parse(text))]


def test_no_process_starts_outside_slow_tests():
    with pytest.raises(RuntimeError, match="starts a process"):
        subprocess.run(["true"], check=True)
