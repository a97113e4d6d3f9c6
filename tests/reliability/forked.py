"""Commands in children forked from a process that has imported everything: an attempt costs no imports.

Reads a JSON list of words per line, runs `distill_dataset.py` with them in a child and prints its number; prints its
exit status when it has ended.
"""

from __future__ import annotations

import json
import os
import sys

from jaxdd.cli.main import main
from jaxdd.methods import RCIG  # noqa: F401
from jaxdd.publish import grid  # noqa: F401
from jaxdd.run.storage import checkpoint  # noqa: F401


def child(words: list[str]) -> None:
    """Runs the command and ends."""
    quiet = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(quiet, stream)
    os._exit(main(words, script="distill"))


for line in sys.stdin:
    number = os.fork()
    if not number:
        child(json.loads(line))
    print(number, flush=True)
    print(os.waitpid(number, 0)[1], flush=True)
