"""How well recovered images fit what they were recovered by: the teacher's view of them, beside real images.

    python -m benchmarks.sre2l_views --data_path DATA --output_dir OUT [--ipc 10]

`OUT` is that of `benchmarks.sre2l_accuracy`, whose sets are looked at as they lie there. Every group of one image per
class is shown to the teacher whole and as random crops of a given share of the image, the same crop for a group, as in
recovering; means over groups and `--views` crops:

    ce            cross-entropy with the running statistics
    statistics    distance of the group's statistics from the running ones, the first layer's weighed ten times
    moved         of the methods that start from "medium real": mean distance of a pixel from there, in levels of 256
"""

from __future__ import annotations

import argparse
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import record
from benchmarks.sre2l_accuracy import REAL, Bench
from jaxdd.augment import shared
from jaxdd.core import backend
from jaxdd.core.distilled import DistilledSet
from jaxdd.core.types import Array
from jaxdd.methods.recovery.objective import objective
from jaxdd.methods.recovery.settings import Recovery

SHARES = {"whole": (1.0, 1.0), "half or more": (0.5, 1.0), "a fifth to half": (0.2, 0.5), "less": (0.08, 0.2)}


def looked_at(bench: Bench, found: DistilledSet, views: int) -> dict[str, Any]:
    """The figures of one set, by share of the image that is shown."""
    mean, std = (np.asarray(row, np.float32) for row in (bench.preprocessing.mean, bench.preprocessing.std))
    classes, side = bench.dataset.classes, bench.dataset.resolution
    images = np.asarray(found.images, np.float32) / (255 if found.images.dtype == np.uint8 else 1)
    groups = ((images - mean) / std).reshape(classes, -1, *images.shape[1:]).swapaxes(0, 1)
    network, variables, settings = bench.teacher.network, bench.teacher.variables, Recovery()

    @jax.jit
    def losses(group: Array, key: Array, least: float, most: float) -> tuple[Array, Array]:
        view = shared.crop(key, group.shape, side, (least, most), group.dtype)
        labels = jnp.arange(classes, dtype=jnp.int32)
        seen = objective(settings, network, variables, shared.see(view, group), labels, r_bn=1.0)
        return seen.cross_entropy, seen.statistics

    figures = {}
    for name, share in SHARES.items():
        count = 1 if share[0] == 1 else views
        told = [losses(group, jax.random.key(i), *share) for group in groups for i in range(count)]
        ce, statistics = np.asarray(jax.device_get(told)).mean(0)
        figures[name] = {"ce": round(float(ce), 3), "statistics": round(float(statistics), 1)}
    return figures


def main() -> None:
    """Looks at every set there is, and saves what it sees."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_path", required=True)
    parser.add_argument("--output_dir", required=True, help="of benchmarks.sre2l_accuracy")
    parser.add_argument("--ipc", type=int, default=10)
    parser.add_argument("--views", type=int, default=8)
    for name, default in (("width", 32), ("squeeze", 25)):
        parser.add_argument(f"--{name}", type=int, default=default)
    flags = parser.parse_args()
    backend.use_compilation_cache()
    bench = Bench(flags)
    sets = {row: bench.real(row, flags.ipc)[0] for row in REAL}
    for place in sorted(pathlib.Path(flags.output_dir).glob(f"*_{flags.ipc}")):
        if (place / "distilled" / "manifest.json").is_file():
            sets[place.name.removesuffix(f"_{flags.ipc}").replace("_", " ")] = DistilledSet.load(place / "distilled")
    table: dict[str, Any] = {}
    for row, found in sets.items():
        table[row] = looked_at(bench, found, flags.views)
        if row in ("sre2l pp", "fadrm") and (start := sets.get("medium real")) is not None:
            table[row]["moved"] = round(float(np.abs(found.images.astype(float) - start.images).mean()), 1)
        print(row, table[row], flush=True)
    settings = {key: value for key, value in vars(flags).items() if key != "output_dir"}
    record.save(f"sre2l_views_{flags.ipc}", table, settings)


if __name__ == "__main__":
    main()
