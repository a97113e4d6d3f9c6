"""Files: atomic writes, checksums, locks and readers that survive hostile bytes. No pickle, ever.

Every JSON file that is kept is written by `write_json` and read by `read_json`: it begins with the sha256 of all the
rest. Every line of a file of lines is written by `to_line`, read by `of_line`, and ends with its crc32. Both read what
was written before there were checksums.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import hashlib
import json
import os
import pathlib
import re
import shutil
import socket
import stat
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

from jaxdd.core.errors import CheckpointError, UsageError

SEAL = "sha256"  # name of an object's checksum; it stands first
LINE_SEAL = "crc32"  # of a line's; it stands last
LONG = 200  # bytes of a name from which nothing can be added to it
KINDS = {stat.S_IFREG: "a file", stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}


def write_atomically(path: str | os.PathLike, payload: bytes | str) -> None:
    """Writes beside `path`, syncs, then renames: a reader sees the old file or the whole new one.

    Raises:
        CheckpointError: a folder is in its place, or something else in that of its folder.
    """
    path = pathlib.Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise misplaced(next(place for place in path.parents if place.exists()), "a folder") from None
    if path.is_dir():
        raise misplaced(path, "a file")
    short = path.name if len(os.fsencode(path.name)) < LONG else sha256(os.fsencode(path.name))
    partial = path.with_name(f".{short}.{os.getpid()}.partial")
    data = payload.encode() if isinstance(payload, str) else payload
    try:
        with open(partial, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: str | os.PathLike, content: Any) -> None:
    """Writes `content` as indented JSON, atomically; an object begins with the checksum of all the rest."""
    plain = json.loads(json.dumps(content, allow_nan=False))
    sealed = {SEAL: digest(plain), **plain} if isinstance(plain, dict) else plain
    write_atomically(path, json.dumps(sealed, indent=2) + "\n")


def read_json(path: str | os.PathLike, *, sealed: bool = False) -> Any:
    """Reads JSON, and verifies the checksum of an object; files of before have none.

    Arguments:
        path: the file.
        sealed: whether a file without a checksum is refused too.

    Raises:
        CheckpointError: it is missing, cannot be read, or is not as it was written; where a line tells why, names it.
    """
    if kind(path) not in ("nothing", "a file", "a device"):
        raise misplaced(path, "a file")
    again = "restore the file or start a new output folder"
    try:
        content = json.loads(pathlib.Path(path).read_text())
    except FileNotFoundError:
        remedy = "check the path, or start again in a new output folder"
        raise CheckpointError("file not found", where=str(path), remedy=remedy) from None
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CheckpointError(f"not valid JSON: {error}", where=str(path), remedy=again) from None
    except OSError as error:
        remedy = "let this user read the file"
        raise CheckpointError(f"cannot be read: {error.strerror}", where=str(path), remedy=remedy) from None
    if isinstance(content, dict):
        sealed = sealed or re.fullmatch("[0-9a-f]{64}", str(next(iter(content.values()), ""))) is not None
        stated = content.pop(SEAL, None)
        if (sealed or stated is not None) and stated != digest(content):
            expected = f"sha256 {str(stated)[:12]}... of all but itself, as it was written"
            remedy = f"{again}; or, if it was edited on purpose, take its line '{SEAL}' out"
            raise CheckpointError("damaged or edited", where=str(path), expected=expected, remedy=remedy)
    return content


def to_line(content: Mapping[str, Any]) -> str:
    """Returns an object as one line of JSON that ends with a checksum of itself."""
    return json.dumps({**content, LINE_SEAL: _crc(content)}, allow_nan=False) + "\n"


def of_line(line: str) -> dict[str, Any] | None:
    """Returns the object of one line; None if it is torn or damaged. Lines of before have no checksum."""
    try:
        content = json.loads(line) if line.endswith("\n") else None
    except ValueError:
        content = None
    if not isinstance(content, dict):
        return None
    last = next(reversed(content.values()), None)
    stated = content.pop(LINE_SEAL, None)
    sealed = stated is not None or (re.fullmatch("[0-9a-f]{8}", str(last)) is not None and isinstance(last, str))
    return None if sealed and stated != _crc(content) else content


def _crc(content: Mapping[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(content, sort_keys=True, allow_nan=False).encode()):08x}"


def digest(content: Any) -> str:
    """Returns one word for JSON values, whatever the order of their names."""
    return sha256(json.dumps(content, sort_keys=True, allow_nan=False).encode())


def kind(path: str | os.PathLike) -> str:
    """Returns what lies at a path: `nothing`, `a file`, `a folder`, `a named pipe`, `a socket` or `a device`."""
    try:
        return KINDS.get(stat.S_IFMT(os.stat(path).st_mode), "a device")
    except OSError:
        return "nothing"


def misplaced(path: str | os.PathLike, wanted: str) -> CheckpointError:
    """Returns the error of something else than `wanted`, a kind, at a path."""
    return CheckpointError(
        f"{kind(path)} in the place of the {wanted.removeprefix('a ')} '{pathlib.Path(path).name}'",
        where=str(path),
        expected=f"{wanted}, or nothing",
        remedy="move it away, or name another folder",
    )


def require_writable(
    path: pathlib.Path, needed: int = 0, *, folders: Sequence[str] = (), files: Sequence[str] = ()
) -> None:
    """Refuses a folder that cannot be written, or whose disk has too little room; writes nothing.

    Arguments:
        path: of the folder, which need not exist.
        needed: bytes.
        folders, files: names in it, and of files in these folders, in whose place nothing else may lie.

    Raises:
        CheckpointError: see above.
    """
    if problem := _problem(path):
        raise unwritable(problem, path)
    inner = [path / name for name in folders if os.path.exists(path / name)]
    for place in inner:
        if not place.is_dir():
            raise misplaced(place, "a folder")
    for file in (place / name for place in (path, *inner) for name in files):
        if kind(file) not in ("nothing", "a file", "a device"):
            raise misplaced(file, "a file")
    require_space(path, needed)


def require_place(file: pathlib.Path) -> None:
    """Refuses a result file that cannot be, before anything is computed.

    Raises:
        CheckpointError: something else lies there, or there can be no such name.
    """
    try:
        os.stat(file)
    except FileNotFoundError:
        return
    except OSError as error:
        raise unwritable(error.strerror, file) from None
    if not file.is_file():
        raise misplaced(file, "a file")


def unwritable(problem: str | None, path: object) -> CheckpointError:
    """Returns the error of an output folder that cannot be written."""
    return CheckpointError(
        f"the output folder cannot be written: {problem}",
        where=str(path),
        expected="a folder, or a name for a new one, that this user may write to",
        remedy="choose another `output_dir`",
    )


def require_space(path: pathlib.Path, needed: int) -> None:
    """Refuses a folder, which need not exist, on whose disk fewer than `needed` bytes are free.

    Raises:
        CheckpointError: says how many are free.
    """
    free = shutil.disk_usage(next(place for place in (path, *path.parents) if place.exists())).free
    if free < needed:
        raise CheckpointError(
            "too little free space for the checkpoints",
            where=f"{path}: {gigabytes(free)} free",
            expected=gigabytes(needed),
            remedy="make room, or choose an `output_dir` on another disk",
        )


def _problem(path: pathlib.Path) -> str:
    """Returns why a folder cannot be written, or the empty text."""
    try:
        existing = next(place for place in (path, *path.parents) if place.exists())
    except OSError as error:  # a name that is too long, a parent that may not be entered
        return error.strerror or str(error)
    if not existing.is_dir():
        return f"{existing} is {kind(existing)}"
    return "" if os.access(existing, os.W_OK | os.X_OK) else f"no permission to write into {existing}"


@contextlib.contextmanager
def plainly_named(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a path of a folder that no library takes for a pattern or an address: its own, or a link to it."""
    name = str(folder)
    if re.search(r"[*?\[\\]|[a-z0-9]:/", name) is None and os.fsencode(name).decode(errors="replace") == name:
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="jaxdd-") as room:
        link = pathlib.Path(room, "states")
        link.symlink_to(folder, target_is_directory=True)
        yield link


def read_manifest(
    path: str | os.PathLike, key: str, versions: tuple[int, ...], what: str, remedy: str
) -> dict[str, Any]:
    """Reads a manifest, which names under `key` the version of its format.

    Arguments:
        path: the file.
        key: e.g. `jaxdd_format`.
        versions: those that can be read; the last one is written.
        what: what the folder holds, for the message.
        remedy: what to do where it is of another version.

    Raises:
        CheckpointError: missing, damaged, something else, or of another version, both of which it names.
    """
    manifest = read_json(path)
    number = manifest.get(key) if isinstance(manifest, dict) else None
    if not isinstance(manifest, dict) or type(number) is not int:
        raise CheckpointError(f"no {what}", where=str(path), expected=f"a manifest with '{key}'", remedy=remedy)
    if number not in versions:
        raise CheckpointError(
            f"{what} of format {number}",
            where=str(path),
            expected=f"format {' or '.join(map(str, versions))}, which this version of jaxdd reads and writes",
            remedy=f"use the version of jaxdd that wrote it; or {remedy}",
        )
    return manifest


def sha256(data: bytes | str | os.PathLike) -> str:
    """Returns hex digest of bytes, or of a file's contents when a path is given."""
    if isinstance(data, bytes):
        return hashlib.sha256(data).hexdigest()
    with open(data, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def locked(file: IO, *, wait: bool) -> bool:
    """Locks an open file until it is closed; returns whether no other process holds it.

    Raises:
        CheckpointError: the file system has no locks.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise CheckpointError(
            f"this file system cannot lock files: {error.strerror}",
            where=str(file.name),
            expected="locks, by which two runs are kept apart",
            remedy="choose an `output_dir` on a local disk; or have the file system mounted with locks (-o flock)",
        ) from None
    return True


@contextlib.contextmanager
def folder_lock(folder: str | os.PathLike) -> Iterator[None]:
    """Keeps a second writer out of `folder`; the kernel frees the lock of a process that died.

    Raises:
        CheckpointError: another live process holds the folder; names its pid, host and start time. Or as `locked`.
    """
    path = pathlib.Path(folder) / ".lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+") as file:
        if not locked(file, wait=False):
            file.seek(0)
            raise CheckpointError(
                "another process writes into this output folder",
                where=f"{path.parent} ({file.read().strip() or 'starting up'})",
                remedy="wait for it to finish, or choose another `output_dir`",
            )
        file.truncate(0)
        file.write(f"pid {os.getpid()} on {socket.gethostname()} since {datetime.datetime.now():%Y-%m-%d %H:%M:%S}")
        file.flush()
        yield


def absolute(path: str | os.PathLike) -> pathlib.Path:
    """Returns a path as users type it, from the root on.

    Raises:
        UsageError: as in `expanded`.
    """
    return expanded(path).absolute()


def of_user(variable: str, usual: str) -> pathlib.Path:
    """Returns the folder that a variable of the environment names, or the usual one in the user's home folder.

    Without a home folder `~` stands as it is: such a folder is not there, and can be made nowhere but here.
    """
    text = os.environ.get(variable) or usual
    try:
        return pathlib.Path(text).expanduser()
    except RuntimeError:
        return pathlib.Path(text)


def expanded(path: str | os.PathLike) -> pathlib.Path:
    """Returns a path in which a user's home folder stands in the place of `~`.

    Raises:
        UsageError: nobody knows that user's folder.
    """
    try:
        return pathlib.Path(path).expanduser()
    except RuntimeError:
        raise UsageError(
            "nobody knows this user's home folder",
            where=str(path),
            expected="~ with HOME set, or ~NAME with the name of a user of this machine",
            remedy="name the whole path; or put ./ before a name that begins with ~",
        ) from None


def gigabytes(count: float) -> str:
    """Returns `0.75 GB`, and `0.12 MB` of what is small."""
    return f"{count / 1e9:.3g} GB" if count >= 1e8 else f"{count / 1e6:.3g} MB"


def shorter_path(path: pathlib.Path) -> str:
    """Returns a path relative to the working directory if it lies below it, else absolute."""
    here = pathlib.Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def duration(seconds: float) -> str:
    """Returns a time span for people: `0.8 s`, `12 s`, `4 min 10 s`, `3 h 5 min`, `2 d 4 h`."""
    if seconds != seconds:
        return "?"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24} h"


def printable(text: str) -> str:
    r"""Returns text that UTF-8 can hold: bytes of a file's name that were no UTF-8 become `\xca`."""
    shown = (f"\\x{ord(sign) - 0xDC00:02x}" if "\udc80" <= sign <= "\udcff" else sign for sign in text)
    return "".join(shown).encode("utf-8", "backslashreplace").decode("utf-8")


def as_bytes(text: str) -> bytes:
    """Returns the bytes of a file's name; UTF-8, and what was not so as it was."""
    return text.encode("utf-8", "surrogateescape")
