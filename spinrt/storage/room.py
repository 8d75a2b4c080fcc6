"""Room on the device: whether an error means that there is none, and some that is held back for the next start.

SQLite cannot open a database without some tens of kilobytes beside it, so a server on a full device could not start
again after a stop. So a file of up to `RESERVE_BYTES` is allocated while there is room. A start on a device that is
nearly full gives it up first, and holds back what is left when all is open: what the start did not need is not
there for mail.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Final

from spinrt.storage.device import open_regular

RESERVE_NAME: Final = "RESERVE"
"""In the data directory. May be removed at any time, for room."""
RESERVE_BYTES: Final = 4 * 1024 * 1024
RESERVE_BYTES_MIN: Final = 128 * 1024
"""Less is not worth holding back."""
FULL_BYTES: Final = 64 * 1024
"""With less than this SQLite cannot open a database, and does not say why."""


def free_bytes(directory: Path) -> int:
    """Return what this process may still write to a directory's device. Raises OSError."""
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize


def means_full(error: sqlite3.Error, directory: Path) -> bool:
    """Tell whether SQLite failed for want of room in a directory, which it calls an I/O error when it maps a file."""
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
        return True
    try:
        return isinstance(error, sqlite3.OperationalError) and free_bytes(directory) < FULL_BYTES
    except OSError:
        return False


def give_up(directory: Path) -> None:
    """Give the room that is held back to whoever needs it, when hardly any other is left. Raises OSError."""
    if free_bytes(directory) < RESERVE_BYTES:
        (directory / RESERVE_NAME).unlink(missing_ok=True)


def hold_back(directory: Path) -> int:
    """Hold room back, as much as there is up to `RESERVE_BYTES`; return how many bytes. Raises OSError: no file."""
    path = directory / RESERVE_NAME
    descriptor = open_regular(path, os.O_RDWR | os.O_CREAT)
    try:
        size = min(RESERVE_BYTES, free_bytes(directory) + os.fstat(descriptor).st_blocks * 512 - FULL_BYTES)
        while size >= RESERVE_BYTES_MIN:
            with suppress(OSError):
                os.posix_fallocate(descriptor, 0, size)
                return size
            os.ftruncate(descriptor, 0)
            size //= 2
    finally:
        os.close(descriptor)
    path.unlink(missing_ok=True)
    return 0
