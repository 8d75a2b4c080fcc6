"""A snapshot written out as a data directory of its moment."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from spinrt.errors import AlreadyExists, CorruptRecord, StateError
from spinrt.mail.store.backup import copy_log
from spinrt.mail.store.contents import unfit_bodies
from spinrt.mail.store.index import INDEX_NAME
from spinrt.mail.store.mirrored import body_names, judge, open_mirror
from spinrt.mail.store.promote import promote
from spinrt.mail.store.recovery import has_all_history
from spinrt.mail.store.snapshot_index import checked_index, named
from spinrt.mail.store.snapshots import INDEX_OBJECT, check_room, write_object
from spinrt.mail.store.views import SnapshotReader
from spinrt.storage.datadir import FORMAT_VERSION, write_format
from spinrt.storage.files import device_error
from spinrt.storage.log import Log
from spinrt.storage.log_reads import GENERATION_SHIFT
from spinrt.storage.mirror import pipe
from spinrt.storage.mirror.sender import Sender
from spinrt.storage.mirror.source import StoreSource
from spinrt.storage.protocols import Object, PageStore, Snapshot
from spinrt.storage.segment import SUFFIX
from spinrt.storage.tree_count import held_bytes

OBJECTS_NAME: Final = "snapshot"
"""Directory, in the target, of the objects that are not the index."""


def export_snapshot(store: PageStore, snapshot: Snapshot, log: Log, target: Path) -> int:
    """Write a snapshot to a directory that does not exist or is empty; return the bytes of log there.

    When the log has all of its history, the index is that of the snapshot and the log is copied up to
    there, so that opening it applies nothing. Else (segments expired, or this store was promoted, or the snapshot is
    of another log) the target is a mirror of the snapshot that is promoted: a log of its own has the messages.
    The other objects lie in ``snapshot/``. An export that was cut off cannot be opened. One that fails leaves nothing
    behind.

    Raises:
        AlreadyExists: The target holds something.
        StateError: The snapshot is of a branch.
        CorruptRecord, NotFound: A page or segment is damaged; or what the snapshot holds cannot be what it says.
        DeviceFull: The target's device has not the room; nothing was written.
        StorageError: The device refused.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise AlreadyExists(f"export to {target}: it exists and is not an empty directory")
    with SnapshotReader(store, snapshot, log) as reader:
        bodies = reader.bodies()
        if reader.log_identity != snapshot.log_identity:
            raise StateError(f"{named(snapshot)}: is of a branch", hint="export the snapshot that the branch began at")
    in_log = snapshot.log_identity == log.identity and has_all_history(log, snapshot.position)
    others = list(_others(snapshot))
    needed = (_copied_bytes(log, snapshot.position) if in_log else bodies.bytes) + sum(
        held_bytes(store, item) for item in snapshot.objects
    )
    try:
        check_room(_existing(target), needed, f"export to {target}")
        with _nothing_left(target):
            if in_log:
                return _copy(store, snapshot, log, target, others)
            return _carry(store, snapshot, log, target, others, bodies.highest)
    except OSError as error:
        raise device_error(error, f"export to {target}") from error


def _copy(store: PageStore, snapshot: Snapshot, log: Log, target: Path, others: list[Object]) -> int:
    """The log as it is. ``FORMAT`` is written last."""
    (target / "index").mkdir(mode=0o700, parents=True, exist_ok=True)
    target.chmod(0o700)
    write_object(store, checked_index(store, snapshot), target / "index" / INDEX_NAME)
    _write_others(store, others, target)
    copied = copy_log(log, target / "log", end=snapshot.position)
    write_format(target, FORMAT_VERSION)
    return copied


def _carry(
    store: PageStore, snapshot: Snapshot, log: Log, target: Path, others: list[Object], highest_name: int
) -> int:
    """Each body under its name, in a log of a generation above all names. The target is a mirror until the end."""
    source = StoreSource(store, log, snapshot, body_names)
    source.generation = max(source.generation, highest_name >> GENERATION_SHIFT)
    mirror = open_mirror(target)
    try:
        pipe.run(Sender(source), mirror.receiver(judge, contents=unfit_bodies))
        assert mirror.log is not None
        copied = mirror.log.end - mirror.log.start
    finally:
        mirror.close()
    _write_others(store, others, target)
    promote(target)
    return copied


def _write_others(store: PageStore, others: list[Object], target: Path) -> None:
    for other in others:
        path = target / OBJECTS_NAME / other.name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_object(store, other, path)


def _existing(target: Path) -> Path:
    """The target, or the nearest directory above it that is there."""
    return next(path for path in (target, *target.absolute().parents) if path.is_dir())


def _copied_bytes(log: Log, end: int) -> int:
    with log.hold():
        starts = [(int(name.removesuffix(SUFFIX)), size) for name, size in log.segments()]
    return sum(max(min(size, end - start), 0) for start, size in starts)


@contextmanager
def _nothing_left(target: Path) -> Iterator[None]:
    """Have a directory that was empty, or not there, so again when something is raised inside."""
    was_there = target.exists()
    try:
        yield
    except BaseException:
        for path in list(target.iterdir()) if was_there else [target]:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        raise


def _others(snapshot: Snapshot) -> Iterator[Object]:
    """Names are those of the snapshot, which may come from anyone: none leads out of the directory."""
    for item in snapshot.objects:
        if item.name == INDEX_OBJECT:
            continue
        if any(part in ("", ".", "..") for part in item.name.split("/")):
            raise CorruptRecord(f"snapshot {snapshot.identity.hex()}: object {item.name!r} cannot be a file's name")
        yield item
