"""Where bytes go: the few file operations that the log needs, behind a protocol so that tests can make them fail.

Owns: open, append, sync, read, truncate, list and remove of the files of one directory. Does not own: formats, retries
or the meaning of an error; every operation raises plain ``OSError``. ``spinrt.testing.device`` has doubles that lose
unsynced writes, tear them, and fail at a chosen step.

Rules that every implementation keeps:
    - *append* may have written any part of its bytes when it raises;
    - bytes are durable once ``File.sync`` returned; a new or removed name once ``Device.sync`` returned;
    - ``read`` sees all that was appended, durable or not.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from spinrt.errors import CorruptRecord

IOV_COUNT_MAX = 1024
"""Buffers that one ``writev`` takes on Linux (IOV_MAX)."""


class File(Protocol):
    """One append-only file."""

    @property
    def descriptor(self) -> int | None:
        """For who appends and syncs by system calls of their own; none when every operation must come through here."""
        ...

    def size(self) -> int: ...
    def append(self, buffers: Sequence[bytes]) -> None:
        """Write all buffers at the end, in order."""
        ...

    def sync(self) -> None:
        """Make all that was appended durable."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """Return up to ``length`` bytes; fewer only at the end of the file."""
        ...

    def truncate(self, size: int) -> None: ...
    def close(self) -> None: ...


class Device(Protocol):
    """The files of one flat directory."""

    def list(self) -> list[str]:
        """Every name, ascending; also of what is no file, which `open` refuses by name."""
        ...

    def open(self, name: str, *, create: bool = False, write: bool = False) -> File:
        """Open a file; ``create`` makes it and refuses one that exists. Without ``write`` it is only read."""
        ...

    def remove(self, name: str) -> None: ...
    def sync(self) -> None:
        """Make created and removed names durable."""
        ...


class OsFile:
    """A file of the operating system. Reads may come from any thread; writes come from one at a time."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @property
    def descriptor(self) -> int:
        return self._descriptor

    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def append(self, buffers: Sequence[bytes]) -> None:
        for start in range(0, len(buffers), IOV_COUNT_MAX):
            group = buffers[start : start + IOV_COUNT_MAX]
            total = sum(map(len, group))
            written = os.writev(self._descriptor, group)
            if written < total:
                self._append_rest(b"".join(group), written)

    def _append_rest(self, data: bytes, written: int) -> None:
        rest = memoryview(data)[written:]
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    def sync(self) -> None:
        os.fdatasync(self._descriptor)

    def read(self, offset: int, length: int) -> bytes:
        data = os.pread(self._descriptor, length, offset)
        while data and len(data) < length:
            more = os.pread(self._descriptor, length - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data

    def truncate(self, size: int) -> None:
        os.ftruncate(self._descriptor, size)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class OsDevice:
    """The files of one directory of the operating system, readable by their owner only."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        if directory.exists() and not directory.is_dir():
            raise CorruptRecord(f"{directory}: found a file, expected a directory", hint="restore it from a backup")
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def list(self) -> list[str]:
        return list_names(self._directory)

    def open(self, name: str, *, create: bool = False, write: bool = False) -> OsFile:
        flags = os.O_CLOEXEC | (os.O_RDWR | os.O_APPEND if write or create else os.O_RDONLY)
        if create:
            flags |= os.O_CREAT | os.O_EXCL
        return OsFile(open_regular(self._directory / name, flags))

    def remove(self, name: str) -> None:
        os.unlink(self._directory / name)

    def sync(self) -> None:
        sync_directory(self._directory)


def list_names(directory: Path) -> list[str]:
    """Return the names in a directory: what has the name of one of our files and is none must not be passed over."""
    return sorted(entry.name for entry in os.scandir(directory))


def open_regular(path: Path, flags: int) -> int:
    """Return a descriptor of a file that is, or becomes, a regular one; never waits for who else may have it open.

    Raises:
        OSError: As ``os.open``; or something else is there, such as a FIFO, and the message names it.
    """
    descriptor = None
    try:
        descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
        found = os.fstat(descriptor)
    except OSError:
        if descriptor is not None:
            os.close(descriptor)
        if path.exists() and not path.is_file():
            raise _no_file(path) from None
        raise
    if not stat.S_ISREG(found.st_mode):
        os.close(descriptor)
        raise _no_file(path)
    return descriptor


def _no_file(path: Path) -> OSError:
    return OSError(errno.EINVAL, f"{path.name} is no regular file, expected one: move it away", str(path))


def read_bounded(path: Path, bytes_max: int) -> bytes:
    """Return the content of a small file. Raises OSError: as `open_regular`, or it is longer than ``bytes_max``."""
    descriptor = open_regular(path, os.O_RDONLY)
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(bytes_max + 1)
    if len(data) > bytes_max:
        raise OSError(errno.EFBIG, f"{path.name} is longer than the {bytes_max} bytes that it may have", str(path))
    return data


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
