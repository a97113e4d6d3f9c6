"""Names that files of users and random draws depend on: they stay as they are, whatever is moved or renamed.

`golden/frozen.json` lists them. A name that is new is added there on purpose; one that goes breaks unfinished runs,
sets or the numbers of a seed.
"""

from __future__ import annotations

import ast
import json
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import pytest

from jaxdd import models
from jaxdd.core.config import settings_of
from jaxdd.core.distilled import DistilledSet
from jaxdd.core.shards import Pieces
from jaxdd.evaluation.recipe import Recipe
from jaxdd.methods import METHODS
from jaxdd.methods.recovery.settings import Recovery
from jaxdd.models.registry import NAMES
from jaxdd.run.chain.settings import ChainSettings
from jaxdd.run.settings import RunSettings
from jaxdd.run.storage.checkpoint import Storage
from jaxdd.run.storage.networks import add
from jaxdd.training.recipe import TeacherRecipe

ROOT = pathlib.Path(__file__).resolve().parents[1]
GOLDEN = json.loads((ROOT / "tests" / "golden" / "frozen.json").read_text())
DRAWS = ("key_for", "purpose_key", "uniform", "integers")  # what takes a purpose

pytestmark = pytest.mark.quick


@pytest.fixture(scope="module")
def trees() -> list[ast.Module]:
    return [ast.parse(path.read_text()) for path in sorted((ROOT / "jaxdd").rglob("*.py"))]


def settings() -> dict[str, list[str]]:
    """Returns the names of the settings of every method, recipe and link."""
    protocols = {name: Recipe.protocol_of({"protocol": name}) for name in ("rcig", "idc", "dc", "soft")}
    groups = {f"method {name}": method.settings for name, method in METHODS.items() if not method.is_chain}
    groups |= {f"recipe {name}": cls for name, cls in protocols.items()}
    groups |= {"run": RunSettings, "chain": ChainSettings, "recovery": Recovery, "squeeze": TeacherRecipe}
    return {name: sorted(field.name for field in settings_of(cls)) for name, cls in groups.items()}


def states(trees: list[ast.Module]) -> dict[str, list[str]]:
    """Returns the fields of every named tuple that is a state, or part of one."""
    tuples: dict[str, dict[str, str]] = {}
    for node in (node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
        if any(isinstance(base, ast.Name) and base.id == "NamedTuple" for base in node.bases):
            lines = [line for line in node.body if isinstance(line, ast.AnnAssign)]
            tuples[node.name] = {ast.unparse(line.target): ast.unparse(line.annotation) for line in lines}
    wanted = [name for name in tuples if name.endswith("State")]
    for name in wanted:  # grows while it is walked
        words = " ".join(tuples[name].values()).replace("[", " ").replace("]", " ").replace(".", " ").split()
        wanted += [word for word in words if word in tuples and word not in wanted]
    return {name: list(tuples[name]) for name in sorted(wanted)}


def purposes(trees: list[ast.Module]) -> list[str]:
    """Returns every word that names what a random key is for."""
    return sorted({word for tree in trees for word in _purposes(tree)})


def _purposes(tree: ast.Module) -> Iterator[str]:
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        for call in (node for node in ast.walk(function) if isinstance(node, ast.Call)):
            name = ast.unparse(call.func).split(".")[-1]
            if name not in DRAWS or len(call.args) < 2:
                continue
            named = list(_texts(call.args[1]))
            yield from named or (text for line in function.body for text in _texts(line))


def _texts(node: ast.AST) -> Iterator[str]:
    """Yields the texts in a piece of code that are neither a docstring nor part of an error."""
    if isinstance(node, ast.Raise) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
        return
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    for inner in ast.iter_child_nodes(node):
        yield from _texts(inner)


def repeated(trees: list[ast.Module]) -> list[str]:
    """Returns the names of events and parts, which are words of random keys too."""
    calls = (node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args)
    named = (call.args[0] for call in calls if ast.unparse(call.func) in ("Event", "Part"))
    return sorted({text for name in named for text in _texts(name)})


def modules() -> dict[str, list[str]]:
    """Returns the class of every architecture and the paths of its parameters, without the numbers of equal parts."""
    found = {}
    for name in NAMES:
        network = models.build(name, image_shape=(32, 32, 3), classes=10, width=8)
        leaves = jax.tree_util.tree_flatten_with_path(jax.eval_shape(network.init, jax.random.key(0)))[0]
        paths = {"/".join(str(key.key) for key in path) for path, _ in leaves}
        found[name] = [type(network.module).__name__, *sorted(paths)[:6], f"{len(paths)} in all"]
    return found


def manifests(folder: pathlib.Path) -> dict[str, Any]:
    """Returns the keys of everything that is kept as JSON beside numbers."""
    array = np.zeros((1, 2, 2, 1), np.float32)
    DistilledSet(array, np.zeros(1, np.int32), class_names=("a",)).save(folder / "set")
    add(folder / "networks", {"recipe": {}}, {"params": {"kernel": array}}, [0.5], 1)
    Pieces(folder / "pieces", ("number",)).add("a", {"images": array}, {"number": 0})
    with Storage(folder / "run", {"a": 1}) as storage:
        storage.save(1, {"a": jax.numpy.zeros(1)})
    files = {name: json.loads((folder / name / "manifest.json").read_text()) for name in ("set", "networks", "pieces")}
    files["run"] = json.loads((folder / "run" / "config.json").read_text())
    files["state"] = json.loads((folder / "run" / "checkpoints" / "1" / "manifest.json").read_text())
    inner = {"set": "shards", "networks": "networks", "pieces": "pieces"}
    entries = {f"{name} {key}": sorted(files[name][key][0]) for name, key in inner.items()}
    return {name: sorted(content) for name, content in files.items()} | entries


def test_settings_keep_their_names():
    assert settings() == GOLDEN["settings"]


def test_states_keep_their_fields(trees):
    assert states(trees) == GOLDEN["states"]


def test_random_keys_keep_their_purposes(trees):
    assert purposes(trees) == GOLDEN["purposes"]


def test_events_and_parts_keep_their_names(trees):
    assert repeated(trees) == GOLDEN["events and parts"]


def test_flax_modules_keep_their_names():
    assert modules() == GOLDEN["modules"]


def test_manifests_keep_their_keys(tmp_path):
    assert manifests(tmp_path) == GOLDEN["manifests"]
