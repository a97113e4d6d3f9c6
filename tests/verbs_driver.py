"""A chain driven from Python that is killed with SIGKILL in one link after another, and started again until it is done.

    python verbs_driver.py FOLDER METHOD

One process imports everything and forks a child per attempt. Prints the kills that were made, as JSON.
"""

from __future__ import annotations

import json
import os
import pathlib
import signal
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import jaxdd
from jaxdd.core import backend
from jaxdd.run.chain import recover, relabel
from jaxdd.run.storage import networks
from jaxdd.run.storage.checkpoint import Storage
from tests.run.driver import arm

SETTINGS = {
    "cda": {
        "steps": 4,
        "width": 4,
        "labels": "stored",
        "squeeze": {"epochs": 2, "warmup_epochs": 1},
        "recipe": {"epochs": 3, "models_to_test": 1},
    },
    "accdd": {"steps": 4, "width": 4, "inner_loop": 2, "batch_real": 16, "n_data": 32},
}
MOMENTS = {  # method -> name -> what the child dies at: owner, function, whether after it, which call
    "cda": {
        "squeezing": (Storage, "save", True, 1),
        "the teacher is finished, not yet added": (networks, "add", False, 1),
        "recovering": (Storage, "save", True, 2),
        "the chunk is finished, not yet added": (recover, "as_published", False, 1),
        "putting the set together": (recover, "merge", False, 1),
        "relabelling": (relabel, "_write", True, 2),
    },
    "accdd": {
        "pretraining": (networks, "add", True, 2),
        "distilling": (Storage, "save", True, 1),
        "distilling further": (Storage, "save", False, 2),
    },
}


def distilled(folder: pathlib.Path, method: str) -> None:
    """Runs or continues the chain; every step of it is saved."""
    Storage.due = lambda self: True
    backend.use_compilation_cache(os.environ.get("JAXDD_TEST_CACHE"))
    jaxdd.distill(jaxdd.load("digits"), method=method, ipc=1, output_dir=folder, **SETTINGS[method])


def attempt(folder: pathlib.Path, method: str, moment: str) -> int:
    """Runs in a child to its end, or to a moment; returns its exit status."""
    child = os.fork()
    if not child:
        status = 1
        try:
            if moment in MOMENTS[method]:
                arm(*MOMENTS[method][moment])
            distilled(folder, method)
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    place, of, killed = pathlib.Path(sys.argv[1]), sys.argv[2], []
    for name in (*MOMENTS[of], "none"):
        found = attempt(place, of, name)
        if found == -signal.SIGKILL:
            killed.append(name)
        elif found:
            sys.exit(f"attempt ended with {found} at '{name}' after {killed}")
    print(json.dumps(killed))
