"""A message that comes twice costs one body, whatever the hints say, and is read back right."""

from __future__ import annotations

import errno
from hashlib import sha256
from pathlib import Path

import pytest

from spinrt.errors import DeviceFull
from spinrt.mail.store.bodies import CHUNK_BYTES_MAX
from spinrt.mail.store.changes import KIND_BODY
from spinrt.mail.store.model import Copy
from spinrt.mail.store.store import Store
from spinrt.storage.hints import HINTS_NAME, SLOT_BYTES, SLOTS_MIN
from spinrt.testing.device import CrashDevice, FaultDevice
from tests.mail.store_support import USER, deliver, inbox, open_store, run, ticking_clock, with_store


def message(number: int, size: int = 2000) -> bytes:
    """So many bytes; each part of them is of this message and of no other."""
    lines = b"".join(b"line %d of %d\r\n" % (n, number) for n in range(size // 10))
    return (b"Subject: %d\r\n\r\n" % number + lines)[: size - 4] + b"%04d" % number


def body_count(store: Store) -> int:
    return sum(record.kind == KIND_BODY for record in store._durable_log.records())


async def check_messages(store: Store, expected: list[bytes]) -> None:
    found = store.messages(inbox(store), list(store.uids(inbox(store))))
    assert [store.read(one.body) for one in found] == expected


@pytest.mark.parametrize("size", [100, 2000, CHUNK_BYTES_MAX + 5])
def test_a_message_seen_twice_costs_one_body(tmp_path: Path, size: int) -> None:
    """In one batch, later, and after the next start; both are there, both are counted."""

    async def test(store: Store) -> None:
        for number in range(3):
            await deliver(store, message(1, size), id_=f"id-{number}")
        await deliver(store, message(2, size), id_="other")

    with_store(tmp_path, test)

    async def again(store: Store) -> None:
        await deliver(store, message(1, size), id_="id-9")
        chunks = -(-size // CHUNK_BYTES_MAX)
        assert body_count(store) == 2 * chunks
        refs = store._index.connection.execute("SELECT refs FROM bodies ORDER BY name").fetchall()
        assert refs == [(4,)] * chunks + [(1,)] * chunks
        await check_messages(store, [message(1, size)] * 3 + [message(2, size), message(1, size)])

    with_store(tmp_path, again)


def test_a_hundred_recipients_cost_one_body(tmp_path: Path) -> None:
    """One transaction, or one for each of them as LMTP does it."""

    async def test(store: Store) -> None:
        await deliver(store, message(1), *[Copy(f"user{n}", "INBOX") for n in range(100)], id_="smtp")
        for number in range(100):
            await deliver(store, message(1), Copy(f"user{number}", "INBOX"), id_=f"lmtp-{number}")
        assert body_count(store) == 1
        assert store._index.connection.execute("SELECT refs FROM bodies").fetchall() == [(200,)]

    with_store(tmp_path, test)


def test_an_unfinished_message_leaves_no_wrong_hint(tmp_path: Path) -> None:
    """Chunks of a message that was given up are bodies like any other."""

    async def test(store: Store) -> None:
        large = message(1, 2 * CHUNK_BYTES_MAX)
        writer = store.body_writer()
        writer.write(large[: CHUNK_BYTES_MAX + 1])
        writer.abort()
        await deliver(store, large, id_="whole")
        assert body_count(store) == 2
        await check_messages(store, [large])

    with_store(tmp_path, test)


def test_hints_that_lie_are_not_believed(tmp_path: Path) -> None:
    """A digest that leads to another body, to a change, to no record, or out of the log: the message is stored anew."""

    async def test(store: Store) -> None:
        await deliver(store, message(1), id_="one")
        hints, log = store._once._hints, store._durable_log
        bodies = [record.position for record in log.records() if record.kind == KIND_BODY]
        changes = [record.position for record in log.records() if record.kind != KIND_BODY]
        lies = [*bodies, *changes, 0, 1, bodies[0] + 1, log.end, log.end + 1000, 2**62 - 1, 2**48]
        for number, lie in enumerate(lies, 10):
            hints.put(sha256(message(number)).digest(), lie)
            await deliver(store, message(number), id_=f"id-{number}")
        await check_messages(store, [message(1), *(message(number) for number in range(10, 10 + len(lies)))])

    with_store(tmp_path, test)


@pytest.mark.parametrize("octet", [b"\0", b"\x01", b"\xff"])
def test_a_garbage_file_of_hints_changes_nothing(tmp_path: Path, octet: bytes) -> None:
    """Every slot full of nonsense, behind a front that is right."""

    async def test(store: Store) -> None:
        await deliver(store, message(1), id_="one")

    with_store(tmp_path, test)
    path = tmp_path / "data" / "index" / HINTS_NAME
    path.write_bytes(path.read_bytes()[:32] + octet * (SLOTS_MIN * SLOT_BYTES))

    async def again(store: Store) -> None:
        await deliver(store, message(1), id_="two")
        await deliver(store, message(1), id_="three")
        await deliver(store, message(2), id_="four")
        await check_messages(store, [message(1)] * 3 + [message(2)])

    with_store(tmp_path, again)


def test_hints_of_what_a_crash_took_are_not_believed(tmp_path: Path) -> None:
    """Positions that another record has after a torn tail was cut."""

    async def test() -> None:
        store = open_store(tmp_path)
        await store.ensure_account(USER)
        await deliver(store, message(1), id_="one")
        end = store._durable_log.durable
        await deliver(store, message(2), id_="two")
        await store.close()
        segment = next((tmp_path / "data" / "log").glob("*.log"))
        segment.write_bytes(segment.read_bytes()[:end])
        for path in (tmp_path / "data" / "index").glob("mail.sqlite*"):
            path.unlink()
        store = open_store(tmp_path)
        await deliver(store, message(3), id_="three")
        await deliver(store, message(2), id_="two")
        await check_messages(store, [message(1), message(3), message(2)])
        await store.close()

    run(test)


def test_a_body_that_a_full_device_took_is_not_referred_to(tmp_path: Path) -> None:
    """Not even when it was the last one: the message is stored anew."""

    async def test() -> None:
        device = FaultDevice(CrashDevice(), error=errno.ENOSPC)
        store = Store.open(tmp_path / "data", device=device, clock_ns=ticking_clock())
        await store.ensure_account(USER)
        device.fail_at = device.step_count + 1
        with pytest.raises(DeviceFull):
            await deliver(store, message(1), id_="lost")
        device.heal()
        for number in range(2):
            await deliver(store, message(1), id_=f"id-{number}")
        await check_messages(store, [message(1)] * 2)
        await store.close()

    run(test)
