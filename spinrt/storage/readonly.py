"""A device that is only looked at: what its user writes, cuts off or removes is kept in memory, and never written.

So a log or a page store can be opened, and mend what a crash left, by somebody who must not touch it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from spinrt.storage.device import File, OsFile, list_names, open_regular


@dataclass(slots=True)
class _Change:
    """What became of a file: its first ``kept`` bytes as they are, some of them patched, and then ``added``."""

    kept: int
    added: bytearray = field(default_factory=bytearray)
    patches: dict[int, int] = field(default_factory=dict)
    """Offset → byte."""


class ReadOnlyDevice:
    """The files of one directory as they are, with what was done through this object on top."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._changes: dict[str, _Change] = {}
        self._removed: set[str] = set()

    def list(self) -> list[str]:
        """As `Device.list`; none when there is no such directory."""
        try:
            entries = set(list_names(self.directory))
        except FileNotFoundError:
            entries = set()
        return sorted((entries | self._changes.keys()) - self._removed)

    def open(self, name: str, *, create: bool = False, write: bool = False) -> File:
        """As `Device.open`; no file of the directory is ever opened for writing."""
        there = name in self.list()
        if create:
            if there:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
            self._removed.discard(name)
            self._changes[name] = _Change(0)
        elif not there:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        path = self.directory / name
        inner = OsFile(open_regular(path, os.O_RDONLY)) if path.exists() else None
        return _ReadOnlyFile(self, name, inner)

    def remove(self, name: str) -> None:
        self._changes.pop(name, None)
        self._removed.add(name)

    def sync(self) -> None:
        pass

    def patch(self, name: str, offset: int, byte: int) -> None:
        """Show another byte at an offset of a file."""
        self.change(name).patches[offset] = byte

    def change(self, name: str) -> _Change:
        """What became of a file; made when it is asked for."""
        found = self._changes.get(name)
        if found is None:
            found = self._changes[name] = _Change((self.directory / name).stat().st_size)
        return found

    def changed(self, name: str) -> _Change | None:
        """What became of a file; none when it is as it was."""
        return self._changes.get(name)


class _ReadOnlyFile:
    descriptor = None

    def __init__(self, device: ReadOnlyDevice, name: str, inner: OsFile | None) -> None:
        self._device = device
        self._name = name
        self._inner = inner

    def size(self) -> int:
        change = self._device.changed(self._name)
        if change is not None:
            return change.kept + len(change.added)
        return 0 if self._inner is None else self._inner.size()

    def append(self, buffers: Sequence[bytes]) -> None:
        self._device.change(self._name).added += b"".join(buffers)

    def sync(self) -> None:
        pass

    def read(self, offset: int, length: int) -> bytes:
        change = self._device.changed(self._name)
        if change is None:
            return b"" if self._inner is None else self._inner.read(offset, length)
        kept = max(0, min(length, change.kept - offset))
        base = b"" if self._inner is None or not kept else self._inner.read(offset, kept)
        for at, byte in change.patches.items():
            if offset <= at < offset + len(base):
                base = base[: at - offset] + bytes([byte]) + base[at - offset + 1 :]
        start = max(0, offset - change.kept)
        return base + bytes(change.added[start : start + length - kept])

    def truncate(self, size: int) -> None:
        change = self._device.change(self._name)
        del change.added[max(0, size - change.kept) :]
        change.kept = min(change.kept, size)

    def close(self) -> None:
        if self._inner is not None:
            self._inner.close()
