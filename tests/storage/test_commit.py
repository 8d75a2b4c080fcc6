"""Group commit: many requests share a sync, every one is served, errors reach the loop."""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import Awaitable, Callable

import pytest

from spinrt.errors import ClosedError, DeviceFailed, DeviceFull, SpinError
from spinrt.storage.commit import GroupCommit
from spinrt.storage.log import Log
from spinrt.testing.device import CrashDevice, FaultDevice
from tests.storage.support import GatedDevice, bodies, open_log


class Waiters:
    """Futures by position, resolved as the commit calls back."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.waiting: list[tuple[int, asyncio.Future[None]]] = []
        self.errors: list[SpinError] = []
        self.thread = threading.get_ident()
        self.changed = asyncio.Event()
        self.commit = GroupCommit(log, self.on_durable, self.on_error)

    def on_durable(self, durable: int) -> None:
        assert threading.get_ident() == self.thread
        done = [future for position, future in self.waiting if position < durable]
        self.waiting = [pair for pair in self.waiting if pair[0] >= durable]
        for future in done:
            future.set_result(None)

    def on_error(self, error: SpinError) -> None:
        assert threading.get_ident() == self.thread
        self.errors.append(error)
        self.changed.set()

    def write(self, body: bytes) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.append((self.log.append(2, (body,), time_ns=0), future))
        self.commit.request()
        return future


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(30):
            await test()

    asyncio.run(limited())


def test_every_request_of_many_tasks_is_served_and_syncs_are_shared() -> None:
    """Fifty tasks, forty writes each: all are durable when answered, with far fewer syncs than writes."""

    async def body() -> None:
        device = CrashDevice()
        waiters = Waiters(open_log(device, segment_bytes_max=20_000))

        async def task(number: int) -> None:
            for n in range(40):
                await waiters.write(b"%d/%d" % (number, n))

        await asyncio.gather(*[task(number) for number in range(50)])
        await waiters.commit.close()
        assert waiters.commit.sync_count <= 2000 / 10
        assert sorted(bodies(open_log(device.crash()))) == sorted(
            b"%d/%d" % (number, n) for number in range(50) for n in range(40)
        )

    run(body)


def test_requests_during_a_sync_are_served_by_the_next() -> None:
    """Appends and reads go on while a sync is under way, and what came too late for it waits for the next one."""

    async def body() -> None:
        device = GatedDevice()
        waiters = Waiters(open_log(device))
        device.close_gate()
        first = waiters.write(b"first")
        await asyncio.to_thread(device.entered.acquire)
        late = [waiters.write(b"late %d" % n) for n in range(10)]
        assert waiters.log.read(waiters.waiting[-1][0]).body == b"late 9"
        assert not first.done()
        device.open_gate()
        await asyncio.gather(first, *late)
        await waiters.commit.close()
        assert waiters.commit.sync_count == 2

    run(body)


def test_failed_sync_is_told_and_told_again() -> None:
    """The loop gets the error, also for requests made after it."""

    async def body() -> None:
        fault = FaultDevice(CrashDevice(), lasting=True)
        waiters = Waiters(open_log(fault))
        position = waiters.log.append(2, (b"x",), time_ns=0)
        fault.fail_at = fault.step_count + 1
        waiters.commit.request()
        await waiters.changed.wait()
        assert isinstance(waiters.errors[0], DeviceFailed)
        waiters.changed.clear()
        waiters.commit.request()
        await waiters.changed.wait()
        assert position >= waiters.log.durable
        await waiters.commit.close()

    run(body)


def test_full_device_is_told_and_the_next_request_works() -> None:
    """After DeviceFull the same commit serves again."""

    async def body() -> None:
        fault = FaultDevice(CrashDevice(), error=errno.ENOSPC)
        waiters = Waiters(open_log(fault))
        fault.fail_at = fault.step_count + 1
        lost = waiters.write(b"lost")
        await waiters.changed.wait()
        assert isinstance(waiters.errors[0], DeviceFull)
        assert waiters.log.is_lost(waiters.waiting.pop()[0])
        await waiters.write(b"kept")
        assert not lost.done()
        assert bodies(waiters.log) == [b"kept"]
        await waiters.commit.close()

    run(body)


def test_close_serves_what_was_requested_and_refuses_more() -> None:
    """A request just before close is durable; one after it is an error; the thread is gone."""

    async def body() -> None:
        before = set(threading.enumerate())
        waiters = Waiters(open_log(CrashDevice()))
        future = waiters.write(b"last")
        await waiters.commit.close()
        await waiters.commit.close()
        assert future.done()
        with pytest.raises(ClosedError):
            waiters.commit.request()
        assert not [thread for thread in set(threading.enumerate()) - before if thread.name == "spinrt-commit"]

    run(body)


def test_lone_requests_are_never_put_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """One writer after the other: each sync serves one, so however long gathering would take, nobody waits for it."""
    monkeypatch.setattr("spinrt.storage.commit.GATHER_S", 3600.0)

    async def body() -> None:
        waiters = Waiters(open_log(CrashDevice()))
        for _ in range(5):
            await waiters.write(b"alone")
        await waiters.commit.close()

    run(body)


def test_after_a_shared_sync_the_next_one_gathers_and_close_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request behind a sync that served several waits for more; closing serves it at once."""
    monkeypatch.setattr("spinrt.storage.commit.GATHER_S", 3600.0)

    async def body() -> None:
        waiters = Waiters(open_log(CrashDevice()))
        await asyncio.gather(*(waiters.write(b"together") for _ in range(3)))
        late = waiters.write(b"late")
        more = waiters.write(b"more")
        assert waiters.commit.sync_count == 1
        await waiters.commit.close()
        assert late.done() and more.done()
        assert waiters.commit.sync_count == 2

    run(body)
