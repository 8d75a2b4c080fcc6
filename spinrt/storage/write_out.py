"""Files that are written out piece by piece before they are synced.

A sync writes all that is dirty in its file at once. Whoever syncs another file of the same device meanwhile waits for
that: a delivery's commit for tens of milliseconds, when the write-ahead log of an index is synced for a checkpoint. So
whatever may have much to sync, and has the time, has it written out beforehand, a piece after the other. Nothing is
durable by that: the sync follows as ever, and finds little left to write.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from threading import Event
from typing import Final

from spinrt import _core
from spinrt.storage.device import open_regular

PIECE_BYTES: Final = 256 * 1024
"""What a sync that comes in the middle waits for, at most."""
PAUSE_S: Final = 0.002
"""Between two pieces: room for a sync."""
WRITTEN_NS: Final = 100_000
"""A piece that took less had nothing to write."""


def begin_write_out(descriptor: int) -> None:
    """Let a file's way to the device begin; returns soon. The descriptor may be the one that is synced."""
    _core.write_out(descriptor, 0, 0, False)


def write_out(descriptor: int, stop: Event) -> None:
    """Write a file out, and return when it is, or told to stop; of a descriptor that nobody syncs. For a thread."""
    for offset in range(0, os.fstat(descriptor).st_size, PIECE_BYTES):
        began_ns = time.monotonic_ns()
        _core.write_out(descriptor, offset, PIECE_BYTES, True)
        if time.monotonic_ns() - began_ns > WRITTEN_NS and stop.wait(PAUSE_S):
            return


def write_out_file(path: Path, stop: Event) -> None:
    """The same by name; not for what SQLite locks: a process that closes a file drops its locks. Raises OSError."""
    descriptor = open_regular(path, os.O_RDONLY)
    try:
        write_out(descriptor, stop)
    finally:
        os.close(descriptor)
