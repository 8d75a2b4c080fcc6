"""Snapshots of a mail store in use: a cut of the index, whatever goes on; only what changed is stored."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from spinrt.errors import ClosedError, CorruptRecord, DeviceFull, NotFound, StateError, UsageError
from spinrt.mail.store.model import Copy
from spinrt.mail.store.schema import dump
from spinrt.mail.store.snapshots import Attachment, find_snapshot, index_of, object_bytes, write_object
from spinrt.mail.store.store import Store
from spinrt.storage.device import OsDevice
from spinrt.storage.pages import LocalPages
from spinrt.storage.protocols import Snapshot
from spinrt.storage.snapshot import KIND_CONFIGURATION
from spinrt.storage.tree import difference, walk
from spinrt.testing.device import FaultDevice
from tests.mail.store_support import USER, deliver, dump_store, fill, inbox, open_store, run, with_store

Rows = dict[str, list[tuple[object, ...]]]


def rows_of(store: LocalPages, snapshot: Snapshot, target: Path) -> Rows:
    """Return every row of a snapshot's index."""
    item = index_of(snapshot)
    assert item is not None
    write_object(store, item, target)
    connection = sqlite3.connect(target)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return dump(connection)
    finally:
        connection.close()


def test_snapshot_is_the_index_of_its_moment(tmp_path: Path) -> None:
    """Taken while changes go on: each has the rows of the moment when it was asked for."""

    async def test(store: Store) -> None:
        expected: list[Rows] = []
        tasks = []
        for n in range(6):
            await fill(store, 20)
            expected.append(dump_store(store))
            task = asyncio.ensure_future(store.snapshot(f"number {n}"))
            while not task.done():
                await deliver(store, b"message", id_=f"{n}-{store._clock_ns()}")
                if n % 2:
                    store._checkpointer._wal_bytes_min = 1
                    await asyncio.to_thread(store._checkpointer.checkpoint)
            tasks.append(task)
        snapshots = [await task for task in tasks]
        pages = store.snapshots.pages
        assert pages.snapshots() == snapshots
        for n, snapshot in enumerate(snapshots):
            found = rows_of(pages, snapshot, tmp_path / f"{n}.sqlite")
            assert snapshot.position == found["state"][0][2]
            assert len(found["messages"]) >= len(expected[n]["messages"])
            assert {row[:2] for row in expected[n]["messages"]} <= {row[:2] for row in found["messages"]}
            assert snapshot.parent == (snapshots[n - 1].identity if n else None)
        assert rows_of(pages, await store.snapshot(), tmp_path / "last") == dump_store(store)

    with_store(tmp_path, test)


def test_snapshot_costs_what_changed(tmp_path: Path) -> None:
    """Also the first one after a clean stop; nothing new is no snapshot, but for one with a label."""

    async def body() -> None:
        store = open_store(tmp_path)
        await store.ensure_account(USER)
        await fill(store, 5000)
        first = await store.snapshot()
        assert await store.snapshot() == first
        await store.close()
        store = open_store(tmp_path)
        await deliver(store, b"one more", id_="x")
        second = await store.snapshot("two")
        third = await store.snapshot("three")
        pages = store.snapshots.pages
        whole = len(list(walk(pages, first.objects[0])))
        assert whole > 100
        assert len(list(difference(pages, first.objects[0], second.objects[0]))) < 20
        assert second.objects == third.objects
        size = sum(path.stat().st_size for path in (tmp_path / "data/pages").glob("*.pack"))
        assert size < whole * 4096
        await store.close()

    run(body)


def test_snapshot_after_a_crash_stores_only_what_is_new(tmp_path: Path) -> None:
    """What changed is not known then: all pages are looked at, and those that are there are not stored again."""

    async def body() -> None:
        store = open_store(tmp_path)
        await store.ensure_account(USER)
        await fill(store, 3000)
        await store.snapshot()
        await store.close()
        (tmp_path / "data/index/changed").unlink()
        store = open_store(tmp_path)
        await deliver(store, b"one more", id_="x")
        before = sum(path.stat().st_size for path in (tmp_path / "data/pages").glob("*.pack"))
        second = await store.snapshot()
        after = sum(path.stat().st_size for path in (tmp_path / "data/pages").glob("*.pack"))
        assert after - before < 64 * 1024
        assert rows_of(store.snapshots.pages, second, tmp_path / "copy") == dump_store(store)
        await store.close()

    run(body)


def test_snapshot_holds_what_is_attached(tmp_path: Path) -> None:
    """Byte for byte; and refuses what has no place."""

    async def test(store: Store) -> None:
        given = [Attachment("configuration", KIND_CONFIGURATION, b"x: 1\n" * 20_000), Attachment("empty", 3, b"")]
        snapshot = await store.snapshot("with", given)
        pages = store.snapshots.pages
        found = {item.name: item for item in snapshot.objects}
        assert object_bytes(pages, found["configuration"], 1_000_000) == given[0].content
        assert object_bytes(pages, found["empty"], 0) == b""
        with pytest.raises(CorruptRecord):
            object_bytes(pages, found["configuration"], 1000)
        for wrong in ([given[0], given[0]], [Attachment("", 3, b"x")], [Attachment("index", 3, b"x")]):
            with pytest.raises(UsageError):
                await store.snapshot("wrong", wrong)
        assert pages.snapshots() == [snapshot]

    with_store(tmp_path, test)


def test_failed_snapshot_leaves_nothing_and_the_next_one_is_right(tmp_path: Path) -> None:
    """The device of the pages is full at each step in turn; the store goes on, and what changed is not forgotten."""

    async def body() -> None:
        step, failed = 1, True
        while failed:
            failed = False
            place = tmp_path / str(step)
            device = FaultDevice(OsDevice(place / "pages"), error=28)
            store = Store.open(place / "data", pages_device=device)
            await store.ensure_account(USER)
            await fill(store, 50)
            first = await store.snapshot()
            await fill(store, 5)
            device.fail_at = device.step_count + step
            try:
                await store.snapshot()
            except DeviceFull:
                failed = True
                assert store.snapshots.pages.snapshots() == [first]
            device.heal()
            await fill(store, 5)
            again = await store.snapshot("again")
            assert rows_of(store.snapshots.pages, again, place / "copy") == dump_store(store)
            await store.close()
            step += 1
        assert step > 4

    run(body)


def test_cancelled_caller_does_not_stop_a_snapshot(tmp_path: Path) -> None:
    """It goes on, and closing waits for it; meanwhile the index is not rebuilt under it."""

    async def body() -> None:
        store = open_store(tmp_path)
        await store.ensure_account(USER)
        await fill(store, 2000)
        task = asyncio.ensure_future(store.snapshot())
        await asyncio.sleep(0)
        with pytest.raises(StateError):
            store.rebuild()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await store.close()
        with pytest.raises(ClosedError):
            await store.snapshot()
        pages = LocalPages.open(tmp_path / "data/pages")
        assert len(pages.snapshots()) == 1
        pages.close()

    run(body)


def test_rebuilt_index_is_followed_anew(tmp_path: Path) -> None:
    """After a rebuild nothing is known of what changed, and the snapshot is right."""

    async def test(store: Store) -> None:
        await fill(store, 200)
        await store.snapshot()
        store.rebuild()
        await deliver(store, b"x", Copy(USER, "INBOX"), id_="after")
        assert rows_of(store.snapshots.pages, await store.snapshot(), tmp_path / "copy") == dump_store(store)
        assert inbox(store) == 1

    with_store(tmp_path, test)


def test_snapshot_is_found_by_what_people_say(tmp_path: Path) -> None:
    """The newest, a label, the first digits of an id; anything else is refused, and so is what fits several."""

    async def test(store: Store) -> None:
        one, two = await store.snapshot("before the change"), await store.snapshot("twice")
        three = await store.snapshot("twice")
        every = store.snapshots.pages.snapshots()
        assert find_snapshot(tmp_path / "data", every, "newest") == three
        assert find_snapshot(tmp_path / "data", every, "before the change") == one
        assert find_snapshot(tmp_path / "data", every, three.identity.hex()[:12].upper()) == three
        for wanted in ("", "twice", two.identity.hex()[:3], "no such"):
            with pytest.raises(NotFound, match="snapshot"):
                find_snapshot(tmp_path / "data", every, wanted)
        with pytest.raises(NotFound):
            find_snapshot(tmp_path / "data", [], "newest")

    with_store(tmp_path, test)


@pytest.mark.parametrize("level", [0, 1])
@pytest.mark.parametrize("touched", [False, True])
def test_what_is_known_to_be_damaged_is_stored_anew_by_the_next_snapshot(
    tmp_path: Path, level: int, touched: bool
) -> None:
    """A page of the index, or a node above it: the next snapshot can be read whole, and if nothing changed since, so
    can the one before it. What changed since is nowhere else."""

    async def test(store: Store) -> None:
        await fill(store, 300)
        first = await store.snapshot("first")
        pages = store.snapshots.pages
        item = index_of(first)
        assert item is not None
        victim = [entry for entry in walk(pages, item) if entry.level == level][-1]
        place = pages._find(victim.digest)
        pack = tmp_path / "data" / "pages" / f"{place.pack:020d}.pack"
        assert pack.exists(), list(pack.parent.iterdir())
        with pack.open("r+b") as file:
            file.seek(place.offset + 60)
            byte = file.read(1)[0]
            file.seek(place.offset + 60)
            file.write(bytes([byte ^ 1]))
        with pytest.raises(CorruptRecord):
            pages.get(victim.digest)  # as scrubbing does, or whoever opens the snapshot
        if touched:
            await fill(store, 1)

        second = await store.snapshot("second")

        assert rows_of(pages, second, tmp_path / "second.sqlite") == dump_store(store)
        if not touched:
            rows_of(pages, first, tmp_path / "first.sqlite")
        assert pages.unreadable == ({victim.digest} if touched else set())

    with_store(tmp_path, test)
