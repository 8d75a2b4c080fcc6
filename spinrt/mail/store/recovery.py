"""Bringing the index up to the log: after a crash, after an upgrade of the schema, after its loss.

The index covers a prefix of the log (``state.applied``). Recovery applies what follows. An index that is missing,
damaged or of another schema is removed and built anew: from the newest snapshot whose pages are all there and right,
and the log behind it; without one from the log alone, as long as that still begins at its beginning. An index, or a
snapshot, that covers records which the log does not have is the only witness of their loss: then nothing is touched and
the start is refused, because without them messages would be gone unnoticed and their UIDs given out again. No crash
leaves that behind, as only durable records are applied.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice, takewhile
from pathlib import Path
from typing import Final

from spinrt.errors import CorruptRecord, MailError, NotFound
from spinrt.mail.store.apply import apply_change
from spinrt.mail.store.changes import decode_change
from spinrt.mail.store.index import INDEX_NAME, Index, connect, remove_index
from spinrt.mail.store.snapshot_index import checked_index
from spinrt.mail.store.snapshots import SnapshotStore, index_of, write_object
from spinrt.mail.store.witness import opened_index
from spinrt.storage.datadir import LOG_NAME
from spinrt.storage.device import Device
from spinrt.storage.files import device_error
from spinrt.storage.log import Log, Record
from spinrt.storage.pages import LocalPages
from spinrt.storage.protocols import Snapshot
from spinrt.storage.readonly import ReadOnlyDevice
from spinrt.storage.record import HEADER_BYTES, KIND_PROMOTED
from spinrt.storage.room import means_full
from spinrt.storage.segment import segment_name, segment_starts

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


class Promoted(CorruptRecord):
    """The log does not have all of the history: a mirror was promoted. An index is taken from a snapshot instead."""


def open_index(
    directory: Path,
    log: Log,
    progress: Progress | None = None,
    *,
    rebuild: bool = False,
    end: int | None = None,
    snapshots: SnapshotStore | None = None,
) -> Index:
    """Return the index of a log, covering all that is durable, or what is before ``end``.

    Args:
        directory: Holds the index; created when missing.
        progress: Told now and then while records are applied.
        rebuild: Do not use the index that is there, nor, if the log is whole, a snapshot.
        snapshots: What an index that is missing or damaged is taken from, first.

    Raises:
        CorruptRecord: From the log; or index or snapshots cover records that the log does not have; or the index is no
            file; or there is nothing to build it from.
        FormatUnknown: From the log.
        sqlite3.Error: The index cannot be written, or the device has no room to open it.
    """
    path = directory / INDEX_NAME
    _check_places(directory, path)
    directory.mkdir(mode=0o700, exist_ok=True)
    index = None if rebuild else _open_trusted(path, log)
    if index is None and snapshots is not None and not (rebuild and log.whole):
        index = restore_index(path, log, snapshots, log.durable if end is None else end)
    if index is None:
        index = _create(path, log)
    try:
        catch_up(index, log, progress, end)
    except Promoted:
        index.close()
        target = log.durable if end is None else end
        restored = None if snapshots is None else restore_index(path, log, snapshots, target)
        if restored is None:
            raise
        index = restored
        catch_up(index, log, progress, end)
    except BaseException:
        index.close()
        raise
    (directory / SUSPECT_NAME).unlink(missing_ok=True)
    return index


def refuse_lost_log(data_directory: Path, device: Device | None) -> None:
    """Refuse to begin a log beside an index that covers records: asked before anything is made.

    Args:
        device: Where the log is looked for; by default files below the data directory.

    Raises:
        CorruptRecord: There is no segment, or only one that has no header, and the index is of a log that had more.
    """
    path = data_directory / "index" / INDEX_NAME
    try:
        if not path.is_file() or _has_segment(device or ReadOnlyDevice(data_directory / LOG_NAME)):
            return
        with opened_index(path) as connection:
            row = connection.execute("SELECT applied FROM state WHERE last_position IS NOT NULL").fetchone()
    except (OSError, sqlite3.Error):  # it says nothing; opening it will say what is wrong
        return
    if row is not None:
        missing = f"found no segment, expected the log that the index is of, up to {row[0]}; the log was removed"
        raise _lost(path, missing)


def _has_segment(device: Device) -> bool:
    for start in segment_starts(device):
        with closing(device.open(segment_name(start))) as file:
            if file.size() >= HEADER_BYTES:
                return True
    return False


def restore_index(path: Path, log: Log, snapshots: SnapshotStore, end: int) -> Index | None:
    """Write out the index of the newest snapshot of this log that can be read, and open it; none if there is none.

    Args:
        end: Snapshots behind this position are not looked at, unless the log does not reach them at all.

    Raises:
        CorruptRecord: A snapshot covers records that the log does not have.
        sqlite3.Error: The index cannot be written.
    """
    if not snapshots.exists:
        return None
    store = snapshots.pages
    for snapshot in reversed(store.snapshots()):
        if snapshot.log_identity != log.identity:
            continue
        if snapshot.position > log.durable:
            raise CorruptRecord(
                f"log: ends at {log.durable}, expected {snapshot.position} or more, which snapshot"
                f" {snapshot.identity.hex()} covers; its end was cut off",
                hint="restore the data directory from a backup or a mirror; to accept the loss, delete that snapshot",
            )
        if snapshot.position <= end and (index := _restore(path, log, store, snapshot)) is not None:
            return index
    return None


def _restore(path: Path, log: Log, store: LocalPages, snapshot: Snapshot) -> Index | None:
    if index_of(snapshot) is None:
        return None
    remove_index(path)
    connection = None
    try:
        write_object(store, checked_index(store, snapshot), path)
        connection = connect(path)
        index = Index(connection, log.identity)
        if (index.counters.log_identity, index.counters.applied) == (log.identity, snapshot.position):
            _trace.warning("index %s: taken from snapshot %s", path, snapshot.identity.hex())
            return index
        problem: object = "its index is of another log or position"
    except (NotFound, CorruptRecord, sqlite3.DatabaseError) as error:
        problem = error
    except OSError as error:
        raise device_error(error, f"index {path}: restore from a snapshot") from error
    if connection is not None:
        connection.close()
    _trace.warning("snapshot %s: not usable as index: %s", snapshot.identity.hex(), problem)
    return None


def suspect_index(directory: Path) -> None:
    """Have the index built anew at the next start."""
    (directory / SUSPECT_NAME).touch(mode=0o600)


def _create(path: Path, log: Log) -> Index:
    if not log.whole:
        raise CorruptRecord(
            f"index {path}: missing or damaged, and nothing to build it from: the log begins at {log.start}, expected"
            " its beginning, or a snapshot that can be read",
            hint="restore the data directory from a backup or a mirror",
        )
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
        reason = missing if missing and not index.counters.last_position else None
        reason = reason or _left_behind(index, log) or _damage(index, path, clean=clean)
    except sqlite3.DatabaseError as error:
        if means_full(error, path.parent):  # it may be as it should be
            if connection is not None:
                connection.close()
            raise
        missing, reason = None, str(error)
    if reason is None and missing is None:
        return index
    if connection is not None:
        connection.close()
    if reason is None:
        raise _lost(path, missing)
    _trace.warning("index %s: %s; building it anew", path, reason)
    return None


def _lost(path: Path, missing: str | None) -> CorruptRecord:
    return CorruptRecord(
        f"log beside index {path}: {missing}; the index was left as it is",
        hint="promote the mirror, or restore the data directory from a backup; to accept the loss instead,"
        f" remove {path.parent}",
    )


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
    if counters.last_position is None or counters.last_position < log.start:  # it expired: a snapshot covers it
        return None
    try:
        last = log.read(counters.last_position)
    except CorruptRecord as error:
        return f"found no record at {counters.last_position}, expected the last one that the index covers: {error}"
    if last.time_ns != counters.last_time_ns:
        return f"found another record at {counters.last_position} than the last one that the index covers"
    return None


def _left_behind(index: Index, log: Log) -> str | None:
    """Return why the log cannot bring the index up to date, or none.

    A crash may take back the index's last transactions, and with them what a snapshot covers and the log has given up.
    """
    begins = log.segment_list()[0].header.previous_end
    if log.whole or index.counters.applied >= begins:
        return None
    return f"covers the log up to {index.counters.applied}, what follows up to {begins} has expired"


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


def has_all_history(log: Log, end: int) -> bool:
    """Tell whether an index of what is before a position can be built from the log alone. Cost: a look at each header.

    Raises CorruptRecord: a header is damaged.
    """
    if not log.whole:
        return False
    with closing(log.headers_since(0)) as headers:
        before = takewhile(lambda header: header.position < end, headers)
        return all(header.kind != KIND_PROMOTED for header in before)


def apply_records(index: Index, records: list[Record] | Iterator[Record]) -> None:
    """Apply the changes in records; what failed when it was new fails again, and changes as little."""
    for record in records:
        if record.kind == KIND_PROMOTED:
            raise Promoted(
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
