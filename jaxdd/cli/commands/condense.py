"""`condense`: distilling by matching gradients or features, with the flags of IDC, AccDD, DREAM and GA-DD."""

from __future__ import annotations

import dataclasses
import pathlib

from jaxdd.cli.flags import matching as matching_flags
from jaxdd.cli.settings import matching
from jaxdd.core.io import absolute
from jaxdd.run.chain import networks as pretrained
from jaxdd.run.presets import default_folder
from jaxdd.run.settings import Settings

FLAGS = matching_flags.condense


def run(flags: matching_flags.Condense) -> None:
    """Checks, trains networks first if they are asked for, runs, and says what came out; see `cli.main`."""
    settings = matching.resolve(flags)
    matching.require_one_process(flags)
    flags = dataclasses.replace(flags, data_path=matching.data_path(flags, settings.run.dataset_name))
    folder = _output_folder(flags, settings)

    from jaxdd.cli.jobs import distilling, pretraining
    from jaxdd.methods.condensation.early import published_epochs

    distilling.check(flags, settings, folder)
    networks: tuple[pathlib.Path, ...] = ()
    if pretrained.needed(settings):
        wanted = max(flags.pt_from or 0, 0) or published_epochs(settings.run.dataset_name)
        named = flags.model_path or pretrained.recorded(folder)
        how = matching_flags.Pretrain(data_path=flags.data_path, resolution=flags.resolution)
        if flags.pretrain and not flags.dry_run and not named and pretrained.count(settings) < how.repeat:
            place = pretrained.default_folder(settings, how.random_seed)
            pretraining.perform(how, pretrained.of_networks(settings), wanted, place)
        networks = matching.networks_for(settings, flags, epochs=wanted, named=named)
        pretrained.require_count(folder, networks)
    every = matching.evaluate_every(flags, settings)
    distilling.perform(flags, settings, folder, networks, every)


def _output_folder(flags: matching_flags.Condense, settings: Settings) -> pathlib.Path:
    """Returns `--output_dir`, or `output_dir/dream_cifar10_10_f2_tag` in the working directory."""
    if flags.output_dir:
        return absolute(flags.output_dir)
    usual = default_folder(settings.run.dataset_name, settings.ipc, settings.run.method)
    factor = getattr(settings.method, "factor", 1)
    parts = [usual.name, *([f"f{factor}"] if factor > 1 else []), *([flags.tag] if flags.tag else [])]
    return usual.with_name("_".join(parts))
