"""Files before they are opened: regular ones alone, of a bounded size, and fit for this machine's memory.

A FIFO, a socket or a device among data would be waited for without an end, or would never end itself.
"""

from __future__ import annotations

import os
import pathlib
import stat

from jaxdd.core.errors import DataError

SMALL = 2**30  # bytes that every machine is trusted to have


def require_regular(path: str | os.PathLike, kind: str) -> int:
    """Returns a file's size in bytes; links are followed, nothing is opened.

    Arguments:
        path: the file.
        kind: what it should be, for the message: "an image".

    Raises:
        DataError: it is missing, or a FIFO, socket, device or folder.
    """
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"cannot read {kind}: {reason}", where=str(path), remedy="check the path") from None
    if not stat.S_ISREG(status.st_mode):
        names = {stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket", stat.S_IFDIR: "a folder"}
        raise DataError(
            f"{kind} that is {names.get(stat.S_IFMT(status.st_mode), 'a device')}",
            where=str(path),
            expected="a regular file",
            remedy="remove it from the data, or write its contents to a file",
        )
    return status.st_size


def read_text(path: pathlib.Path, limit: int = 2**26) -> str:
    """Returns the text of a regular file of at most `limit` bytes.

    Raises:
        DataError: it is something else, or longer.
        UnicodeDecodeError: it is not UTF-8.
    """
    size = require_regular(path, "a text file")
    if size > limit:
        expected = f"at most {limit} bytes"
        raise DataError(f"a text file of {size} bytes", where=str(path), expected=expected, remedy="download again")
    return path.read_text(encoding="utf-8")


def require_memory(size: int, what: str, where: str, remedy: str) -> None:
    """Refuses more bytes than this machine has memory."""
    if size <= SMALL:
        return
    from jaxdd.core import backend  # which needs JAX

    if size > backend.machine_bytes():
        raise DataError(
            f"{what} take {size / 2**30:.0f} GiB",
            where=where,
            expected=f"at most the {backend.machine_bytes() / 2**30:.0f} GiB of memory of this machine",
            remedy=remedy,
        )
