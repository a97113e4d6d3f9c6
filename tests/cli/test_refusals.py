"""What a user can get wrong: the right exit code, the cause, the way out; nothing written, nothing heavy imported."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from jaxdd.cli.main import main
from jaxdd.core import io
from jaxdd.core.distilled import DistilledSet

from .conftest import HEAVY, TINY, weighed

pytestmark = pytest.mark.quick


def test_a_root_script_without_flags_explains_itself_too(here, capsys):
    assert main([], script="eval") == 3
    assert "distil first" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, code, fragments",
    [
        (["distil"], 2, ["'distil'", "'distill'"]),
        (["distill", "--dataset_nam", "x"], 2, ["'--dataset_nam'", "'--dataset_name'"]),
        (["distill", "--dataset_name", "cifar11"], 2, ["'cifar11'", "'cifar10'"]),
        (["distill", "--method", "rcgi"], 2, ["'rcgi'", "'rcig'"]),
        (["distill", "--set", "widht=4"], 2, ["'widht'", "'width'"]),
        (["distill", "--n_images", "0"], 2, ["--n_images", ">= 1"]),
        (["distill", "--n_images", "1000000000"], 2, ["1000000000 images per class"]),
        (["distill", "--n_images", "1000"], 2, ["1000 images per class", "1 to 139"]),
        (["distill", "--set", "aug=flop"], 2, ["'flop'", "'flip'"]),
        (["distill", "--set", 'recipe={"step": 3}'], 2, ["'step'", "'steps'"]),
        (["distill", "--set", "depth=7"], 2, ["too small", "depth"]),
        (["distill", "--config_path", "nowhere.txt"], 2, ["'nowhere.txt'", "--config_path"]),
        (["distill", "--devices", "99"], 2, ["--devices 99"]),
        (["distill", "--dataset_name", "tiny_imagenet"], 3, ["not in TensorFlow Datasets", "--data_path", "digits"]),
        (["distill", "--dataset_name", "folder:nowhere"], 3, ["nowhere", "does not exist"]),
        (["distill", "--dataset_name", "mnist", "--data_path", "nowhere"], 3, ["nowhere", "--data_path"]),
        (["eval"], 3, ["digits_1", "distil first: jaxdd distill"]),
        (["eval", "--checkpoint_path", "nowhere"], 3, ["nowhere", "--checkpoint_path"]),
        (["eval", "--eval_arch", "resnt"], 2, ["'resnt'", "'resnet'"]),
        (["eval", "--normalization", "bach"], 2, ["'bach'", "'batch'"]),
        (["eval", "--eval_arhc", "vgg"], 2, ["'--eval_arhc'", "'--eval_arch'"]),
    ],
)
def test_it_is_refused_and_nothing_is_written(words, code, fragments, call, here):
    outcome = call(*words)
    assert outcome.code == code, outcome
    for fragment in fragments:
        assert fragment in outcome.err
    assert len(outcome.err.splitlines()) <= 6 and "Traceback" not in outcome.err
    assert not list(here.iterdir())


@pytest.fixture
def small(here):
    """A distilled set of the digits in `set/`."""
    images, labels = np.zeros((10, 8, 8, 1), np.float32), np.eye(10, dtype=np.float32)
    DistilledSet(images, labels, space="standardised", dataset="digits").save(here / "set")
    return here / "set"


@pytest.mark.parametrize(
    "words, code, fragments",
    [
        (["--eval_arch", "vggg"], 2, ["'vggg'", "'vgg'"]),
        (["--normalization", "bacth"], 2, ["'bacth'", "'batch'"]),
        (["--set", "stepz=4"], 2, ["'stepz'", "--set", "'steps'"]),
        (["--set", "test_aug=flop"], 2, ["'flop'", "'flip'"]),
        (["--models_to_test", "0"], 2, ["--models_to_test", ">= 1"]),
        (["--eval_lr", "-1"], 2, ["--eval_lr"]),
        (["--dataset_name", "mnist"], 3, ["'digits'", "'mnist'", "--dataset_name digits"]),
    ],
)
def test_a_bad_evaluation_is_refused(words, code, fragments, call, small):
    outcome = call("eval", "--checkpoint_path", "set", *words)
    assert outcome.code == code, outcome
    assert all(fragment in outcome.err for fragment in fragments), outcome.err
    assert sorted(path.name for path in small.parent.iterdir()) == ["set"]
    assert not (small / "eval.json").exists()


def test_a_set_of_unknown_origin_needs_a_name(call, small):
    DistilledSet.load(small).replace(dataset="").save(small)
    assert "--dataset_name" in call("eval", "--checkpoint_path", "set").err
    outcome = call("eval", "--checkpoint_path", "set", "--dataset_name", "cifar100")
    assert outcome.code == 3


def test_output_folders_that_cannot_be(call, here):
    (here / "file").write_text("")
    assert "is a file" in call("distill", "--output_dir", "file").err
    assert "is a file" in call("distill", "--output_dir", "file/below").err
    assert "File name too long" in call("distill", "--output_dir", "x" * 300).err
    assert call("distill", "--log_dir", "file").code == 3
    assert sorted(path.name for path in here.iterdir()) == ["file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(call, here):
    (here / "locked").mkdir(mode=0o500)
    assert "no permission" in call("distill", "--output_dir", "locked/new").err


def test_the_folder_of_another_run_is_refused_before_any_data_is_read(call, here):
    identity = {"method": "rcig", "seed": 1, "settings": {"width": 8}, "dataset": {"name": "digits"}}
    (here / "config.json").write_text(json.dumps({"format": 1, "identity": identity, "other": {}, "versions": {}}))
    outcome = call("distill", "--output_dir", str(here), *TINY)
    assert outcome.code == 3
    assert "seed: 1 -> 0" in outcome.err and "settings.width: 8 -> 4" in outcome.err


def test_a_folder_in_use_is_refused(call, here):
    (here / "config.json").write_text("{}")
    with io.folder_lock(here):
        outcome = call("distill", "--output_dir", str(here))
    assert outcome.code == 3 and f"pid {os.getpid()}" in outcome.err


def test_debug_adds_the_traceback(call, here):
    assert "Traceback" in call("distill", "--dataset_name", "cifar11", "--debug").err
    assert "Traceback" not in call("distill", "--dataset_name", "cifar11", "--debug", "False").err


@pytest.mark.slow
def test_a_refusal_imports_nothing_heavy_and_starts_no_device(here):
    refused = [["distill", "--set", "l2_rat=1"], ["distill", "--method", "x"], ["eval", "--eval_arch", "conf"]]
    assert weighed(*refused, ["eval"], cwd=here) == [*[(2, [])] * len(refused), (3, [])]
    assert weighed(["distill", "--dataset_nam", "x"], cwd=here, heavy={*HEAVY, "jax"}) == [(2, [])]


WITHOUT_JAX = {  # what each command refuses before JAX is imported: a flag, a data set, a key and a value of settings
    "distill": [
        *(["--metod", "x"], ["--dataset_name", "cifar11"], ["--method", "x"], ["--width", "x"], ["--config_path", "x"]),
        *(["--set", "l2_rat=1"], ["--set", "l2_rate=x"], ["--method", "dream", "--set", "lr_im=1"]),
        *(["--method", "frepo", "--set", "ridge=x"], ["--method", "kip", "--set", "ridg=1"]),
        *(["--method", "cda", "--set", "lr_im=1"], ["--method", "rded", "--dataset_name", "cifar11"]),
    ],
    "condense": [["--metod", "x"], ["-d", "cifar11"], ["--set", "lr_im=1"], ["--set", "lr_img=x"], ["--lr_img", "x"]],
    "pretrain": [["--metod", "x"], ["-d", "cifar11"], ["--set", "lr_im=1"], ["--set", "lr=x"], ["--repeat", "0"]],
    "squeeze": [
        *(["--metod", "x"], ["-d", "cifar11"], ["--set", "wid=3"], ["--set", "squeeze.epochs=x"]),
        *(["--set", "squeeze.epoch=1"], ["--preset", "x"]),
    ],
    "recover": [["--metod", "x"], ["-d", "cifar11"], ["--set", "lr_im=1"], ["--set", "lr_img=x"], ["--method", "x"]],
    "relabel": [["--metod", "x"], ["--mixup", "x"], []],
    "validate": [["--metod", "x"], ["--mix-type", "x", "--checkpoint_path", "x"], []],
    "eval": [
        *(["--metod", "x"], ["--dataset_name", "cifar11"], ["--width", "x"], ["--models_to_test", "0"]),
        *(["--set", "widht=1"], ["--set", "steps=x"], ["--eval_arch", "resnt"], ["--normalization", "bach"]),
    ],
}


@pytest.mark.slow
def test_help_and_refusals_of_flags_data_sets_keys_and_values_import_no_jax(here):
    helped = [[name, "--help"] for name in WITHOUT_JAX]
    refused = [[name, *words] for name, lines in WITHOUT_JAX.items() for words in lines]
    seen = weighed(*helped, *refused, cwd=here, heavy={"jax", "flax", "optax"})
    expected = [(0, [])] * len(helped) + [(2, [])] * len(refused)
    assert dict(enumerate(seen)) == dict(enumerate(expected))


@pytest.mark.slow
def test_a_dry_run_tells_what_is_needed_and_writes_nothing(call, here):
    outcome = call("distill", "--dry_run", *TINY)
    assert outcome.code == 0 and "dry run: nothing was written" in outcome.out
    assert all(word in outcome.out for word in ("state", "disk", "GFLOP", "8x8x1", "at the peak", "mean of 2", "total"))
    assert not list(here.iterdir())
    cut = call("distill", "--dry_run", *TINY, "--set", "max_forward_batch_size=4")
    assert "chunks of 4 images" in cut.out
    elsewhere = call("distill", "--dry_run", "--config_path", "depth_3.txt", "--dataset_name", "digits", *TINY)
    assert "img_size = 32" in elsewhere.out


@pytest.mark.parametrize("words", [(), ("--dry_run",)])
def test_what_fits_into_no_memory_is_refused_before_anything_is_compiled(words, call, here):
    outcome = call("distill", *words, *TINY, "--set", "width=512", "--set", "memory_limit=0.01")
    assert outcome.code == 2 and "memory_limit: 0.01 GB" in outcome.err and "--width" in outcome.err
    assert not (here / "output_dir" / "digits_1" / "distilled").exists()


def test_help_and_version(call):
    assert "jaxdd distill" in call().out and call("--help").code == 0
    assert call("--version").out.strip().count(".") == 2
    helped = call("distill", "--help")
    assert helped.code == 0 and "--n_images" in helped.out
