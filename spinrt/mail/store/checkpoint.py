"""Moving the index's write-ahead log into its database, in a thread of its own.

Automatic checkpoints are off because they would sync on the event loop. A passive one never makes a writer wait, and
what it cannot finish the next one does. SQLite starts the write-ahead log from the beginning only when a checkpoint
has reached its end, which under steady load never happens beside the writer: then `Checkpointer.behind` asks the writer
to do the small rest between two transactions, so that the file stays bounded.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from pathlib import Path
from typing import Final

from spinrt.mail.store.index import connect

INTERVAL_S: Final = 5.0
WAL_BYTES_MIN: Final = 4 * 1024 * 1024
"""A shorter write-ahead log is left alone."""
WAL_BYTES_MAX: Final = 64 * 1024 * 1024
"""A longer one is finished by the writer itself."""


class Checkpointer:
    """A daemon thread that checkpoints the index at ``path`` when there is enough to do."""

    def __init__(
        self,
        path: Path,
        *,
        interval_s: float = INTERVAL_S,
        wal_bytes_min: int = WAL_BYTES_MIN,
        wal_bytes_max: int = WAL_BYTES_MAX,
    ) -> None:
        self._path = path
        self._interval_s = interval_s
        self._wal_bytes_min = wal_bytes_min
        self._wal_bytes_max = wal_bytes_max
        self.behind = False
        self._connection: sqlite3.Connection | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="spinrt-checkpoint", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread; waits for a checkpoint under way."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            # A full disk or a busy database is no reason to stop: the log has everything, the next round tries again.
            with contextlib.suppress(sqlite3.Error):
                self.checkpoint()

    def checkpoint(self) -> bool:
        """Move what can be moved, if there is enough; tell whether that was all. Raises sqlite3.Error."""
        wal_bytes = self._wal_bytes()
        if wal_bytes < self._wal_bytes_min:
            return False
        self._connection = self._connection or connect(self._path)
        done = run_checkpoint(self._connection)
        self.behind = not done and wal_bytes > self._wal_bytes_max
        return done

    def finish(self, writer: sqlite3.Connection) -> None:
        """Do the rest on the writer's connection, between two transactions."""
        self.behind = False
        with contextlib.suppress(sqlite3.Error):
            run_checkpoint(writer)

    def _wal_bytes(self) -> int:
        try:
            return self._path.with_name(self._path.name + "-wal").stat().st_size
        except OSError:
            return 0


def run_checkpoint(connection: sqlite3.Connection) -> bool:
    """Move what no reader needs in its old place; tell whether that was all. Raises sqlite3.Error."""
    _busy, in_log, moved = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    return bool(in_log == moved)
