"""`distill`: a data set becomes a distilled set in an output folder."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence

from jaxdd.cli.flags.rcig import Distill
from jaxdd.cli.flags.words import parse
from jaxdd.cli.jobs import chain as decoupled
from jaxdd.cli.jobs.distilling import check, perform
from jaxdd.cli.settings.chain import method_of
from jaxdd.cli.settings.layers import output_folder, resolve
from jaxdd.core.errors import UsageError
from jaxdd.run.chain import networks as pretrained
from jaxdd.run.chain.settings import NAMES


def run(argv: Sequence[str], programs: Mapping[str, str]) -> int:
    """Parses, checks, runs, and says what came out.

    Arguments:
        argv: the flags.
        programs: how each command is called, for help and advice.

    Returns:
        The exit code: 0, or 128 plus the number of the signal that stopped the run.

    Raises:
        JaxddError: anything a user can mend.
    """
    flags = parse(Distill, argv, programs["distill"])
    if chain := method_of(flags):
        return decoupled.run(flags, chain, programs)
    if flags.stream == "always":
        raise UsageError(
            "this method reads its images from memory",
            where="--stream always",
            expected=f"one of {', '.join(NAMES)}, which need some images at a time",
            remedy="leave it out",
        )
    settings = resolve(flags)
    folder = output_folder(flags.output_dir, settings)
    check(flags, settings, folder)
    networks: tuple[pathlib.Path, ...] = ()
    if pretrained.needed(settings):
        words = pretrained.words(settings, epochs=None, data_path=flags.data_path, resolution=flags.resolution)
        networks = pretrained.find(settings, flags.resolution, words, programs)
    return perform(flags, settings, folder, programs["eval"], networks)
