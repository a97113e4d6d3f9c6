"""Words: a function's docstring begins with a verb in the third person, none with a riddle, and names say something."""

from __future__ import annotations

import ast

import pytest

from tests.house import ROOT, House, Source

ROOMS = ("", *sorted(path.name for path in (ROOT / "jaxdd").iterdir() if (path / "__init__.py").is_file()))
RIDDLES = ("What", "Of", "That", "Whose", "Those", "See", "Everything", "As")
VERBS = {  # that docstrings of functions begin with
    *("Adds", "Appends", "Applies", "Augments", "Blends", "Brings", "Builds", "Calls", "Centres", "Changes"),
    *("Checks", "Chooses", "Clips", "Closes", "Compiles", "Convolves", "Counts", "Crops", "Cuts", "Decides"),
    *("Decodes", "Deletes", "Derives", "Descends", "Describes", "Distils", "Divides", "Downloads", "Draws"),
    *("Drives", "Embeds", "Ends", "Enlarges", "Estimates", "Evaluates", "Fills", "Finds", "Fits", "Flips"),
    *("Flushes", "Hears", "Imports", "Keeps", "Labels", "Leaves", "Lets", "Linearises", "Loads", "Locks"),
    *("Looks", "Lowers", "Makes", "Marks", "Minimises", "Mirrors", "Mixes", "Moves", "Multiplies", "Names"),
    *("Normalises", "Notes", "Opens", "Pastes", "Permutes", "Plans", "Prints", "Puts", "Raises", "Reads"),
    *("Recognises", "Recovers", "Refuses", "Removes", "Replaces", "Resizes", "Resolves", "Restores", "Returns"),
    *("Rolls", "Runs", "Samples", "Says", "Scales", "Sends", "Sets", "Shifts", "Shows", "Silences", "Solves"),
    *("Stacks", "Standardises", "Starts", "Stores", "Stretches", "Surrounds", "Takes", "Tells", "Tests"),
    *("Trains", "Tunes", "Turns", "Updates", "Waits", "Whitens", "Writes", "Yields", "Zeroes", "Zooms"),
}
NOUNS_TOO = ("Labels", "Names", "Sets")
SHARE = 0.95  # of a room's functions, at the least


def documented(source: Source):
    """Yields `(node, whether it is a function and no property, docstring)` of all that has a docstring."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (text := ast.get_docstring(node)):
            marks = [ast.unparse(mark).rpartition(".")[2] for mark in getattr(node, "decorator_list", ())]
            function = isinstance(node, ast.FunctionDef) and not {"property", "cached_property"} & set(marks)
            yield node, function, text


def is_verb(word: str) -> bool:
    """Whether a word is one of the verbs, in the third person: `Returns`."""
    return word.rstrip(".,:;") in VERBS


@pytest.fixture(scope="module")
def house() -> House:
    return House(ROOT)


@pytest.mark.parametrize("room", ROOMS)
def test_docstrings_begin_with_plain_words(room, house):
    riddles, silent, functions = [], [], 0
    for source in house.package:
        if source.room == room:
            for node, function, text in documented(source):
                first = text.split()[0]
                where = f"{source.path}:{getattr(node, 'lineno', 1)}: {text.splitlines()[0]}"
                if first.rstrip(",.") in RIDDLES or text.startswith("The same"):
                    riddles.append(where)
                functions += function
                if function and not is_verb(first):
                    silent.append(where)
                help_text = source.path.parent.name == "flags"  # a class of options begins as its command's help does
                if isinstance(node, ast.ClassDef) and is_verb(first) and first not in NOUNS_TOO and not help_text:
                    riddles.append(where)
    assert not riddles, "\n".join(riddles)
    assert len(silent) <= (1 - SHARE) * functions, "\n".join(silent)


@pytest.mark.parametrize("name", ["found", "own", "given"])
def test_names_say_something(name, house):
    """A variable or parameter of this name, which says nothing, stands in fewer than ten functions of the package."""
    functions = []
    for source in house.package:
        for node in ast.walk(source.tree):
            if isinstance(node, ast.FunctionDef):
                names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
                names |= {n.arg for n in ast.walk(node.args) if isinstance(n, ast.arg)}
                if name in names:
                    functions.append(f"{source.path}:{node.lineno} {node.name}")
    assert len(functions) < 10, "\n".join(functions)
