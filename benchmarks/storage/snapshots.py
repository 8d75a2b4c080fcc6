"""Snapshots of a large store: what they cost, what deliveries feel of them, and how quickly two are compared.

The store is in this process, so that a snapshot's time is that of its own work. *Written whole* is the first snapshot,
of which every page is new. Between the others there are so many deliveries, spread over all accounts, and flag changes
in ten mailboxes.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Final

from benchmarks.storage.filling import Filler, delivery, small_bodies, user_name
from spinrt.errors import SpinError
from spinrt.mail.store.model import FlagsMode, StoreFlags
from spinrt.mail.store.snapshots import index_of, write_object
from spinrt.mail.store.store import Store
from spinrt.mail.store.views import SnapshotReader
from spinrt.storage.pages import LocalPages
from spinrt.storage.protocols import Object, Snapshot
from spinrt.storage.tree import pages
from spinrt.storage.tree_count import changed_count

FLAG_MAILBOXES: Final = 10
FLAGGED: Final = 50
"""Messages of each of them whose flags change."""
IN_FLIGHT: Final = 50
PACED_S: Final = 0.004
"""Between two deliveries whose time is taken."""


@dataclass(frozen=True, slots=True)
class Scale:
    """``messages`` in the store, in so many ``users``' INBOXes; ``deliveries`` before each of ``rounds`` snapshots."""

    messages: int
    users: int
    deliveries: int
    rounds: int
    paced: int
    """Deliveries whose time is taken, of each kind, in each round."""


@dataclass(slots=True)
class SnapshotsFound:
    """Seconds, but for counts."""

    index_pages: int = 0
    fill_s: float = 0.0
    whole_s: float = 0.0
    changed: list[int] = field(default_factory=list)
    """Pages that differ between two snapshots in a row."""
    changed_s: list[float] = field(default_factory=list)
    open_s: list[float] = field(default_factory=list)
    copy_s: list[float] = field(default_factory=list)
    diff_s: list[float] = field(default_factory=list)
    scan_s: list[float] = field(default_factory=list)
    quiet: list[list[float]] = field(default_factory=list)
    """From handing in to durable, of each delivery: one list for each round."""
    during: list[list[float]] = field(default_factory=list)
    """The same while a snapshot is taken, before which as much changed as before those above."""
    during_small: list[list[float]] = field(default_factory=list)
    """The same while small snapshots follow each other."""


def measure(directory: Path, scale: Scale) -> SnapshotsFound:
    """Make the store in an empty directory and measure. Leaves it there, closed, with its snapshots."""
    found = SnapshotsFound()
    began = time.perf_counter()
    filler = Filler(directory, scale.users)
    filler.fill(small_bodies(scale.messages))
    filler.close()
    found.fill_s = time.perf_counter() - began
    asyncio.run(_with_store(directory, scale, found))
    return found


async def _with_store(directory: Path, scale: Scale, found: SnapshotsFound) -> None:
    store = Store.open(directory)
    try:
        work = Work(store, scale, directory)
        began = time.perf_counter()
        snapshot = await store.snapshot()
        found.whole_s = time.perf_counter() - began
        found.index_pages = _page_count(_index(snapshot))
        for _ in range(scale.rounds):
            snapshot = await _round(work, found, snapshot)
        for _ in range(scale.rounds):
            found.quiet.append(await work.paced(scale.paced))
            found.during.append(await _during_changed(work, scale))
            found.during_small.append(await _during_small(work, scale))
    finally:
        await store.close()


async def _round(work: Work, found: SnapshotsFound, before: Snapshot) -> Snapshot:
    await work.change()
    began = time.perf_counter()
    after = await work.store.snapshot()
    found.changed_s.append(time.perf_counter() - began)
    store = work.store.snapshots.pages
    old, new = _index(before), _index(after)
    began = time.perf_counter()
    changed = changed_count(store, old, new)
    found.diff_s.append(time.perf_counter() - began)
    found.changed.append(changed)
    began = time.perf_counter()
    scanned = _scan(store, old, new)
    found.scan_s.append(time.perf_counter() - began)
    found.open_s.append(open_one(work, before))
    found.copy_s.append(copy_whole(work, before, work.directory / "copy"))
    if scanned != changed:
        raise SpinError(f"difference of two snapshots: {changed} pages, all compared: {scanned}")
    return after


def _scan(store: LocalPages, old: Object, new: Object) -> int:
    """How many pages differ, found by reading all of both."""
    before = pages(store, old)
    return sum(page != next(before, None) for page in pages(store, new))


async def _during_changed(work: Work, scale: Scale) -> list[float]:
    """Deliveries at the same pace during snapshots, before each of which as much changed as before those above."""
    taken: list[float] = []
    while len(taken) < scale.paced:
        await work.change()
        task = asyncio.create_task(work.store.snapshot())
        while not task.done():
            taken += await work.paced(1)
        await task
    return taken


async def _during_small(work: Work, scale: Scale) -> list[float]:
    """The same while one snapshot follows the other, each of the few deliveries that came meanwhile."""
    stopped = False

    async def snapshots() -> None:
        while not stopped:
            await work.store.snapshot()
            await asyncio.sleep(0)

    task = asyncio.create_task(snapshots())
    try:
        return await work.paced(scale.paced)
    finally:
        stopped = True
        await task


class Work:
    """What changes the store."""

    def __init__(self, store: Store, scale: Scale, directory: Path) -> None:
        self.store = store
        self.directory = directory
        self._scale = scale
        self._numbers = count(1)
        self._mark = time.time_ns()
        self._bodies: Iterator[bytes] = small_bodies(1 << 40)
        self._set = False

    async def change(self) -> None:
        """So many deliveries, and flags of some messages in ten mailboxes."""
        left = self._scale.deliveries
        while left > 0:
            together = min(left, IN_FLIGHT)
            await asyncio.gather(*(self._deliver() for _ in range(together)))
            left -= together
        self._set = not self._set
        mode = FlagsMode.ADD if self._set else FlagsMode.REMOVE
        changes = []
        for number in range(FLAG_MAILBOXES):
            mailbox = self.store.mailbox(user_name(number), "INBOX")
            assert mailbox is not None
            uids = self.store.uids(mailbox.id)
            some = tuple(uids[:: max(len(uids) // FLAGGED, 1)][:FLAGGED])
            changes.append(self.store.submit(StoreFlags(mailbox.id, some, mode, ("\\Flagged",))))
        await asyncio.gather(*changes)

    async def paced(self, deliveries: int) -> list[float]:
        """Deliver one after the other, at a pace, and return what each took."""
        loop, taken = asyncio.get_running_loop(), []
        due = loop.time()
        for _ in range(deliveries):
            due += PACED_S
            await asyncio.sleep(max(0.0, due - loop.time()))
            began = time.perf_counter()
            await self._deliver()
            taken.append(time.perf_counter() - began)
        return taken

    async def _deliver(self) -> None:
        """Hand in one delivery; wait until it may be acknowledged."""
        number = next(self._numbers)
        writer = self.store.body_writer()
        writer.write(b"X-Run: %d\r\n" % self._mark + next(self._bodies))
        user = user_name(number % self._scale.users)
        change = delivery(user, f"{self._mark:x}-{number:x}", writer, int(time.time()))
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def on_durable(error: SpinError | None) -> None:
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)

        self.store.submit_deliver(change, on_durable)
        await done


def open_one(work: Work, snapshot: Snapshot) -> float:
    """Open a snapshot and look at a mailbox and a message in it; seconds."""
    began = time.perf_counter()
    reader = SnapshotReader(work.store.snapshots.pages, snapshot, work.store.log)
    try:
        mailbox = reader.mailbox(user_name(1), "INBOX")
        assert mailbox is not None
        if not reader.status(mailbox.id).messages or not reader.messages(mailbox.id, [1]):
            raise SpinError(f"snapshot at {snapshot.position}: shows no messages")
    finally:
        reader.close()
    return time.perf_counter() - began


def copy_whole(work: Work, snapshot: Snapshot, target: Path) -> float:
    """Write the index of a snapshot out as a file, durably; seconds."""
    began = time.perf_counter()
    write_object(work.store.snapshots.pages, _index(snapshot), target)
    taken = time.perf_counter() - began
    os.unlink(target)
    return taken


def _index(snapshot: Snapshot) -> Object:
    found = index_of(snapshot)
    assert found is not None
    return found


def _page_count(item: Object) -> int:
    return -(-item.size // item.page_bytes)
