"""A snapshot written out as a data directory of its moment."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from spinrt.errors import AlreadyExists, CorruptRecord, StateError
from spinrt.mail.store.backup import copy_log
from spinrt.mail.store.index import INDEX_NAME
from spinrt.mail.store.snapshot_index import checked_index
from spinrt.mail.store.snapshots import INDEX_OBJECT, check_room, write_object
from spinrt.mail.store.views import SnapshotReader
from spinrt.storage.datadir import FORMAT_NAME, FORMAT_VERSION, write_format
from spinrt.storage.files import device_error
from spinrt.storage.log import Log
from spinrt.storage.protocols import Object, PageStore, Snapshot
from spinrt.storage.segment import SUFFIX
from spinrt.storage.tree_count import held_bytes

OBJECTS_NAME: Final = "snapshot"
"""Directory, in the target, of the objects that are not the index."""
_MADE: Final = ("index", "log", OBJECTS_NAME)
"""Directories that an export makes in the target before ``FORMAT``."""


def export_snapshot(store: PageStore, snapshot: Snapshot, log: Log, target: Path) -> int:
    """Write a snapshot to a directory that does not exist or is empty; return the bytes of log copied.

    The index is that of the snapshot, the log ends where the snapshot does, so that opening it applies nothing. The
    other objects lie in ``snapshot/``. ``FORMAT`` is written last: an export that was cut off cannot be opened. One
    that fails leaves nothing behind.

    Raises:
        AlreadyExists: The target holds something.
        StateError: Its messages do not lie in the log before its position: they were carried, or it is of another log.
        CorruptRecord, NotFound: A page or segment is damaged; or what the snapshot holds cannot be what it says.
        DeviceFull: The target's device has not the room; nothing was written.
        StorageError: The device refused.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise AlreadyExists(f"export to {target}: it exists and is not an empty directory")
    item = checked_index(store, snapshot)
    _check_bodies(store, snapshot, log)
    others = list(_others(snapshot))
    try:
        check_room(_existing(target), _needed_bytes(store, snapshot, log), f"export to {target}")
        with _nothing_left(target):
            (target / "index").mkdir(mode=0o700, parents=True, exist_ok=True)
            target.chmod(0o700)
            write_object(store, item, target / "index" / INDEX_NAME)
            for other in others:
                path = target / OBJECTS_NAME / other.name
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                write_object(store, other, path)
            copied = copy_log(log, target / "log", end=snapshot.position)
            write_format(target, FORMAT_VERSION)
    except OSError as error:
        raise device_error(error, f"export to {target}") from error
    return copied


def _existing(target: Path) -> Path:
    """The target, or the nearest directory above it that is there."""
    return next(path for path in (target, *target.absolute().parents) if path.is_dir())


def _needed_bytes(store: PageStore, snapshot: Snapshot, log: Log) -> int:
    with log.hold():
        starts = [(int(name.removesuffix(SUFFIX)), size) for name, size in log.segments()]
    log_bytes = sum(max(min(size, snapshot.position - start), 0) for start, size in starts)
    return log_bytes + sum(held_bytes(store, item) for item in snapshot.objects)


@contextmanager
def _nothing_left(target: Path) -> Iterator[None]:
    """Have a directory that was empty, or not there, so again when something is raised inside."""
    was_there = target.exists()
    try:
        yield
    except BaseException:
        for path in [target / name for name in _MADE] if was_there else [target]:
            shutil.rmtree(path, ignore_errors=True)
        for name in (FORMAT_NAME, FORMAT_NAME + ".new"):
            (target / name).unlink(missing_ok=True)
        raise


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


def _others(snapshot: Snapshot) -> Iterator[Object]:
    """Names are those of the snapshot, which may come from anyone: none leads out of the directory."""
    for item in snapshot.objects:
        if item.name == INDEX_OBJECT:
            continue
        if any(part in ("", ".", "..") for part in item.name.split("/")):
            raise CorruptRecord(f"snapshot {snapshot.identity.hex()}: object {item.name!r} cannot be a file's name")
        yield item
