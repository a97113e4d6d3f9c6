"""One outer step of RCIG: the engine against the literal procedure on the same device, in one run.

    ratio_as_written    literal / engine, the literal procedure on native convolutions inside `fori_loop`, as its
                        authors wrote it: on XLA:CPU mostly the price of convolutions in loops
    ratio               literal / engine, the literal procedure on the engine's own convolutions: the algorithm's share

Run on an idle machine: `python -m benchmarks.rcig_step --data_path DIR` (CIFAR-10), or without data on noise, whose
step times are the same.
"""

from __future__ import annotations

import argparse
import contextlib
import time

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import record
from jaxdd.core import backend, trees
from jaxdd.core.types import Examples
from jaxdd.methods import RCIG
from jaxdd.methods.rcig_draws import draw
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


def engine(method: RCIG, data: Examples, repeats: int) -> dict[str, float]:
    """Compile seconds and ms per step of the engine."""
    state = jax.jit(method.init)(jax.random.key(0), data)
    batch = Examples(data.images[: method.batch_size], data.labels[: method.batch_size], data.classes)
    draws = draw(method, jax.random.key(1), stored=len(state.synthetic.images), real=len(batch))
    draws = draws._replace(pool_steps=jnp.asarray(POOL_STEPS))
    start = time.perf_counter()
    step = jax.jit(method.update, donate_argnums=0).lower(state, batch, draws).compile()
    compile_seconds = time.perf_counter() - start
    held = [state]

    def once():
        held[0], metrics = step(held[0], batch, draws)
        return metrics

    return {"compile_s": compile_seconds, "ms_per_step": 1e3 * record.median_seconds(once, repeats)}


def literal(method: RCIG, data: Examples, repeats: int, *, own_convolutions: bool) -> dict[str, float]:
    """Compile seconds and ms per step of the literal procedure: everything jitted, no host reads."""
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
        compiled = jax.jit(step).lower(model, synthetic, count).compile()
    compile_seconds = time.perf_counter() - start
    seconds = record.median_seconds(lambda: compiled(model, synthetic, count), repeats)
    return {"compile_s": compile_seconds, "ms_per_step": 1e3 * seconds}


def main() -> None:
    """Parses flags, measures, records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_path", default=None, help="folder that holds cifar10/; noise when absent")
    parser.add_argument("--ipc", type=int, default=1)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--batch_size", type=int, default=256)
    parser.add_argument("--solver", default="pcg", choices=["pcg", "dense", "adam"])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--literal_repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: checks that the benchmark runs")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.width, arguments.batch_size, arguments.repeats, arguments.literal_repeats = 4, 32, 2, 1
    data = examples(arguments)
    method = RCIG(
        n_images=arguments.ipc, width=arguments.width, batch_size=arguments.batch_size, inner_solver=arguments.solver
    )
    ours = engine(method, data, arguments.repeats)
    own = literal(method, data, arguments.literal_repeats, own_convolutions=True)
    written = literal(method, data, arguments.literal_repeats, own_convolutions=False)
    again = engine(method, data, arguments.repeats)  # the machine's speed drifts: the engine is timed on both sides
    milliseconds = (ours["ms_per_step"] + again["ms_per_step"]) / 2
    figures = {
        "ratio_as_written": round(written["ms_per_step"] / milliseconds, 2),
        "ratio": round(own["ms_per_step"] / milliseconds, 2),
        "ms_per_step": round(milliseconds, 1),
        "reference_ms_per_step": round(own["ms_per_step"], 1),
        "as_written_ms_per_step": round(written["ms_per_step"], 1),
        "compile_s": round(ours["compile_s"], 1),
    }
    name = f"rcig_step_ipc{arguments.ipc}_width{arguments.width}_{arguments.solver}" + "_quick" * arguments.quick
    record.save(name, figures, vars(arguments))


if __name__ == "__main__":
    main()
