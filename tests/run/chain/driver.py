"""A recovery that is killed with SIGKILL at one moment after another, and started again until it is done.

    python driver.py FOLDER

One process imports everything and forks a child per attempt. Prints the kills that were made, as JSON.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import signal
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3]))

from jaxdd.core import backend
from jaxdd.run.chain import recover
from jaxdd.run.chain.pieces import Initial
from jaxdd.run.storage.checkpoint import Storage
from tests.run.chain.tiny import recovering
from tests.run.driver import arm

MOMENTS = {  # name -> what the child dies at: owner, function, whether after it, which call
    "choosing initial images": (Initial, "of_class", False, 3),
    "mid-chunk, first stage": (Storage, "save", True, 2),
    "mid-chunk, second stage": (Storage, "save", True, 4),
    "finished, not yet added": (recover, "as_published", False, 1),
    "between chunks": (recover, "discard", False, 2),  # the first stage of a finished chunk is gone, the second is not
}


def attempt(folder: pathlib.Path, moment: str) -> int:
    """Runs in a child to its end, or to a moment; returns its exit status."""
    child = os.fork()
    if not child:
        status = 1
        try:
            backend.use_compilation_cache(os.environ.get("JAXDD_TEST_CACHE"))
            if moment in MOMENTS:
                arm(*MOMENTS[moment])
            dataclasses.replace(recovering(), checkpoint_every=0).recover(folder, log_every=1, steps_per_dispatch=1)
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    place, killed = pathlib.Path(sys.argv[1]), []
    for name in (*MOMENTS, "none"):
        found = attempt(place, name)
        if found == -signal.SIGKILL:
            killed.append(name)
        elif found:
            sys.exit(f"attempt ended with {found} at '{name}' after {killed}")
    print(json.dumps(killed))
