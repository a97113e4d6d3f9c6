"""`condense` as a user of IDC, AccDD, DREAM or GA-DD types it: their flags, resuming, and what is refused."""

from __future__ import annotations

import json
import pathlib
import re
import shlex
import shutil

import numpy as np
import pytest

from jaxdd.cli.command import Job
from jaxdd.cli.flags.matching import CONDENSE
from jaxdd.cli.jobs import distilling, pretraining
from jaxdd.cli.main import read
from jaxdd.core.config import settings_of
from jaxdd.core.distilled import DistilledSet
from jaxdd.core.errors import ConfigError, UsageError
from jaxdd.methods.condensation.early import architecture
from jaxdd.methods.condensation.settings import CondensationSettings
from jaxdd.run.chain import pretrain as pretrained
from jaxdd.run.control import Stopped
from jaxdd.run.settings import Settings
from jaxdd.run.storage.networks import add, read_manifest
from tests.cli.conftest import weighed

TINY = ["--set", "width=8", "--inner_loop", "2", "--batch_real", "16", "--n_data", "32"]


def resolved(line: str) -> Settings:
    return read("condense", shlex.split(line))[1]


def add_network(folder: pathlib.Path, line: str, image_shape: tuple[int, int, int]) -> None:
    """One network, of which the manifest is right and the numbers are not, for the run of a command."""
    settings = resolved(line)
    kind = architecture(settings.method, image_shape, 10)  # pyright: ignore[reportArgumentType]
    about = {"dataset": {"name": settings.run.dataset_name}, "architecture": kind, "recipe": {}, "seed": 0}
    add(folder, about, {"params": {"kernel": np.zeros(3, np.float32)}}, [0.5], 1)


def grow(folder: pathlib.Path) -> None:
    """One more network in a folder: its first one again."""
    found = read_manifest(folder)
    found["networks"].append(found["networks"][0])
    (folder / "manifest.json").write_text(json.dumps(found))


# Commands of the three repositories' READMEs, and what they are to mean.
@pytest.mark.quick
@pytest.mark.parametrize(
    "line, method, steps, wanted",
    [
        (
            "--reproduce -d cifar10 -f 2 --ipc 10",
            "dream",
            200_000,
            {"batch_real": 128, "metric": "mse", "selection": "kmean", "match": "grad", "lr_img": 5e-3, "width": 128},
        ),
        (
            "--reproduce -d cifar10 -f 2 --ipc 10 -n convnet --model_path a b c --niter 400",
            "accdd",
            40_000,
            {"source": "pretrained", "perturb": True, "lr_img": 1e-2, "n_data": 2000, "batch_real": 64},
        ),
        (
            "--method ga --reproduce -d imagenet --nclass 10 -f 3 --ipc 20 -n resnetap --niter 300 --tag t",
            "ga",
            30_000,
            {"net_type": "resnet_ap", "decode_type": "bound", "lcs_weight": 1.0, "ema_decay": 0.999, "metric": "l1"},
        ),
        (
            "--method dream_plus -d tinyimagenet -f 2 -i 50 --inner_loop 50 --interval 10 --niter 40",
            "dream_plus",
            4000,
            {"match": "bi_match", "early": 1, "batch_real": 64, "rank": "overall", "lr_img": 1e-6, "inner_loop": 50},
        ),
        (
            "--method idc -d svhn --init noise --mix-p 0 --weight-decay 0 --mom-img 0.1 -a color --fix_iter -1",
            "idc",
            200_000,
            {"initial": "noise", "mix_p": 0.0, "weight_decay": 0.0, "mom_img": 0.1, "net_aug": "color", "fix_iter": 1},
        ),
        ("--method dm -d cifar100 --ipc 50 --width 0.25", "dm", 20_001, {"match": "feat", "width": 32, "lr_img": 1.0}),
        (
            "--method idc --pt_from 5 -d mnist --aug_type none",
            "idc",
            200_000,
            {"source": "pretrained", "net_aug": None},
        ),
        ("--method dc -d mnist --ipc 10 --niter 20", "dc", 200, {"inner_loop": 10}),  # outer iterations as they are
        ("--method dm -d mnist --niter 20", "dm", 20, {"inner_loop": 1}),
        ("--method ga -d imagenet --depth 18", "ga", 50_000, {"net_type": "resnet_ap", "depth": 18}),
        ("--method idc -d cifar10 --depth 10", "idc", 200_000, {"net_type": "convnet", "depth": None}),
        ("--method idc -d cifar10 --set depth=5", "idc", 200_000, {"depth": 5}),
        ("", "dream", None, {"n_images": 1, "width": 32}),
    ],
)
def test_the_scripts_commands_mean_what_they_mean_there(line, method, steps, wanted):
    found = resolved(line)
    assert found.run.method == method and found.run.max_steps in (
        steps,
        found.run.max_steps if steps is None else steps,
    )
    assert {name: getattr(found.method, name) for name in wanted} == wanted


@pytest.mark.quick
def test_what_does_nothing_here_is_accepted_with_a_notice():
    told = resolved("-d cifar10 -p 10 -j 4 -l -s idc --test --dsa True --x -1:1:51 --reproduce").notices
    for name in ("print_freq", "workers", "load_memory", "slct_type", "test", "dsa", "x"):
        assert any(f"--{name} is accepted but has no effect" in notice for notice in told), name
    assert any("published settings are the defaults" in notice for notice in told)
    assert any("the method is dream" in notice for notice in told)
    assert any("--depth 10 is read as a ConvNet's default" in told for told in resolved("-d mnist --depth 10").notices)
    assert not any("--depth" in told for told in resolved("-d imagenet --depth 18").notices)
    intervals = {every: resolved(f"--niter 2 --val_interval {every}").notices for every in (2, 3)}
    assert [any("nothing is evaluated" in told for told in intervals[every]) for every in (2, 3)] == [False, True]


@pytest.mark.quick
def test_data_sets_and_their_parts():
    names = {"fashion": "fashion_mnist", "svhn": "svhn_cropped", "tinyimagenet": "tiny_imagenet", "cifar10": "cifar10"}
    assert {name: resolved(f"-d {name}").run.dataset_name for name in names} == names
    assert resolved("-d imagenet").run.dataset_name == "imagenet10"
    part = resolved("-d imagenet --nclass 100 --nclass_sub 20 --phase 3 --dseed -1")
    assert part.run.dataset_name == "imagenet20:3"


@pytest.mark.quick
def test_every_setting_has_a_flag():
    given = {"width", *CONDENSE.settings.values()}  # --width counts in units of its own
    assert {field.name for field in settings_of(CondensationSettings)} <= given


@pytest.mark.quick
@pytest.mark.parametrize(
    "line, error, fragments",
    [
        ("--metod dream", UsageError, ["'--metod'", "'--method'"]),
        ("--method draem", UsageError, ["'draem'", "'dream'"]),
        ("--lr_imgs 3", UsageError, ["'--lr_img'"]),
        ("-d cifar11", UsageError, ["'cifar11'", "'cifar10'"]),
        ("--metric l2", ConfigError, ["--metric", '"mse"']),
        ("--ipc 0", ConfigError, ["--ipc", ">= 1"]),
        ("--niter 0", ConfigError, ["--niter", "between 1 and "]),
        ("--niter 3 --max_steps 7", UsageError, ["--niter and --max_steps"]),
        ("-d cifar10 --phase 1", UsageError, ["--phase", "imagenet"]),
        ("-d cifar10 --subsample 3", ConfigError, ["divisor of batch_real"]),
        ("-n", UsageError, ["--net_type", "lacks its value"]),
        ("--width 32", UsageError, ["4096 channels", "--set width=32"]),
        ("-q 3", UsageError, ["unexpected argument '-q'"]),
        ("--set widht=3", ConfigError, ["'widht'", "'width'"]),
    ],
)
def test_it_is_refused(line, error, fragments):
    with pytest.raises(error) as refusal:
        resolved(line)
    assert all(fragment in str(refusal.value) for fragment in fragments), refusal.value


@pytest.mark.quick
def test_absent_networks_are_refused_with_the_command_that_makes_them(call, here):
    outcome = call("condense", "--method", "ga", "-d", "digits", *TINY)
    assert outcome.code == 2 and not list(here.iterdir())
    wanted = "jaxdd pretrain --dataset digits --net_type convnet --pt_from 2 --set width=8"
    assert wanted in outcome.err and "--pretrain" in outcome.err
    assert "--pt_from 2" not in call("distill", "--method", "accdd").err  # nor may this one run without
    elsewhere = call("condense", "--model_path", "nowhere", "-d", "digits")
    assert elsewhere.code == 3 and "nowhere" in elsewhere.err and "jaxdd pretrain" in elsewhere.err


@pytest.mark.slow
def test_a_refusal_imports_nothing_heavy_and_starts_no_device(here):
    refused = [["condense", "--metod", "x"], ["condense", "--method", "accdd", "-d", "digits"]]
    assert weighed(*refused, cwd=here) == [(2, [])] * len(refused)


@pytest.mark.quick
def test_the_help_explains_every_flag_and_its_short_form(call):
    helped = call("condense", "--help")
    assert helped.code == 0 and "None" not in helped.out
    for name in CONDENSE.flags:
        assert f"--{name}" in helped.out
    assert all(re.search(rf" -{letter}[ ,]", helped.out) for letter in "dnfiasljp")
    assert "Distance between gradients" in helped.out


@pytest.mark.quick
def test_the_networks_advised_have_the_depth_of_the_run():
    line = pretraining.advised(resolved("-d cifar10 --set depth=5"), epochs=2, data_path=None, resolution=None)
    options, settings = read("pretrain", line)
    assert (settings.method.depth, options.pt_from) == (5, 2)


@pytest.mark.quick
@pytest.mark.parametrize("words", [["--pretrain"], ["--val_interval", "1"]])
def test_several_processes_are_refused_what_one_does(words, call, here):
    outcome = call("condense", "-d", "digits", "--method", "accdd", "--distributed", *words)
    assert outcome.code == 2 and "several processes" in outcome.err and words[0] in outcome.err
    assert not list(here.iterdir())


@pytest.mark.quick
def test_what_an_interrupted_pretraining_left_is_completed_first(here, call, monkeypatch):
    asked = []

    def stopped(*of):
        asked.append(of)
        raise Stopped(15, 0)

    monkeypatch.setattr(pretraining, "job", stopped)
    monkeypatch.setattr(distilling, "job", lambda *_: Job("nothing", lambda session: None))
    line = "--method accdd -d digits --set width=8"
    for count in range(6):
        if count:
            add_network(pretrained.default_folder(resolved(line), 0), line, (8, 8, 1))
        if count in (0, 4, 5):
            assert call("condense", *line.split(), "--pretrain").code == (143 if count < 5 else 0)
    assert len(asked) == 2 and asked[0] == asked[1] and asked[0][1].method.width == 8


@pytest.mark.quick
def test_networks_of_another_data_set_or_type_are_refused(here, call):
    add_network(here / "networks", "--method accdd -d fashion --set width=8", (28, 28, 1))
    found = read_manifest(here / "networks")
    lines = {
        line: pretrained.unlike(here, found, resolved(f"--method accdd --set width=8 {line}"), None)
        for line in ("-d fashion", "-d mnist", "-d fashion -n resnet", "-d fashion --size 28")
    }
    assert lines["-d fashion"] == lines["-d fashion --size 28"] == []
    assert lines["-d mnist"] == ['dataset: "fashion_mnist" -> "mnist"']
    assert 'net_type: "convnet" -> "resnet"' in lines["-d fashion -n resnet"]


@pytest.mark.slow
def test_dream_continues_bit_equally_and_its_set_is_evaluated(here, call):
    words = ["condense", "--dataset", "digits", "-f", "2", *TINY, "--interval", "2"]
    short = ["--set", 'recipe={"epochs": 2, "models_to_test": 1}', "--val_interval", "1"]
    whole = call(*words, "--max_steps", "3", *short)
    assert whole.code == 0, whole
    assert "DREAM on digits, 1 image per class, 3 steps" in whole.out and "representatives per class" in whole.out
    parts = [call(*words, "--max_steps", steps, "--save_dir", "parts") for steps in ("2", "3")]
    assert "continuing after step 2" in parts[1].out, parts
    rows = (here / "output_dir" / "dream_digits_1_f2" / "evaluations.jsonl").read_text().splitlines()
    assert [json.loads(row)["step"] for row in rows] == [2] and "the best so far" in whole.out
    best = DistilledSet.load(here / "output_dir" / "dream_digits_1_f2" / "best")
    assert best.provenance["step"] == 2 and best.images.shape == (10, 8, 8, 1)
    made = DistilledSet.load(here / "output_dir" / "dream_digits_1_f2" / "distilled")
    resumed = DistilledSet.load(here / "parts" / "distilled")
    assert np.array_equal(made.images, resumed.images)
    assert made.decode.factor == 2 and made.space == "raw" and made.recipe["protocol"] == "idc"
    assert (here / "parts" / "distilled" / "grid.png").stat().st_size > 1000
    outcome = call("eval", "--checkpoint_path", "parts", "--repeat", "1", "--epochs", "2", "--baselines=False")
    assert outcome.code == 0, outcome


@pytest.mark.slow
def test_accdd_trains_its_networks_first_and_finds_them_again(here, call):
    words = ["condense", "--method", "accdd", "-d", "digits", *TINY, "--pt_from", "1", "--tag", "mine"]
    first = call(*words, "--pretrain", "--niter", "1")
    assert first.code == 0, first
    assert "5 networks of pretrained/digits/convnet_w8_0: digits, 1 epoch" in first.out
    second = call(*words, "--pretrain", "--niter", "2")
    assert "network 1" not in second.out  # all five are there
    assert second.code == 0 and "continuing after step 2" in second.out, second
    folder = here / "output_dir" / "accdd_digits_1_mine"
    assert pretrained.recorded(folder) == (here / "pretrained" / "digits" / "convnet_w8_0",)
    shutil.copytree(here / "pretrained/digits/convnet_w8_0", here / "pretrained/digits/convnet_w8_1")
    third = call(*words, "--niter", "2")  # which stays with those that it began with
    assert third.code == 0 and "finished already" in third.out, third
    shutil.rmtree(here / "pretrained/digits/convnet_w8_1")
    config = json.loads((folder / "config.json").read_text())
    assert config["identity"]["networks"]["count"] == 5 and config["other"]["max_steps"] == 4
    grow(here / "pretrained" / "digits" / "convnet_w8_0")
    grown = call(*words, "--niter", "2")
    assert grown.code == 3 and "began with 5 networks, and there are 6 now" in grown.err and "--output_dir" in grown.err
    other = call(*words[:-1], "other", "--set", "width=4", "--model_path", "pretrained/digits/convnet_w8_0")
    assert other.code == 2 and "network.width: 8 -> 4" in other.err
