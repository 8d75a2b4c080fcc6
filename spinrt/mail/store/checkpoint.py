"""Moving the index's write-ahead log into its database, in a thread of its own.

Automatic checkpoints are off because they would sync on the event loop. A passive one never makes a writer wait, and
what it cannot finish the next one does.
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


class Checkpointer:
    """A daemon thread that checkpoints the index at ``path`` when there is enough to do."""

    def __init__(self, path: Path, interval_s: float = INTERVAL_S, wal_bytes_min: int = WAL_BYTES_MIN) -> None:
        self._path = path
        self._interval_s = interval_s
        self._wal_bytes_min = wal_bytes_min
        self._stop = threading.Event()
        self.checkpoint_count = 0
        self._thread = threading.Thread(target=self._run, name="spinrt-checkpoint", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; waits for a checkpoint under way."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        connection: sqlite3.Connection | None = None
        while not self._stop.wait(self._interval_s):
            if self._wal_bytes() < self._wal_bytes_min:
                continue
            # A full disk or a busy database is no reason to stop: the log has everything, the next round tries again.
            with contextlib.suppress(sqlite3.Error):
                connection = connection or connect(self._path)
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
                self.checkpoint_count += 1
        if connection is not None:
            connection.close()

    def _wal_bytes(self) -> int:
        try:
            return self._path.with_name(self._path.name + "-wal").stat().st_size
        except OSError:
            return 0
