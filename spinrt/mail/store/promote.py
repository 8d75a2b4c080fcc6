"""From mirror to primary, and back.

*Promote*: the index is written out from the mirror's current snapshot and told that it belongs to the mirror's own log,
from the log's end on; a first snapshot under that log makes it recoverable; last the book goes, and with it the mirror.
Each step may be repeated after a crash; before the last one the directory is the mirror that it was.

*Step down*: an old primary becomes a mirror of what was promoted. All that it has is taken into a snapshot first, so
what it wrote after the newest snapshot that both have is set aside, not lost.

The log gets a record of kind PROMOTED where the new history begins: an index built from such a log alone would be
wrong, as what was before it came as pages (``recovery.apply_records``).
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from spinrt.errors import DeviceFailed, NotFound
from spinrt.mail.store.index import INDEX_NAME, UID_MAX, connect
from spinrt.mail.store.mirrored import open_mirror
from spinrt.mail.store.snapshot_index import checked_index
from spinrt.mail.store.snapshots import INDEX_OBJECT, write_object
from spinrt.mail.store.store import Store
from spinrt.storage.datadir import DataDirectory
from spinrt.storage.device import sync_directory
from spinrt.storage.files import device_error
from spinrt.storage.log import Log
from spinrt.storage.mirror.book import BOOK_NAME, FileBook, is_mirror
from spinrt.storage.mirror.directory import MirrorDirectory
from spinrt.storage.pages import LocalPages
from spinrt.storage.protocols import Object, Snapshot
from spinrt.storage.record import KIND_PROMOTED
from spinrt.storage.snapshot import seal
from spinrt.storage.tree import TreeReader, put_page, update_digests

NUMBERS_GAP: Final = 1 << 20
"""UIDs and mod-sequences of each mailbox that a promotion leaves out: the old primary may have given out those that
follow on what the snapshot has, and a client must not meet one of them again with another message (RFC 3501 section
2.3.1.1). Of UIDs there are 2^32, so they last for 4,000 promotions."""
ASIDE_LABEL: Final = "set aside"


def promote(path: Path) -> Snapshot:
    """Make a mail store of a mirror; return its first snapshot.

    Raises:
        NotFound: It is no mirror, or has had no update yet.
        StorageError: The device refused, or the current snapshot is damaged; it is a mirror still.
        DataLocked: It is in use.
    """
    mirror = open_mirror(path, create=False)
    try:
        current, log = mirror.current(), mirror.log
        if log is None:
            raise NotFound(f"mirror {path}: has no log yet", hint="wait for the first update")
        try:
            made = _write_index(mirror, log, current)
            (path / BOOK_NAME).unlink()
            sync_directory(path)
        except OSError as error:
            raise device_error(error, f"promotion of {path}") from error
        return made
    finally:
        mirror.close()


def _write_index(mirror: MirrorDirectory, log: Log, current: Snapshot) -> Snapshot:
    item = checked_index(mirror.pages, current)
    directory = mirror.data.index_path
    with suppress(FileNotFoundError):
        shutil.rmtree(directory)  # of a promotion that was cut off
    directory.mkdir(mode=0o700)
    index = directory / INDEX_NAME
    write_object(mirror.pages, item, index)
    log.append(KIND_PROMOTED, (current.identity,), time_ns=time.time_ns())
    position = log.sync()
    _rehome(index, log.identity, position)
    others = tuple(one for one in current.objects if one.name != INDEX_OBJECT)
    made = seal(
        parent=current.identity,
        log_identity=log.identity,
        position=position,
        time_ns=max(time.time_ns(), current.time_ns + 1),
        objects=(_store_changed(mirror.pages, item, index), *others),
        label="promoted",
    )
    mirror.pages.commit(made)
    return made


def _rehome(index: Path, log_identity: bytes, position: int) -> None:
    """Tell an index that it covers all of another log, up to a position, and to go on behind `NUMBERS_GAP`."""
    try:
        with closing(connect(index)) as connection:
            connection.execute(
                "UPDATE state SET log_identity = ?, applied = ?, last_position = NULL, last_time_ns = NULL",
                (log_identity, position),
            )
            connection.execute(
                "UPDATE mailboxes SET uidnext = min(uidnext + ?, ?), modseq = modseq + ?",
                (NUMBERS_GAP, UID_MAX, NUMBERS_GAP),
            )
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as error:
        raise DeviceFailed(f"index {index}: {error}", hint="promote again; the mirror is as it was") from error


def _store_changed(pages: LocalPages, item: Object, index: Path) -> Object:
    """Store an index that differs from an object in a few pages."""
    reader, size = TreeReader(pages, item), index.stat().st_size

    def changed() -> Iterator[tuple[int, bytes, int]]:
        with index.open("rb") as file:
            for number in range(size // item.page_bytes):
                content = file.read(item.page_bytes)
                if number >= reader.shape.counts[0] or content != reader.page(number):
                    yield number, put_page(pages, content), len(content)

    return update_digests(pages, item, changed(), size)


def step_down(path: Path) -> Snapshot | None:
    """Make a mirror of a mail store that another one took the place of, or let a mirror follow another source.

    Returns:
        The snapshot that holds all that the store had; none when it is a mirror already.

    Raises:
        NotFound: There is no data directory.
        StorageError: The store cannot be opened, or the device refused.
        DataLocked: It is in use: stop the server first.
    """
    if not path.is_dir():
        raise NotFound(f"{path}: there is no data directory")
    aside = None if is_mirror(path) else asyncio.run(_take_all(path))
    with DataDirectory.open(path) as data:
        book = FileBook(path)
        standing = book.read()
        try:
            current = standing.current if aside is None else aside.identity
            book.write(replace(standing, current=current, resync=True))
            if aside is not None:
                with suppress(FileNotFoundError):
                    shutil.rmtree(data.index_path)
                sync_directory(path)
        except OSError as error:
            raise device_error(error, f"resynchronising {path}") from error
    return aside


async def _take_all(path: Path) -> Snapshot:
    store = Store.open(path)
    try:
        return await store.snapshot(label=f"{ASIDE_LABEL} {time.strftime('%Y-%m-%d %H:%M:%S')}")
    finally:
        await store.close()
