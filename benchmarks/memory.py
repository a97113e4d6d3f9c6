"""Memory of one outer step of RCIG: what the dry run predicts against what the process takes (Linux).

    predicted_bytes   state, data and what the compiled step holds, as `--dry_run` tells it
    measured_bytes    state and data, and by how much the process grows at most while it makes a step
    first_bytes       the same for the first step, in which the runtime sets itself up
    ratio             measured / predicted
    estimate_bytes    what is known before anything is compiled, from shapes alone

One size per run, each in a process of its own, since memory once freed is not always given back to the system:
`python -m benchmarks.memory --classes 100 --ipc 50 --flip=0`. Images are noise, whose memory is the same.
"""

from __future__ import annotations

import argparse
import ctypes
import pathlib
import time

import jax
import numpy as np

from benchmarks import record
from jaxdd.core.types import Examples
from jaxdd.methods import RCIG
from jaxdd.run.control import Reporter
from jaxdd.run.plan import plan
from jaxdd.run.programs import Programs

SHAPE = (32, 32, 3)
STATUS, CLEAR = pathlib.Path("/proc/self/status"), pathlib.Path("/proc/self/clear_refs")
RESET_PEAK = "5"


def resident(name: str) -> int:
    """`VmRSS` or `VmHWM` (its highest value) of this process in bytes."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(name))
    return 1024 * int(line.split()[1])


def examples(classes: int, ipc: int, batch: int) -> Examples:
    """Noise, as many images of every class as are asked for and at least a batch."""
    count = max(classes * ipc, -(-batch // classes) * classes)
    images = np.random.default_rng(0).standard_normal((count, *SHAPE), np.float32)
    return Examples(jax.device_put(images), jax.device_put(np.arange(count, dtype=np.int32) % classes), classes)


def measure(method: RCIG, data: Examples) -> dict[str, float | int | str]:
    """Predicted and measured bytes of a step."""
    seed, start, stop = map(jax.device_put, (np.uint32(0), np.int32(0), np.int32(1)))
    programs = Programs(method, data, 1)
    programs.init.ready(Reporter(), data, seed)
    state = jax.block_until_ready(programs.init(data, seed))
    began = time.perf_counter()
    programs.advance.ready(Reporter(), state, data, seed, start, stop)
    compiled = time.perf_counter()
    memory = programs.advance.memory()
    if memory is None:
        raise SystemExit("XLA tells nothing of memory on this device")
    needs = plan(method, data, count_operations=False)
    arguments = needs.state_bytes + needs.data_bytes
    measured = []
    for _ in range(2):
        ctypes.CDLL(None).malloc_trim(0)  # what is free goes back to the system: the next step has to ask for it
        CLEAR.write_text(RESET_PEAK)
        before, ready = resident("VmRSS"), time.perf_counter()
        state, *_ = jax.block_until_ready(programs.advance(state, data, seed, start, stop))
        done = time.perf_counter()
        measured.append(resident("VmHWM") - before + arguments)
    return {
        "predicted_bytes": memory.peak,
        "measured_bytes": measured[1],
        "ratio": round(measured[1] / memory.peak, 3),
        "first_bytes": measured[0],
        "arguments_bytes": arguments,
        "estimate_bytes": needs.peak_bytes,
        "cut": needs.demand.note,
        "compile_s": round(compiled - began, 1),
        "step_s": round(done - ready, 1),
    }


def main() -> None:
    """Parses flags, measures, records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--ipc", type=int, default=50)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--batch_size", type=int, default=256)
    parser.add_argument("--flip", type=int, default=0, choices=[0, 1])
    parser.add_argument("--solver_steps", type=int, default=12, help="they change the time of a step, not its memory")
    parser.add_argument(
        "--chunk", type=int, default=None, help="max_forward_batch_size; chosen automatically if absent"
    )
    parser.add_argument("--memory_limit", type=float, default=None, help="GB")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: checks that the benchmark runs")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.classes, arguments.ipc, arguments.width, arguments.batch_size = 10, 2, 4, 32
    method = RCIG(
        n_images=arguments.ipc,
        width=arguments.width,
        batch_size=arguments.batch_size,
        use_flip=bool(arguments.flip),
        solver_steps=arguments.solver_steps,
        max_forward_batch_size=arguments.chunk,
        memory_limit=arguments.memory_limit,
    )
    figures = measure(method, examples(arguments.classes, arguments.ipc, arguments.batch_size))
    name = f"memory_classes{arguments.classes}_ipc{arguments.ipc}_width{arguments.width}"
    cut = f"_chunk{arguments.chunk}" if arguments.chunk else ""
    record.save(name + cut + "_quick" * arguments.quick, figures, vars(arguments))


if __name__ == "__main__":
    main()
