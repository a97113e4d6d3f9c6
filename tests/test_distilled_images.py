"""The sets shipped in distilled_images/ are whole and reach the accuracy stated beside them."""

import json
import pathlib
import re

import pytest

import jaxdd
from jaxdd.core import io

ROOT = pathlib.Path(__file__).resolve().parents[1]
SETS = sorted(path.parent for path in (ROOT / "distilled_images").glob("*/manifest.json"))
SAMPLING = 0.02  # accuracy: other versions round differently, and a training magnifies that; 359 test images


def stated(folder: pathlib.Path) -> dict[tuple[str, bool], float]:
    rows = json.loads((folder / "eval.json").read_text())["rows"]
    return {(row["name"], row["augmented"]): row["mean"] for row in rows}


def test_there_are_some():
    assert SETS


@pytest.mark.slow
@pytest.mark.parametrize("folder", SETS, ids=lambda folder: folder.name)
def test_stated_accuracy_is_reached(folder):
    small = jaxdd.DistilledSet.load(folder)
    result = jaxdd.evaluate(small, jaxdd.load(small.dataset), baselines=(), test_aug=None)
    (row,) = result.rows
    assert row.mean == pytest.approx(stated(folder)["distilled", False], abs=SAMPLING)
    assert row.mean >= 0.9


@pytest.mark.parametrize("folder", SETS, ids=lambda folder: folder.name)
def test_the_card_says_what_was_measured(folder):
    figures = re.findall(r"(\d+\.\d) \+- ", (folder / "README.md").read_text())
    assert figures == [f"{100 * mean:.1f}" for mean in stated(folder).values()]
    assert (folder / "grid.png").read_bytes().startswith(b"\x89PNG")
    assert io.read_json(folder / "manifest.json")["provenance"]["method"] == "rcig"
