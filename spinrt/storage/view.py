"""SQLite on a database inside a snapshot: pages come from the page store, nothing is copied.

All use of ``apsw`` is here: it brings an SQLite of its own, which must never touch a file that the ``sqlite3`` module
has open in this process (POSIX locks), and it does not: a view's file is only a name.

A view is read-only, or (with an `Overlay`) writable: a *branch*. The database in a snapshot says that it is in WAL
mode, which needs shared memory; a view says instead that it uses a rollback journal, which is kept in memory: what is
committed is decided by the overlay.
"""

from __future__ import annotations

import itertools
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import apsw

from spinrt.errors import UsageError
from spinrt.storage.overlay import Overlay
from spinrt.storage.protocols import Object, PageStore
from spinrt.storage.tree import TreeReader, put_page, update_digests

_VFS_NAME: Final = "spinrt-pages"
_CACHE_KIB: Final = 8192
_JOURNAL_AT: Final = 18
"""Two bytes of the database's header: 1 for a rollback journal, 2 for WAL."""
_ROLLBACK: Final = b"\1\1"
_WAL: Final = b"\2\2"


class PageFile:
    """A database file whose pages are those of an object, or what an overlay has in their place."""

    def __init__(self, store: PageStore, item: Object, overlay: Overlay | None = None) -> None:
        if item.size % item.page_bytes or (overlay is not None and overlay.page_bytes != item.page_bytes):
            raise UsageError(f"object {item.name!r}: {item.size} bytes in pages of {item.page_bytes}: no database")
        self.item = item
        self.overlay = overlay
        self._store = store
        self._reader = TreeReader(store, item)
        self._page_bytes = item.page_bytes
        self.page_count = item.size // item.page_bytes
        if overlay is not None and overlay.page_count is not None:
            self.page_count = overlay.page_count

    def page(self, number: int) -> bytes:
        """Return a page, from 0."""
        content = None if self.overlay is None else self.overlay.read(number)
        if content is None:
            known = number < self._reader.shape.counts[0]
            content = self._reader.page(number) if known else bytes(self._page_bytes)
            if number == 0:
                content = content[:_JOURNAL_AT] + _ROLLBACK + content[_JOURNAL_AT + 2 :]
        return content

    def read(self, amount: int, offset: int) -> bytes:
        """Return up to ``amount`` bytes; fewer only at the end."""
        parts = []
        while amount > 0 and offset < self.page_count * self._page_bytes:
            number, inside = divmod(offset, self._page_bytes)
            part = self.page(number)[inside : inside + amount]
            parts.append(part)
            amount -= len(part)
            offset += len(part)
        return b"".join(parts)

    def write(self, data: bytes, offset: int) -> None:
        """Write whole pages, as SQLite does."""
        if self.overlay is None or offset % self._page_bytes or len(data) % self._page_bytes:
            raise UsageError("view of a database: written to in another way than by a branch's pages")
        for at in range(0, len(data), self._page_bytes):
            number = (offset + at) // self._page_bytes
            self.overlay.write(number, bytes(data[at : at + self._page_bytes]))
            self.page_count = max(self.page_count, number + 1)

    def store_changes(self) -> Object:
        """Store what the overlay committed, as the next version of the object. Raises as ``PageStore.put``."""
        if self.overlay is None:
            return self.item
        size = self.page_count * self._page_bytes
        return update_digests(self._store, self.item, self._changed(self.overlay), size)

    def _changed(self, overlay: Overlay) -> Iterator[tuple[int, bytes, int]]:
        for number in overlay.numbers():
            content = overlay.read(number)
            if content is not None and number < self.page_count:
                if number == 0:
                    content = content[:_JOURNAL_AT] + _WAL + content[_JOURNAL_AT + 2 :]
                yield number, put_page(self._store, content), len(content)


class _Vfs(apsw.VFS):
    """Opens `PageFile` by name, and nothing else: a journal would be a file, and there is none."""

    def __init__(self) -> None:
        super().__init__(_VFS_NAME, "")
        self.files: dict[str, PageFile] = {}

    def xOpen(self, name: Any, flags: list[int]) -> _VfsFile:  # type: ignore[override]
        file = self.files.get(str(name.filename() if isinstance(name, apsw.URIFilename) else name))
        if file is None:
            raise apsw.CantOpenError("a view has no files")
        flags[1] = flags[0]
        return _VfsFile(file)

    def xFullPathname(self, name: str) -> str:
        return name

    def xAccess(self, pathname: str, flags: int) -> bool:
        return False

    def xDelete(self, filename: str, syncdir: bool) -> None:
        pass


class _VfsFile:
    """What SQLite calls. Nobody else has the file, so locks are nothing."""

    def __init__(self, file: PageFile) -> None:
        self._file = file

    def xRead(self, amount: int, offset: int) -> bytes:
        return self._file.read(amount, offset)

    def xWrite(self, data: bytes, offset: int) -> None:
        self._file.write(data, offset)

    def xFileSize(self) -> int:
        return self._file.page_count * self._file.item.page_bytes

    def xTruncate(self, size: int) -> None:
        self._file.page_count = size // self._file.item.page_bytes

    def xSync(self, flags: int) -> None:
        if self._file.overlay is not None:
            self._file.overlay.commit(self._file.page_count)

    def xLock(self, level: int) -> None:
        pass

    def xUnlock(self, level: int) -> None:
        pass

    def xCheckReservedLock(self) -> bool:
        return False

    def xFileControl(self, op: int, pointer: int) -> bool:
        return False

    def xSectorSize(self) -> int:
        return self._file.item.page_bytes

    def xDeviceCharacteristics(self) -> int:
        return 0

    def xClose(self) -> None:
        pass


_lock: Final = threading.Lock()
_names: Final = itertools.count(1)
_vfs: _Vfs | None = None


def _registered() -> _Vfs:
    """Return the one VFS of this process."""
    global _vfs  # noqa: PLW0603
    with _lock:
        if _vfs is None:
            _vfs = _Vfs()
        return _vfs


class Cursor:
    """What `View.execute` returns: as a cursor of ``sqlite3``, as far as it goes."""

    def __init__(self, cursor: apsw.Cursor, rowcount: int) -> None:
        self._cursor = cursor
        self.rowcount = rowcount

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return self

    def __next__(self) -> tuple[Any, ...]:
        try:
            return next(self._cursor)
        except apsw.Error as error:
            raise _translated(error) from error

    def fetchone(self) -> tuple[Any, ...] | None:
        return next(self, None)

    def fetchall(self) -> list[tuple[Any, ...]]:
        return list(self)


class View:
    """A connection to a database in a snapshot, with the methods of a ``sqlite3.Connection`` that the index needs.

    Any thread, one at a time. Errors are those of ``sqlite3``, and `SpinError` of the page store as they are.
    """

    def __init__(self, store: PageStore, item: Object, overlay: Overlay | None = None) -> None:
        """Open a view; writable with an overlay, whose base is the snapshot of the object.

        Raises:
            UsageError: The object cannot be a database.
            sqlite3.Error: It is none.
        """
        self.file = PageFile(store, item, overlay)
        self._vfs = _registered()
        self._name = f"/view-{next(_names)}"
        self._vfs.files[self._name] = self.file
        flags = apsw.SQLITE_OPEN_READONLY if overlay is None else apsw.SQLITE_OPEN_READWRITE
        try:
            self._db = apsw.Connection(self._name, flags=flags, vfs=_VFS_NAME)
            for pragma in (
                "journal_mode = MEMORY",
                "locking_mode = EXCLUSIVE",
                "synchronous = NORMAL",
                "temp_store = MEMORY",
                "cell_size_check = ON",
                f"cache_size = -{_CACHE_KIB}",
            ):
                self.execute(f"PRAGMA {pragma}")
        except apsw.Error as error:
            self._forget()
            raise _translated(error) from error
        except BaseException:
            self._forget()
            raise

    def _forget(self) -> None:
        self._vfs.files.pop(self._name, None)

    @property
    def in_transaction(self) -> bool:
        return bool(self._db.in_transaction)

    def execute(self, sql: str, arguments: Sequence[Any] = ()) -> Cursor:
        """Run one statement. Raises sqlite3.Error, SpinError."""
        try:
            cursor = self._db.cursor().execute(sql, arguments)
            return Cursor(cursor, self._db.changes())
        except apsw.Error as error:
            raise _translated(error) from error

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        """Run one statement for each row. Raises as `execute`."""
        try:
            self._db.cursor().executemany(sql, rows)
        except apsw.Error as error:
            raise _translated(error) from error

    def close(self) -> None:
        """Close the view; its overlay stays open."""
        self._db.close()
        self._forget()


_KINDS: Final = (
    (apsw.FullError, sqlite3.OperationalError),
    (apsw.IOError, sqlite3.OperationalError),
    (apsw.BusyError, sqlite3.OperationalError),
    (apsw.ReadOnlyError, sqlite3.OperationalError),
    (apsw.ConstraintError, sqlite3.IntegrityError),
    (apsw.SQLError, sqlite3.OperationalError),
)


def _translated(error: apsw.Error) -> sqlite3.Error:
    """Return what ``sqlite3`` would have raised."""
    kind = next((ours for theirs, ours in _KINDS if isinstance(error, theirs)), sqlite3.DatabaseError)
    return kind(str(error))
