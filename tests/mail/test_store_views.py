"""Snapshots opened: what they show, branches that go their own way, and an index that comes back from a snapshot."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import sqlite3
from pathlib import Path
from typing import Any, cast

import pytest

from spinrt.errors import AlreadyExists, CorruptRecord, DeviceFailed, FormatUnknown, NotFound, UsageError
from spinrt.mail.store.apply import apply_change
from spinrt.mail.store.model import Copy, Deliver, Expunge, FlagsMode, StoreFlags
from spinrt.mail.store.schema import dump
from spinrt.mail.store.snapshots import index_of
from spinrt.mail.store.store import Store
from spinrt.mail.store.views import Branch, SnapshotReader, branches, discard_branch
from spinrt.storage.device import OsDevice
from spinrt.storage.overlay import OVERLAY_NAME, Overlay
from spinrt.storage.pages import LocalPages
from spinrt.storage.protocols import Snapshot
from spinrt.storage.tree import build, difference
from spinrt.storage.view import View
from spinrt.testing.device import CrashDevice, FaultDevice, PowerLost
from tests.mail.store_support import (
    START_S,
    USER,
    deliver,
    delivery,
    dump_store,
    fill,
    inbox,
    open_store,
    run,
    with_store,
    write_body,
)

Rows = dict[str, list[tuple[object, ...]]]


async def prepared(store: Store) -> tuple[Snapshot, Rows]:
    """Some mail, a snapshot of it, and then other mail."""
    for n in range(30):
        await deliver(store, b"Subject: %d\r\n\r\nbody" % n, Copy(USER, "INBOX", ("\\Seen", "word")), id_=f"id-{n:03d}")
    snapshot = await store.snapshot("kept")
    before = dump_store(store)
    await store.submit(StoreFlags(inbox(store), (1, 2, 3), FlagsMode.SET, ("\\Deleted",)))
    await store.submit(Expunge(inbox(store), None))
    await fill(store, 50)
    return snapshot, before


def rows(index: Any) -> Rows:
    return dump(cast(sqlite3.Connection, index.connection))


def test_reader_shows_what_was(tmp_path: Path) -> None:
    """Mailboxes, messages, flags and bodies, while the store has gone on; and it changes nothing."""

    async def test(store: Store) -> None:
        snapshot, before = await prepared(store)
        with SnapshotReader(store.snapshots.pages, snapshot, store._durable_log) as reader:
            assert reader.users() == [USER]
            mailbox = reader.mailbox(USER, "inbox")
            assert mailbox is not None
            assert list(reader.uids(mailbox.id)) == list(range(1, 31))
            message = reader.message(mailbox.id, 2)
            assert message is not None
            assert message.flags == {"\\Seen", "word"}
            assert reader.read(message.body) == b"Subject: 1\r\n\r\nbody"
            assert reader.with_flag(mailbox.id, "word") == list(range(1, 31))
            assert rows(reader._index) == before
            with pytest.raises(sqlite3.OperationalError, match="readonly"):
                reader._index.connection.execute("DELETE FROM messages")
        assert list(store.uids(inbox(store)))[:2] == [4, 5]

    with_store(tmp_path, test)


def test_reader_of_damaged_pages_says_so(tmp_path: Path) -> None:
    """Which pack and where, in whatever call comes upon it; nothing is written for it anywhere."""

    async def test(store: Store) -> None:
        snapshot, _ = await prepared(store)
        pages = store.snapshots.pages
        (pack,) = (tmp_path / "data/pages").glob("*.pack")
        data = bytearray(pack.read_bytes())
        found = 0
        for offset in range(64, len(data), 197):
            data[offset] ^= 0x20
            pack.write_bytes(data)
            data[offset] ^= 0x20
            try:
                with SnapshotReader(pages, snapshot, store._durable_log) as reader:
                    rows(reader._index)
            except CorruptRecord as error:
                assert pack.name in str(error)
                found += 1
        assert found > 5
        assert not (tmp_path / "data/index/REBUILD").exists()

    with_store(tmp_path, test)


def test_object_that_is_no_index_is_refused(tmp_path: Path) -> None:
    """No object, no database, another version."""

    async def test(store: Store) -> None:
        snapshot = await store.snapshot()
        pages = store.snapshots.pages
        item = index_of(snapshot)
        assert item is not None
        with pytest.raises(NotFound):
            SnapshotReader(pages, snapshot._replace(objects=()), store._durable_log)
        garbage = build(pages, [b"x" * 4096] * 3, name="index", kind=1, page_bytes=4096)
        with pytest.raises(CorruptRecord, match="no database"):
            SnapshotReader(pages, snapshot._replace(objects=(garbage,)), store._durable_log)
        with pytest.raises(UsageError):
            View(pages, item._replace(size=item.size - 1))

    with_store(tmp_path, test)


def test_branch_goes_its_own_way(tmp_path: Path) -> None:
    """Changes applied to it are in it and nowhere else; it is there again when opened anew; it can be snapshotted."""

    async def test(store: Store) -> None:
        snapshot, before = await prepared(store)
        pages, data = store.snapshots.pages, tmp_path / "data"
        branch = Branch.create(data, pages, snapshot, "try")
        after = dump_store(store)
        change = delivery(write_body(store, b"only here"), id_="zzz")
        assert isinstance(change, Deliver)
        with branch.index.transaction(snapshot.position + 1000):
            apply_change(branch.index, change, position=snapshot.position + 5, time_ns=START_S * 10**9)
        changed = rows(branch.index)
        assert len(changed["messages"]) == 31
        assert dump_store(store) == after
        first = branch.snapshot(7, "tried")
        with pytest.raises(AlreadyExists):
            Branch.create(data, pages, snapshot, "try")
        branch.close()

        branch = Branch.open(data, pages, "try")
        assert rows(branch.index) == changed
        assert branch.snapshot(7, "tried") == first
        branch.close()
        assert first.log_identity != snapshot.log_identity
        with SnapshotReader(pages, first, store._durable_log) as reader:
            assert rows(reader._index) == changed
        with SnapshotReader(pages, snapshot, store._durable_log) as reader:
            assert rows(reader._index) == before
        old, new = index_of(snapshot), index_of(first)
        assert old is not None
        assert new is not None
        assert len(list(difference(pages, old, new))) < 20
        assert branches(data) == ["try"]
        discard_branch(data, "try")
        assert branches(data) == []
        with pytest.raises(NotFound):
            Branch.open(data, pages, "try")
        assert (await store.snapshot("next")).parent == snapshot.identity

    with_store(tmp_path, test)


def test_branch_names_stay_in_their_directory(tmp_path: Path) -> None:
    """No name leads out of it."""
    for name in ("", ".", "..", "../x", "a/b", "x" * 65, "a\nb", ".hidden"):
        with pytest.raises(UsageError):
            discard_branch(tmp_path, name)
    with pytest.raises(NotFound):
        discard_branch(tmp_path, "fine")


def make_database(directory: Path) -> tuple[LocalPages, Any]:
    path = directory / "db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, x)")
        db.executemany("INSERT INTO t VALUES (?, ?)", [(n, b"x" * 500) for n in range(200)])
    db.close()
    data = path.read_bytes()
    store = LocalPages.open(directory / "pages")
    parts = (data[at : at + 4096] for at in range(0, len(data), 4096))
    return store, build(store, parts, name="index", kind=1, page_bytes=4096)


def work(view: View, done: list[int]) -> None:
    """Transactions of many pages; every second one is rolled back."""
    for n in range(8):
        view.execute("BEGIN IMMEDIATE")
        view.execute("UPDATE t SET x = ? WHERE id % 3 = ?", (b"%d" % n * 700, n % 3))
        view.execute("INSERT INTO t VALUES (?, ?)", (1000 + n, b"new"))
        if n % 2:
            view.execute("ROLLBACK")
        else:
            view.execute("COMMIT")
            done.append(1000 + n)


def test_branch_is_as_of_a_commit_after_every_crash(tmp_path: Path) -> None:
    """Power lost at each step of its overlay: all that was committed is there, and nothing of what was not."""
    store, item = make_database(tmp_path)
    step, finished = 1, False
    while not finished:
        device = CrashDevice(step, crash_at=step)
        done: list[int] = []
        with contextlib.suppress(PowerLost):
            overlay = Overlay.create(device, b"b" * 32, 4096)
            with contextlib.closing(View(store, item, overlay)) as view:
                work(view, done)
            finished = True
        device = device.crash()
        try:
            overlay = Overlay.open(device)
        except (FileNotFoundError, CorruptRecord):
            assert not done
        else:
            view = View(store, item, overlay)
            found = [row[0] for row in view.execute("SELECT id FROM t WHERE id >= 1000 ORDER BY id")]
            assert done == found[: len(done)], step
            assert len(found) <= len(done) + 1
            assert view.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            view.close()
        step += 17 if 20 < step < 400 else 1
    assert step > 100
    store.close()


def test_branch_on_a_full_device_goes_on_when_there_is_room(tmp_path: Path) -> None:
    """The transaction fails, the one before it stands, the next one works."""
    store, item = make_database(tmp_path)
    for step in range(3, 60, 4):
        device = FaultDevice(CrashDevice(1), error=errno.ENOSPC)
        overlay = Overlay.create(device, b"b" * 32, 4096)
        view = View(store, item, overlay)
        device.fail_at = device.step_count + step
        done: list[int] = []
        with pytest.raises((OSError, sqlite3.Error, DeviceFailed)):
            work(view, done)
        device.heal()
        if view.in_transaction:
            view.execute("ROLLBACK")
        view.execute("INSERT INTO t VALUES (5000, 'after')")
        found = [row[0] for row in view.execute("SELECT id FROM t WHERE id >= 1000 ORDER BY id")]
        assert found == [*done, 5000]
        assert view.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        view.close()
        overlay.close()
        again = View(store, item, Overlay.open(device))
        assert [row[0] for row in again.execute("SELECT id FROM t WHERE id >= 1000 ORDER BY id")] == found
        again.close()
    store.close()


def test_damaged_overlay_is_told(tmp_path: Path) -> None:
    """In its header, and in pages that are read; damage behind the last commit is what a crash leaves."""
    device = CrashDevice(1)
    overlay = Overlay.create(device, b"b" * 32, 512)
    for n in range(4):
        overlay.write(n, b"%d" % n * 512)
    overlay.commit(4)
    overlay.close()
    for offset in range(64):
        device.flip(OVERLAY_NAME, offset)
        with pytest.raises((CorruptRecord, FormatUnknown)):
            Overlay.open(device)
        device.flip(OVERLAY_NAME, offset)
    overlay = Overlay.open(device)
    device.flip(OVERLAY_NAME, 64 + 12 + 100)
    with pytest.raises(CorruptRecord, match="page 0"):
        overlay.read(0)


# ------------------------------------------------------------------------------------------------------------- recovery


@pytest.mark.parametrize("loss", ["missing", "garbage", "suspect"])
def test_lost_index_comes_back_from_the_newest_snapshot_and_the_log(tmp_path: Path, loss: str) -> None:
    """With what was delivered since; and only the records behind the snapshot are read."""

    async def body() -> None:
        store = open_store(tmp_path)
        await store.ensure_account(USER)
        snapshot, _ = await prepared(store)
        expected = dump_store(store)
        await store.close()
        lose(tmp_path / "data/index", loss)
        reached: list[int] = []
        store = Store.open(tmp_path / "data", progress=lambda position, end: reached.append(position))
        assert dump_store(store) == expected
        assert len(reached) == 1
        assert snapshot.position < reached[0]
        again = await store.snapshot("after")
        assert again.parent == snapshot.identity
        await store.close()

    run(body)


def lose(index: Path, loss: str) -> None:
    if loss == "suspect":
        (index / "REBUILD").touch()
        return
    for path in index.iterdir():
        path.unlink()
    if loss == "garbage":
        (index / "mail.sqlite").write_bytes(b"garbage" * 1000)


def test_damaged_snapshot_is_passed_over(tmp_path: Path) -> None:
    """The one before it serves; without any, the log alone."""

    async def body() -> None:
        store = open_store(tmp_path)
        await store.ensure_account(USER)
        first = await store.snapshot("first")
        packs = set((tmp_path / "data/pages").glob("*.pack"))
        await prepared(store)
        expected = dump_store(store)
        await store.close()
        for pack in sorted((tmp_path / "data/pages").glob("*.pack")):
            data = bytearray(pack.read_bytes())
            data[-1 if pack in packs else 100] ^= 1
            pack.write_bytes(data)
        for _ in range(2):
            lose(tmp_path / "data/index", "missing")
            store = open_store(tmp_path)
            assert dump_store(store) == expected
            await store.close()
            for pack in (tmp_path / "data/pages").glob("*.pack"):
                pack.write_bytes(b"\0" * 1000)
            (tmp_path / "data/pages/pages.sqlite").unlink(missing_ok=True)
        assert first.label == "first"

    run(body)


def test_log_that_lacks_what_a_snapshot_covers_is_refused(tmp_path: Path) -> None:
    """The index is gone, and the end of the log too: the snapshot is the witness."""

    async def body() -> None:
        store = open_store(tmp_path)
        await store.ensure_account(USER)
        end = store._durable_log.durable
        await prepared(store)
        await store.close()
        lose(tmp_path / "data/index", "missing")
        (segment,) = (tmp_path / "data/log").glob("*.log")
        with segment.open("r+b") as file:
            file.truncate(end)
        with pytest.raises(CorruptRecord, match="which snapshot"):
            open_store(tmp_path)
        assert not (tmp_path / "data/index/mail.sqlite").exists()

    run(body)


def test_recovery_needs_no_page_store(tmp_path: Path) -> None:
    """A directory without snapshots gets none by being opened."""

    async def body() -> None:
        store = open_store(tmp_path)
        await store.ensure_account(USER)
        await asyncio.sleep(0)
        await store.close()
        lose(tmp_path / "data/index", "missing")
        open_store(tmp_path).release()
        assert not (tmp_path / "data/pages").exists()

    run(body)


def test_device_error_while_an_overlay_is_made_is_told(tmp_path: Path) -> None:
    """Nothing half-made is taken for a branch."""

    async def test(store: Store) -> None:
        snapshot = await store.snapshot()
        data = tmp_path / "data"
        (data / "branches").write_text("a file where a directory should be")
        with pytest.raises((DeviceFailed, CorruptRecord)):
            Branch.create(data, store.snapshots.pages, snapshot, "x")
        (data / "branches").unlink()
        (data / "branches/x").mkdir(parents=True)
        (data / "branches/x/rest").touch()
        Branch.create(data, store.snapshots.pages, snapshot, "x").close()
        assert OsDevice(data / "branches/x").list() == [OVERLAY_NAME]

    with_store(tmp_path, test)
