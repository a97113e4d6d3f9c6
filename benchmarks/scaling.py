"""RCIG's outer step on 1, 2, 4 and 8 devices: what each device has to do, what they tell each other, what it brings.

    strong      one problem split over more devices (mode `shard`): operations per device against those of one
    weak        a problem that grows with the devices (images per class and real batch), and mode `pool`
    bytes       results of all collective operations of one step on one device, from the compiled program; what
                stands in a loop of unknown length counts once
    variance    of the meta-gradient in mode `pool`, over draws at one state, against the squared norm of its mean

`python -m benchmarks.scaling --data_path DIR` (MNIST for the variance; without it the embedded digits). On a machine
without accelerators eight virtual CPU devices share its cores: there operations and bytes are the figures, and step
times, which would mean nothing, are left out. `--quick` checks that the script runs.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import math
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import record
from jaxdd import data as data_room
from jaxdd.core import backend, sharding, trees
from jaxdd.core.random import key_for
from jaxdd.core.types import Examples
from jaxdd.data.device.sampling import sample
from jaxdd.methods import RCIG
from jaxdd.methods.rcig.solve import draw
from jaxdd.run import loop
from jaxdd.run.devices import Layout, choose
from jaxdd.run.programs import Programs, initial, template

COUNTS = (1, 2, 4, 8)
WARM_UP = 20  # steps before the variance is measured: the networks differ in age then
_COLLECTIVE = re.compile(r"= (.*?) (?:all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(?:-start)?\(")
_SHAPE = re.compile(r"\b(?:[a-z]+)(\d+)\w*\[([\d,]*)\]")


def collective_bytes(program: str) -> int:
    """Bytes of the results of all collective operations in the text of a compiled program."""
    total = 0
    for line in program.splitlines():
        if found := _COLLECTIVE.search(line):
            for bits, sides in _SHAPE.findall(found[1]):
                total += int(bits) // 8 * math.prod(int(side) for side in sides.split(",") if side)
    return total


def noise(count: int) -> Examples:
    """Images of CIFAR-10's shape: operations do not depend on what they show."""
    images = np.random.default_rng(0).standard_normal((count, 32, 32, 3), np.float32)
    return Examples(jnp.asarray(images), jnp.asarray(np.arange(count) % 10, jnp.int32), 10)


def step_figures(method: RCIG, layout: Layout, repeats: int) -> dict[str, float]:
    """Operations and collective bytes of one step on each device; on accelerators milliseconds, too."""
    examples = layout.put(noise(4096))
    shapes = template(method, examples)
    programs = Programs(method, examples, 1, layout, shapes)
    numbers = layout.put((np.uint32(0), np.int32(0), np.int32(1)))
    places = layout.of_state(method, shapes)
    state = jax.tree.map(lambda leaf, at: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=at), shapes, places)
    whole = sharding.split_over(layout.mesh) if layout.mode == "shard" else contextlib.nullcontext()
    with whole:  # on one device, too: else a CPU cuts batches into pieces, in loops that count once
        lowered = programs.advance.lower(state, examples, *numbers)
    compiled = lowered.compile()
    figures: dict[str, float] = {
        "gflop": round(float((compiled.cost_analysis() or {})["flops"]) / 1e9, 3),
        "mbytes": round(collective_bytes(compiled.as_text() or "") / 1e6, 3),
    }
    if not backend.on_cpu():
        held = [jax.jit(initial, static_argnums=0, out_shardings=places)(method, examples, numbers[0])]

        def once() -> Any:
            held[0], metrics, _ = compiled(held[0], examples, *numbers)
            return metrics

        figures["ms"] = round(1e3 * record.median_seconds(once, repeats), 2)
    return figures


def scaling(base: RCIG, counts: list[int], repeats: int) -> dict[str, Any]:
    """Strong and weak scaling of mode `shard`, and mode `pool`, by the number of devices."""
    found: dict[str, Any] = {"strong": {}, "weak": {}, "pool": {}}
    for count in counts:
        devices = tuple(choose(count))
        grown = dataclasses.replace(
            base, n_images=base.n_images * count // counts[-1], batch_size=base.batch_size * count // counts[-1]
        )
        for name, method, mode in (("strong", base, "shard"), ("weak", grown, "shard"), ("pool", base, "pool")):
            found[name][count] = step_figures(method, Layout(devices, mode), repeats)  # pyright: ignore
    return found


def variance(method: RCIG, examples: Examples, counts: list[int], draws: int) -> dict[int, float]:
    """The relative variance of the meta-gradient in the images, by the number of devices in mode `pool`."""
    state, _ = loop.final_state(method, examples, steps=WARM_UP, seed=0, log_every=WARM_UP)
    state = jax.tree.map(np.asarray, state)

    def gradient(state, examples, step):
        batch = sample(examples, method.batch_rule, sharding.own(key_for(1, "batch", step)))
        key = sharding.own(key_for(1, "step", step))
        drawn = draw(method, key, stored=len(state.synthetic.images), real=len(batch))
        network = method.network(batch.image_shape, batch.classes)
        found = method.meta_gradient(network, trees.take(state.pool, drawn.model), state, batch, drawn)
        return state, sharding.mean(found.total.images)

    relative = {}
    for count in counts:
        layout = Layout(tuple(choose(count)), "pool")
        program = jax.jit(layout.spread(gradient, method, state))
        held = jax.device_put(state, layout.of_state(method, state))
        resident = layout.put(examples)
        found = np.stack([np.asarray(program(held, resident, layout.put(np.int32(i)))[1]) for i in range(draws)])
        mean = found.mean(0)
        spread = ((found - mean) ** 2).sum() / (draws - 1)
        relative[count] = round(float(spread / ((mean**2).sum() - spread / draws)), 4)  # the mean has noise itself
    return relative


def real_images(data_path: str | None) -> Examples:
    """MNIST when given, else the digits."""
    dataset = data_room.load("mnist" if data_path else "digits", data_path)
    return data_room.examples(dataset, data_room.fit(dataset), "train")


def main() -> None:
    """Parses flags, measures, records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_path", default=None, help="folder that holds mnist/; the digits when absent")
    parser.add_argument("--ipc", type=int, default=8, help="images per class, of eight devices in weak scaling")
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--batch_size", type=int, default=512)
    parser.add_argument("--draws", type=int, default=96, help="meta-gradients per number of devices")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: checks that the benchmark runs")
    arguments = parser.parse_args()
    counts = list(COUNTS)
    if arguments.quick:
        arguments.width, arguments.batch_size, arguments.ipc, arguments.draws, counts = 4, 16, 2, 4, [1, 2]
    jax.config.update("jax_num_cpu_devices", counts[-1])
    backend.use_compilation_cache()
    counts = [count for count in counts if count <= len(jax.devices())]
    method = RCIG(
        n_images=arguments.ipc, width=arguments.width, batch_size=arguments.batch_size, pool_model_count=counts[-1]
    )
    figures = scaling(method, counts, arguments.repeats)
    small = RCIG(n_images=1, width=8, depth=2, batch_size=128, pool_model_count=16, solver_steps=8)
    figures["variance"] = variance(small, real_images(arguments.data_path), counts, arguments.draws)
    for name in ("strong", "weak", "pool"):
        figures[name]["gflop_ratio"] = round(figures[name][1]["gflop"] / figures[name][counts[-1]]["gflop"], 2)
    name = f"scaling_ipc{arguments.ipc}_width{arguments.width}" + "_quick" * arguments.quick
    record.save(name, figures, vars(arguments))


if __name__ == "__main__":
    main()
