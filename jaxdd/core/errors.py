"""One family of errors: each says what was wrong, where, what was expected, and what to do about it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class JaxddError(Exception):
    """Base of every error that a user can cause and mend.

    Arguments:
        what: what was wrong, one sentence.
        where: the path, key, flag or leaf it was found at.
        expected: what would have been right.
        remedy: what the user can do now.
    """

    exit_code = 3

    def __init__(self, what: str, *, where: str = "", expected: str = "", remedy: str = ""):
        self.what, self.where, self.expected, self.remedy = what, where, expected, remedy
        rows = (("where", where), ("expected", expected), ("remedy", remedy))
        super().__init__("\n".join([what, *(f"  {name + ':':<10}{text}" for name, text in rows if text)]))


class UsageError(JaxddError):
    """A command-line argument is unknown, malformed or contradicts another one (exit code 2)."""

    exit_code = 2


class ConfigError(JaxddError):
    """A setting is unknown, of the wrong type or out of range (exit code 2)."""

    exit_code = 2


class DataError(JaxddError):
    """A data set or an image file is missing, unreadable or not what it claims to be (exit code 3)."""


class CheckpointError(JaxddError):
    """A checkpoint, a distilled set or an output folder is missing, damaged or of another run (exit code 3)."""


class DivergedError(JaxddError):
    """A metric stopped being finite (exit code 3); the last good state stays on disk."""


class Notice(UserWarning):
    """Something that a user of Python should be told; a command prints it in its header."""


def garbled(finding: object, where: object, remedy: str) -> CheckpointError:
    """Returns the error of a manifest that can be read, but lacks a field or holds something else there (`finding`)."""
    return CheckpointError(f"the manifest lacks or garbles {finding}", where=str(where), remedy=remedy)


def nearest(name: str, options: Iterable[str], *, likeness: float = 0.5) -> str:
    """Returns a "did you mean" clause for `name` among `options`, or the empty string when none is so alike (0 to
    1)."""
    lowered = {option.lower(): option for option in options}
    close = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=likeness)
    return f"did you mean '{lowered[close[0]]}'?" if close else ""


def choose(name: str, options: Iterable[str], *, kind: str, where: str, error: type[JaxddError] = UsageError) -> str:
    """Returns `name` if it is one of `options`; otherwise raises `error` naming the nearest one."""
    options = list(options)
    if name in options:
        return name
    raise error(
        f"unknown {kind} '{name}'",
        where=where,
        expected="one of " + ", ".join(options),
        remedy=nearest(name, options) or "choose one from the list",
    )
