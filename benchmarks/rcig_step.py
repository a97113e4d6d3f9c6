"""One outer step of RCIG: the engine against the literal procedure on the same device, in one run.

    ratio_as_written    literal / engine, the literal procedure on native convolutions inside `fori_loop`, as its
                        authors wrote it: on XLA:CPU mostly the price of convolutions in loops
    ratio               literal / engine, the literal procedure on the engine's own convolutions, jitted, without host
                        reads, its BLAS as quiet as the engine's: the algorithm's share

Run on an idle machine: `python -m benchmarks.rcig_step --data_path DIR` (CIFAR-10), or without data on noise. The two
sides are timed in turn, round by round. `--ipc 1 10 50 --width 32 128 --solver pcg dense --engine_only` tabulates the
engine alone; `--devices N` splits its step over the first N devices.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import record
from jaxdd.core import backend, sharding, trees
from jaxdd.core.types import Examples
from jaxdd.methods import RCIG
from jaxdd.methods.rcig.solve import draw
from tests.oracles import convnet, rcig_literal

POOL_STEPS = 8  # the mean of the published 1 to 15


def examples(arguments: argparse.Namespace) -> Examples:
    """Whitened CIFAR-10 when given, else noise of its shape."""
    if arguments.data_path:
        from jaxdd import data

        dataset = data.load("cifar10", arguments.data_path)
        return data.examples(dataset, data.fit(dataset), "train")
    random = np.random.default_rng(0)
    images = random.standard_normal((4096, 32, 32, 3), np.float32)
    return Examples(jnp.asarray(images), jnp.asarray(np.arange(4096) % 10), 10)


@dataclasses.dataclass
class Side:
    """One compiled step.

    Arguments:
        compile_s: seconds.
        once: runs it.
        peak_bytes: arguments, results and temporaries.
    """

    compile_s: float
    once: Callable[[], Any]
    peak_bytes: int


def compiled(start: float, program: Any, once: Callable[[], Any]) -> Side:
    """What a compiled program is known for."""
    memory = program.memory_analysis()
    peak = memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
    peak -= memory.alias_size_in_bytes
    return Side(time.perf_counter() - start, once, peak)


def engine(method: RCIG, data: Examples, devices: int = 1) -> Side:
    """The engine's step."""
    state = jax.jit(method.init)(jax.random.key(0), data)
    batch = Examples(data.images[: method.batch_size], data.labels[: method.batch_size], data.classes)
    draws = draw(method, jax.random.key(1), stored=len(state.synthetic.images), real=len(batch))
    draws = draws._replace(pool_steps=jnp.asarray(POOL_STEPS))
    mesh = jax.make_mesh((devices,), (sharding.AXIS,), axis_types=(jax.sharding.AxisType.Auto,))
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    with sharding.split_over(mesh) if devices > 1 else contextlib.nullcontext():
        if devices > 1:
            state, batch, draws = jax.device_put((state, batch, draws), everywhere)
        start = time.perf_counter()
        step = jax.jit(method.update, donate_argnums=0).lower(state, batch, draws).compile()
    held = [state]

    def once():
        held[0], metrics = step(held[0], batch, draws)
        return metrics

    return compiled(start, step, once)


def literal(method: RCIG, data: Examples, *, own_convolutions: bool) -> Side:
    """The literal procedure's step: everything jitted, no host reads."""
    classes = data.classes
    network = method.network(data.image_shape, classes)
    net = convnet.ConvNet(classes, method.width, network.module.depth, method.softplus_temp)

    def own_apply(variables, images, train=False):
        outputs = network.apply(variables, images, train=train)
        return outputs.logits, outputs.features, None

    apply = own_apply if own_convolutions else convnet.apply_fn(net)
    config = rcig_literal.Config(inner_lr=1e-4, hvp_lr=1e-3, l2_rate=method.l2_rate, use_flip=method.use_flip)
    state = jax.jit(method.init)(jax.random.key(0), data)
    member = trees.take(state.pool, 0)
    model = rcig_literal.new_pool_model({"params": member.params})
    synthetic = rcig_literal.new_coreset(state.synthetic.images, state.synthetic.labels, config)
    labels = jax.nn.one_hot(data.labels[: method.batch_size], classes) - 1 / classes
    real = (data.images[: method.batch_size], labels)

    def step(model, synthetic, pool_steps):
        draws = rcig_literal.Draws(model_index=0, pool_steps=pool_steps)
        model, synthetic, metrics = rcig_literal.outer_step(apply, config, model, synthetic, real, draws)
        return model, synthetic, metrics["outer_loss"]

    count = jnp.asarray(POOL_STEPS)
    with backend.looping() if own_convolutions else contextlib.nullcontext():
        start = time.perf_counter()
        program = jax.jit(step).lower(model, synthetic, count).compile()
    return compiled(start, program, lambda: program(model, synthetic, count))


def in_turn(sides: dict[str, Side], rounds: int, per_round: int = 3) -> dict[str, float]:
    """Median ms per step of each side; the machine's speed drifts, so they run in turn, one BLAS thread for all."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    with backend.quiet_blas():
        for name in sides:
            jax.block_until_ready(sides[name].once())
        for _ in range(rounds):
            for name, side in sides.items():
                for _ in range(per_round if name == "engine" else 1):
                    start = time.perf_counter()
                    jax.block_until_ready(side.once())
                    seconds[name].append(time.perf_counter() - start)
    return {name: round(1e3 * statistics.median(values), 1) for name, values in seconds.items()}


def matmul_peak() -> float:
    """Operations per second of a large float32 matrix product on this device."""
    side = 2048 if jax.default_backend() == "cpu" else 8192
    square = jnp.ones((side, side))
    multiply = jax.jit(lambda a: a @ a)
    return 2 * side**3 / record.median_seconds(lambda: multiply(square), 5)


def operations(method: RCIG, data: Examples, products: int) -> dict[str, float]:
    """Operations of one step, counted in forward passes F of one image, as in docs/performance.md.

    Per synthetic image: the engine 4 F for each product with A, 22 F for d and c, 5 F for the rest, 3 F per pool step;
    the literal procedure 5 F for each inner and 9 F for each inverse-Hessian step instead of the products. Per real
    image both 5 F.
    """
    network = method.network(data.image_shape, data.classes)
    variables = network.init(jax.random.key(0))
    forward = jax.jit(lambda image: network.apply(variables, image).logits).lower(data.images[:1]).compile()
    one = float((forward.cost_analysis() or {}).get("flops", float("nan")))
    n = method.n_images * data.classes * (2 if method.use_flip else 1)
    common = 5 * method.batch_size + n * (22 + 5 + 3 * POOL_STEPS)
    ours, theirs = common + 4 * n * products, common + n * (5 * method.n_inner_steps + 9 * method.n_hinv_steps)
    return {"gflop": one * ours / 1e9, "flop_ratio": theirs / ours}


def measure(method: RCIG, data: Examples, arguments: argparse.Namespace) -> dict[str, Any]:
    """All figures of one setting."""
    ours = engine(method, data, arguments.devices)
    sides = {"engine": ours}
    if not arguments.engine_only:
        sides["own"] = literal(method, data, own_convolutions=True)
    times = in_turn(sides, arguments.rounds)
    solved = {name: int(value) for name, value in ours.once().items() if name.endswith("_steps")}
    figures = {"ms_per_step": times["engine"], "compile_s": round(ours.compile_s, 1), "peak_bytes": ours.peak_bytes}
    if method.inner_solver == "pcg":
        counted, peak = operations(method, data, sum(solved.values())), matmul_peak()
        figures |= {name: round(value, 2) for name, value in counted.items()} | {
            "matmul_peak_gflops": round(peak / 1e9)
        }
        figures["share_of_peak"] = round(counted["gflop"] * 1e9 / (times["engine"] / 1e3) / peak, 3)
    if not arguments.engine_only:
        figures |= {"reference_ms_per_step": times["own"], "reference_peak_bytes": sides["own"].peak_bytes}
        figures = {"ratio": round(times["own"] / times["engine"], 2), **figures}
    if not arguments.engine_only and arguments.written_repeats:
        written = literal(method, data, own_convolutions=False)
        seconds = record.median_seconds(written.once, arguments.written_repeats)
        as_written = {"ratio_as_written": round(1e3 * seconds / times["engine"], 2)}
        figures = {**as_written, **figures, "as_written_ms_per_step": round(1e3 * seconds, 1)}
    return {**figures, **solved}


def main() -> None:
    """Parses flags, measures, records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_path", default=None, help="folder that holds cifar10/; noise when absent")
    parser.add_argument("--ipc", type=int, nargs="+", default=[1])
    parser.add_argument("--width", type=int, nargs="+", default=[32])
    parser.add_argument("--batch_size", type=int, default=256)
    parser.add_argument("--solver", nargs="+", default=["pcg"], choices=["pcg", "dense", "adam"])
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--written_repeats", type=int, default=3, help="0: without the form as written, which is slow")
    parser.add_argument("--engine_only", action="store_true", help="without the literal procedure")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: checks that the benchmark runs")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.width, arguments.batch_size, arguments.rounds, arguments.written_repeats = [4], 32, 2, 1
    data = examples(arguments)
    table = {}
    for ipc, width, solver in itertools.product(arguments.ipc, arguments.width, arguments.solver):
        method = RCIG(n_images=ipc, width=width, batch_size=arguments.batch_size, inner_solver=solver)
        table[f"ipc{ipc}_width{width}_{solver}"] = measure(method, data, arguments)
        print(f"ipc {ipc}, width {width}, {solver}: {table[f'ipc{ipc}_width{width}_{solver}']}", flush=True)
    name, figures = next(iter(table.items())) if len(table) == 1 else ("table", {"table": table})
    devices = f"_{arguments.devices}devices" if arguments.devices > 1 else ""
    noise = "" if arguments.data_path else "_noise"
    record.save(f"rcig_step_{name}{devices}{noise}" + "_quick" * arguments.quick, figures, vars(arguments))


if __name__ == "__main__":
    main()
