"""`condense`: distilling by matching gradients or features, with the flags of IDC, AccDD, DREAM and GA-DD."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

from jaxdd.cli.flags import matching as matching_flags
from jaxdd.cli.flags.words import parse
from jaxdd.cli.jobs import pretraining
from jaxdd.cli.jobs.distilling import check, perform
from jaxdd.cli.settings import matching
from jaxdd.run.chain import networks as pretrained
from jaxdd.run.presets import default_folder
from jaxdd.run.settings import Settings


def run(argv: Sequence[str], programs: Mapping[str, str]) -> int:
    """Parses, checks, trains networks first if they are asked for, runs, and says what came out.

    Arguments:
        argv: the flags.
        programs: how each command is called, for help and advice.

    Returns:
        The exit code: 0, or 128 plus the number of the signal that stopped the run.

    Raises:
        JaxddError: anything a user can mend.
    """
    flags = parse(matching_flags.condense(), argv, programs["condense"])
    settings = matching.resolve(flags)
    matching.require_one_process(flags)
    flags = dataclasses.replace(flags, data_path=matching.data_path(flags, settings.run.dataset_name))
    folder = _output_folder(flags, settings)
    check(flags, settings, folder)
    networks: tuple[pathlib.Path, ...] = ()
    if pretrained.needed(settings):
        from jaxdd.run.chain.pretrain import epochs

        wanted = max(flags.pt_from or 0, 0) or epochs(settings.run.dataset_name)
        words = pretrained.words(settings, epochs=wanted, data_path=flags.data_path, resolution=flags.resolution)
        named = flags.model_path or pretrained.recorded(folder)
        how = matching_flags.Pretrain(data_path=flags.data_path, resolution=flags.resolution)
        if flags.pretrain and not flags.dry_run and not named and pretrained.count(settings) < how.repeat:
            own, place = pretrained.of_networks(settings), pretrained.default_folder(settings, how.random_seed)
            if stopped := pretraining.perform(how, own, wanted, place, programs["condense"]):
                return stopped
        networks = pretrained.find(settings, flags.resolution, words, programs, named)
        pretrained.require_count(folder, networks)
    return perform(flags, settings, folder, programs["eval"], networks, matching.evaluate_every(flags, settings))


def _output_folder(flags: matching_flags.Condense, settings: Settings) -> pathlib.Path:
    """`--output_dir`, or `output_dir/dream_cifar10_10_f2_tag` in the working directory."""
    if flags.output_dir:
        return pathlib.Path(flags.output_dir).expanduser().absolute()
    usual = default_folder(settings.run.dataset_name, settings.ipc, settings.run.method)
    factor = getattr(settings.method, "factor", 1)
    parts = [usual.name, *([f"f{factor}"] if factor > 1 else []), *([flags.tag] if flags.tag else [])]
    return usual.with_name("_".join(parts))
