"""Bringing the index up to the log: after a crash, after an upgrade of the schema, after its loss.

The index covers a prefix of the log (``state.applied``). Recovery applies what follows. An index that is missing,
damaged, of another schema, of another log, or ahead of the log is removed and built anew: the log decides.
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

BATCH_RECORDS: Final = 1000
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
        CorruptRecord, FormatUnknown: From the log.
        sqlite3.Error: The index cannot be written.
    """
    directory.mkdir(mode=0o700, exist_ok=True)
    path = directory / INDEX_NAME
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


def _open_trusted(path: Path, log: Log) -> Index | None:
    """Open the index that is there, unless there is a reason not to."""
    if not path.exists():
        return None
    if path.with_name(SUSPECT_NAME).exists():
        _trace.warning("index %s: was found damaged, building it anew", path)
        return None
    connection = None
    try:
        connection = connect(path)
        index = Index(connection, log.identity)
        reason = _distrust(index, log)
    except sqlite3.DatabaseError as error:
        reason = str(error)
    if reason is None:
        return index
    _trace.warning("index %s: %s; building it anew", path, reason)
    if connection is not None:
        connection.close()
    return None


def _distrust(index: Index, log: Log) -> str | None:
    """Return why the index cannot be of this log, or none."""
    counters = index.counters
    if counters.log_identity != log.identity:
        return "it belongs to another log"
    if counters.applied > log.durable:
        return f"it covers the log up to {counters.applied}, the log ends at {log.durable}"
    if counters.last_position is None:
        return None
    try:
        last = log.read(counters.last_position)
    except CorruptRecord as error:
        return f"its last record is not in the log: {error}"
    if last.time_ns != counters.last_time_ns:
        return "its last record is another one in the log"
    return None


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
        change = decode_change(record.kind, record.body)
        if change is not None:
            try:
                apply_change(index, change, position=record.position, time_ns=record.time_ns)
            except MailError:
                continue
