"""A run that is killed with SIGKILL over and over and started again until it is done.

    python driver.py FOLDER SEED KILLS KINDS

One process imports everything, then forks a child per attempt, so an attempt costs a fraction of a second. A child is
killed from outside at a random moment (kind `random`: nearly all its time is spent writing), or kills itself right
before or after one of the calls by which a checkpoint comes to be (`seal before`). Prints one JSON line: the kills made
and a digest of the final state.
"""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import random
import shutil
import signal
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

import orbax.checkpoint

from jaxdd.core import backend, io, shards
from jaxdd.run import loop
from jaxdd.run.control import Reporter
from jaxdd.run.storage.checkpoint import Storage
from tests.run.toy import Toy, bits, examples

STEPS = 30
POINTS = {
    "orbax": (orbax.checkpoint.CheckpointManager, "save"),
    "rename": (os, "rename"),
    "replace": (os, "replace"),
    "sync": (os, "fsync"),
    "prune": (shutil, "rmtree"),
    "seal": (shards, "seal"),
    "write": (io, "write_atomically"),
}


def attempt(folder: pathlib.Path, point: str, after: bool, countdown: int, beat: int) -> None:
    """Runs to the end, or to the `countdown`-th call of a point."""
    backend.use_compilation_cache()
    if point in POINTS:
        arm(*POINTS[point], after, countdown)

    class Beat(Reporter):
        def saving(self, step):
            os.write(beat, b".")

    with Storage(folder, {"method": "toy"}, checkpoint_every=0) as storage:
        state, _ = loop.final_state(
            Toy(width=1000), examples(), steps=STEPS, seed=0, log_every=1, storage=storage, reporter=Beat()
        )
    (folder / "final").write_text(hashlib.sha256(b"".join(bits(state))).hexdigest())


def arm(where: object, name: str, after: bool, countdown: int) -> None:
    """Makes the `countdown`-th call of a function the last thing that this process does."""
    original, left = getattr(where, name), [countdown]

    def deadly(*arguments, **options):
        left[0] -= 1
        if not left[0] and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        found = original(*arguments, **options)
        if not left[0] and after:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    setattr(where, name, deadly)


def forked(folder: pathlib.Path, point: str, after: bool, countdown: int, delay: float) -> int:
    """One attempt in a child; kills it `delay` seconds after its first save began. Returns its exit status."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        status = 1
        try:
            attempt(folder, point, after, countdown, writing)
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    if point == "random" and os.read(reading, 1):
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
    os.close(reading)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(folder: pathlib.Path, seed: int, kills: int, kinds: list[str]) -> None:
    """Kills `kills` times, taking the kinds in turn, then lets it finish; any other failure ends everything."""
    dice, done = random.Random(seed), []
    while not (folder / "final").exists():
        kind = kinds[len(done) % len(kinds)] if len(done) < kills else "none"
        point, _, side = kind.partition(" ")
        status = forked(folder, point, side == "after", dice.randint(1, 2), dice.random() * 0.3)
        if status == -signal.SIGKILL:
            done.append(kind)
        elif status:
            sys.exit(f"attempt ended with {status} after {done}")
    print(json.dumps({"kills": done, "final": (folder / "final").read_text()}))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4].split(","))
