"""A consistent copy of a data directory that is in use.

The index is copied first, as of one of its transactions, then the log up to a later durable position: opening the copy
applies the difference, as after a crash.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from spinrt.errors import AlreadyExists, CorruptRecord, StorageError
from spinrt.mail.store.index import INDEX_NAME, connect
from spinrt.storage.datadir import FORMAT_VERSION, DataDirectory, write_format
from spinrt.storage.device import Device, OsDevice
from spinrt.storage.log import Log
from spinrt.storage.segment import SUFFIX

COPY_BYTES = 1024 * 1024


def back_up(source: DataDirectory, log: Log, target: Path) -> int:
    """Copy to a directory that does not exist or is empty; return the bytes of log copied. For a worker thread.

    The target is a data directory once the last file, ``FORMAT``, is there: a copy that was cut off cannot be opened.

    Raises:
        AlreadyExists: The target holds something.
        StorageError: The device refused.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise AlreadyExists(f"backup to {target}: it exists and is not an empty directory")
    try:
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        target.chmod(0o700)
        _copy_index(source.index_path / INDEX_NAME, target / "index")
        copied = copy_log(log, target / "log")
        write_format(target, FORMAT_VERSION)
    except (OSError, sqlite3.Error) as error:
        raise StorageError(f"backup to {target}: {error}", hint="remove the target and try again") from error
    return copied


def _copy_index(source: Path, directory: Path) -> None:
    directory.mkdir(mode=0o700)
    reading = connect(source, read_only=True)
    try:
        writing = connect(directory / INDEX_NAME)
        try:
            reading.backup(writing)
        finally:
            writing.close()
    finally:
        reading.close()


def copy_log(log: Log, directory: Path, *, end: int | None = None) -> int:
    """Copy what is durable of a log, or what is before the record at ``end``; return the bytes copied.

    Raises:
        CorruptRecord: A segment is shorter than it should be.
        OSError: The device refused.
    """
    with log.hold():
        return _copy_segments(log, OsDevice(directory), log.durable if end is None else end)


def _copy_segments(log: Log, writing: OsDevice, end: int) -> int:
    total = 0
    for name, durable_bytes in log.segments():
        size = min(durable_bytes, end - int(name.removesuffix(SUFFIX)))
        if size > 0:
            _copy_file(log.device, writing, name, size)
            total += size
    writing.sync()
    return total


def _copy_file(source: Device, target: Device, name: str, size: int) -> None:
    file, copy = source.open(name), target.open(name, create=True)
    try:
        for offset in range(0, size, COPY_BYTES):
            data = file.read(offset, min(COPY_BYTES, size - offset))
            if not data:
                raise CorruptRecord(f"log segment {name}: ends at {offset}, expected {size} bytes")
            copy.append([data])
        copy.sync()
    finally:
        file.close()
        copy.close()
