"""Full and failing devices, closing, backup: everyone who waits is answered, and with the truth."""

from __future__ import annotations

import asyncio
import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from spinrt.errors import AlreadyExists, ClosedError, DeviceFailed, DeviceFull
from spinrt.mail.store import store as store_module
from spinrt.mail.store.checkpoint import Checkpointer
from spinrt.mail.store.index import Batch
from spinrt.mail.store.store import Store
from spinrt.testing.device import CrashDevice, FaultDevice
from tests.mail.store_support import (
    USER,
    deliver,
    delivery,
    dump_store,
    fake_body,
    fill,
    inbox,
    open_store,
    run,
    with_store,
    write_body,
)
from tests.storage.support import GatedDevice


def test_full_log_device_is_told_and_the_store_goes_on(tmp_path: Path) -> None:
    """Whose record was given up gets DeviceFull, and so does a body that lost its bytes; then all works again."""

    async def body() -> None:
        device = CrashDevice()
        fault = FaultDevice(device, error=errno.ENOSPC, lasting=True)
        store = open_store(tmp_path, device=fault)
        await store.ensure_account(USER)
        await deliver(store, b"before", id_="before")
        received = write_body(store, b"received before the device was full")
        fault.fail_at = fault.step_count + 1
        results = await asyncio.gather(
            *[deliver(store, b"lost %d" % n, id_=f"lost-{n}") for n in range(3)], return_exceptions=True
        )
        assert [type(result) for result in results] == [DeviceFull] * 3
        fault.heal()
        with pytest.raises(DeviceFull):
            await store.submit(delivery(received, id_="received"))
        outcome = await deliver(store, b"after", id_="after")
        assert outcome.placed[0][3] == 2
        box = inbox(store)
        expected = [b"before", b"after"]
        assert [store.read(m.body) for m in store.messages(box, [1, 2, 3])] == expected
        await store.close()

        store = open_store(tmp_path, device=device.crash(), rebuild=True)
        assert [store.read(m.body) for m in store.messages(box, [1, 2, 3])] == expected
        store.release()

    run(body)


def test_failed_log_device_stops_the_store(tmp_path: Path) -> None:
    """Who waits gets DeviceFailed, who comes later too; reading goes on; the next start has what was acknowledged."""

    async def body() -> None:
        device = CrashDevice()
        fault = FaultDevice(device, error=errno.EIO)
        store = open_store(tmp_path, device=fault)
        await store.ensure_account(USER)
        await deliver(store, b"kept", id_="1")
        fault.fail_at = fault.step_count + 2
        results = await asyncio.gather(
            *[deliver(store, b"lost", id_=f"lost-{n}") for n in range(3)], return_exceptions=True
        )
        assert all(isinstance(result, DeviceFailed) for result in results)
        with pytest.raises(DeviceFailed):
            await store.submit(delivery(fake_body()))
        with pytest.raises(DeviceFailed):
            store.body_writer()
        assert store.status(inbox(store)).messages == 1
        await store.close()

        store = open_store(tmp_path, device=device.crash())
        message = store.message(inbox(store), 1)
        assert message is not None and store.read(message.body) == b"kept"
        store.release()

    run(body)


@contextmanager
def failing_index(store: Store, error: sqlite3.Error, times: int) -> Iterator[asyncio.Event]:
    """Let the next ``times`` batches fail as the index's device would; gives an event set at the first failure."""
    failed = asyncio.Event()
    left = times
    begin = store._index.transaction

    @contextmanager
    def transaction(applied: int) -> Iterator[Batch]:
        nonlocal left
        with begin(applied) as batch:
            yield batch
            if left > 0:
                left -= 1
                failed.set()
                raise error

    store._index.transaction = transaction  # type: ignore[method-assign]
    try:
        yield failed
    finally:
        del store._index.transaction


def test_full_index_device_only_delays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The record is durable, so the answer is late, not wrong; new changes get DeviceFull meanwhile."""
    monkeypatch.setattr(store_module, "RETRY_S", 0.02)
    full = sqlite3.OperationalError("database or disk is full")
    full.sqlite_errorcode = sqlite3.SQLITE_FULL

    async def test(store: Store) -> None:
        with failing_index(store, full, times=3) as failed:
            waiting = store.submit(delivery(write_body(store, b"x"), id_="1"))
            await failed.wait()
            with pytest.raises(DeviceFull):
                await store.submit(delivery(fake_body(), id_="2"))
            await waiting
        assert store.status(inbox(store)).messages == 1
        before = dump_store(store)
        store.rebuild()
        assert dump_store(store) == before

    with_store(tmp_path, test)


def test_damaged_index_stops_the_store_and_is_rebuilt_at_the_next_start(tmp_path: Path) -> None:
    """The log has it: the change that got an error is there after the start."""

    async def body() -> None:
        store = open_store(tmp_path)
        await store.ensure_account(USER)
        error = sqlite3.DatabaseError("database disk image is malformed")
        with failing_index(store, error, times=1), pytest.raises(DeviceFailed, match="malformed"):
            await store.submit(delivery(write_body(store, b"x"), id_="1"))
        await store.close()
        assert (tmp_path / "data/index/REBUILD").exists()

        store = open_store(tmp_path)
        assert store.status(inbox(store)).messages == 1
        assert not (tmp_path / "data/index/REBUILD").exists()
        store.release()

    run(body)


def test_close_serves_what_was_submitted(tmp_path: Path) -> None:
    """Then nothing is taken, and nothing is left running."""

    async def body() -> None:
        store = open_store(tmp_path)
        await store.ensure_account(USER)
        futures = [store.submit(delivery(write_body(store, b"x"), id_=str(n))) for n in range(10)]
        cancelled = store.submit(delivery(write_body(store, b"x"), id_="cancelled"))
        cancelled.cancel()
        await store.close()
        await store.close()
        assert all(future.done() and future.exception() is None for future in futures)
        with pytest.raises(ClosedError):
            await store.submit(delivery(fake_body(), id_="late"))
        with pytest.raises(ClosedError):
            store.body_writer()

        store = open_store(tmp_path)
        assert store.status(inbox(store)).messages == 11
        store.release()

    run(body)


def test_backup_of_a_store_in_use_opens_and_holds_all_that_was_acknowledged(tmp_path: Path) -> None:
    """Deliveries go on while it is taken; the copy is a whole store of its own."""

    async def test(store: Store) -> None:
        acknowledged: list[int] = []
        started, stop = asyncio.Event(), asyncio.Event()

        async def client() -> None:
            while not stop.is_set():
                number = len(acknowledged)
                await deliver(store, b"message %d" % number, id_=str(number))
                acknowledged.append(number)
                if number == 20:
                    started.set()

        task = asyncio.create_task(client())
        await started.wait()
        before = len(acknowledged)
        copied = await store.backup(tmp_path / "copy" / "data")
        after = len(acknowledged)
        stop.set()
        await task
        assert copied > 0
        copy = open_store(tmp_path / "copy")
        box = inbox(copy)
        found = [copy.read(message.body) for message in copy.messages(box, list(copy.uids(box)))]
        assert before <= len(found) <= after + 1
        assert found == [b"message %d" % n for n in range(len(found))]
        grown = dump_store(copy)
        copy.rebuild()
        assert dump_store(copy) == grown
        copy.release()
        with pytest.raises(AlreadyExists):
            await store.backup(tmp_path / "copy" / "data")

    with_store(tmp_path, test)


def test_checkpoint_runs_beside_the_store(tmp_path: Path) -> None:
    """It moves the write-ahead log into the database while that is in use; a short log is left alone."""

    async def test(store: Store) -> None:
        await fill(store, 500)
        path = tmp_path / "data/index/mail.sqlite"
        size = path.stat().st_size
        assert not Checkpointer(path, store._checkpointer.changes, wal_bytes_min=2**40).checkpoint()
        checkpointer = Checkpointer(path, store._checkpointer.changes, wal_bytes_min=1)
        checkpointer.start()
        assert await asyncio.to_thread(checkpointer.checkpoint)
        checkpointer.stop()
        assert path.stat().st_size > size
        await fill(store, 10)
        assert store.status(inbox(store)).messages == 510

    with_store(tmp_path, test)


def test_write_ahead_log_stays_bounded_under_steady_load(tmp_path: Path) -> None:
    """When the thread cannot reach the end, the writer does the rest and SQLite starts the file over."""

    async def test(store: Store) -> None:
        wal = tmp_path / "data/index/mail.sqlite-wal"
        await fill(store, 300)
        sizes = []
        for _ in range(6):
            store._checkpointer.behind = True
            for n in range(30):
                await fill(store, 1 + n % 2)
            assert not store._checkpointer.behind
            sizes.append(wal.stat().st_size)
        assert sizes[-1] == sizes[1]

    with_store(tmp_path, test)


def test_nothing_is_applied_before_it_is_durable(tmp_path: Path) -> None:
    """A change submitted while another is synced waits for a sync of its own, unseen, though both are in the log."""

    async def body() -> None:
        device = GatedDevice()
        store = open_store(tmp_path, device=device)
        await store.ensure_account(USER)
        device.close_gate()
        first = store.submit(delivery(write_body(store, b"1"), id_="1"))
        await asyncio.to_thread(device.entered.acquire)
        second = store.submit(delivery(write_body(store, b"2"), id_="2"))
        assert list(store.uids(inbox(store))) == []
        assert device.permits is not None
        device.permits.release()
        await first
        assert list(store.uids(inbox(store))) == [1]
        assert not second.done()
        device.open_gate()
        await second
        assert list(store.uids(inbox(store))) == [1, 2]
        await store.close()

    run(body)
