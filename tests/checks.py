"""Checks that need a process of their own, such as those on eight devices; findings as one line of JSON."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Mapping
from typing import Any

import jax

from jaxdd.core import backend


def run(names: Mapping[str, Any]) -> None:
    """Runs every function `check_...` of a module and prints what each gives back, or the traceback of its failure.

    Arguments:
        names: the module's; the folder of the compilation cache is the program's only argument.
    """
    jax.config.update("jax_numpy_rank_promotion", "raise")
    backend.use_compilation_cache(sys.argv[1] if len(sys.argv) > 1 else None)
    findings: dict[str, Any] = {}
    for name, check in list(names.items()):
        if name.startswith("check_"):
            try:
                findings[name] = check()
            except Exception:
                findings[name] = f"FAILED {traceback.format_exc()}"
    print(json.dumps(findings))
