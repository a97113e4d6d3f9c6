"""Squeeze, recover, relabel, validate and their chain, as a user of SRe2L or CDA types them."""

from __future__ import annotations

import json
import pathlib
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest

from jaxdd.cli.flags.chain import RECOVER, RELABEL, SQUEEZE, VALIDATE
from jaxdd.cli.main import read
from jaxdd.core.config import values_of
from jaxdd.core.distilled import DistilledSet
from jaxdd.core.errors import ConfigError, UsageError
from jaxdd.run.chain import teachers as teachers
from jaxdd.run.chain.settings import Decoupled
from tests.cli.commands.chain_driver import TINY
from tests.limits import TIMEOUT

DRIVER = pathlib.Path(__file__).with_name("chain_driver.py")
SMALL = ["--width", "8", "--epochs", "2", "--batch_size", "128"]
SEED_COMMAND = (
    "--arch-name resnet18 --exp-name NAME --syn-data-path DIR --batch-size 100 --lr 0.4 --r-bn 0.05 --iteration 4000 "
    "--store-best-images --easy2hard-mode cosine --milestone 1 --ipc-start 0 --ipc-end 50"
)
PUBLISHED = {"iterations": 4000, "lr_img": 0.4, "r_bn": 0.05, "easy2hard_mode": "cosine", "milestone": 1.0, "jitter": 4}


def recovered(line: str) -> Decoupled:
    return read("recover", shlex.split(line))[1]


@pytest.mark.quick
@pytest.mark.parametrize(
    "line, ipc, wanted",
    [
        (f"{SEED_COMMAND} --dataset cifar100", 50, {**PUBLISHED, "batch_size": 100, "first_bn_multiplier": 10.0}),
        ("--preset tiny", 50, {**PUBLISHED, "method": "cda"}),
        ("--preset tiny --ipc-end 10 --lr 1", 10, {**PUBLISHED, "lr_img": 1.0}),
        ("--preset in1k", 50, {"lr_img": 0.25, "r_bn": 0.01, "jitter": 32, "milestone": 1.0}),
        ("--preset in21k", 20, {"iterations": 2000, "lr_img": 0.05, "r_bn": 0.25}),
        ("--preset cifar100", 50, {"method": "sre2l", "crop": False, "flip": False, "lr_img": 0.25, "r_bn": 0.01}),
        ("--dataset cifar100 --method cda", 10, {"iterations": 1000, "lr_img": 0.25, "milestone": 1.0}),
        ("--preset tiny --method sre2l", 50, {"lr_img": 0.1, "r_bn": 1.0, "jitter_signed": True}),
        ("--preset in1k --method fadrm", 10, {"merge": 0.5, "store": "png", "initialise": "medium"}),
        ("--preset in1k --method fadrm --iteration 40", 10, {"stages": ((200, 10), (224, 10), (200, 10), (224, 10))}),
        ("--preset in1k --method rded", 10, {"iterations": 0, "mosaic": 2, "candidates": 300, "crops": 5}),
        # what is not said is as in the scripts, where 0 turns the curriculum off
        ("--dataset cifar10", 1, {"iterations": 1000, "lr_img": 0.1, "r_bn": 0.05, "jitter": 4, "milestone": 0.0}),
        ("-d cifar10 --image_shifting 2 --tv-l2 1e-4 --ipc 3", 3, {"jitter": 2, "tv_l2": 1e-4}),
        ("-d cifar10 --set crop=false statistics_group=5", 1, {"crop": False, "statistics_group": 5}),
    ],
)
def test_the_scripts_commands_mean_what_they_mean_there(line, ipc, wanted, monkeypatch):
    monkeypatch.setattr("jaxdd.data.check_available", lambda *_: None, raising=False)
    settings = recovered(line)
    assert settings.ipc == ipc
    assert {name: getattr(settings.recovery, name) for name in wanted} == wanted


@pytest.mark.quick
def test_every_flag_of_the_scripts_is_understood():
    recover = (
        "--verifier --verifier-arch a --verifier-arch-path b --G -1 --wandb-key k --num-classes 10 --l2-scale 1e-5"
    )
    squeeze = "--model resnet18 --lr 0.2 --batch-size 256 --epochs 50 --lr-warmup-epochs 5 --output-dir o -j 4"
    relabel = (
        "-a resnet18 -b 1024 -j 8 --epochs 300 --input-size 224 --min-scale-crops 0.08 --max-scale-crops 1 --use-fp16 "
        "--fkd-path f --mode fkd_save --fkd-seed 42 --mix-type cutmix --cutmix 1.0 --mixup 0.8 --data syn/x"
    )
    validated = (
        "--model resnet18 --batch-size 1024 --gradient-accumulation-steps 2 --epochs 300 --start-epoch 0 -j 4 --cos "
        "-T 20 --mix-type cutmix --fkd_seed 42 --train-dir t --val-dir v --output-dir o --fkd-path f --keep-topk 1000 "
        "--wandb-project p --wandb-api-key k --adamw-lr 0.001 --adamw-weight-decay 0.01 --data syn/x"
    )
    assert RECOVER.parse(shlex.split(f"{recover} {SEED_COMMAND}")).options.verifier
    assert SQUEEZE.parse(shlex.split(squeeze)).layer["arch_name"].value == "resnet18"
    assert RELABEL.parse(shlex.split(relabel)).options.checkpoint_path == "syn/x"
    settings = values_of(VALIDATE.parse(shlex.split(validated)).layer)
    wanted = {"batch_size": 1024, "epochs": 300, "temperature": 20.0, "mix": "cutmix", "mix_alpha": 1.0}
    wanted |= {"schedule": "cosine", "eval_lr": 0.001, "weight_decay": 0.01, "label_seed": 42, "optimizer": "adamw"}
    assert settings == wanted


@pytest.mark.quick
@pytest.mark.parametrize(
    "line, wanted",
    [
        ("--sgd -lr 0.2 --weight-decay 1e-4", {"optimizer": "sgd", "eval_lr": 0.2, "weight_decay": 1e-4}),
        ("-lr 0.2", {"optimizer": "sgd", "eval_lr": 0.2}),
        ("--adamw-lr 0.002", {"optimizer": "adamw", "eval_lr": 0.002}),
        ("-lr 0.1 --adamw-lr 0.001", {"optimizer": "adamw", "eval_lr": 0.001}),
        ("--weight-decay 5e-4", {"weight_decay": 5e-4}),
        ("--mixup 0.4", {"mix": "mixup", "mix_alpha": 0.4}),
        ("--mix-type cutmix --cutmix 1.0 --mixup 0.8", {"mix": "cutmix", "mix_alpha": 1.0}),
    ],
)
def test_a_students_flags_mean_what_they_say(line, wanted):
    assert values_of(VALIDATE.parse(shlex.split(line)).layer) == wanted


@pytest.mark.quick
def test_a_squeeze_is_as_published_unless_flags_say_otherwise(monkeypatch):
    monkeypatch.setattr("jaxdd.data.check_available", lambda *_: None, raising=False)
    tiny = read("squeeze", ["--preset", "tiny", "--epochs", "100"])[1].teacher
    assert (tiny.learning_rate, tiny.batch_size, tiny.epochs, tiny.warmup_epochs) == (0.2, 256, 100, 5)
    cifar = read("squeeze", ["--dataset", "cifar10"])[1].teacher
    assert (cifar.learning_rate, cifar.epochs, cifar.augmentation) == (0.1, 200, "pad_crop")


@pytest.mark.quick
@pytest.mark.parametrize(
    "words, code, fragments",
    [
        (["recover"], 2, ["there is no teacher", "squeeze --dataset digits --arch-name conv --width 32"]),
        (["recover", "--milestone", "1.5"], 2, ["--milestone", "between 0 and 1"]),
        (["recover", "--shard", "4/4"], 2, ["--shard", "0/4 to 3/4"]),
        (["recover", "--ipc-start", "5", "--ipc-end", "5"], 2, ["--ipc-start"]),
        (["recover", "--method", "cdda"], 2, ["--method", "'cda'"]),
        (["recover", "--preset", "tny"], 2, ["--preset", "'tiny'"]),
        (["recover", "--easy2hard-mode", "cosin"], 2, ["--easy2hard_mode", '"cosine"']),
        (["recover", "--arch-path", "weights.pth"], 2, ["weights.pth", ".safetensors"]),
        (["recover", "--arch-path", "other"], 3, ["no networks"]),
        (["recover", "--arch-name", "resnet19"], 2, ["'resnet19'", "'resnet18'"]),
        (["recover", "--set", "squeeze.epoch=3"], 2, ["'epoch'", "'epochs'"]),
        (["squeeze", "--output_dir", "weights.pth"], 3, ["is a file"]),
        (["relabel"], 2, ["--checkpoint_path"]),
        (["relabel", "--checkpoint_path", "x", "--preset", "tiny"], 2, ["--preset", "--set"]),
        (["validate", "--checkpoint_path", "x", "--cutmix", "1", "--mixup", "1"], 2, ["--mix-type"]),
        (["validate", "--checkpoint_path", "nowhere"], 3, ["nowhere"]),
        (["distill", "--method", "cda", "--set", "recipe.epoch=3"], 2, ["'epoch'", "'epochs'"]),
        (["distill", "--method", "sre2"], 2, ["'sre2l'"]),
        (["distill", "--method", "cda", "--naive_loss"], 2, ["--naive_loss"]),
        (["distill", "--method", "cda", "--distributed"], 2, ["--shard I/N"]),
        (["distill", "--method", "cda", "--devices_mode", "pool"], 2, ["--devices_mode pool"]),
    ],
)
def test_it_is_refused(words, code, fragments, call, here):
    (here / "weights.pth").write_text("")
    (here / "other").mkdir()
    outcome = call(*words)
    assert outcome.code == code, outcome
    assert all(fragment in outcome.err for fragment in fragments), outcome.err
    assert sorted(path.name for path in here.iterdir()) == ["other", "weights.pth"]


@pytest.mark.quick
def test_a_preset_at_another_size_has_the_stages_and_jitter_of_that_size(monkeypatch):
    monkeypatch.setattr("jaxdd.data.check_available", lambda *_: None)
    tiny, large = (recovered(f"--preset tiny --method fadrm {flags}") for flags in ("", "--resolution 224"))
    assert tiny.recovery.stages == ((64, 500), (64, 500)) and tiny.recovery.jitter == 4
    assert large.recovery.stages == ((200, 500), (224, 500))
    assert recovered("--preset in1k --resolution 112").recovery.jitter == 16
    assert "for 64 pixels: stages, jitter, mosaic become those for 224" in " ".join(large.notices)
    mosaics = [
        recovered(f"--preset {preset} --method rded --resolution {side}")
        for preset, side in (("in1k", 64), ("tiny", 224))
    ]
    for settings, factor in zip(mosaics, (1, 2), strict=True):  # and students shuffle as many patches
        assert settings.recovery.mosaic == settings.recipe["patches"] == factor
    assert not any("pixels" in notice for notice in tiny.notices)
    typed = recovered("--preset tiny --method cda --resolution 224 --jitter 7")
    assert typed.recovery.jitter == 7


@pytest.mark.quick
def test_two_sources_of_settings_are_refused():
    with pytest.raises(UsageError, match="two sources"):
        recovered("--preset tiny --config_path cda/cda_tiny")
    with pytest.raises(ConfigError, match="'epochs'"):
        recovered("--set squeeze.epoch=3")


@pytest.mark.slow
def test_a_chain_from_one_command(call, here):
    """Everything is there, a finished chain is left alone, and `eval` and `validate` find teacher and labels."""
    assert call("squeeze", *SMALL).code == 0
    first = call(*TINY, "--output_dir", "out")
    assert first.code == 0 and "taken from there" in first.out, first
    assert first.out.index("test accuracy") < first.out.index("image-iterations")
    made = DistilledSet.load("out/distilled")
    assert made.images.dtype == np.uint8 and made.images.shape == (10, 8, 8, 1)
    assert (here / "out" / "images" / "new003" / "class003_id000.png").is_file()
    assert (here / "out" / "distilled" / "grid.png").is_file() and not (here / "out" / "validation").exists()
    found = json.loads((here / "out" / "eval.json").read_text())
    assert [row["name"] for row in found["rows"]] == ["distilled", "random real", "k-means real"]
    (teacher,) = found["teachers"]
    assert teacher["digest"] == teachers.load("out/teacher").digest == made.provenance["teachers"][0]
    again = call(*TINY, "--output_dir", "out")
    assert again.code == 0 and "finished already" in again.out and "compil" not in again.out, again
    # what the teacher says on the way is what is on disk
    online = ["--online", "--fkd-seed", "42", "--set", "half=true", "--baselines=False", "--save_name", "online"]
    other = call("validate", "--checkpoint_path", "out", *online)
    assert other.code == 0, other
    assert json.loads((here / "out" / "online.json").read_text())["rows"][0]["runs"] == found["rows"][0]["runs"]
    crossed = call("eval", "--checkpoint_path", "out", "--eval_arch", "conv,mlp", "--baselines=False")
    assert crossed.code == 0, crossed
    rows = json.loads((here / "out" / "eval.json").read_text())["rows"]
    assert [row["architecture"] for row in rows] == ["conv", "mlp"] and rows[0]["runs"] == found["rows"][0]["runs"]
    changed = call(*TINY, "--output_dir", "out", "--set", "r_bn=1")
    assert changed.code == 3 and "settings.r_bn: 0.05 -> 1.0" in changed.err, changed


@pytest.mark.slow
def test_links_by_themselves_and_shards_give_the_chains_images(call, here):
    assert call("squeeze", *SMALL, "--output_dir", "t").code == 0
    given = ["recover", "--arch-path", "t", "--iteration", "4", "--syn-data-path", "syn", "--set", "batch_size=5"]
    given += ["statistics_group=5"]
    assert call(*given, "--exp-name", "whole", "--verifier", "--verifier-path", "t").code == 0
    for part in ("0/2", "1/2"):
        outcome = call(*given, "--exp-name", f"part{part[0]}", "--shard", part)
        assert outcome.code == 0 and "--merge" in outcome.out, outcome
    incomplete = call(*given, "--exp-name", "both", "--merge", "syn/part0")
    assert incomplete.code == 3 and "classes 5 to 9" in incomplete.err, incomplete
    assert call(*given, "--exp-name", "both", "--merge", "syn/part0", "syn/part1", "--store-best-images").code == 0
    whole, both = (DistilledSet.load(here / "syn" / name / "distilled") for name in ("whole", "both"))
    np.testing.assert_array_equal(whole.images, both.images)
    assert len(list((here / "syn" / "both" / "images").rglob("*.png"))) == 10
    assert not (here / "syn" / "whole" / "images").exists() and (here / "syn" / "both" / "teacher").is_dir()
    dry = call("relabel", "--checkpoint_path", "syn/whole", "--dry_run", "-b", "10", "--epochs", "300")
    assert dry.code == 0 and "300 epochs, at most" in dry.out and not list((here / "syn").rglob("epoch-*")), dry


@pytest.mark.slow
def test_several_teachers_and_other_labellers(call, here):
    for name, seed in (("t", "0"), ("u", "1")):
        assert call("squeeze", *SMALL, "--output_dir", name, "--random_seed", seed).code == 0
    digests = [teachers.load(name).digest for name in ("t", "u")]
    given = ["recover", "--iteration", "2", "--output_dir", "two"]
    first = call(*given, "--arch-path", "t", "u")
    assert first.code == 0 and first.out.count("test accuracy") == 2, first
    before = (here / "two" / "distilled" / "manifest.json").read_bytes()
    assert DistilledSet.load("two/distilled").provenance["teachers"] == digests
    shutil.copytree(here / "two" / "distilled", here / "one")
    again = call(*given)  # which finds both beside the set
    assert again.code == 0 and (here / "two" / "distilled" / "manifest.json").read_bytes() == before, again
    grown = call(*given, "--ipc-start", "1", "--ipc-end", "2")
    assert grown.code == 0 and "images 1 to 1 per class" in grown.out, grown
    one, two = DistilledSet.load("one"), DistilledSet.load("two/distilled")
    assert two.ipc == 2 and (two.images[::2] == one.images).all() and (two.images[1::2] != one.images).any()
    smaller = call(*given)  # again, as a scheduler might: the larger set stays
    assert smaller.code == 0 and "larger set" in smaller.out, smaller
    assert DistilledSet.load("two/distilled").ipc == 2
    alone = call(*given, "--arch-path", "t")
    assert alone.code == 3 and "teachers" in alone.err, alone
    refused = call("relabel", "--checkpoint_path", "two", "--arch-path", "u", "--arch-name", "resnet18", "--dry_run")
    assert refused.code == 2 and '"conv" -> "torchvision_resnet"' in refused.err, refused
    assert not (here / "two" / "labels").exists(), "a dry run writes nothing"
    labelled = call("relabel", "--checkpoint_path", "two", "--arch-path", "u", "--epochs", "1")
    assert labelled.code == 0, labelled
    other = call("relabel", "--checkpoint_path", "two", "--arch-path", "t", "--epochs", "1")
    assert other.code == 3 and "other labels" in other.err, other
    (here / "two" / "teacher-1").rename(here / "elsewhere")
    half = call("relabel", "--checkpoint_path", "two", "--fkd-path", "half", "--dry_run")
    assert half.code == 3 and "not those that it was made with" in half.err, half
    (here / "elsewhere").rename(here / "two" / "teacher-1")
    for flags, expected in (((), digests[1:]), (("--online", "--epochs", "1"), digests)):
        told = call("validate", "--checkpoint_path", "two", "--baselines=False", "--repeat", "1", *flags)
        assert told.code == 0, told
        found = json.loads((here / "two" / "eval.json").read_text())
        assert [teacher["digest"] for teacher in found["teachers"]] == expected


@pytest.mark.slow
def test_killed_in_recover_relabel_and_validate_it_gives_the_same_bits(tmp_path):
    done = subprocess.run([sys.executable, str(DRIVER), str(tmp_path)], capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert found["kills"] == ["recover", "relabel", "validate", "clear away"]
    assert found["killed"] == found["whole"]
