"""The verbs of `import jaxdd`: all sixteen methods, teachers and networks, labels, folders; and what is refused."""

from __future__ import annotations

import gc
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

import jaxdd
from jaxdd.core.config import settings_of
from jaxdd.core.errors import CheckpointError, ConfigError, JaxddError, Notice, UsageError
from tests.limits import TIMEOUT
from tests.verbs_driver import MOMENTS

ROOT = pathlib.Path(__file__).resolve().parents[1]
QUICK = {"models_to_test": 1, "baselines": (), "epochs": 2}
EVERY = """
import sys
sys.path.insert(0, sys.argv[1])
import jaxdd
digits = jaxdd.load("digits")
for method in jaxdd.METHODS:
    small = jaxdd.distill(digits, method=method, ipc=1, steps=2)
    row = jaxdd.evaluate(small, digits, models_to_test=1, baselines=()).rows[0]
    assert small.images.shape == (10, 8, 8, 1) and 0 <= row.mean <= 1, method
    print(method)
"""


@pytest.fixture(scope="module")
def digits():
    return jaxdd.load("digits")


@pytest.fixture(scope="module")
def teacher(digits):
    return jaxdd.squeeze(digits, epochs=1, width=4)


@pytest.fixture(scope="module")
def small(digits, teacher):
    return jaxdd.distill(digits, method="cda", ipc=1, steps=2, teacher=teacher)


@pytest.mark.quick
def test_the_table_has_sixteen_methods_with_paper_and_settings():
    assert len(jaxdd.METHODS) == 16
    for method in jaxdd.METHODS.values():
        assert len(method.paper) > 30
        names = {field.name: field.metadata["help"] for field in settings_of(method.settings)}
        assert "n_images" in names and all(names.values())


@pytest.mark.slow
def test_all_sixteen_in_one_process_leave_nothing_on_disk(tmp_path):
    home, here, code = tmp_path / "home", tmp_path / "here", tmp_path / "every.py"
    home.mkdir()
    here.mkdir()
    code.write_text(EVERY)
    keep = {name: value for name, value in os.environ.items() if not name.startswith("XDG_")}
    words = [sys.executable, str(code), str(ROOT)]
    environment = {**keep, "HOME": str(home)}
    done = subprocess.run(words, cwd=here, env=environment, capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == list(jaxdd.METHODS)
    assert not list(home.iterdir()) and not list(here.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    "script, flags, settings",
    [
        ("distill_dataset.py", "--width 8 --set pool_model_count=2", {"width": 8, "pool_model_count": 2}),
        (
            "condense.py",
            "--set width=8 --inner_loop 2 --batch_real 16 --n_data 32 --method dream",
            {"method": "dream", "width": 8, "inner_loop": 2, "batch_real": 16, "n_data": 32},
        ),
        (
            "distill_dataset.py",
            "--method cda --width 8 --set squeeze.epochs=1 recipe.epochs=2 recipe.models_to_test=1",
            {"method": "cda", "width": 8, "squeeze": {"epochs": 1}},
        ),
    ],
)
def test_defaults_and_bits_are_those_of_the_command_line(script, flags, settings, digits, tmp_path):
    words = [sys.executable, str(ROOT / script), *flags.split(), "--max_steps", "4", "--output_dir", "out"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 0, done.stderr
    typed = jaxdd.DistilledSet.load(tmp_path / "out" / "distilled")
    made = jaxdd.distill(digits, steps=4, **settings)
    np.testing.assert_array_equal(made.images, typed.images)
    assert made.provenance["settings"] == typed.provenance["settings"]


@pytest.mark.slow
def test_a_teacher_comes_from_memory_from_its_folder_or_from_a_list(digits, teacher, small, tmp_path):
    teacher.save(tmp_path / "teacher")
    for given in (tmp_path / "teacher", [teacher]):
        made = jaxdd.distill(digits, method="cda", ipc=1, steps=2, teacher=given)
        np.testing.assert_array_equal(made.images, small.images)
        assert made.provenance["teachers"] == [teacher.digest]
    assert small.replace(dataset="digits").teachers == (teacher,)


@pytest.mark.slow
def test_stored_labels_teach_and_their_folder_goes_with_them(digits, small, tmp_path):
    labels = jaxdd.relabel(small, epochs=2)
    room = labels.folder
    result = jaxdd.evaluate(small, digits, labels=labels, **QUICK)
    kept = jaxdd.relabel(small, epochs=2, output_dir=tmp_path / "labels")
    assert jaxdd.evaluate(small, digits, labels=kept.folder, **QUICK).rows == result.rows
    del labels, result
    gc.collect()
    assert not room.exists() and kept.folder.is_dir()


@pytest.mark.slow
def test_a_folder_is_resumed_evaluated_and_asked_for_its_teacher(digits, tmp_path):
    how = {"method": "cda", "ipc": 1, "steps": 2, "width": 4, "squeeze": {"epochs": 1}, "output_dir": tmp_path / "out"}
    first = jaxdd.distill(digits, **how)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.safetensors")}
    np.testing.assert_array_equal(jaxdd.distill(digits, **how).images, first.images)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.safetensors")} == before
    assert (tmp_path / "out" / "distilled" / "grid.png").is_file()
    told = [jaxdd.evaluate(given, digits, **QUICK).rows for given in (first, tmp_path / "out")]
    assert told[0] == told[1]
    alone = jaxdd.DistilledSet.load(tmp_path / "out" / "distilled")
    with pytest.raises(UsageError, match=r"(?s)teacher is not at hand.*pass teacher="):
        jaxdd.evaluate(alone, digits)
    assert jaxdd.evaluate(alone, digits, teacher=tmp_path / "out" / "teacher", **QUICK).rows == told[0]
    with pytest.raises(CheckpointError, match="seed: 0 -> 1"):
        jaxdd.distill(digits, **how, seed=1)


@pytest.mark.slow
def test_steps_are_shared_among_stages_and_a_method_without_any_says_so(digits, teacher):
    made = jaxdd.distill(digits, method="fadrm", ipc=1, steps=8, teacher=teacher)
    assert [count for _, count in made.provenance["settings"]["stages"]] == [2, 2, 2, 2]
    with pytest.warns(Notice, match="steps=2 has no effect"):
        made = jaxdd.distill(digits, method="rded", ipc=1, steps=2, teacher=teacher)
    assert made.provenance["settings"]["iterations"] == 0


@pytest.mark.slow
def test_a_config_is_taken_by_its_name(digits, teacher):
    sizes = {"width": 4, "inner_loop": 2, "batch_real": 8, "n_data": 16}
    made = jaxdd.distill(digits, config="matching/dream_cifar10_10", ipc=1, steps=2, **sizes)
    assert made.provenance["method"] == "dream" and made.provenance["settings"]["lr_img"] == 5e-3
    made = jaxdd.distill(digits, config="cda/cda_digits", ipc=1, steps=2, teacher=teacher)
    assert made.provenance["method"] == "cda" and made.provenance["settings"]["lr_img"] == 0.1


@pytest.mark.parametrize(
    "error, words, given",
    [
        (UsageError, "did you mean 'cda'", {"method": "cdaa"}),
        (UsageError, "takes no teacher", {"method": "rcig", "teacher": "somewhere"}),
        (UsageError, "takes no networks", {"method": "cda", "networks": "somewhere"}),
        (UsageError, "takes no start", {"method": "cda", "start": 3}),
        (ConfigError, "did you mean 'width'", {"method": "cda", "widht": 3}),
        (ConfigError, "wrong type", {"method": "dream", "width": "wide"}),
        (ConfigError, "'nothing' not found", {"config": "nothing"}),
        (CheckpointError, "no networks trained beforehand", {"method": "cda", "teacher": "nowhere"}),
        (CheckpointError, "no networks trained beforehand", {"method": "ga", "networks": "nowhere"}),
    ],
)
def test_what_distill_refuses(error, words, given, digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=words) as refusal:
        jaxdd.distill(digits, **given)
    assert refusal.value.where and refusal.value.remedy


def test_what_the_other_verbs_refuse(digits, tmp_path):
    for call in (
        lambda: jaxdd.squeeze(digits, epoch=3),
        lambda: jaxdd.squeeze(digits, arch_name="resnet19"),
        lambda: jaxdd.squeeze(digits, weights=tmp_path / "none.safetensors"),
        lambda: jaxdd.pretrain(digits, method="rcig"),
        lambda: jaxdd.relabel(tmp_path / "nowhere"),
        lambda: jaxdd.evaluate(tmp_path / "nowhere", digits),
    ):
        with pytest.raises(JaxddError) as refusal:
            call()
        assert refusal.value.where and refusal.value.remedy


@pytest.mark.slow
@pytest.mark.parametrize("method", ["cda", "accdd"])
def test_a_chain_that_is_killed_in_every_link_gives_the_same_bits(method, tmp_path):
    code = (
        f"import pathlib, sys; sys.path.insert(0, {str(ROOT)!r}); from tests.verbs_driver import distilled;"
        f"distilled(pathlib.Path('whole'), {method!r})"
    )
    whole = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=TIMEOUT)
    assert whole.returncode == 0, whole.stderr
    words = [sys.executable, str(ROOT / "tests" / "verbs_driver.py"), "killed", method]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == list(MOMENTS[method])
    folders = [tmp_path / name for name in ("whole", "killed")]
    kept = [{path.relative_to(at): path.read_bytes() for path in at.rglob("*.safetensors")} for at in folders]
    assert kept[0] == kept[1] and len(kept[0]) >= 4
