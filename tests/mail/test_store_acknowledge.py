"""`Store.submit_deliver`: acknowledged at durable, applied later, seen by every read in between."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from spinrt.errors import ClosedError, DeviceFailed, DeviceFull, SpinError, UsageError
from spinrt.mail.store import store as store_module
from spinrt.mail.store.index import UID_MAX
from spinrt.mail.store.model import Added, Copy, Delivered, MailboxEvent, Outcome, StoreFlags
from spinrt.mail.store.model import FlagsMode as Mode
from spinrt.mail.store.store import Store
from spinrt.testing.device import CrashDevice, FaultDevice
from tests.mail.store_support import USER, deliver, delivery, fake_body, inbox, open_store, run, with_store, write_body
from tests.mail.test_store_faults import failing_index

NEVER_S = 3600.0


class Sender:
    """Submits deliveries and keeps what it was told, in order."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.durable: list[tuple[str, SpinError | None]] = []
        self.applied: list[tuple[str, Outcome | SpinError]] = []
        self.outcome_told = asyncio.Event()

    def submit(self, id_: str, data: bytes | None = None, *copies: Copy) -> asyncio.Event:
        """Submit one; the event is set when it was acknowledged or refused."""
        told = asyncio.Event()

        def on_durable(error: SpinError | None) -> None:
            self.durable.append((id_, error))
            told.set()

        def on_applied(outcome: Outcome | SpinError) -> None:
            self.applied.append((id_, outcome))
            self.outcome_told.set()

        body = fake_body() if data is None else write_body(self._store, data)
        self._store.submit_deliver(delivery(body, *copies, id_=id_), on_durable, on_applied)
        return told


@pytest.fixture
def lazy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is applied because time has passed."""
    monkeypatch.setattr(store_module, "APPLY_DELAY_S", NEVER_S)


@pytest.mark.usefixtures("lazy")
def test_read_sees_what_was_acknowledged(tmp_path: Path) -> None:
    """Acknowledged is not applied yet; each kind of read applies it first."""

    async def test(store: Store) -> None:
        box, sender = inbox(store), Sender(store)
        reads: list[Callable[[], int]] = [
            lambda: store.status(box).messages,
            lambda: len(store.uids(box)),
            lambda: len(store.messages(box, list(range(1, 100)))),
            lambda: len(store.unseen(box)),
            lambda: len(store.changed_since(box, 0)),
            lambda: sum(store.delivery(str(n)) is not None for n in range(100)),
        ]
        for number, read in enumerate(reads):
            await sender.submit(str(number), b"message").wait()
            assert len(sender.durable) == number + 1
            assert len(sender.applied) == number
            assert read() == number + 1
            assert len(sender.applied) == number + 1
        await sender.submit("new", b"x", Copy(USER, "Lists/new")).wait()
        assert store.mailbox(USER, "Lists/new") is not None

    with_store(tmp_path, test)


@pytest.mark.usefixtures("lazy")
def test_read_from_the_acknowledgement_itself_sees_it(tmp_path: Path) -> None:
    """Who reads inside ``on_durable`` sees its delivery and those of the same sync; each is told once."""

    async def test(store: Store) -> None:
        box, seen, done = inbox(store), [], asyncio.Event()

        def on_durable(error: SpinError | None) -> None:
            assert error is None
            seen.append(store.status(box).messages)
            if len(seen) == 3:
                done.set()

        for number in range(3):
            store.submit_deliver(delivery(fake_body(), id_=str(number)), on_durable)
        await done.wait()
        assert seen == [3, 3, 3]

    with_store(tmp_path, test)


@pytest.mark.usefixtures("lazy")
def test_order_of_the_log_decides_and_an_awaited_change_applies_those_before_it(tmp_path: Path) -> None:
    """UIDs follow the order of submission, over both ways to submit; flags of a change find the messages before it."""

    async def test(store: Store) -> None:
        box, sender = inbox(store), Sender(store)
        for number in range(5):
            sender.submit(str(number), b"%d" % number)
        stored = await store.submit(StoreFlags(box, (1, 2, 3, 4, 5, 6), Mode.ADD, ("\\Seen",)))
        sender.submit("5", b"5")
        outcome = await deliver(store, b"6", id_="6")
        assert [change[0] for change in stored.changed] == [1, 2, 3, 4, 5]  # type: ignore[union-attr]
        assert outcome.placed[0][3] == 7
        assert [id_ for id_, _ in sender.durable] == [id_ for id_, _ in sender.applied] == list("012345")
        uids = [one.placed[0][3] for _, one in sender.applied if isinstance(one, Delivered)]
        assert uids == [1, 2, 3, 4, 5, 6]

    with_store(tmp_path, test)


def test_watchers_are_told_soon_without_a_read(tmp_path: Path) -> None:
    """After ``APPLY_DELAY_S`` at the latest, one call for the whole batch."""

    async def test(store: Store) -> None:
        box, sender = inbox(store), Sender(store)
        told: list[list[MailboxEvent]] = []
        woken = asyncio.Event()

        def watcher(events: list[MailboxEvent]) -> None:
            told.append(list(events))
            woken.set()

        store.watch(box, watcher)
        for number in range(3):
            acknowledged = sender.submit(str(number))
        await acknowledged.wait()
        assert not told
        await asyncio.wait_for(woken.wait(), 5)
        assert [[event.uid for event in events if isinstance(event, Added)] for events in told] == [[1, 2, 3]]

    with_store(tmp_path, test)


@pytest.mark.usefixtures("lazy")
def test_many_acknowledged_are_applied_without_waiting(tmp_path: Path) -> None:
    """``APPLY_COUNT`` of them are a batch."""

    async def test(store: Store) -> None:
        sender = Sender(store)
        for number in range(store_module.APPLY_COUNT - 1):
            await sender.submit(str(number)).wait()
        assert not sender.applied
        await sender.submit("last").wait()
        await asyncio.sleep(0)
        assert len(sender.applied) == store_module.APPLY_COUNT

    with_store(tmp_path, test)


@pytest.mark.usefixtures("lazy")
def test_close_applies_what_was_acknowledged(tmp_path: Path) -> None:
    """The outcome is told before `close` returns, and the index covers it: the next start applies nothing."""

    async def body() -> None:
        store = open_store(tmp_path)
        await store.ensure_account(USER)
        sender = Sender(store)
        await sender.submit("1", b"one").wait()
        sender.submit("2", b"two")
        await store.close()
        assert [type(outcome) for _, outcome in sender.applied] == [Delivered, Delivered]
        with pytest.raises(ClosedError):
            sender.submit("3")

        store = open_store(tmp_path)
        assert store.status(inbox(store)).messages == 2
        store.release()

    run(body)


@pytest.mark.usefixtures("lazy")
def test_power_cut_between_acknowledgement_and_application_loses_nothing(tmp_path: Path) -> None:
    """Whatever the device lost, what was acknowledged is applied at the next start, with the UIDs it would have had."""

    async def body() -> None:
        device = CrashDevice()
        store = open_store(tmp_path, device=device)
        await store.ensure_account(USER)
        sender = Sender(store)
        for number in range(10):
            await sender.submit(str(number), b"message %d" % number).wait()
        sender.submit("unacknowledged", b"x")
        assert not sender.applied
        crashed = device.crash()
        store._index.close()
        store._checkpointer.stop()
        store._directory.close()

        after = open_store(tmp_path, device=crashed)
        box = inbox(after)
        found = [after.read(message.body) for message in after.messages(box, list(range(1, 11)))]
        assert found == [b"message %d" % number for number in range(10)]
        after.release()

    run(body)


_KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from spinrt.mail.store import store as store_module
from tests.mail.store_support import USER, delivery, open_store, write_body
store_module.APPLY_DELAY_S = 3600.0

async def main():
    store = open_store(Path(sys.argv[1]))
    await store.ensure_account(USER)
    told = 0
    def on_durable(error):
        nonlocal told
        assert error is None
        told += 1
        if told == 5:
            assert store._index.counters.last_position is not None and len(store._unapplied) == 5
            os.kill(os.getpid(), signal.SIGKILL)
    for number in range(5):
        store.submit_deliver(delivery(write_body(store, b"%d" % number), id_=str(number)), on_durable)
    await asyncio.sleep(30)

asyncio.run(main())
"""


def test_kill_between_acknowledgement_and_application_loses_nothing(tmp_path: Path) -> None:
    """A process killed right after it acknowledged: the next start has it all."""
    command = [sys.executable, "-c", _KILLED, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    assert subprocess.run(command, env=environment, timeout=60, check=False).returncode == -signal.SIGKILL
    store = open_store(tmp_path)
    bodies = [store.read(message.body) for message in store.messages(inbox(store), [1, 2, 3, 4, 5])]
    assert bodies == [b"0", b"1", b"2", b"3", b"4"]
    store.release()


def test_failing_log_device_is_told(tmp_path: Path) -> None:
    """Full: refused, then all works again. Failed: refused, and the next is refused at the call."""

    async def body() -> None:
        fault = FaultDevice(CrashDevice(), error=errno.ENOSPC, lasting=True)
        store = open_store(tmp_path, device=fault)
        await store.ensure_account(USER)
        sender = Sender(store)
        fault.fail_at = fault.step_count + 1
        events = [sender.submit(f"lost-{number}", b"x") for number in range(3)]
        await asyncio.gather(*[event.wait() for event in events])
        assert [type(error) for _, error in sender.durable] == [DeviceFull] * 3
        fault.heal()
        await sender.submit("kept", b"kept").wait()
        assert sender.durable[-1] == ("kept", None)
        fault.error, fault.fail_at = errno.EIO, fault.step_count + 1
        await sender.submit("failed", b"x").wait()
        assert isinstance(sender.durable[-1][1], DeviceFailed)
        with pytest.raises(DeviceFailed):
            store.submit_deliver(delivery(fake_body()), lambda error: None)
        assert store.status(inbox(store)).messages == 1
        await store.close()
        assert [id_ for id_, _ in sender.applied] == ["kept"]

    run(body)


def test_full_index_device_delays_only_the_application(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Acknowledged all the same, as it is durable; reads go on with what there was; nothing new is taken meanwhile."""
    monkeypatch.setattr(store_module, "RETRY_S", 0.05)
    full = sqlite3.OperationalError("database or disk is full")
    full.sqlite_errorcode = sqlite3.SQLITE_FULL

    async def test(store: Store) -> None:
        box, sender = inbox(store), Sender(store)
        with failing_index(store, full, times=2) as failed:
            await sender.submit("1", b"x").wait()
            assert sender.durable == [("1", None)]
            assert store.status(box).messages == 0
            assert failed.is_set()
            with pytest.raises(DeviceFull):
                sender.submit("2")
            await sender.outcome_told.wait()
        assert store.status(box).messages == 1

    with_store(tmp_path, test)


def test_failed_index_stops_the_store_and_the_next_start_has_the_delivery(tmp_path: Path) -> None:
    """It was acknowledged; who waits for the outcome is told of the failure, and who comes later."""

    async def body() -> None:
        store = open_store(tmp_path)
        await store.ensure_account(USER)
        sender = Sender(store)
        with failing_index(store, sqlite3.DatabaseError("database disk image is malformed"), times=1):
            await sender.submit("1", b"kept").wait()
            await sender.outcome_told.wait()
        assert sender.durable == [("1", None)]
        assert isinstance(sender.applied[0][1], DeviceFailed)
        with pytest.raises(DeviceFailed):
            sender.submit("2")
        await store.close()

        store = open_store(tmp_path)
        assert store.status(inbox(store)).messages == 1
        store.release()

    run(body)


def test_malformed_delivery_is_refused_at_the_call(tmp_path: Path) -> None:
    async def test(store: Store) -> None:
        sender = Sender(store)
        for copy in (Copy(USER, "a//b"), Copy("", "INBOX"), Copy(USER, "INBOX", ("bad flag",))):
            with pytest.raises(UsageError):
                sender.submit("1", None, copy)
        await deliver(store, b"x", id_="2")
        assert not sender.durable

    with_store(tmp_path, test)


def test_mistake_of_a_callback_stays_its_own(tmp_path: Path) -> None:
    """The others of the same sync are told, and the store goes on."""

    async def test(store: Store) -> None:
        def mistaken(_: object) -> None:
            raise ZeroDivisionError

        sender = Sender(store)
        store.submit_deliver(delivery(fake_body(), id_="bad"), mistaken, mistaken)
        await sender.submit("good").wait()
        assert store.status(inbox(store)).messages == 2

    with_store(tmp_path, test)


def test_delivery_to_a_mailbox_without_uids_goes_beside_it(tmp_path: Path) -> None:
    """It was acknowledged, so it must be somewhere."""

    async def test(store: Store) -> None:
        box = inbox(store)
        store._index.get_mailbox(box).uidnext = UID_MAX - 1
        copies = (Copy(USER, "INBOX"), Copy(USER, "INBOX"))
        outcome = await deliver(store, b"x", *copies, id_="1")
        assert [(name, uid) for _, name, _, uid in outcome.placed] == [("INBOX", UID_MAX - 1), ("INBOX/Overflow", 1)]
        overflow = store.mailbox(USER, "INBOX/Overflow")
        assert overflow is not None
        store._index.get_mailbox(overflow.id).uidnext = UID_MAX
        outcome = await deliver(store, b"y", id_="2")
        assert outcome.placed[0][1] == "INBOX/Overflow 2"

    with_store(tmp_path, test)
