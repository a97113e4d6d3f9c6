"""What documents, docstrings and benchmarks name is there: files, modules, and what is defined in them.

All is read from the source, nothing is imported. In backticks, `run/loop.py` is taken for a file if it begins with a
folder of ours or ends in `.py` or `.md`, and `loop.run` for a name if it begins with a class of ours or with a module
that is seen from where it stands: from the root, from `jaxdd/`, or from a folder in which the docstring lies.
"""

from __future__ import annotations

import ast
import functools
import pathlib
import re
from collections.abc import Iterator

import pytest

from tests.house import ROOT, House, Source, dotted

pytestmark = pytest.mark.quick

SPAN = re.compile(r"`([^`\n]+)`")
NAME = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")
FILE = re.compile(r"[\w.<>*-]+(?:/[\w.<>*-]*)*")
ENDINGS = (".py", ".md")  # of files that are ours, wherever they are said to lie
FILES = (*ENDINGS, ".json", ".jsonl", ".npz", ".txt", ".safetensors")  # dotted, but no names
OF_AUTHORS = {  # in the repositories of the papers
    *("argument.py", "condense_mp.py", "data.py", "data_synthesis.py", "dataloader.py", "generate_soft_label.py"),
    *("main.py", "main_DM.py", "misc/reproduce.py", "ops.py", "recover_cda_*.py", "squeeze_cifar.py", "test.py"),
    *("train.py", "train_FKD.py", "train_KD.py", "utils.py"),
}
PACKAGE = pathlib.PurePath("jaxdd")
DOCUMENTS = ("README.md", "CONTRIBUTING.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))))


@functools.cache
def house() -> House:
    return House(ROOT)


@functools.cache
def defined() -> dict[str, set[str]]:
    """Module -> names at its top level, with those that it offers by a `__getattr__`; of a package also its modules."""
    sources = house().package + house().benchmarks
    found = {source.module: set().union(*map(bound, source.tree.body)) for source in sources}
    for source in sources:
        if "__getattr__" in found[source.module]:
            every = next(node for node in source.tree.body if isinstance(node, ast.Assign) and "__all__" in bound(node))
            found[source.module] |= set(ast.literal_eval(every.value))
        package, _, stem = source.module.rpartition(".")
        found.get(package, set()).add(stem)
    return found


def bound(node: ast.stmt) -> set[str]:
    """Names that a statement gives to a module or a class."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name.split(".")[0] for alias in node.names}
    if isinstance(node, ast.If):  # TYPE_CHECKING
        return set().union(*map(bound, node.body))
    return {name.id for name in ast.walk(node) if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)}


@functools.cache
def members() -> dict[str, set[str]]:
    """Class -> what it has, by definition or by inheritance; classes of one name count as one."""
    own: dict[str, set[str]] = {}
    bases: dict[str, set[str]] = {}
    for source in house().package:
        for node in ast.walk(source.tree):
            if isinstance(node, ast.ClassDef):
                bases.setdefault(node.name, set()).update(dotted(base).rpartition(".")[2] for base in node.bases)
                attributes = [inner for inner in ast.walk(node) if isinstance(inner, ast.Attribute)]
                held = {inner.attr for inner in attributes if dotted(inner.value) == "self"}
                own.setdefault(node.name, set()).update(held, *map(bound, node.body))

    def every(name: str) -> set[str]:
        return own.get(name, set()).union(*(every(base) for base in bases.get(name, ()) if base != name))

    return {name: every(name) for name in own}


def resolves(name: str) -> bool:
    """Whether `jaxdd.room.module.name.member` is there."""
    parts = name.split(".")
    depth = max(end for end in range(1, len(parts) + 1) if ".".join(parts[:end]) in defined())
    inside = parts[depth:]
    if inside and inside[0] not in defined()[".".join(parts[:depth])]:
        return False
    return len(inside) < 2 or inside[1] in members().get(inside[0], {inside[1]})


def wrong(text: str, folder: pathlib.PurePath = PACKAGE, own: frozenset[str] = frozenset()) -> list[str]:
    """What a text names in backticks and is not there.

    Arguments:
        text: prose; where it names a folder, its files may be named without.
        folder: where it stands.
        own: names of variables, which are no modules: `recipe.steps` may be an argument's.
    """
    spans = [span.removesuffix("()") for span in SPAN.findall(text)]
    places = [ROOT, ROOT / PACKAGE, ROOT / folder, *(ROOT / PACKAGE / span for span in spans if span.endswith("/"))]
    return [span for span in spans if not (is_there(span, places) if is_file(span) else is_known(span, folder, own))]


def is_file(span: str) -> bool:
    return FILE.fullmatch(span) is not None and ("/" in span or span.endswith(FILES))


def is_there(span: str, places: list[pathlib.Path]) -> bool:
    """Whether a file is in one of the places, or none of ours."""
    inside = "/" in span and any((place / span.split("/")[0]).is_dir() for place in places[:2])
    ours = inside or span.endswith(ENDINGS)
    pattern = re.sub(r"<[^>]*>", "*", span).rstrip("/")
    return not ours or span in OF_AUTHORS or any(any(place.glob(pattern)) for place in places)


def is_known(span: str, folder: pathlib.PurePath, own: frozenset[str]) -> bool:
    """Whether a dotted name is defined, or none of ours."""
    first, _, rest = span.partition(".")
    if not NAME.fullmatch(span):
        return True
    above = [".".join(folder.parts[:depth]) for depth in range(1, len(folder.parts) + 1)]
    seen = [prefix for prefix in ("", *(f"{place}." for place in above)) if prefix + first in defined()]
    if seen:
        return any(resolves(prefix + span) for prefix in seen) or (first in own and "" not in seen)
    return first not in members() or rest.split(".")[0] in members()[first]


def docstrings(source: Source) -> Iterator[tuple[int, str]]:
    """Line and text, those below fields included."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, node.value.value


def variables(source: Source) -> frozenset[str]:
    """Names of arguments, fields and variables."""
    every = list(ast.walk(source.tree))
    stored = {node.id for node in every if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return frozenset(stored | {node.arg for node in every if isinstance(node, ast.arg)})


def missing(source: Source) -> list[str]:
    """What a module imports, or takes from a module that it imported, and is not defined there."""
    faults, modules = [], {}
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("jaxdd", "benchmarks"):
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                if full in defined():
                    modules[alias.asname or alias.name] = full
                elif alias.name not in defined().get(node.module or "", ()):
                    faults.append(f"{source.path}:{node.lineno} imports {full}")
    for name in variables(source):
        modules.pop(name, None)
    for node in ast.walk(source.tree):
        module = modules.get(dotted(node.value)) if isinstance(node, ast.Attribute) else None
        if isinstance(node, ast.Attribute) and module and node.attr not in defined()[module]:
            faults.append(f"{source.path}:{node.lineno} asks for {module}.{node.attr}")
    return faults


@pytest.mark.parametrize("name", DOCUMENTS)
def test_what_a_document_names_is_there(name):
    lines = (ROOT / name).read_text().splitlines()
    faults = [f"{name}:{number} `{span}`" for number, line in enumerate(lines, 1) for span in wrong(line)]
    assert not faults, "\n".join(faults)


def test_what_a_docstring_names_is_there():
    faults = [
        f"{source.path}:{line} `{span}`"
        for source in house().package
        for line, text in docstrings(source)
        for span in wrong(text, source.path.parent, variables(source))
    ]
    assert not faults, "\n".join(faults)


def test_every_benchmark_can_be_imported():
    faults = [fault for source in house().benchmarks for fault in missing(source)]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    "text",
    [
        *("run/loop.py", "jaxdd/run/loop.py", "configs_final/<name>/*.txt", "docs/devices.md", "eval.py", "loop.py"),
        *("run.loop", "loop.run", "jaxdd.run.loop.run", "evaluation.recipe.Recipe.of", "Network.apply", "jax.jit"),
        *("data.canonical", "jaxdd.load", "jaxdd.data.sample", "output_dir/mnist_1", "manifest.json", "settings.any"),
    ],
)
def test_what_is_there_passes(text):
    assert not wrong(f"As `{text}` says.", PACKAGE / "run", frozenset({"settings"}))


@pytest.mark.parametrize(
    "text",
    [
        *(
            "run/lop.py",
            "jaxdd/run/lop.py",
            "configs_final/none/*.txt",
            "docs/none.md",
            "none.py",
            "benchmarks/none.py",
        ),
        *("run.lop", "loop.rnu", "jaxdd.run.loop.rnu", "evaluation.recipe.Recipe.fo", "Network.aply", "jaxdd.laod"),
    ],
)
def test_what_is_not_there_is_seen(text):
    assert wrong(f"As `{text}` says.", PACKAGE / "run") == [text]


def test_a_benchmark_that_lags_behind_is_seen():
    text = "from jaxdd.run import loop, lop\nfrom jaxdd.core.io import sha256, sha257\nloop.run, loop.rnu, sha256.x\n"
    found = [fault.split()[-1] for fault in missing(Source(pathlib.PurePath("benchmarks/a.py"), text))]
    assert found == ["jaxdd.run.lop", "jaxdd.core.io.sha257", "jaxdd.run.loop.rnu"]
