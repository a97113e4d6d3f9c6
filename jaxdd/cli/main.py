"""`jaxdd distill`, `jaxdd recover`, `jaxdd eval` and the other commands; the root scripts come here too."""

from __future__ import annotations

import importlib
import io
import itertools
import os
import pathlib
import shlex
import sys
import traceback
from collections.abc import Sequence
from typing import Any

from jaxdd import __version__
from jaxdd.cli.flags.dialect import PROGRAMS, Dialect, typed
from jaxdd.core.config import NO
from jaxdd.core.errors import JaxddError, choose
from jaxdd.core.io import shorter_path
from jaxdd.run.control import Stopped

COMMANDS = {  # name -> module of its dialect (`cli.flags`), function that checks it (`cli.settings`), what it does
    "distill": ("rcig", "of_distill", "makes a distilled set"),
    "condense": ("matching", "of_condense", "makes one by matching gradients or features: IDC, AccDD, DREAM, GA-DD"),
    "pretrain": ("matching", "of_pretrain", "trains the networks that AccDD and GA-DD start from"),
    "squeeze": ("chain", "of_chain", "trains or imports the teacher of SRe2L, CDA and their successors"),
    "recover": ("chain", "of_chain", "makes a set from a teacher, with the flags of SRe2L and CDA"),
    "relabel": ("chain", "of_set", "stores the teacher's soft labels of such a set"),
    "validate": ("chain", "of_set", "trains students on such a set by its soft labels"),
    "eval": ("rcig", "of_eval", "measures a distilled set"),
}
SCRIPTS = {name: f"{name}.py" for name in COMMANDS} | {"distill": "distill_dataset.py"}


def main(argv: Sequence[str] | None = None, *, script: str | None = None) -> int:
    """Runs one command.

    Arguments:
        argv: the words after the program's name; default those of this process.
        script: the command that a root script stands for; then `argv` holds its flags alone.

    Returns:
        The exit code: 0; 2 for arguments and config; 3 for data and checkpoints; 130 and 143 after signals.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files whose bytes are not UTF-8
    try:
        _run(words, script)
    except JaxddError as error:
        _report(error, debug=_wants_traceback(words))
        return error.exit_code
    except Stopped as stop:  # which the command has told
        return stop.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except SystemExit as leaving:  # after --help
        return leaving.code if isinstance(leaving.code, int) else 0
    return 0


def _run(words: list[str], script: str | None) -> None:
    """Runs a command, of which no other is imported: what the module of its name yields, one job after another.

    Raises:
        JaxddError: anything a user can mend.
        Stopped: by a signal.
    """
    command, *flags = [script, *words] if script else words or ["--help"]
    if command in ("-h", "--help", "help"):
        print(_overview())
    elif command == "--version":
        print(__version__)
    else:
        name = choose(command, COMMANDS, kind="command", where="jaxdd")
        programs = {name: _called(name, by_script=bool(script)) for name in COMMANDS}
        PROGRAMS.set(programs)
        options, settings = read(name, flags, programs[name])
        module = importlib.import_module(f"jaxdd.cli.commands.{name}")  # imports JAX: not before these checks
        for job in module.jobs(options, settings):
            job.perform()


def read(command: str, flags: Sequence[str], program: str = "") -> tuple[Any, Any]:
    """Returns the options of a command and the settings of what it runs, checked.

    Arguments:
        command: its name.
        flags: the words after it.
        program: how it is called.

    Raises:
        JaxddError: anything a user can mend.
    """
    arguments = dialect(command).parse(flags, program)
    checked = getattr(importlib.import_module("jaxdd.cli.settings"), COMMANDS[command][1])
    return arguments.options, checked(arguments)


def dialect(command: str) -> Dialect[Any]:
    """Returns the language of a command."""
    module = importlib.import_module(f"jaxdd.cli.flags.{COMMANDS[command][0]}")
    return getattr(module, command.upper())


def _called(command: str, *, by_script: bool) -> str:
    """Returns how a user types this command, given how he typed the present one."""
    if not by_script:
        return f"jaxdd {command}"
    place = pathlib.Path(sys.argv[0]).parent.absolute()
    return f"python {shlex.quote(shorter_path(place / SCRIPTS[command]))}"


def _overview() -> str:
    rows = "\n".join(f"  jaxdd {name:<8} {text}" for name, (*_, text) in COMMANDS.items())
    return f"jaxdd: dataset distillation in JAX\n\n{rows}\n\n`jaxdd COMMAND --help` lists the flags."


def _wants_traceback(words: Sequence[str]) -> bool:
    """Reads the flag where parsing may have failed before it came to it."""
    for word, following in itertools.zip_longest(words, words[1:], fillvalue=""):
        name, equals, value = word.partition("=")
        if name == "--debug":
            return (value if equals else following).lower() not in NO
    return False


def _report(error: JaxddError, *, debug: bool) -> None:
    """Prints a few lines on the standard error: what, where, expected, remedy."""
    import rich.console
    import rich.text

    if debug:
        traceback.print_exception(error)
    console = rich.console.Console(stderr=True, highlight=False, soft_wrap=True)
    first, *rest = typed(str(error)).splitlines()
    console.print(rich.text.Text("error: ", style="bold red").append(first, style="bold"))
    for row in rest:
        console.print(rich.text.Text(row))
