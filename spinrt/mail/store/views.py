"""Snapshots opened: read-only, or as a branch that goes its own way.

A `SnapshotReader` answers what a store answers, as of the snapshot. A `Branch` is a directory ``branches/NAME`` with
the pages that differ; its index is written through `Branch.index`, and a snapshot of it is one more snapshot in the
same page store. A branch has an identity of its own in the place of the log's, so that nothing takes its snapshots for
the store's.
"""

from __future__ import annotations

import shutil
import sqlite3
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, cast

from spinrt.errors import AlreadyExists, CorruptRecord, DeviceFailed, FormatUnknown, NotFound, UsageError
from spinrt.mail.store.bodies import Records
from spinrt.mail.store.index import Index
from spinrt.mail.store.reader import Reader
from spinrt.mail.store.snapshot_index import checked_index, named, open_view
from spinrt.storage.device import OsDevice, sync_directory
from spinrt.storage.files import device_error
from spinrt.storage.overlay import OVERLAY_NAME, Overlay, read_base
from spinrt.storage.protocols import PageStore, Snapshot
from spinrt.storage.snapshot import seal
from spinrt.storage.view import View

BRANCHES_NAME: Final = "branches"
BRANCH_NAME_BYTES_MAX: Final = 64
_IDENTITY_BYTES: Final = 16


class Bodies(NamedTuple):
    """The highest of their names, and their plain bytes in all; 0 when there are none."""

    highest: int
    bytes: int


class SnapshotReader(Reader):
    """Reads the mail of a snapshot; the bodies from ``log``. Nothing is copied."""

    def __init__(self, store: PageStore, snapshot: Snapshot, log: Records) -> None:
        """Open a snapshot.

        Raises:
            NotFound: It has no mail index.
            FormatUnknown: Its index is of another version.
            CorruptRecord: A page is damaged, or the index is none of a mail store.
        """
        self._view = open_view(store, snapshot)
        try:
            super().__init__(_index_on(self._view, snapshot), log)
        except BaseException:
            self._view.close()
            raise
        self.snapshot = snapshot

    def _read_error(self, error: sqlite3.Error) -> DeviceFailed:
        return DeviceFailed(
            f"snapshot {self.snapshot.identity.hex()}: read: {error}", hint="`spinrt fsck` looks closer"
        )

    def users(self) -> list[str]:
        """Return the accounts that have mailboxes, by name."""
        return [row[0] for row in self._rows("SELECT DISTINCT user FROM mailboxes ORDER BY user")]

    def bodies(self) -> Bodies:
        """Return which bodies its messages are made of."""
        return Bodies(*self._rows("SELECT coalesce(max(name), 0), coalesce(sum(bytes), 0) FROM bodies")[0])

    @property
    def log_identity(self) -> bytes:
        """Of the log that its index covers; of a branch's snapshot another than the snapshot says."""
        return self._index.counters.log_identity

    def close(self) -> None:
        self._view.close()

    def __enter__(self) -> SnapshotReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _index_on(view: View, snapshot: Snapshot) -> Index:
    try:
        # An index needs of its connection what a view has.
        return Index(cast(sqlite3.Connection, view), snapshot.log_identity)
    except sqlite3.Error as error:
        raise CorruptRecord(f"{named(snapshot)}: {error}", hint="`spinrt fsck` looks closer") from error


class Branch:
    """A snapshot opened for writing. Made by `create` or `open`."""

    def __init__(self, store: PageStore, base: Snapshot, overlay: Overlay, name: str) -> None:
        self.name = name
        self.base = base
        """The snapshot that it began at."""
        self._store = store
        self._overlay = overlay
        self._view = open_view(store, base, overlay)
        try:
            self.index = _index_on(self._view, base)
        except BaseException:
            self._view.close()
            raise

    @classmethod
    def create(cls, data_directory: Path, store: PageStore, base: Snapshot, name: str) -> Branch:
        """Begin a branch at a snapshot.

        Raises:
            AlreadyExists: There is one of that name.
            UsageError: That cannot be a name.
            DeviceFull, DeviceFailed: The device refused.
        """
        directory = _directory(data_directory, name)
        if (directory / OVERLAY_NAME).exists():
            raise AlreadyExists(f"branch {name!r}: exists already", hint="discard it first, or take another name")
        item = checked_index(store, base)
        try:
            shutil.rmtree(directory, ignore_errors=True)  # one whose creation was cut off
            overlay = Overlay.create(OsDevice(directory), base.identity, item.page_bytes)
            sync_directory(directory.parent)
        except OSError as error:
            raise device_error(error, f"branch {name!r}: create") from error
        return cls._on(store, base, overlay, name)

    @classmethod
    def open(cls, data_directory: Path, store: PageStore, name: str) -> Branch:
        """Open a branch as of its last commit.

        Raises:
            NotFound: There is none, or the snapshot that it began at is gone.
            CorruptRecord, FormatUnknown: Its overlay is damaged.
        """
        directory = _directory(data_directory, name)
        if not (directory / OVERLAY_NAME).exists():
            raise NotFound(f"branch {name!r}: does not exist")
        try:
            overlay = Overlay.open(OsDevice(directory))
        except OSError as error:
            raise device_error(error, f"branch {name!r}: open") from error
        base = next((one for one in store.snapshots() if one.identity == overlay.base), None)
        if base is None:
            overlay.close()
            raise NotFound(f"branch {name!r}: snapshot {overlay.base.hex()}, which it began at, is gone")
        return cls._on(store, base, overlay, name)

    @classmethod
    def _on(cls, store: PageStore, base: Snapshot, overlay: Overlay, name: str) -> Branch:
        try:
            return cls(store, base, overlay, name)
        except BaseException:
            overlay.close()
            raise

    @property
    def identity(self) -> bytes:
        """What stands for the log's identity in its snapshots."""
        return branch_identity(self.base.log_identity, self.name)

    def snapshot(self, time_ns: int, label: str = "") -> Snapshot:
        """Take a snapshot of the branch, in no transaction of it; the other objects are those of its base.

        Raises:
            UsageError: In the middle of a transaction.
            DeviceFull, DeviceFailed, CorruptRecord: There is no such snapshot.
        """
        if self._view.in_transaction:
            raise UsageError(f"branch {self.name!r}: snapshot in the middle of a transaction")
        index = self._view.file.store_changes()
        others = [item for item in self.base.objects if item.name != index.name]
        made = seal(
            parent=self.base.identity,
            log_identity=self.identity,
            position=self.index.counters.applied,
            time_ns=time_ns,
            objects=(index, *others),
            label=label,
        )
        self._store.commit(made)
        return made

    def close(self) -> None:
        self._view.close()
        self._overlay.close()


def branch_identity(log_identity: bytes, name: str) -> bytes:
    """Return the identity of a branch of that name."""
    return sha256(b"spinrt branch\0" + log_identity + name.encode()).digest()[:_IDENTITY_BYTES]


def branches(data_directory: Path) -> list[str]:
    """Return the names of the branches there are."""
    return sorted(path.parent.name for path in (data_directory / BRANCHES_NAME).glob(f"*/{OVERLAY_NAME}"))


def branch_bases(data_directory: Path) -> set[bytes]:
    """Return the ids of the snapshots that branches began at; they must stay."""
    bases = set()
    for name in branches(data_directory):
        try:
            bases.add(read_base(OsDevice(_directory(data_directory, name))))
        except (OSError, CorruptRecord, FormatUnknown):
            continue  # it can only be discarded
    return bases


def discard_branch(data_directory: Path, name: str) -> None:
    """Remove a branch that nobody has open; its snapshots stay. Raises NotFound."""
    directory = _directory(data_directory, name)
    if not directory.exists():
        raise NotFound(f"branch {name!r}: does not exist")
    try:
        (directory / OVERLAY_NAME).unlink(missing_ok=True)
        shutil.rmtree(directory)
    except OSError as error:
        raise device_error(error, f"branch {name!r}: discard") from error


def _directory(data_directory: Path, name: str) -> Path:
    if not 0 < len(name.encode()) <= BRANCH_NAME_BYTES_MAX or name.startswith(".") or not name.isprintable():
        raise UsageError(f"branch {name[:40]!r}: expected a printable name of 1 … {BRANCH_NAME_BYTES_MAX} bytes")
    if "/" in name:
        raise UsageError(f"branch {name!r}: a name has no slash")
    return data_directory / BRANCHES_NAME / name
