"""Bringing the index up to the log: after a crash, after an upgrade of the schema, after its loss.

The index covers a prefix of the log (``state.applied``). Recovery applies what follows. An index that is missing,
damaged or of another schema is removed and built anew: the log decides. An index that covers records which the log does
not have is the only witness of their loss: then nothing is touched and the start is refused, because without them
messages would be gone unnoticed and their UIDs given out again. No crash leaves that behind, as only durable records
are applied.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterator
from itertools import islice, takewhile
from pathlib import Path
from typing import Final

from spinrt.errors import CorruptRecord, MailError
from spinrt.mail.store.apply import apply_change
from spinrt.mail.store.changes import decode_change
from spinrt.mail.store.index import INDEX_NAME, Index, connect, remove_index
from spinrt.storage.log import Log, Record
from spinrt.storage.record import KIND_PROMOTED

BATCH_RECORDS: Final = 1000
INTEGRITY_BYTES_MAX: Final = 16 * 1024 * 1024
"""An index up to this size is compared with its own B-trees at every start: about 60 ms."""
QUICK_BYTES_MAX: Final = 64 * 1024 * 1024
"""Up to this size its B-trees are checked at every start: about 100 ms."""
UNCLEAN_BYTES_MAX: Final = 1024 * 1024 * 1024
"""Up to this size they are checked when the last stop was not clean: about 2 s."""
SUSPECT_NAME: Final = "REBUILD"
"""A file of this name beside the index says that it is not to be trusted: found damaged while running."""

Progress = Callable[[int, int], None]
"""Called with the log position reached and the position to reach."""

_trace = logging.getLogger("spinrt.mail.store")


def open_index(
    directory: Path, log: Log, progress: Progress | None = None, *, rebuild: bool = False, end: int | None = None
) -> Index:
    """Return the index of a log, covering all that is durable, or what is before ``end``.

    Args:
        directory: Holds the index; created when missing.
        progress: Told now and then while records are applied.
        rebuild: Do not use the index that is there.

    Raises:
        CorruptRecord: From the log; or the index covers records that the log does not have; or the index is no file.
        FormatUnknown: From the log.
        sqlite3.Error: The index cannot be written.
    """
    path = directory / INDEX_NAME
    _check_places(directory, path)
    directory.mkdir(mode=0o700, exist_ok=True)
    index = None if rebuild else _open_trusted(path, log)
    if index is None:
        index = _create(path, log)
    try:
        catch_up(index, log, progress, end)
    except BaseException:
        index.close()
        raise
    (directory / SUSPECT_NAME).unlink(missing_ok=True)
    return index


def suspect_index(directory: Path) -> None:
    """Have the index built anew at the next start."""
    (directory / SUSPECT_NAME).touch(mode=0o600)


def _create(path: Path, log: Log) -> Index:
    remove_index(path)
    connection = connect(path)
    try:
        return Index(connection, log.identity)
    except BaseException:
        connection.close()
        raise


def _check_places(directory: Path, path: Path) -> None:
    if directory.exists() and not directory.is_dir():
        raise CorruptRecord(
            f"index {directory}: found a file, expected a directory", hint="move it away and start again"
        )
    if path.exists() and not path.is_file():
        raise CorruptRecord(f"index {path}: found no file, expected a database", hint="move it away and start again")


def _open_trusted(path: Path, log: Log) -> Index | None:
    """Open the index that is there, unless there is a reason not to. Raises CorruptRecord: it covers what is lost."""
    if not path.exists():
        return None
    if path.with_name(SUSPECT_NAME).exists():
        _trace.warning("index %s: was found damaged, building it anew", path)
        return None
    clean = not path.with_name(path.name + "-wal").exists()
    connection = None
    try:
        connection = connect(path)
        index = Index(connection, log.identity)
        missing = _missing(index, log)
        reason = missing if missing and not index.counters.last_position else _damage(index, path, clean=clean)
    except sqlite3.DatabaseError as error:
        missing, reason = None, str(error)
    if reason is None and missing is None:
        return index
    if connection is not None:
        connection.close()
    if reason is None:
        raise CorruptRecord(
            f"log beside index {path}: {missing}; the index was left as it is",
            hint=f"restore the data directory from a backup; to accept the loss instead, remove {path.parent}",
        )
    _trace.warning("index %s: %s; building it anew", path, reason)
    return None


def _missing(index: Index, log: Log) -> str | None:
    """Return what the index covers and the log does not have, or none."""
    counters = index.counters
    if counters.log_identity != log.identity:
        return (
            f"found a log that ends at {log.durable}, expected the one that the index is of, up to {counters.applied};"
            " the log was removed, emptied or exchanged"
        )
    if counters.applied > log.durable:
        return (
            f"ends at {log.durable}, expected {counters.applied} or more, which the index covers; its end was cut off"
        )
    if counters.last_position is None:
        return None
    try:
        last = log.read(counters.last_position)
    except CorruptRecord as error:
        return f"found no record at {counters.last_position}, expected the last one that the index covers: {error}"
    if last.time_ns != counters.last_time_ns:
        return f"found another record at {counters.last_position} than the last one that the index covers"
    return None


def _damage(index: Index, path: Path, *, clean: bool) -> str | None:
    """Return what SQLite finds wrong in the index, or none; how thoroughly it looks is bounded by the size."""
    size = path.stat().st_size
    if size <= INTEGRITY_BYTES_MAX:
        check = "integrity_check"
    elif size <= (QUICK_BYTES_MAX if clean else UNCLEAN_BYTES_MAX):
        check = "quick_check"
    else:
        return None
    found = str(index.connection.execute(f"PRAGMA {check}(1)").fetchone()[0])
    return None if found == "ok" else found.replace("\n", " ")


def catch_up(index: Index, log: Log, progress: Progress | None = None, end: int | None = None) -> None:
    """Apply the durable records (before ``end``) that the index does not cover."""
    target = log.durable if end is None else end
    records = takewhile(lambda record: record.position < target, log.records(index.counters.applied))
    while batch := list(islice(records, BATCH_RECORDS)):
        reached = batch[-1].next_position
        with index.transaction(reached):
            apply_records(index, batch)
        if progress is not None:
            progress(reached, target)
    if index.counters.applied < target:
        with index.transaction(target):
            pass


def apply_records(index: Index, records: list[Record] | Iterator[Record]) -> None:
    """Apply the changes in records; what failed when it was new fails again, and changes as little."""
    for record in records:
        if record.kind == KIND_PROMOTED:
            raise CorruptRecord(
                f"index: at log position {record.position} this mail store was promoted from snapshot"
                f" {record.body.hex()[:12]}; what was before is not in its log",
                hint="restore the index from a snapshot taken since; the log alone does not have it",
            )
        change = decode_change(record.kind, record.body)
        if change is not None:
            try:
                apply_change(index, change, position=record.position, time_ns=record.time_ns)
            except MailError:
                continue
