"""`distill`: a data set becomes a distilled set in an output folder."""

from __future__ import annotations

import pathlib

from jaxdd.cli.flags.rcig import Distill
from jaxdd.cli.settings.chain import method_of, of_distill
from jaxdd.cli.settings.layers import resolve
from jaxdd.cli.settings.matching import networks_for
from jaxdd.core.errors import UsageError
from jaxdd.core.io import absolute
from jaxdd.run.chain import networks as pretrained
from jaxdd.run.chain.settings import NAMES
from jaxdd.run.presets import default_folder

FLAGS = Distill


def run(flags: Distill) -> None:
    """Checks, runs, and says what came out; see `cli.main`."""
    if method := method_of(flags):
        chosen = of_distill(flags, method)

        from jaxdd.cli.jobs import chain

        chain.perform(flags, chosen)
        return
    if flags.stream == "always":
        raise UsageError(
            "this method reads its images from memory",
            where="--stream always",
            expected=f"one of {', '.join(NAMES)}, which need some images at a time",
            remedy="leave it out",
        )
    settings = resolve(flags)

    from jaxdd.cli.jobs import distilling

    run = settings.run
    folder = absolute(flags.output_dir or default_folder(run.dataset_name, settings.ipc, run.method))
    distilling.check(flags, settings, folder)
    networks: tuple[pathlib.Path, ...] = ()
    if pretrained.needed(settings):
        networks = networks_for(settings, flags)
    distilling.perform(flags, settings, folder, networks)
