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
from spinrt.storage.device import OsDevice
from spinrt.storage.log import Log

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
        copied = _copy_log(log, target / "log")
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


def _copy_log(log: Log, directory: Path) -> int:
    with log.hold():
        return _copy_segments(log, OsDevice(directory))


def _copy_segments(log: Log, writing: OsDevice) -> int:
    total = 0
    for name, size in log.segments():
        file, copy = log.device.open(name), writing.open(name, create=True)
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
        total += size
    writing.sync()
    return total
