"""Reads compiled programs: which convolutions stand inside a loop or under a condition, and which are grouped.

A program is the text of `jax.jit(f).lower(...).compile().as_text()`: computations of one instruction per line, which
name the computations they call. Native convolutions there are slow on XLA:CPU; see `jaxdd.core.backend`.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import jax

_HEADER = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\{$")
_CONVOLUTION = re.compile(r"\bconvolution\(|custom_call_target=\"[^\"]*conv[^\"]*\"", re.IGNORECASE)
_BRANCHING = re.compile(r"\b(?:while|conditional)\(")
_GROUPS = re.compile(r"(?:batch|feature)_group_count=(\d+)")
_CALLED = re.compile(
    r"(?:condition|body|calls|to_apply|(?:true|false)_computation)=%?([\w.\-]+)|"
    r"(?:branch_computations|called_computations)=\{([^}]*)\}"
)


def program(fn: Callable, *args) -> str:
    """The optimised program that `fn` compiles to for these arguments."""
    return jax.jit(fn).lower(*args).compile().as_text() or ""


def convolutions(text: str) -> list[str]:
    """All instructions that are native convolutions."""
    return [line for lines in _computations(text).values() for line in lines if _CONVOLUTION.search(line)]


def grouped_convolutions(text: str) -> list[str]:
    """Native convolutions with batch or feature groups, as `vmap` over networks of different weights makes them."""
    return [line for line in convolutions(text) if any(int(count) > 1 for count in _GROUPS.findall(line))]


def convolutions_under_control_flow(text: str) -> list[str]:
    """Native convolutions in what a while loop or a conditional calls, however deeply."""
    computations = _computations(text)
    waiting = [
        name for lines in computations.values() for line in lines if _BRANCHING.search(line) for name in _called(line)
    ]
    reached: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting.extend(callee for line in computations[name] for callee in _called(line))
    return [line for name in sorted(reached) for line in computations[name] if _CONVOLUTION.search(line)]


def _computations(text: str) -> dict[str, list[str]]:
    computations: dict[str, list[str]] = {}
    current: list[str] | None = None
    for line in text.splitlines():
        if header := _HEADER.match(line):
            current = computations.setdefault(header[1], [])
        elif line.startswith("}"):
            current = None
        elif current is not None:
            current.append(line.strip())
    return computations


def _called(line: str) -> list[str]:
    names = []
    for single, several in _CALLED.findall(line):
        names += [single] if single else [name.strip().lstrip("%") for name in several.split(",")]
    return names
