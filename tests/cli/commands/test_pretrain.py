"""`pretrain` on the digits: networks with accuracies in a folder, finished ones kept, and what is refused."""

from __future__ import annotations

import pytest

from jaxdd import data
from jaxdd.cli.main import read
from jaxdd.core import io
from jaxdd.methods.condensation.early import published_epochs
from jaxdd.run.storage.networks import load, read_manifest

TINY = ["pretrain", "--set", "width=4", "--batch_real", "256"]


@pytest.mark.quick
@pytest.mark.parametrize(
    "line, epochs, wanted",
    [
        (
            "-d cifar10 --nclass 10 -n convnet --pt_from 2 --seed 2023 --lr 0.01 --aug_type color_crop_cutout",
            2,
            {"net_aug": "color_crop", "mixup_net": "cut", "mix_p": 0.5, "batch_real": 64, "net_type": "convnet"},
        ),
        ("-d imagenet --nclass 100 -n resnetap", 10, {"net_type": "resnet_ap", "mix_p": 1.0}),
        ("-d tinyimagenet --width 0.5 -a color_crop --momentum 0", 2, {"depth": 4, "width": 64, "momentum": 0.0}),
    ],
)
def test_the_scripts_commands_mean_what_they_mean_there(line, epochs, wanted):
    options, settings = read("pretrain", line.split())
    assert (options.pt_from or published_epochs(settings.run.dataset_name)) == epochs
    assert {name: getattr(settings.method, name) for name in wanted} == wanted


@pytest.mark.quick
@pytest.mark.parametrize(
    "words, code, fragments",
    [
        (["--pt_from", "0"], 2, ["--pt_from", "between 1 and"]),
        (["--repeat", "0"], 2, ["--repeat", "between 1 and 1000"]),
        (["--pretrain"], 2, ["'--pretrain'", "'--pretrained'"]),
        (["-n", "resnt"], 2, ["--net_type", '"resnet"']),
        (["-d", "digit"], 2, ["'digit'", "'digits'"]),
        (["--output_dir", "file"], 3, ["is a file"]),
        (["--output_dir", "other"], 3, ["no networks"]),
    ],
)
def test_it_is_refused(words, code, fragments, call, here):
    (here / "file").write_text("")
    (here / "other").mkdir()
    (here / "other" / "manifest.json").write_text('{"jaxdd_format": 1}')
    outcome = call(*TINY, *words)
    assert outcome.code == code, outcome
    assert all(fragment in outcome.err for fragment in fragments), outcome.err
    assert sorted(path.name for path in here.iterdir()) == ["file", "other"]


@pytest.mark.quick
def test_a_folder_that_another_process_fills_is_left_to_it(call, here):
    folder = here / "pretrained" / "digits" / "convnet_w4_7"
    with io.folder_lock(folder):
        outcome = call(*TINY, "--repeat", "1", "--seed", "7")
    assert outcome.code == 3 and "another process writes into this output folder" in outcome.err, outcome


@pytest.mark.slow
def test_networks_are_trained_kept_and_completed(call, here, monkeypatch):
    first = call(*TINY, "--repeat", "1", "--pt_from", "2", "--seed", "7")
    assert first.code == 0, first
    folder = here / "pretrained" / "digits" / "convnet_w4_7"
    (kept,) = read_manifest(folder)["networks"]
    assert len(kept["accuracies"]) == 2 and kept["accuracies"][kept["epoch"] - 1] == max(kept["accuracies"])
    assert "condense --method accdd --dataset digits --model_path pretrained/digits/convnet_w4_7" in first.out
    second = call(*TINY, "--repeat", "2", "--pt_from", "2", "--seed", "7")
    assert second.code == 0 and "network 2:" in second.out and "network 1:" not in second.out, second
    assert read_manifest(folder)["networks"][0] == kept and len(load(folder)) == 2
    other = call(*TINY, "--repeat", "2", "--pt_from", "1", "--seed", "7")
    assert other.code == 3 and "recipe.epochs: 2 -> 1" in other.err and "--seed" in other.err
    monkeypatch.setattr(data, "load", lambda *_, **__: pytest.fail("the images were read"), raising=False)
    again = call(*TINY, "--repeat", "2", "--pt_from", "2", "--seed", "7")
    assert again.code == 0 and "2 networks of pretrained/digits/convnet_w4_7" in again.out, again
