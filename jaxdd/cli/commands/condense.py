"""`condense`: distilling by matching gradients or features, with the flags of IDC, AccDD, DREAM and GA-DD."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterator

from jaxdd.cli.command import Job
from jaxdd.cli.flags.matching import Condense, Pretrain
from jaxdd.cli.jobs import distilling, pretraining
from jaxdd.cli.settings import is_one_of_several
from jaxdd.core.errors import UsageError
from jaxdd.core.io import absolute
from jaxdd.methods.condensation.early import published_epochs
from jaxdd.run.chain import pretrain as pretrained
from jaxdd.run.settings import Settings, default_folder


def jobs(options: Condense, settings: Settings) -> Iterator[Job]:
    """Yields the training of networks where it is asked for, and the run."""
    _require_one_process(options)
    options = dataclasses.replace(options, data_path=options.where(settings.run.dataset_name))
    folder = _output_folder(options, settings)
    distilling.check(options, settings, folder)
    networks: tuple[pathlib.Path, ...] = ()
    if settings.starts_from_networks:
        wanted = max(options.pt_from or 0, 0) or published_epochs(settings.run.dataset_name)
        named = options.model_path or pretrained.recorded(folder)
        how = Pretrain(data_path=options.data_path, resolution=options.resolution)
        if options.pretrain and not options.dry_run and not named and pretrained.count(settings) < how.repeat:
            place = pretrained.default_folder(settings, how.random_seed)
            yield pretraining.job(how, pretrained.of_networks(settings), wanted, place)
        networks = pretraining.networks_for(settings, options, epochs=wanted, named=named)
        pretrained.require_count(folder, networks)
    every = options.val_interval and options.val_interval * settings.method.inner_loop  # pyright: ignore
    yield distilling.job(options, settings, folder, networks, every)


def _require_one_process(options: Condense) -> None:
    """Refuses what several processes cannot do together.

    Raises:
        UsageError: names the flag.
    """
    if not is_one_of_several(options):
        return
    if options.val_interval is not None:
        raise UsageError("several processes cannot evaluate on the way", where="--val_interval", remedy="leave it out")
    if options.pretrain:
        raise UsageError(
            "several processes cannot train networks first", where="--pretrain", remedy="run pretrain.py before them"
        )


def _output_folder(options: Condense, settings: Settings) -> pathlib.Path:
    """Returns `--output_dir`, or `output_dir/dream_cifar10_10_f2_tag` in the working directory."""
    if options.output_dir:
        return absolute(options.output_dir)
    usual = default_folder(settings.run.dataset_name, settings.ipc, settings.run.method)
    factor = settings.method.factor  # pyright: ignore[reportAttributeAccessIssue]
    parts = [usual.name, *([f"f{factor}"] if factor > 1 else []), *([options.tag] if options.tag else [])]
    return usual.with_name("_".join(parts))
