"""A snapshot written out as a data directory of its moment."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from spinrt.errors import AlreadyExists, CorruptRecord, StateError, StorageError
from spinrt.mail.store.backup import copy_log
from spinrt.mail.store.index import INDEX_NAME
from spinrt.mail.store.snapshots import INDEX_OBJECT, index_of, write_object
from spinrt.mail.store.views import SnapshotReader
from spinrt.storage.datadir import FORMAT_VERSION, write_format
from spinrt.storage.log import Log
from spinrt.storage.protocols import PageStore, Snapshot

OBJECTS_NAME: Final = "snapshot"
"""Directory, in the target, of the objects that are not the index."""


def export_snapshot(store: PageStore, snapshot: Snapshot, log: Log, target: Path) -> int:
    """Write a snapshot to a directory that does not exist or is empty; return the bytes of log copied.

    The index is that of the snapshot, the log ends where the snapshot does, so that opening it applies nothing. The
    other objects lie in ``snapshot/``. ``FORMAT`` is written last: an export that was cut off cannot be opened.

    Raises:
        AlreadyExists: The target holds something.
        StateError: Its messages do not lie in the log before its position: they were carried, or it is of another log.
        CorruptRecord, NotFound: A page or segment is damaged.
        StorageError: The device refused.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise AlreadyExists(f"export to {target}: it exists and is not an empty directory")
    _check_bodies(store, snapshot, log)
    try:
        (target / "index").mkdir(mode=0o700, parents=True, exist_ok=True)
        target.chmod(0o700)
        item = index_of(snapshot)
        assert item is not None
        write_object(store, item, target / "index" / INDEX_NAME)
        _write_others(store, snapshot, target / OBJECTS_NAME)
        copied = copy_log(log, target / "log", end=snapshot.position)
        write_format(target, FORMAT_VERSION)
    except OSError as error:
        raise StorageError(f"export to {target}: {error}", hint="remove the target and try again") from error
    return copied


def _check_bodies(store: PageStore, snapshot: Snapshot, log: Log) -> None:
    if snapshot.log_identity != log.identity:
        raise StateError(f"snapshot {snapshot.identity.hex()}: is of a branch or of another log, which is not here")
    with SnapshotReader(store, snapshot, log) as reader:
        lowest = reader.lowest_body()
    if not log.whole or (lowest is not None and lowest < log.start):
        raise StateError(
            f"snapshot {snapshot.identity.hex()}: the log begins at {log.start}, expected its beginning: what it needs"
            " lies behind it",
            hint="have `spinrt mirror` keep a copy in a directory, and promote that",
        )


def _write_others(store: PageStore, snapshot: Snapshot, directory: Path) -> None:
    """Names are those of the snapshot, which may come from anyone: none leads out of the directory."""
    for item in snapshot.objects:
        if item.name == INDEX_OBJECT:
            continue
        path = directory / item.name
        if any(part in ("", ".", "..") for part in item.name.split("/")):
            raise CorruptRecord(f"snapshot {snapshot.identity.hex()}: object {item.name!r} cannot be a file's name")
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_object(store, item, path)
