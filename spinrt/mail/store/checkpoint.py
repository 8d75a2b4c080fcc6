"""Moving the index's write-ahead log into its database, in a thread of its own, and cuts through the index.

Automatic checkpoints are off because they would sync on the event loop. What a checkpoint syncs is written out before
(`spinrt.storage.write_out`). A passive one never makes a writer wait, and what it cannot finish the next one does.
SQLite starts the write-ahead log from the beginning only when a checkpoint has reached its end, which under steady load
never happens beside the writer: then `Checkpointer.behind` asks the writer to do the small rest between two
transactions, so that the file stays bounded. While a cut is held the log grows.

Before each checkpoint the frames that it may move are noted (`spinrt.storage.wal`): that is how a snapshot knows which
pages changed since the one before it.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
from pathlib import Path
from typing import Final

from spinrt.errors import StorageError
from spinrt.mail.store.index import connect
from spinrt.storage.datadir import PAGES_NAME
from spinrt.storage.page_table import TABLE_NAME
from spinrt.storage.wal import Changes, SavedChanges, load_changes, save_changes
from spinrt.storage.write_out import write_out_file

INTERVAL_S: Final = 5.0
WAL_BYTES_MIN: Final = 4 * 1024 * 1024
"""A shorter write-ahead log is left alone."""
WAL_BYTES_MAX: Final = 64 * 1024 * 1024
"""A longer one is finished by the writer itself."""
CHANGED_NAME: Final = "changed"
"""Beside the index: which pages changed since the newest snapshot, from a clean stop to the next start."""

_PIN: Final = "SELECT log_identity, applied FROM state"
_trace: Final = logging.getLogger("spinrt.mail.store")


class Checkpointer:
    """A daemon thread that checkpoints the index at ``path`` when there is enough to do. The index must be open."""

    def __init__(
        self,
        path: Path,
        changes: Changes,
        *,
        interval_s: float = INTERVAL_S,
        wal_bytes_min: int = WAL_BYTES_MIN,
        wal_bytes_max: int = WAL_BYTES_MAX,
    ) -> None:
        self._path = path
        self._pages_log = path.parents[1] / PAGES_NAME / f"{TABLE_NAME}-wal"
        """Synced by a commit in the middle of a snapshot, when it is long enough."""
        self._interval_s = interval_s
        self._wal_bytes_min = wal_bytes_min
        self._wal_bytes_max = wal_bytes_max
        self.behind = False
        self.changes = changes
        self._started = False
        self._connection: sqlite3.Connection | None = None
        self._pin: sqlite3.Connection | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="spinrt-checkpoint", daemon=True)

    def start(self) -> None:
        """Begin; once is enough."""
        if not self._started:
            self._started = True
            self._thread.start()

    def stop(self) -> None:
        """End the thread; waits for a checkpoint under way."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        for connection in (self._pin, self._connection):
            if connection is not None:
                connection.close()
        self._pin = self._connection = None

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            # A full disk or a busy database is no reason to stop: the log has everything, the next round tries again.
            with contextlib.suppress(sqlite3.Error):
                self.checkpoint()
            with contextlib.suppress(OSError):  # there is none before the first snapshot
                write_out_file(self._pages_log, self._stop)

    def checkpoint(self) -> bool:
        """Move what can be moved, if there is enough; tell whether that was all. Raises sqlite3.Error."""
        wal_bytes = self._wal_bytes()
        if wal_bytes < self._wal_bytes_min:
            return False
        self.changes.write_out_log(self._stop)
        self._connection = self._connection or connect(self._path)
        self._pin = self._pin or connect(self._path, read_only=True)
        self._pin.execute("BEGIN")
        try:
            self._pin.execute(_PIN).fetchone()
            self._note(wait=True)
            done = run_checkpoint(self._connection)
        finally:
            self._pin.execute("ROLLBACK")
        self.behind = not done and wal_bytes > self._wal_bytes_max
        self.changes.write_out_database(self._stop)
        return done

    def finish(self, writer: sqlite3.Connection) -> None:
        """Do the rest on the writer's connection, between two transactions."""
        self.behind = False
        if self._note(wait=False):
            with contextlib.suppress(sqlite3.Error):
                run_checkpoint(writer)

    def _note(self, *, wait: bool) -> bool:
        """Note the frames. What cannot be noted does not keep them from being moved: the next snapshot reads all."""
        try:
            return self.changes.note(wait=wait)
        except (OSError, StorageError) as error:
            self.changes.forget()
            _trace.warning("index: %s; the next snapshot looks at all pages", error)
            return True

    def _wal_bytes(self) -> int:
        try:
            return self._path.with_name(self._path.name + "-wal").stat().st_size
        except OSError:
            return 0


class Cut:
    """A read transaction on the index, which a snapshot is taken of.

    `begin` on the writer's thread, between two of its transactions: it waits for nothing. The rest on any thread.
    """

    def __init__(self, path: Path, changes: Changes) -> None:
        """Raises sqlite3.Error."""
        self.changes = changes
        self.log_identity = b""
        self.position = 0
        self._connection = connect(path, read_only=True)
        self._connection.execute(_PIN).fetchone()  # the schema is read, so that `begin` need not

    def begin(self) -> None:
        """Raises sqlite3.Error, StorageError."""
        self._connection.execute("BEGIN")
        self.log_identity, self.position = self._connection.execute(_PIN).fetchone()
        self.changes.cut()

    def end(self, base: bytes | None) -> None:
        """Give the cut up; ``base`` is the snapshot that was made of it."""
        self.changes.settle(base)
        self._connection.close()


def load_followed(path: Path) -> SavedChanges | None:
    """Return what is known of the index at ``path`` from the last clean stop; before the index is opened."""
    return load_changes(path.with_name(CHANGED_NAME), path)


def follow_index(path: Path, saved: SavedChanges | None) -> Changes:
    """Follow what changes in an index that was just opened, from what `load_followed` gave. Raises StorageError."""
    try:
        changes = Changes(path)
        if saved is not None and path.stat().st_ino == saved.inode:
            changes.resume(saved.base, saved.changed)
    except OSError as error:
        raise StorageError(f"index {path}: its write-ahead log cannot be read: {error}") from error
    return changes


def close_followed(index: sqlite3.Connection, path: Path, changes: Changes) -> None:
    """Close the last connection of an index, which moves the rest of the write-ahead log, and remember what changed."""
    known = None
    with contextlib.suppress(OSError, StorageError):
        changes.note()
        known = changes.known()
    index.close()
    changes.close()
    if known is not None:
        with contextlib.suppress(OSError):  # without it the next snapshot looks at all pages
            save_changes(path.with_name(CHANGED_NAME), path, known)


def run_checkpoint(connection: sqlite3.Connection) -> bool:
    """Move what no reader needs in its old place; tell whether that was all. Raises sqlite3.Error."""
    _busy, in_log, moved = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    return bool(in_log == moved)
