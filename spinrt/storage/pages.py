"""The local page store: packs, snapshots and the table of both, in one directory.

Invariants
    *Durable before named*: a snapshot's file is written when everything that it refers to is durable.
    *Named, then there*: a snapshot exists when its file's name does; its content is a page, too, durable before that.
    *Refused, not broken*: a snapshot whose pages are not all there is not committed.
    *Derived table*: rows point to durable bytes only; a table that does not fit is built anew from packs and snapshots.
    *Kept a while*: a page that no snapshot refers to stays for ``unused_keep_s`` after it was put last, so that a
    snapshot in the making, or an update of a mirror that was cut off, finds what it stored. A new start keeps it too.
    *Known damage heals*: a page that could not be read where the table says it lies is stored anew by the next `put`.
    *Fail clean*: after a failed write or sync the pages not synced are forgotten, and the next `put` begins a new pack.

Memory: pages not synced yet (`PENDING_MAX`, 1 MiB of bytes), `NODES_MAX` nodes while a snapshot is made, SQLite's
cache of 32 MiB, a mebibyte while a pack is walked, and when a pack is rewritten the digests of its pages.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final

from spinrt.errors import ClosedError, CorruptRecord, DeviceFailed, DeviceFull, NotFound, StateError, StorageError
from spinrt.storage import snapshot as snapshot_files
from spinrt.storage.background import breathe
from spinrt.storage.device import Device, OsDevice
from spinrt.storage.files import device_error
from spinrt.storage.pack import Entry, Gap, check_content, compress, decompress, pack_name
from spinrt.storage.packs import Packs, where
from spinrt.storage.page_cover import cover, drop_torn, fits
from spinrt.storage.page_table import TABLE_NAME, PageTable, Place, remove_table
from spinrt.storage.protocols import DIGEST_BYTES, Snapshot
from spinrt.storage.references import References, most_like
from spinrt.storage.room import means_full
from spinrt.storage.snapshot_directory import SnapshotDirectory
from spinrt.storage.tree import is_node

PACK_BYTES_MAX: Final = 64 * 1024 * 1024
PENDING_MAX: Final = 8192
"""Pages put and not synced; with more of them `put` syncs by itself."""
NODES_MAX: Final = 1024
"""Nodes that `LocalPages.remembering_nodes` keeps: some 4 MiB."""
UNUSED_KEEP_S: Final = 24 * 3600
UNREADABLE_MAX: Final = 65_536  # pages that are remembered as damaged

_trace: Final = logging.getLogger("spinrt.storage")


class LocalPages:
    """A `PageStore` in a directory. Made by `open`."""

    def __init__(
        self,
        directory: Path,
        device: Device,
        *,
        read_only: bool,
        pack_bytes_max: int,
        unused_keep_s: int,
        clock_s: Callable[[], float],
    ) -> None:
        self.directory = directory
        self.damaged: dict[str, CorruptRecord] = {}
        """Files of packs and snapshots that are damaged, as found at open; by name."""
        self.repaired: list[str] = []
        """Files of snapshots that were torn or damaged and have been written anew at open."""
        self._device = device
        self._read_only = read_only
        self._pack_bytes_max = pack_bytes_max
        self._unused_keep_s = unused_keep_s
        self._clock_s = clock_s
        self._lock = threading.RLock()
        self._packs = Packs(device)
        self._pending: dict[bytes, Place] = {}
        self._touched: set[bytes] = set()
        self._unreadable: set[bytes] = set()
        self._files = SnapshotDirectory(device, self.damaged, self.repaired, read_only=read_only)
        self._snapshots: dict[bytes, Snapshot] = {}
        self._nodes: dict[bytes, bytes] | None = None
        self._table: PageTable | None = None
        self._is_distrusted = False
        """The counts may be too low: nothing is deleted by them, and the next start builds the table anew."""

    @classmethod
    def open(
        cls,
        directory: Path,
        device: Device | None = None,
        *,
        read_only: bool = False,
        rebuild: bool = False,
        pack_bytes_max: int = PACK_BYTES_MAX,
        unused_keep_s: int = UNUSED_KEEP_S,
        clock_s: Callable[[], float] = time.time,
    ) -> LocalPages:
        """Open or create the page store in a directory.

        Args:
            directory: Where the table is, and packs and snapshots unless ``device`` is given.
            read_only: Change nothing; may be used beside the process that owns the store. Snapshots are those of now.
            rebuild: Build the table anew, whatever it says.
            pack_bytes_max: A page that would make a pack longer begins a new one.
            unused_keep_s: See the head of this file.
            clock_s: Seconds since 1970-01-01 UTC.

        Raises:
            FormatUnknown: A newer version wrote it.
            StateError: Read-only, and there is no table that fits.
            DeviceFull, DeviceFailed: The device refused.

        Damage does not keep it from opening: see ``damaged``, and `get`.

        Cost: a look at each pack and snapshot; a walk through what was written since the table was.
        """
        if device is None:
            if read_only and not directory.is_dir():
                raise NotFound(f"page store {directory}: does not exist")
            device = OsDevice(directory)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        store = cls(
            directory,
            device,
            read_only=read_only,
            pack_bytes_max=pack_bytes_max,
            unused_keep_s=unused_keep_s,
            clock_s=clock_s,
        )
        try:
            with store._guarded("open"):
                store._load(rebuild)
        except BaseException:
            store.close()
            raise
        return store

    @contextlib.contextmanager
    def _guarded(self, operation: str) -> Iterator[None]:
        """Hold the lock, and turn what the device and SQLite raise into what it means."""
        with self._lock:
            try:
                yield
            except sqlite3.Error as error:
                kind = DeviceFull if (full := means_full(error, self.directory)) else DeviceFailed
                hint = "make room on the device" if full else f"{TABLE_NAME} is derived: remove it while nothing runs"
                raise kind(f"page store {operation}: {TABLE_NAME}: {error}", hint=hint) from error
            except OSError as error:
                raise device_error(error, f"page store {operation}") from error

    # -------------------------------------------------------------------------------------------------------- open

    def _load(self, rebuild: bool) -> None:
        table = None if rebuild else self._open_table()
        salts = {row.number: row.salt for row in table.packs()} if table else {}
        sizes = self._packs.load(salts, clean=not self._read_only)
        if table is not None and not fits(table, self._packs, sizes):
            table.close()
            table = None
        if self._read_only:
            if table is None:
                raise StateError(
                    f"page store {self.directory}: {TABLE_NAME} is missing or does not fit",
                    hint="open it with `spinrt snapshot list` while no server runs: that builds it",
                )
            self._table = table
            self._snapshots = self._files.load(self.get)
        else:
            self._table = table = table or self._new_table()
            broken = cover(table, self._packs, sizes, int(self._clock_s()))
            self._snapshots = self._files.load(self.get)
            self._recount(table)
            drop_torn(table, broken)
        self.damaged.update(self._packs.damaged)

    def _open_table(self) -> PageTable | None:
        path = self.directory / TABLE_NAME
        if not path.exists():
            return None
        try:
            return PageTable(path, read_only=self._read_only)
        except sqlite3.DatabaseError as error:
            if means_full(error, self.directory):  # it may be as it should be
                raise
            _trace.warning("%s: %s; building it anew", path, error)
            return None

    def _new_table(self) -> PageTable:
        remove_table(self.directory)
        return PageTable(self.directory / TABLE_NAME)

    def _recount(self, table: PageTable) -> None:
        """Bring the counts up to the snapshots that are there."""
        counted = table.counted()
        for identity in counted.keys() - self._snapshots.keys():
            gone = snapshot_files.decode_snapshot(counted[identity], identity.hex())
            self._take_back(table, gone)
        done = {identity: found for identity, found in self._snapshots.items() if identity in counted}
        for found in snapshot_files.in_order(self._snapshots.values()):
            if found.identity in done:
                continue
            with table.transaction():
                references = References(table, self, strict=False)
                references.add(found, most_like(found, done))
                table.add_counted(found.identity, snapshot_files.encode_snapshot(found))
            done[found.identity] = found
            if references.missing:
                table.mark_incomplete()
                name = snapshot_files.snapshot_name(found)
                self.damaged[name] = CorruptRecord(f"snapshot {name}: {references.missing} pages of it are not there")

    # --------------------------------------------------------------------------------------------------------- put

    def put(self, content: bytes) -> bytes:
        """See `PageStore.put`."""
        check_content(content)
        breathe()
        digest = sha256(content).digest()
        with self._guarded("put"):
            self._remember(digest, content)
            if not self._is_known(digest):
                self._store(digest, *compress(content), len(content))
        return digest

    def put_stored(self, digest: bytes, stored: bytes, compressed: bool) -> None:
        """See `PageStore.put_stored`."""
        content = decompress(stored, compressed, digest, f"page {digest.hex()}")
        with self._guarded("put"):
            if not self._is_known(digest):
                self._store(digest, stored, compressed, len(content))

    def _store(self, digest: bytes, stored: bytes, compressed: bool, plain_bytes: int) -> None:
        if digest in self._unreadable:
            self._renew(digest, stored, compressed, plain_bytes)
        else:
            self._append(digest, stored, compressed, plain_bytes)

    def replace(self, digest: bytes, stored: bytes, compressed: bool) -> None:
        """Store a page although there is one, and use it from now on: for what was found damaged. Durable on return.

        Raises:
            As `put_stored`.
        """
        content = decompress(stored, compressed, digest, f"page {digest.hex()}")
        with self._guarded("repair"):
            self._renew(digest, stored, compressed, len(content))

    def _renew(self, digest: bytes, stored: bytes, compressed: bool, plain_bytes: int) -> None:
        self._sync()
        table = self._usable()
        known = table.find(digest)
        place = self._append(digest, stored, compressed, plain_bytes)
        self._sync()
        if table.is_incomplete():  # what lies below it may not be counted, now that it can be read
            table.distrust()
            self._is_distrusted = True
        if known is not None:
            self._move([(digest, place)], {known.place.pack: -known.place.entry_bytes * bool(known.references)})
        self._unreadable.discard(digest)

    def _move(self, moved: list[tuple[bytes, Place]], live: dict[int, int]) -> None:
        """Have pages lie elsewhere; ``live``: change of what is live in packs, but for those they are in now."""
        table = self._usable()
        for digest, place in moved:
            row = table.find(digest)
            if row is not None and row.references:
                live[place.pack] = live.get(place.pack, 0) + place.entry_bytes
        with table.transaction():
            table.move(moved)
            table.change_live(live)

    def _usable(self) -> PageTable:
        if self._table is None:
            raise ClosedError("page store: used after close")
        return self._table

    def _is_known(self, digest: bytes) -> bool:
        """Tell whether there is such a page, not known to be damaged; if so it counts as put now."""
        if digest in self._pending:
            return True
        if digest in self._unreadable:
            return False
        row = self._usable().find(digest)
        if row is None:
            return False
        if row.put_s < self._clock_s() - self._unused_keep_s / 2:
            self._touched.add(digest)
            if len(self._touched) >= PENDING_MAX:
                self._sync()
        return True

    def _append(self, digest: bytes, stored: bytes, compressed: bool, plain_bytes: int) -> Place:
        if self._read_only:
            raise StateError("page store: opened read-only")
        try:
            writer = self._packs.writer
            if writer is not None and writer.end + len(stored) > self._pack_bytes_max:
                self._sync()
                self._packs.finish()
                writer = None
            writer = writer or self._packs.begin()
            place = self._pending[digest] = writer.append(digest, stored, compressed, plain_bytes)
        except OSError:
            self._give_up()
            raise
        if len(self._pending) >= PENDING_MAX:
            self._sync()
        return place

    def _give_up(self) -> None:
        """Forget what is not durable."""
        self._pending.clear()
        self._packs.give_up()

    def sync(self) -> None:
        """See `PageStore.sync`."""
        with self._guarded("sync"):
            self._sync()

    def _sync(self) -> None:
        if not self._pending and not self._touched:
            return
        self._sync_pack()
        table = self._usable()
        with table.transaction():
            table.add(self._waiting())
            self._cover(table)
        self._pending.clear()
        self._touched.clear()

    def _sync_pack(self) -> None:
        writer = self._packs.writer
        try:
            if writer is not None:
                writer.sync()
        except OSError:
            self._give_up()
            raise

    def _waiting(self) -> Iterator[tuple[bytes, Place, int]]:
        """What is durable now and not in the table."""
        now_s = int(self._clock_s())
        for digest, place in self._pending.items():
            breathe()
            yield digest, place, now_s

    def _cover(self, table: PageTable) -> None:
        """Say in the table how far it goes, and what was put again."""
        writer = self._packs.writer
        table.touch(self._touched, int(self._clock_s()))
        if writer is not None:
            table.cover(writer.number, writer.salt, writer.end)

    # --------------------------------------------------------------------------------------------------------- get

    def get(self, digest: bytes) -> bytes:
        """See `PageStore.get`."""
        breathe()
        nodes = self._nodes
        if nodes is not None and digest in nodes:
            return nodes[digest]
        content = self._checked(digest)[2]
        self._remember(digest, content)
        return content

    def get_stored(self, digest: bytes) -> tuple[bytes, bool]:
        """See `PageStore.get_stored`."""
        return self._checked(digest)[:2]

    def _checked(self, digest: bytes) -> tuple[bytes, bool, bytes]:
        """Return the stored bytes of a page, whether they are compressed, and its content."""
        try:
            place, stored, compressed = self._stored(digest)
            return stored, compressed, decompress(stored, compressed, digest, where(place, digest))
        except (CorruptRecord, NotFound):
            with self._guarded("get"):
                if len(self._unreadable) < UNREADABLE_MAX and self._usable().find(digest) is not None:
                    self._unreadable.add(digest)
            raise

    @property
    def unreadable(self) -> frozenset[bytes]:
        """Pages that were found damaged and not stored anew since."""
        with self._lock:
            return frozenset(self._unreadable)

    def _stored(self, digest: bytes) -> tuple[Place, bytes, bool]:
        place = self._find(digest)
        try:
            return (place, *self._packs.read(place, digest))
        except (StorageError, NotFound):
            again = self._find(digest)  # its pack may have been rewritten meanwhile
            if again == place:
                raise
            return (again, *self._packs.read(again, digest))

    def _find(self, digest: bytes) -> Place:
        with self._guarded("get"):
            place = self._pending.get(digest)
            if place is None:
                row = self._usable().find(digest)
                if row is None:
                    raise NotFound(f"page {digest.hex()}: is in no pack of {self.directory}")
                return row.place
            writer = self._packs.writer
            if writer is not None and writer.is_waiting(place):
                writer.flush()
            return place

    def has(self, digests: Sequence[bytes]) -> list[bool]:
        """See `PageStore.has`."""
        with self._guarded("has"):
            table = self._usable()
            bad = self._unreadable
            return [
                digest in self._pending or (digest not in bad and table.find(digest) is not None) for digest in digests
            ]

    @contextlib.contextmanager
    def remembering_nodes(self) -> Iterator[None]:
        """Keep nodes that are read and stored in memory, up to `NODES_MAX`, for the length of a ``with`` block.

        For whoever makes a snapshot of an earlier one: `commit` looks at the same nodes again. One at a time.
        """
        self._nodes = {}
        try:
            yield
        finally:
            self._nodes = None

    def _remember(self, digest: bytes, content: bytes) -> None:
        nodes = self._nodes
        if nodes is not None and len(nodes) < NODES_MAX and is_node(content):
            nodes[digest] = content

    # --------------------------------------------------------------------------------------------------- snapshots

    def snapshots(self) -> list[Snapshot]:
        """See `PageStore.snapshots`."""
        with self._guarded("list snapshots"):
            if self._read_only:
                self._snapshots = self._files.load(self.get)
            return snapshot_files.in_order(self._snapshots.values())

    def commit(self, snapshot: Snapshot) -> None:
        """See `PageStore.commit`."""
        encoded = snapshot_files.encode_snapshot(snapshot)
        with self._guarded("commit"):
            if snapshot.identity in self._snapshots:
                return
            self.put(encoded[:-DIGEST_BYTES])
            self._sync_pack()
            name = snapshot_files.snapshot_name(snapshot)
            table = self._usable()
            try:
                with table.transaction():
                    table.stage(self._waiting())
                    self._cover(table)
                    References(table, self, strict=True).add(snapshot, most_like(snapshot, self._snapshots))
                    table.add_counted(snapshot.identity, encoded)
                    self._files.write(name, encoded)
            except BaseException:
                with contextlib.suppress(OSError):
                    self._files.remove(name)
                raise
            self._pending.clear()
            self._touched.clear()
            self._snapshots[snapshot.identity] = snapshot

    def delete(self, identity: bytes) -> None:
        """See `PageStore.delete`."""
        with self._guarded("delete"):
            found = self._known(identity)
            table = self._usable()
            self._files.remove(snapshot_files.snapshot_name(found))
            del self._snapshots[identity]
            self._take_back(table, found)
            self._compact()

    def _take_back(self, table: PageTable, gone: Snapshot) -> None:
        """Take the references of a snapshot back whose file is gone."""
        if self._is_distrusted:
            return  # the next start counts anew
        with table.transaction():
            references = References(table, self, strict=False)
            references.remove(gone)
            table.remove_counted(gone.identity)
        if references.missing:
            table.mark_incomplete()

    def _known(self, identity: bytes) -> Snapshot:
        if self._read_only:
            raise StateError("page store: opened read-only")
        found = self._snapshots.get(identity)
        if found is None:
            raise NotFound(f"snapshot {identity.hex()}: does not exist", hint="`spinrt snapshot list` shows all")
        return found

    # ----------------------------------------------------------------------------------------------------- compact

    def compact(self) -> int:
        """Rewrite packs that are more than half dead; return the bytes given free. Raises DeviceFull, DeviceFailed."""
        with self._guarded("compact"):
            return self._compact()

    def _compact(self) -> int:
        if self._is_distrusted:
            return 0
        self._sync()
        table, writer = self._usable(), self._packs.writer
        freed = 0
        for row in sorted(table.packs()):
            if row.live * 2 < row.covered and (writer is None or row.number != writer.number):
                freed += self._rewrite(row.number, row.covered)
        return freed

    def _rewrite(self, number: int, size: int) -> int:
        """Move what must stay of a pack, unless that is more than half or damaged, and remove it."""
        table = self._usable()
        moved = []
        try:
            kept, dropped = self._sift(number)
            kept_bytes = sum(place.entry_bytes for _, place in kept)
            if kept_bytes * 2 > size:
                return 0
            for digest, place in kept:
                stored, compressed = self._packs.read(place, digest)
                content = decompress(stored, compressed, digest, where(place, digest))
                moved.append((digest, self._append(digest, stored, compressed, len(content))))
        except (CorruptRecord, NotFound) as error:
            _trace.error("page store: %s; the pack stays as it is", error)
            self._sync()  # copies of what has rows already must not wait for a commit
            return 0
        self._sync()
        self._move(moved, {})
        with table.transaction():
            table.remove(dropped)
            table.remove_pack(number)
        self._packs.remove(number)
        return size - kept_bytes

    def _sift(self, number: int) -> tuple[list[tuple[bytes, Place]], list[bytes]]:
        """Return what must stay of a pack, and what need not; copies of what lies elsewhere are in neither."""
        table = self._usable()
        kept, dropped = [], []
        young_s = self._clock_s() - self._unused_keep_s
        for found in self._packs.walk(number):
            if isinstance(found, Entry):
                digest = found.header.digest
                row = table.find(digest)
                if row is None or (row.place[:2] != (number, found.offset) and self._packs.read(row.place, digest)):
                    continue  # by what was read there is a good one elsewhere
                if row.references or row.put_s > young_s:
                    kept.append((digest, row.place))
                else:
                    dropped.append(digest)
        return kept, dropped

    # ----------------------------------------------------------------------------------------------------- checking

    def packs(self) -> list[tuple[int, str]]:
        """Return number and file name of the packs that can be read, for whoever walks them."""
        with self._lock:
            return [(number, pack_name(number)) for number in self._packs.numbers()]

    def walk_pack(self, number: int) -> Iterator[Entry | Gap]:
        """Yield what is in a pack, in order; nothing when it is gone meanwhile. Raises DeviceFailed."""
        with self._guarded("walk"):
            writer = self._packs.writer
            if writer is not None and writer.number == number:
                writer.flush()
        try:
            yield from self._packs.walk(number)
        except FileNotFoundError:
            return
        except OSError as error:
            raise device_error(error, f"walk of pack {pack_name(number)}") from error

    def pages_between(self, number: int, start: int, end: int) -> list[tuple[bytes, int]]:
        """Return digest and offset of the pages that lie in a range of a pack, as the table says. Raises DeviceFailed.

        Cost: the whole table; for whoever found that nothing good is in that range.
        """
        with self._guarded("look at a damaged range"):
            return self._usable().entries_between(number, start, end)

    def close(self) -> None:
        """See `PageStore.close`. What was put and not synced may be gone."""
        with self._lock:
            if self._pending:
                self._give_up()
            self._packs.close()
            if self._table is not None:
                self._table.close()
                self._table = None
