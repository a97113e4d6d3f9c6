"""Where data sets are looked for, and how their absence is refused: early, and with the ways out."""

from __future__ import annotations

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest

from jaxdd.core.errors import DataError, UsageError
from jaxdd.data import check_available
from jaxdd.data.readers import tfds
from tests.limits import TIMEOUT

pytestmark = pytest.mark.quick
ROOT = pathlib.Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def _nothing_prepared(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path_factory.mktemp("no tfds here")))


def _without(monkeypatch, *modules):
    """Makes modules look as if they were not installed."""
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name in modules else found(name, *rest)
    )


def test_a_missing_set_is_refused_with_three_remedies(tmp_path, monkeypatch):
    _without(monkeypatch, "tensorflow_datasets")
    with pytest.raises(DataError) as caught:
        check_available("cifar10", tmp_path)
    remedy = caught.value.remedy
    assert [f"({number})" in remedy for number in (1, 2, 3, 4)] == [True, True, True, False]
    assert "pip install 'jaxdd[tfds]'" in remedy and "`data_path`" in remedy and "`dataset_name=digits`" in remedy
    assert str(tmp_path) in caught.value.where
    for layout in ("x_train", "parquet", "train/<class>"):
        assert layout in caught.value.expected


@pytest.mark.parametrize("name", ["tiny_imagenet", "imagewoof"])
def test_a_set_that_tfds_does_not_have_says_so(name, tmp_path):
    with pytest.raises(DataError, match="not in TensorFlow Datasets") as caught:
        check_available(name, tmp_path)
    assert "`dataset_name=digits`" in caught.value.remedy


def test_what_tfds_could_download_counts_as_available(tmp_path, monkeypatch):
    _without(monkeypatch)
    monkeypatch.setattr(tfds, "missing_packages", lambda spec, to_prepare: [])
    check_available("svhn_cropped", tmp_path)
    monkeypatch.undo()
    _without(monkeypatch, "tensorflow")
    with pytest.raises(DataError, match=r"needs.*tensorflow"):
        check_available("cifar10", tmp_path)


def test_a_set_prepared_as_tfrecord_is_refused_with_the_way_out(tmp_path):
    folder = tmp_path / "cifar10" / "3.0.2"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text(json.dumps({"fileFormat": "tfrecord"}))
    with pytest.raises(DataError, match="tfrecord, which only TensorFlow can read") as caught:
        check_available("cifar10", tmp_path)
    assert caught.value.where == str(folder) and "array_record" in caught.value.remedy


def test_a_description_that_is_a_fifo_is_refused_and_not_waited_for(tmp_path):
    folder = tmp_path / "cifar10" / "3.0.2"
    folder.mkdir(parents=True)
    os.mkfifo(folder / "dataset_info.json")
    with pytest.raises(DataError, match="a FIFO") as caught:
        check_available("cifar10", tmp_path)
    assert caught.value.where == str(folder / "dataset_info.json")


def test_paths_that_are_not_there_or_not_in_the_layout(tmp_path, arrays, write_npz, write_folder):
    with pytest.raises(DataError, match="not a folder"):
        check_available("mnist", tmp_path / "nowhere")
    for kind in ("folder", "npz", "parquet"):
        with pytest.raises(DataError, match="does not exist"):
            check_available(f"{kind}:{tmp_path / 'nowhere'}")
        with pytest.raises(DataError, match=f"no data set in the layout '{kind}'"):
            check_available(f"{kind}:{tmp_path}")
    write_npz(tmp_path / "mnist" / "a.npz", arrays)
    check_available("mnist", tmp_path)
    write_npz(tmp_path / "mnist" / "b.npz", arrays)
    with pytest.raises(DataError, match="2 npz files"):
        check_available("mnist", tmp_path)
    check_available(f"folder:{write_folder(tmp_path / 'own', arrays)}")


def test_an_unknown_name_is_refused_before_the_path_is_looked_at():
    with pytest.raises(UsageError, match="did you mean 'cifar10'"):
        check_available("cifr10", "/nowhere")


@pytest.mark.slow
def test_the_check_imports_nothing_heavy(tmp_path):
    script = (
        "import sys\n"
        "from jaxdd.core.errors import DataError\n"
        "from jaxdd.data import check_available\n"
        "try: check_available('tiny_imagenet', sys.argv[1])\n"
        "except DataError: pass\n"
        "else: raise SystemExit('found')\n"
        "heavy = {'jax', 'tensorflow', 'tensorflow_datasets', 'pyarrow', 'sklearn', 'PIL'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", script, str(tmp_path)]
    subprocess.run(command, env=environment, check=True, timeout=TIMEOUT)
