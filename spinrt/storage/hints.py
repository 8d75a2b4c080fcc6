"""Which body has a digest: hints that make a body that comes twice be stored once.

Advisory in every way: an entry may be missing, stale or nonsense, and whoever follows one compares the bytes. So the
table is kept in memory, as a file that is mapped could kill the process when its device fails or is full, and the file
is written now and then without being synced. A crash costs what was remembered since.

File, numbers as the machine writes them: magic (8 bytes; one of another machine is not known), identity of the log
(16), count of entries (u64), then the slots of ``HintTable``.

*Bounded*: `SLOTS_MAX` slots of 16 bytes. The table is doubled when half full, up to that; then new entries replace old
ones.
"""

from __future__ import annotations

import contextlib
import os
import struct
from pathlib import Path
from typing import Final

from spinrt._core import HintTable
from spinrt.storage.device import open_regular

HINTS_NAME: Final = "bodies.hints"
SLOT_BYTES: Final = 16
SLOTS_MIN: Final = 1024
SLOTS_MAX: Final = 1 << 18
POSITION_MAX: Final = 2**62 - 1

_FRONT: Final = struct.Struct("=8s16sQ")
_MAGIC: Final = struct.pack("=Q", int.from_bytes(b"SPINHNT\n", "big"))


class Hints:
    """The table of one log. Made by `open`."""

    def __init__(self, path: Path, log_identity: bytes, table: HintTable) -> None:
        self._path = path
        self._log_identity = log_identity
        self._table = table
        self.changed = False
        """Whether anything was remembered since the last `save`."""

    @classmethod
    def open(cls, path: Path, log_identity: bytes) -> Hints:
        """Return what the file remembers of a log; nothing when it is missing, unreadable or of another log."""
        table = None
        with contextlib.suppress(OSError):
            table = _load(path, log_identity)
        return cls(path, log_identity, table or HintTable(bytearray(SLOTS_MIN * SLOT_BYTES)))

    def find(self, digest: bytes) -> int | None:
        """Return the position of a body that may have that digest."""
        found = self._table.find(digest)
        return found if found is not None and found <= POSITION_MAX else None

    def put(self, digest: bytes, position: int) -> None:
        """Remember where a body is. Doubles the table now and then: some milliseconds at the most."""
        table = self._table
        table.put(digest, position)
        self.changed = True
        if table.count * SLOT_BYTES * 2 > len(table.memory) and len(table.memory) < SLOTS_MAX * SLOT_BYTES:
            self._table = table.wider()

    def save(self) -> None:
        """Write the file; any thread, also while others `put`. A failure is of no consequence."""
        table, self.changed = self._table, False
        new = self._path.with_name(self._path.name + ".new")
        with contextlib.suppress(OSError):
            descriptor = open_regular(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            try:
                os.writev(descriptor, [_FRONT.pack(_MAGIC, self._log_identity, table.count), table.memory])
            finally:
                os.close(descriptor)
            new.rename(self._path)


def _load(path: Path, log_identity: bytes) -> HintTable | None:
    with os.fdopen(open_regular(path, os.O_RDONLY), "rb") as file:
        front = file.read(_FRONT.size)
        if len(front) < _FRONT.size:
            return None
        magic, identity, count = _FRONT.unpack(front)
        memory = bytearray(file.read(SLOTS_MAX * SLOT_BYTES + 1))
    slots = len(memory) // SLOT_BYTES
    fits = SLOTS_MIN <= slots <= SLOTS_MAX and slots & (slots - 1) == 0 and slots * SLOT_BYTES == len(memory)
    if magic != _MAGIC or identity != log_identity or not fits or count > slots:
        return None
    return HintTable(memory, count)
