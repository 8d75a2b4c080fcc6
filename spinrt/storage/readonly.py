"""A device that is only looked at: what its user changes is remembered and never written.

So a log can be opened, its torn tail cut, by somebody who must not touch it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

from spinrt.storage.device import File, OsFile


class ReadOnlyDevice:
    """The files of one directory as they are, minus what was cut off or removed through this object."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._sizes: dict[str, int] = {}
        self._removed: set[str] = set()

    def list(self) -> list[str]:
        """Names of the files; none when there is no such directory."""
        try:
            entries = [entry.name for entry in os.scandir(self._directory) if entry.is_file()]
        except FileNotFoundError:
            return []
        return sorted(name for name in entries if name not in self._removed)

    def open(self, name: str, *, create: bool = False, write: bool = False) -> File:
        """Open a file for reading, also with ``write``."""
        if create:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), name)
        if name in self._removed:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        return _ReadOnlyFile(self._sizes, name, OsFile(os.open(self._directory / name, os.O_RDONLY | os.O_CLOEXEC)))

    def remove(self, name: str) -> None:
        self._removed.add(name)

    def sync(self) -> None:
        pass


class _ReadOnlyFile:
    descriptor = None

    def __init__(self, sizes: dict[str, int], name: str, inner: OsFile) -> None:
        self._sizes = sizes
        self._name = name
        self._inner = inner

    def size(self) -> int:
        return min(self._inner.size(), self._sizes.get(self._name, 2**63))

    def append(self, buffers: Sequence[bytes]) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), self._name)

    def sync(self) -> None:
        pass

    def read(self, offset: int, length: int) -> bytes:
        return self._inner.read(offset, max(0, min(length, self.size() - offset)))

    def truncate(self, size: int) -> None:
        self._sizes[self._name] = size

    def close(self) -> None:
        self._inner.close()
