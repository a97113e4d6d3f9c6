"""Files: atomic writes, checksums, locks and readers that survive hostile bytes. No pickle, ever."""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import hashlib
import json
import os
import pathlib
import socket
from collections.abc import Iterator
from typing import Any

from jaxdd.core.errors import CheckpointError


def write_atomically(path: str | os.PathLike, payload: bytes | str) -> None:
    """Writes beside `path`, syncs, then renames: a reader sees the old file or the whole new one."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
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
    """Writes `content` as indented JSON, atomically."""
    write_atomically(path, json.dumps(content, indent=2, sort_keys=False, allow_nan=False) + "\n")


def read_json(path: str | os.PathLike) -> Any:
    """Reads JSON; a damaged file raises `CheckpointError` naming the line."""
    try:
        return json.loads(pathlib.Path(path).read_text())
    except FileNotFoundError:
        raise CheckpointError(
            "file not found", where=str(path), remedy="check the path, or start again in a new output folder"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CheckpointError(
            f"not valid JSON: {error}", where=str(path), remedy="restore the file or start a new output folder"
        ) from None


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


@contextlib.contextmanager
def folder_lock(folder: str | os.PathLike) -> Iterator[None]:
    """Keeps a second writer out of `folder`; the kernel frees the lock of a process that died.

    Raises:
        CheckpointError: another live process holds the folder; names its pid, host and start time.
    """
    path = pathlib.Path(folder) / ".lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if not isinstance(error, BlockingIOError):
                raise CheckpointError(
                    f"this file system cannot lock files: {error.strerror}",
                    where=str(path),
                    remedy="choose an `output_dir` on a local disk",
                ) from None
            file.seek(0)
            raise CheckpointError(
                "another process writes into this output folder",
                where=f"{path.parent} ({file.read().strip() or 'starting up'})",
                remedy="wait for it to finish, or choose another `output_dir`",
            ) from None
        file.truncate(0)
        file.write(f"pid {os.getpid()} on {socket.gethostname()} since {datetime.datetime.now():%Y-%m-%d %H:%M:%S}")
        file.flush()
        yield


def absolute(path: str | os.PathLike) -> pathlib.Path:
    """Returns a path as users type it, from the root on."""
    return pathlib.Path(path).expanduser().absolute()


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
