"""Where carried bodies lie: name → position of the last CARRIED record of that name.

Derived from the log: it covers a prefix, and what follows is walked when the log is opened. What is not durable in the
log is never in the database, only in memory; so a crash leaves nothing in it that the log does not have.

Threads: any; one lock, never held over I/O of the log.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from spinrt.errors import DeviceFailed

PLACES_NAME: Final = "places.sqlite"
_VERSION: Final = 1
_SCHEMA: Final = f"""
BEGIN IMMEDIATE;
CREATE TABLE state (id INTEGER PRIMARY KEY CHECK (id = 1), log_identity BLOB NOT NULL, covered INTEGER NOT NULL);
CREATE TABLE places (name INTEGER PRIMARY KEY, place INTEGER NOT NULL);
CREATE INDEX places_place ON places (place);
PRAGMA user_version = {_VERSION};
COMMIT;
"""
GIVEN_UP: Final = -1
"""The place of a name whose bodies in the log are not to be had under it."""
_PUT: Final = "INSERT INTO places VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET place = excluded.place"


class Places:
    """The table of one log. Made by `open`.

    Attributes:
        covered: Log position up to which (exclusive) the database has every CARRIED record.
    """

    def __init__(self, connection: sqlite3.Connection, covered: int) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._pending: dict[int, list[int]] = {}
        """Not in the database: name → places, the last one counts."""
        self.covered = covered

    @classmethod
    def open(cls, path: Path | None, log_identity: bytes, durable: int, covered: int = 0) -> Places:
        """Open the table of a log; one that is damaged, of another log or ahead of it is made anew, empty.

        Args:
            path: None keeps it in memory.
            durable: End of what is durable in the log.
            covered: What a new table covers.

        Raises:
            DeviceFailed: It cannot be made.
        """
        try:
            if path is not None and path.exists():
                found = _open_trusted(path, log_identity, durable)
                if found is not None:
                    return found
                remove_places(path.parent)
            connection = _connect(path)
            connection.executescript(_SCHEMA)
            connection.execute("INSERT INTO state VALUES (1, ?, ?)", (log_identity, covered))
        except (sqlite3.Error, OSError) as error:
            raise DeviceFailed(f"places of carried bodies {path}: {error}", hint="check the device") from error
        return cls(connection, covered)

    def lookup(self, name: int) -> int | None:
        """Return the place of a name; none when it was not carried."""
        with self._lock:
            pending = self._pending.get(name)
            if pending:
                return pending[-1]
            row = self._execute("SELECT place FROM places WHERE name = ?", (name,)).fetchone()
        return None if row is None or row[0] == GIVEN_UP else int(row[0])

    def between(self, first: int, end: int) -> dict[int, int]:
        """Return the names of a range of positions that are in the table, with their places."""
        with self._lock:
            sql = f"SELECT name, place FROM places WHERE name >= ? AND name < ? AND place != {GIVEN_UP}"
            rows = self._execute(sql, (first, end)).fetchall()
            pending = {name: places[-1] for name, places in self._pending.items() if first <= name < end}
        return dict(rows) | pending

    def put(self, name: int, place: int) -> None:
        """Enter a record that was appended."""
        with self._lock:
            self._pending.setdefault(name, []).append(place)

    def give_up(self, durable: int) -> None:
        """Forget the records at and after a position: the device was full."""
        with self._lock:
            for name, places in list(self._pending.items()):
                kept = [place for place in places if place < durable]
                if kept:
                    self._pending[name] = kept
                else:
                    del self._pending[name]

    def flush(self, durable: int) -> None:
        """Write what is durable in the log to the database. Raises DeviceFailed: it is as before."""
        with self._lock:
            if durable <= self.covered:
                return
            last = {name: [place for place in places if place < durable] for name, places in self._pending.items()}
            self._save([(name, places[-1]) for name, places in last.items() if places], durable)
            rest = {name: [place for place in places if place >= durable] for name, places in self._pending.items()}
            self._pending = {name: places for name, places in rest.items() if places}
            self.covered = durable

    def load(self, found: Iterable[tuple[int, int]], covered: int) -> None:
        """Enter (name, place) of durable records in the order of the log; it is covered then. Raises DeviceFailed."""
        with self._lock:
            self._save(found, covered)
            self.covered = covered

    def abandon(self, names: Iterable[int]) -> None:
        """Give up the places of durable records, until others of those names come. Raises DeviceFailed."""
        with self._lock:
            self._save([(name, GIVEN_UP) for name in names], self.covered)

    def forget(self, start: int) -> None:
        """Remove the names whose places are before the log's new start. Raises DeviceFailed."""
        with self._lock:
            self._execute(f"DELETE FROM places WHERE place < ? AND place != {GIVEN_UP}", (start,))

    def close(self) -> None:
        """Close the database. Closing twice does nothing."""
        with self._lock:
            self._connection.close()

    def _save(self, rows: Iterable[tuple[int, int]], covered: int) -> None:
        self._execute("BEGIN IMMEDIATE")
        try:
            self._connection.executemany(_PUT, rows)
            self._connection.execute("UPDATE state SET covered = ?", (covered,))
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back()
            raise DeviceFailed(f"places of carried bodies: {error}", hint="check the device") from error
        except BaseException:  # from who gives the rows
            self._roll_back()
            raise

    def _roll_back(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._connection.execute("ROLLBACK")

    def _execute(self, sql: str, arguments: tuple[object, ...] = ()) -> sqlite3.Cursor:
        try:
            return self._connection.execute(sql, arguments)
        except sqlite3.Error as error:
            raise DeviceFailed(
                f"places of carried bodies: {error}", hint="check the device; the table is built anew when removed"
            ) from error


def _connect(path: Path | None) -> sqlite3.Connection:
    if path is not None:
        path.touch(mode=0o600)
    connection = sqlite3.connect(
        ":memory:" if path is None else str(path), isolation_level=None, check_same_thread=False, timeout=10.0
    )
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")  # a crash may take the last transactions back: walked again
        connection.execute("PRAGMA cell_size_check = ON")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _open_trusted(path: Path, log_identity: bytes, durable: int) -> Places | None:
    connection = None
    try:
        connection = _connect(path)
        if connection.execute("PRAGMA user_version").fetchone()[0] == _VERSION:
            row = connection.execute("SELECT log_identity, covered FROM state").fetchone()
            sound = connection.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok"
            if row is not None and row[0] == log_identity and 0 <= row[1] <= durable and sound:
                return Places(connection, row[1])
    except sqlite3.DatabaseError:
        pass
    if connection is not None:
        connection.close()
    return None


def remove_places(directory: Path) -> None:
    """Remove the table in a log's directory, and what SQLite keeps beside it."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        (directory / (PLACES_NAME + suffix)).unlink(missing_ok=True)
