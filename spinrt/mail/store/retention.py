"""Which bodies the mail store still needs: those of its index, of every snapshot, and of deliveries under way.

`Store.expire` runs a pass. The order of its steps closes the race with deliveries that refer to a body which is there
already:

1. ``Once.floor`` is raised: from now on, a change may refer to a body below it only while the index does, and is noted
   in ``Once.pinned``.
2. All that was submitted before is applied.
3. For each body the index and the snapshots are asked, after that ``pinned``.

A change that came before step 1 is in the index at step 3. One that came after it and before step 3 is in ``pinned``.
One that comes later finds in the index what step 3 found, or less; what it does not find, it may not refer to.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Collection, Coroutine, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

from spinrt.errors import DeviceFailed
from spinrt.mail.store.changes import KIND_BODY
from spinrt.mail.store.index import INDEX_NAME, connect
from spinrt.mail.store.once import Once
from spinrt.mail.store.snapshot_index import open_view
from spinrt.mail.store.snapshots import SnapshotStore, index_of, newest
from spinrt.mail.store.views import branches
from spinrt.storage.datadir import DataDirectory
from spinrt.storage.log import Log
from spinrt.storage.protocols import PageStore, Snapshot
from spinrt.storage.retention import Expired, Mover, Plan, Retention, idle_bytes_after, plan

BODY_KINDS = frozenset({KIND_BODY})


class _Connection(Protocol):
    def execute(self, sql: str, arguments: Sequence[Any] = ..., /) -> Any: ...


class LiveBodies:
    """Asks an index and snapshots which bodies they refer to. For one thread; enter it to open them.

    Args:
        index: Path of the store's index; none for a directory that has only snapshots.
        pinned: Names that changes under way refer to; looked at last.
    """

    def __init__(
        self, index: Path | None, pages: PageStore | None, snapshots: Sequence[Snapshot], pinned: Collection[int] = ()
    ) -> None:
        self._index = index
        self._pages = pages
        self._snapshots = snapshots
        self._pinned = pinned
        self._connections: list[_Connection] = []
        self._opened = ExitStack()

    def __enter__(self) -> LiveBodies:
        """Open all of them.

        Raises:
            FormatUnknown: A snapshot is of a version that does not say what it needs.
            StorageError: One cannot be read.
        """
        with ExitStack() as opened:
            if self._index is not None:
                connection = connect(self._index, read_only=True)
                opened.callback(connection.close)
                self._connections.append(connection)
            for snapshot in self._snapshots:
                self._open_snapshot(snapshot, opened)
            self._opened = opened.pop_all()
        return self

    def _open_snapshot(self, snapshot: Snapshot, opened: ExitStack) -> None:
        if self._pages is None or index_of(snapshot) is None:
            return
        view = open_view(self._pages, snapshot)
        opened.callback(view.close)
        self._connections.append(view)

    def __exit__(self, *_: object) -> None:
        self._opened.close()
        self._connections.clear()

    def __call__(self, names: Sequence[int]) -> set[int]:
        """Return those of the names that something refers to. Raises StorageError: it cannot be said."""
        marks = ",".join("?" * len(names))
        live: set[int] = set()
        try:
            for connection in self._connections:
                found = connection.execute(f"SELECT name FROM bodies WHERE name IN ({marks})", tuple(names))
                live.update(row[0] for row in found)
        except sqlite3.Error as error:
            raise DeviceFailed(
                f"retention: which bodies are live: {error}", hint="`spinrt fsck` looks closer"
            ) from error
        pinned = self._pinned
        return live | {name for name in names if name in pinned}


class Expiry:
    """Runs passes over the log of one store, on the event loop; the work is done by a thread.

    Args:
        settle: Waits until all that was appended or submitted before is durable and applied.
    """

    def __init__(
        self,
        directory: DataDirectory,
        log: Log,
        snapshots: SnapshotStore,
        once: Once,
        settle: Callable[[], Coroutine[Any, Any, None]],
        clock_ns: Callable[[], int],
    ) -> None:
        self._directory = directory
        self._log = log
        self._snapshots = snapshots
        self._once = once
        self._settle = settle
        self._clock_ns = clock_ns
        self._idle_bytes = 0
        """Up to this size the log is not made smaller for its size."""

    async def run(self, policy: Retention, young_s: float) -> Expired:
        """Run one pass; nobody takes or deletes a snapshot meanwhile. As `Store.expire`."""
        chosen = await asyncio.to_thread(self._plan, policy, young_s)
        if not chosen.segments:
            return Expired(reason=chosen.reason)
        self._once.pinned = set()  # those of the last pass are applied when `settle` returns
        self._once.floor = max(self._once.floor, chosen.end)
        await self._settle()
        expired = await asyncio.to_thread(self._move, chosen, asyncio.get_running_loop())
        self._idle_bytes = idle_bytes_after(expired, self._log.end - self._log.start)
        return expired

    def _plan(self, policy: Retention, young_s: float) -> Plan:
        found = branches(self._directory.path)
        if found:
            return Plan([], 0, f"branch {found[0]!r} may need all that there is")
        kept = newest(self._snapshots.pages, self._log.identity) if self._snapshots.exists else None
        return plan(
            self._log,
            policy,
            covered=kept.position if kept else 0,
            now_ns=self._clock_ns(),
            young_s=young_s,
            idle_bytes=self._idle_bytes,
        )

    def _move(self, chosen: Plan, loop: asyncio.AbstractEventLoop) -> Expired:
        pages = self._snapshots.pages
        with LiveBodies(self._directory.index_path / INDEX_NAME, pages, pages.snapshots(), self._once.pinned) as live:

            def settle() -> None:
                asyncio.run_coroutine_threadsafe(self._settle(), loop).result()

            return Mover(self._log, live, settle, BODY_KINDS).run(chosen)
