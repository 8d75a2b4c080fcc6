"""Snapshots of the mail store: the index as of a cut, and what goes with it, as objects of one snapshot.

Everything here runs on worker threads; `Store.snapshot` makes the cut on the event loop.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from spinrt.errors import CorruptRecord, DeviceFull, NotFound, UsageError
from spinrt.mail.store.checkpoint import Cut
from spinrt.storage.datadir import LOG_NAME, PAGES_NAME
from spinrt.storage.device import Device, open_regular, sync_directory
from spinrt.storage.files import device_error
from spinrt.storage.mirror.book import FileBook, is_mirror
from spinrt.storage.pages import LocalPages
from spinrt.storage.protocols import PAGE_BYTES_MAX, Object, PageStore, Snapshot
from spinrt.storage.readonly import ReadOnlyDevice
from spinrt.storage.room import free_bytes
from spinrt.storage.segment import log_on
from spinrt.storage.snapshot import KIND_INDEX, seal
from spinrt.storage.tree import Pages, build, build_bytes, held_pages, pages, put_page, update_digests, walk
from spinrt.storage.tree_count import held_bytes
from spinrt.storage.wal import Changes, Taken

INDEX_OBJECT: Final = "index"
IDENTITY_DIGITS_MIN: Final = 4
NEWEST: Final = "newest"
"""What an operator calls the newest snapshot."""

_trace: Final = logging.getLogger("spinrt.mail.store")


class Attachment(NamedTuple):
    """Something that goes into a snapshot beside the index: bytes, or a file that is read when it is taken."""

    name: str
    kind: int
    content: bytes | Path


class SnapshotStore:
    """The page store of one data directory, opened when it is first needed, and one snapshot at a time into it."""

    def __init__(self, directory: Path, device: Device | None = None) -> None:
        self._directory = directory / PAGES_NAME
        self._device = device
        self._lock = threading.Lock()
        self._pages: LocalPages | None = None
        self._closed = False
        self._sought: frozenset[bytes] = frozenset()
        """Damaged pages that are in no index any more: they are of older snapshots, and not looked for again."""

    @property
    def exists(self) -> bool:
        """Whether there is a page store: whoever only looks need not make one."""
        return self._pages is not None or self._device is not None or self._directory.is_dir()

    @property
    def pages(self) -> LocalPages:
        """The page store. Raises as `LocalPages.open`."""
        with self._lock:
            if self._closed:
                raise UsageError("snapshots: used after the store was closed")
            if self._pages is None:
                self._pages = LocalPages.open(self._directory, self._device)
            return self._pages

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._pages is not None:
                self._pages.close()

    def take(self, cut: Cut, attachments: Sequence[Attachment], label: str, time_ns: int) -> Snapshot:
        """Take a snapshot of a cut, and end the cut. One without a label that says nothing new is not made: the newest
        is returned.

        Raises:
            DeviceFull, DeviceFailed, CorruptRecord: There is no such snapshot.
        """
        base = None
        try:
            with self.pages.remembering_nodes():
                taken = self._take(cut, attachments, label, time_ns)
            base = taken.identity
            return taken
        except OSError as error:
            raise device_error(error, f"snapshot: read of {error.filename or 'the index'}") from error
        finally:
            cut.end(base)

    def _take(self, cut: Cut, attachments: Sequence[Attachment], label: str, time_ns: int) -> Snapshot:
        store = self.pages
        earlier = store.snapshots()
        parent = _last_of(earlier, cut.log_identity)
        index = store_index(store, cut.changes, parents=earlier, damaged=store.unreadable - self._sought)
        self._sought = store.unreadable
        objects = [index, *(_store_attachment(store, one) for one in attachments)]
        if parent and not label and (parent.position, list(parent.objects)) == (cut.position, sorted(objects)):
            return parent
        snapshot = seal(
            parent=parent and parent.identity,
            log_identity=cut.log_identity,
            position=cut.position,
            time_ns=time_ns,
            objects=tuple(objects),
            label=label,
        )
        store.commit(snapshot)
        return snapshot


def _store_attachment(store: Pages, attachment: Attachment) -> Object:
    content = attachment.content
    if isinstance(content, Path):
        with content.open("rb") as stream:
            parts = iter(partial(stream.read, PAGE_BYTES_MAX), b"")
            return build(store, parts, name=attachment.name, kind=attachment.kind, page_bytes=PAGE_BYTES_MAX)
    return build_bytes(store, content, name=attachment.name, kind=attachment.kind)


def newest(store: PageStore, log_identity: bytes) -> Snapshot | None:
    """Return the newest snapshot of a log."""
    return _last_of(store.snapshots(), log_identity)


def newest_in(directory: Path, snapshots: Sequence[Snapshot]) -> Snapshot | None:
    """Return the newest snapshot of a data directory: of a mirror the current one, else the last of its own log.

    One that has none of those has only what came before it, or branches: then it is the last of them.

    Args:
        snapshots: All of the directory, in order.

    Raises:
        CorruptRecord, FormatUnknown: The book of a mirror cannot be read.
    """
    if is_mirror(directory):
        current = FileBook(directory).read().settled({one.identity for one in snapshots}).current
        return next((one for one in snapshots if one.identity == current), None)
    identity = log_on(ReadOnlyDevice(directory / LOG_NAME))
    found = None if identity is None else _last_of(snapshots, identity)
    return found or next(reversed(snapshots), None)


def _last_of(snapshots: Sequence[Snapshot], log_identity: bytes) -> Snapshot | None:
    return next((one for one in reversed(snapshots) if one.log_identity == log_identity), None)


def index_of(snapshot: Snapshot) -> Object | None:
    """Return the object that is the mail index."""
    return next((item for item in snapshot.objects if item.name == INDEX_OBJECT and item.kind == KIND_INDEX), None)


def store_index(
    store: PageStore, changes: Changes, parents: Iterable[Snapshot], damaged: frozenset[bytes] = frozenset()
) -> Object:
    """Store the index as of the cut, by what changed since a snapshot if that is known; else all of it is looked at.

    Args:
        damaged: Digests of pages that are stored anew if the index still has them. They cost a look at the index's
            nodes; if one of these is damaged, a look at all pages.
    """
    taken = changes.take()
    base = next((index_of(one) for one in parents if one.identity == taken.base), None)
    state = taken.state
    if base is not None and taken.changed is not None and base.page_bytes == state.page_bytes:
        try:
            again = {entry.number + 1 for entry in walk(store, base) if entry.digest in damaged} if damaged else set()
            digests = _changed_digests(store, changes, taken, taken.changed | again)
            return update_digests(store, base, digests, state.database_pages * state.page_bytes)
        except (CorruptRecord, NotFound) as error:
            _trace.warning("snapshot: %s; all pages are looked at", error)
    every = changes.read_all(taken)
    return build(store, every, name=INDEX_OBJECT, kind=KIND_INDEX, page_bytes=state.page_bytes)


def _changed_digests(
    store: Pages, changes: Changes, taken: Taken, numbers: Iterable[int]
) -> Iterator[tuple[int, bytes, int]]:
    for page in sorted(numbers):
        if page <= taken.state.database_pages:
            content = changes.read(taken, page)
            yield page - 1, put_page(store, content), len(content)


def find_snapshot(directory: Path, snapshots: Sequence[Snapshot], wanted: str) -> Snapshot:
    """Return the snapshot of a data directory that an operator means: ``newest``, a label, or the beginning of an id.

    Raises:
        NotFound: None, or more than one.
    """
    if wanted == NEWEST and (last := newest_in(directory, snapshots)) is not None:
        return last
    found = [one for one in snapshots if one.label and one.label == wanted]
    if not found and len(wanted) >= IDENTITY_DIGITS_MIN:
        found = [one for one in snapshots if one.identity.hex().startswith(wanted.lower())]
    if len(found) != 1:
        what = "fits several" if found else "not found"
        raise NotFound(
            f"snapshot {wanted!r}: {what}",
            hint=f"`spinrt snapshot list` shows all; give a label, newest, or {IDENTITY_DIGITS_MIN} digits or more",
        )
    return found[0]


def write_object(store: Pages, item: Object, target: Path) -> None:
    """Write an object's content to a file that is not there, whole and durable or not at all; holes stay holes.

    Raises:
        NotFound, CorruptRecord: A page is missing or damaged.
        DeviceFull: It needs more room than the device has; nothing was written.
        OSError: The device refused.
    """
    check_room(target.parent, held_bytes(store, item), f"write of {target}")
    new = target.with_name(target.name + ".new")
    descriptor = open_regular(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            for number, page in held_pages(store, item):
                stream.seek(number * item.page_bytes)
                stream.write(page)
            stream.truncate(item.size)
            stream.flush()
            os.fsync(stream.fileno())
        new.rename(target)
        sync_directory(target.parent)
    except BaseException:
        with suppress(OSError):
            new.unlink(missing_ok=True)
        raise


def check_room(directory: Path, needed_bytes: int, operation: str) -> None:
    """Raise DeviceFull unless a directory's device has that much room; OSError."""
    free = free_bytes(directory)
    if needed_bytes > free:
        raise DeviceFull(
            f"{operation}: needs {needed_bytes} bytes, the device has {free} free", hint="make room on the device"
        )


def object_bytes(store: Pages, item: Object, bytes_max: int) -> bytes:
    """Return a small object's content. Raises CorruptRecord when it says that it is larger."""
    if item.size > bytes_max:
        raise CorruptRecord(f"object {item.name!r}: {item.size} bytes, expected up to {bytes_max}")
    return b"".join(pages(store, item))
